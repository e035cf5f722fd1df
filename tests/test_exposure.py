"""Light with its true range, licences, the virtual camera, and the training of networks that correct exposure."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from kdlib.data.brackets import fuse_exposures, toned
from kdlib.data.exposures import (
    Exposures,
    VirtualCamera,
    bracketed,
    join,
    licensed_photos,
    night_likeness,
    views_of_light,
)
from kdlib.data.licences import read_licences, summarise
from kdlib.data.light import (
    Light,
    bracket_stops,
    contrast_range,
    develop,
    encode,
    fused_view,
    metered_stops,
    read_light,
    view,
)
from kdlib.data.samples import sample_photos
from kdlib.enhance.photos.rgb import PhotoError, read_photo, write_photo
from kdlib.experiments.six_numbers import fit_six_numbers
from kdlib.experiments.virtual_photos import take_photos
from kdlib.models import create_model
from kdlib.models.grid import GridNet, within_white
from kdlib.training.exposure import CAMERA, EMBEDDED, Committee, picture_error, train_exposure

ROOT = Path(__file__).resolve().parent.parent
HEAD = "file\tkind\ttitle\tauthor\tlicence\tsource\twhere_stated\tnote\n"


def listing(folder, *rows):
    text = HEAD + "".join(
        f"{file}\t{kind}\t-\tSomebody\t{licence}\t-\t-\t{note}\n" for file, kind, licence, note in rows
    )
    (folder / "LICENCES.tsv").write_text(text, encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """Two small panoramas and two photos, one of each not free."""
    rng = np.random.default_rng(0)
    (tmp_path / "hdr").mkdir()
    for name in ("a", "b"):
        light = np.exp(rng.normal(0, 1.5, (16, 32, 3))).astype(np.float32)
        cv2.imwrite(str(tmp_path / "hdr" / f"{name}.hdr"), cv2.resize(light, (64, 32)))
    for name in ("c", "d"):
        write_photo(tmp_path / "photos" / f"{name}.png", cv2.resize(sample_photos()["coffee"], (60, 40)))
    listing(
        tmp_path,
        ("hdr/a.hdr", "hdr outdoor", "CC0-1.0", ""),
        ("hdr/b.hdr", "hdr night", "CC-BY-SA-4.0", ""),
        ("photos/c.png", "photo", "CC-BY-4.0", ""),
        ("photos/d.png", "photo low-key", "CC0-1.0", "second-hand: as a collector states it"),
    )
    return tmp_path


@pytest.mark.parametrize(
    ("licence", "note", "free"),
    [
        ("CC0-1.0", "", True),
        ("public-domain", "", True),
        ("CC-BY-2.0", "", True),
        ("CC-BY (version not stated)", "", True),
        ("BSD-3-Clause", "", True),
        ("Apache-2.0", "cropped", True),
        ("CC-BY-SA-4.0", "", False),
        ("CC-BY-NC-4.0", "", False),
        ("CC-BY-ND-4.0", "", False),
        ("GPL-2.0-or-later", "", False),
        ("CC0-1.0", "second-hand: a redistributor's word", False),
    ],
)
def test_free_licences_put_no_condition_on_weights(tmp_path, licence, note, free):
    listing(tmp_path, ("hdr/x.hdr", "hdr indoor", licence, note))
    (row,) = read_licences(tmp_path)
    assert row.free is free
    if not free:
        with pytest.raises(ValueError, match="no row with a free licence"):
            read_licences(tmp_path, "free")


def test_listings_that_cannot_be_used_say_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="lists the licence of every file"):
        read_licences(tmp_path)
    (tmp_path / "LICENCES.tsv").write_text("file\tlicence\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the columns author, kind, note"):
        read_licences(tmp_path)
    with pytest.raises(ValueError, match="unknown licences 'all'"):
        read_licences(tmp_path, "all")


def test_only_allowed_files_are_read(folder):
    assert [light.row.file for light in read_light(folder, "free")] == ["hdr/a.hdr"]
    assert [light.row.file for light in read_light(folder)] == ["hdr/a.hdr", "hdr/b.hdr"]
    _, rows = licensed_photos(folder, allowed="free", size=16)
    assert [row.file for row in rows] == ["photos/c.png"]
    assert summarise(read_licences(folder)) == "2 CC0-1.0, 1 CC-BY-SA-4.0, 1 CC-BY-4.0"


def test_damaged_light_is_named(folder):
    (folder / "hdr" / "a.hdr").write_bytes(b"#?RADIANCE\n")
    with pytest.raises(PhotoError, match=r"a\.hdr is missing, damaged"):
        list(read_light(folder))


def test_the_embedded_light_is_free_small_and_complete():
    rows = read_licences(EMBEDDED)
    assert {row.licence for row in rows} == {"CC0-1.0"}
    assert not any(row.second_hand for row in rows)
    files = sorted(path.relative_to(EMBEDDED).as_posix() for path in EMBEDDED.rglob("*.hdr"))
    assert files == sorted(row.file for row in rows)
    assert len(files) == 16
    assert sum((EMBEDDED / file).stat().st_size for file in files) < 3_000_000
    assert all(light.panorama and light.radiance.shape == (128, 256, 3) for light in read_light(EMBEDDED, "free"))


def test_a_view_looks_into_its_direction():
    # Brightness tells the longitude, so that a view's middle shows where the camera looks.
    longitude = np.tile(np.linspace(0, 1, 128, dtype=np.float32)[None, :, None], (64, 1, 3))
    light = Light(read_licences(EMBEDDED)[0], longitude)
    for seed in range(5):
        seen = view(light, np.random.default_rng(seed), 33)[16, :, 0]
        steps = np.diff(seen)
        assert (
            steps > -1e-3
        ).sum() >= 30  # longitude increases to the right, but for the seam, which interpolation spreads over two steps
        width = (steps.clip(0).sum()) * 360
        assert 25 < width < 100


def test_a_bracket_lies_around_the_metered_exposure():
    radiance = np.geomspace(0.01, 10, 64, dtype=np.float32).reshape(8, 8, 1).repeat(3, 2)
    assert np.log(radiance * 2 ** metered_stops(radiance)).mean() == pytest.approx(np.log(0.12), abs=0.01)
    middles = []
    for seed in range(50):
        stops = bracket_stops(metered_stops(radiance), np.random.default_rng(seed))
        assert 3 <= len(stops) <= 5
        assert np.diff(stops) == pytest.approx(stops[1] - stops[0])
        assert 1 <= stops[1] - stops[0] <= 2.5
        middles.append(stops.mean())
    assert np.mean(middles) == pytest.approx(metered_stops(radiance), abs=0.3)
    assert metered_stops(radiance, "hdr night") == metered_stops(radiance) - 1.2


def test_a_target_lies_between_the_fusion_and_the_metered_photo():
    light = next(read_light(EMBEDDED))
    seen = view(light, np.random.default_rng(3), 64)
    metered = encode(seen, metered_stops(seen), 0.3)
    fused = fuse_exposures([encode(seen, metered_stops(seen) + stops, 0.3) for stops in (-2, 0, 2)])
    target = toned(fused, metered)
    means = [image.mean() for image in (fused, target, metered)]
    assert means == sorted(means) or means == sorted(means, reverse=True)
    assert abs(means[1] - (0.75 * means[0] + 0.25 * means[2])) < 1.5
    assert np.abs(toned(fused, fused).astype(int) - fused).max() <= 1


def test_a_cameras_curve_keeps_black_white_and_order():
    light = torch.linspace(0, 1.2, 400)
    for bend in (-0.15, 0.0, 0.7):
        photo = develop(light, bend)
        assert [float(photo[0]), float(photo[-1])] == pytest.approx([0, 1], abs=1e-6)
        assert (photo.diff() >= -1e-6).all()


def test_of_two_views_the_one_of_wider_range_is_photographed():
    light = next(read_light(EMBEDDED))
    radiance, target, _ = fused_view(light, np.random.default_rng(3), 48)
    assert radiance.shape == target.shape == (48, 48, 3)
    rng = np.random.default_rng(3)
    ranges = [contrast_range(view(light, rng)) for _ in range(2)]
    assert contrast_range(radiance) == pytest.approx(max(ranges), abs=1)
    assert abs(max(ranges) - min(ranges)) > 1.5


@pytest.fixture(scope="module")
def exposures():
    return views_of_light(EMBEDDED, views=2, size=32, seed=1)[0]


def test_sources_are_reproducible_and_split_by_place(exposures):
    again = views_of_light(EMBEDDED, views=2, size=32, seed=1)[0]
    assert torch.equal(exposures.radiance, again.radiance)
    assert len(exposures) == 32
    train, held = exposures.split(0.2, 0)
    assert len(held) == 6
    assert not set(train.source.tolist()) & set(held.source.tolist())
    both = join([train, held])
    assert len(both.source.unique()) == 16
    with pytest.raises(ValueError, match="at least 2 scenes"):
        exposures[exposures.source == 0].split(0.2, 0)
    small = exposures.resized(16)
    torch.testing.assert_close(
        small.radiance[0, :, 0, 0].float(), exposures.radiance[0, :, :2, :2].float().mean((1, 2)), rtol=2e-3, atol=1e-4
    )


def test_photos_at_exposure_zero_are_the_photos(folder):
    photos, _ = licensed_photos(folder, size=16)
    plain = VirtualCamera(shot=(-9, -9), read=(-9, -9), bend=0, balance=0, black=(-9, -9))
    generator = torch.Generator().manual_seed(0)
    settings = plain.draw(0 * photos.stops, 0 * photos.kept, photos.bend, generator)
    taken = settings.photo(photos.radiance)
    wanted = settings.wanted(photos.target, taken)
    assert (taken - wanted).abs().max() < 2e-3  # 16 bits of linear light
    assert sorted(photos.kept.unique().tolist()) == pytest.approx([0.6, 1])


def test_the_camera_draws_noise_and_rounds_only_when_asked(exposures):
    generator = torch.Generator().manual_seed(0)
    settings = CAMERA.draw(exposures.stops, exposures.kept, exposures.bend, generator)
    clean, noisy = settings.photo(exposures.radiance), settings.photo(exposures.radiance, generator)
    assert torch.equal(clean, settings.photo(exposures.radiance))
    assert torch.equal((noisy * 255).round() / 255, noisy)
    assert 0 < (clean - noisy).abs().mean() < 0.05
    flipped = settings.mirrored.flatten()
    assert 0 < flipped.sum() < len(flipped)
    again = CAMERA.draw(exposures.stops, exposures.kept, exposures.bend, torch.Generator().manual_seed(0))
    assert torch.equal(settings.exposure, again.exposure)


def test_the_target_of_a_night_photo_lies_on_the_way_to_the_photo():
    night = torch.full((1, 3, 20, 20), 0.03)
    night[..., :2, :2] = 0.9  # a lamp, one pixel of a hundred
    backlit, dim = night.clone(), torch.full_like(night, 0.03)
    backlit[..., :10, :8] = 0.9
    likeness = [night_likeness(photo).item() for photo in (night, backlit, dim)]
    assert likeness == [1, 0, 0]
    photos = torch.cat([night, backlit, dim])
    still = VirtualCamera(balance=0).draw(
        torch.zeros(3, 2), torch.ones(3), torch.zeros(3), torch.Generator().manual_seed(0)
    )
    wanted = still.wanted(torch.full(photos.shape, 128, dtype=torch.uint8), photos)
    grey = 128 / 255
    assert wanted[1:].sub(grey).abs().max() < 1e-3
    assert wanted[0].min().item() == pytest.approx(0.7 * grey + 0.3 * 0.03, abs=1e-3)  # the sky stays dark
    assert wanted[0].max().item() == pytest.approx(0.7 * grey + 0.3 * 0.9, abs=1e-3)  # and the lamp keeps its light


def test_black_levels_cast_colour_on_the_shadows_and_are_not_wanted():
    count = 64
    draws = torch.Generator().manual_seed(0)
    settings = CAMERA.draw(torch.zeros(count, 2), torch.ones(count), torch.zeros(count), draws)
    photo = settings.photo(torch.zeros(count, 3, 4, 4))
    cast = photo.amax(dim=(1, 2, 3)) > 0
    assert 0.3 < cast.float().mean() < 0.6  # half of the photos have an error, mostly above black in one channel
    assert settings.wanted(torch.zeros(count, 3, 4, 4, dtype=torch.uint8), photo).max() == 0


def test_more_exposure_is_brighter(exposures):
    means = []
    for stop in (-3.0, 0.0, 1.0):
        stops = torch.full_like(exposures.stops, stop)
        settings = CAMERA.draw(stops, exposures.kept, exposures.bend, torch.Generator().manual_seed(0))
        means.append(float(settings.photo(exposures.radiance).mean()))
    assert means == sorted(means)


def test_brackets_become_exposures(tmp_path):
    photo = cv2.resize(sample_photos()["coffee"], (64, 64), interpolation=cv2.INTER_AREA)
    for number, gamma in enumerate((2.5, 1, 0.4)):
        write_photo(tmp_path / f"{number}.png", np.rint(255 * (photo / 255) ** gamma).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bracketed(tmp_path, size=32)
    assert isinstance(found, Exposures)
    assert len(found) == 3
    assert len(found.source.unique()) == 1


def test_the_error_counts_level_and_contrast():
    photo = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    right = float(picture_error(photo, photo))
    assert right < float(picture_error(photo * 0.9, photo)) < float(picture_error(photo * 0.5, photo))
    flat = photo.mean(dim=(2, 3), keepdim=True).expand_as(photo)
    assert float(picture_error(flat, photo)) > float(picture_error(photo - 0.2, photo))
    white = torch.ones(1, 3, 8, 8, requires_grad=True)
    picture_error(white * 1.5, torch.ones(1, 3, 8, 8)).backward()
    assert (white.grad > 0).all()  # too bright still has a gradient


@pytest.fixture(scope="module")
def trained():
    return train_exposure(
        views=2, size=32, epochs=12, smoothing_epochs=1, batch_size=8, learning_rate=0.015, ema_decay=0.9
    )


def test_training_improves_on_the_unchanged_photo(trained, exposures):
    untrained = create_model("grid-960")
    generator = torch.Generator().manual_seed(5)
    settings = CAMERA.draw(exposures.stops, exposures.kept, exposures.bend, generator)
    photo = settings.photo(exposures.radiance, generator)
    wanted = settings.wanted(exposures.target, settings.photo(exposures.radiance))
    errors = []
    for model in (untrained, trained.model):
        with torch.no_grad():
            errors.append(float(picture_error(model.apply_grid(photo, model.grid_of(photo)), wanted)))
    assert errors[1] < errors[0] - 0.2


def test_the_second_part_changes_only_what_depends_on_noise(trained):
    fresh = create_model("grid-960")
    assert trained.history[-1]["validation_psnr"] > 0
    assert not torch.equal(trained.model.smoothing.log_tolerance, fresh.smoothing.log_tolerance)
    assert all(parameter.requires_grad for parameter in trained.model.parameters())


def test_a_student_learns_from_several_teachers(trained, tmp_path):
    first, second = trained.model, GridNet()
    with torch.no_grad():
        second.knots.bias.fill_(0.2)
    photo = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    answers = [within_white(each.apply_grid(photo, each.grid_of(photo))) for each in (first, second)]
    torch.testing.assert_close(Committee([first, second])(photo, photo), (answers[0] + answers[1]) / 2)
    run = train_exposure(
        output_dir=tmp_path, teacher=[first, second], alpha=1.0, views=2, size=32, epochs=2, smoothing_epochs=0,
        batch_size=8,
    )  # fmt: skip
    assert set(run.history[0]) >= {"distillation", "validation_psnr"}
    assert "error" not in run.history[0]
    assert first.knots.weight.requires_grad  # the caller's teacher stays as it was
    assert (tmp_path / "history.csv").is_file()


def test_training_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="states no licence for each photo"):
        train_exposure(brackets_dir=tmp_path)
    with pytest.raises(ValueError, match="the model has no grid of gains: ZeroDCE"):
        train_exposure("student-565")
    with pytest.raises(ValueError, match="the teacher has no grid of gains: GlanceNet"):
        train_exposure(teacher="glance-650")
    with pytest.raises(ValueError, match="alpha"):
        train_exposure(alpha=1.5)


def test_six_numbers_brighten_dark_photos(exposures):
    numbers = fit_six_numbers(exposures, steps=60)
    dark, bright = torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.85)
    assert numbers(dark).mean() > 0.15
    assert numbers(bright).mean() < 0.85


def test_photos_of_the_camera_can_be_written(exposures, tmp_path):
    paths = take_photos(exposures, tmp_path / "photos", 3, seed=2)
    assert [path.name for path in paths] == ["0000.png", "0001.png", "0002.png"]
    again = take_photos(exposures, tmp_path / "again", 2, seed=2)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths[:2]]
    assert read_photo(paths[0]).shape == (32, 32, 3)
    with pytest.raises(FileExistsError, match="exists; choose an empty folder"):
        take_photos(exposures, tmp_path / "photos", 1)
