import contextlib
import io
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, features

from kdlib.data import (
    Darkening,
    PhotoError,
    dark_photos,
    darken,
    datasets,
    evaluation_pairs,
    find_pairs,
    list_photos,
    load_photos,
    read_photo,
    sample_crops,
    sample_pairs,
    sample_photos,
    samples,
    to_array,
    to_tensor,
    write_photo,
)
from kdlib.data.datasets import pair_folders, training_folder
from kdlib.data.degrade import linear_to_srgb, srgb_to_linear
from kdlib.data.pairs import load_pairs

LEFT, RIGHT = (200, 40, 90), (10, 120, 60)
NOISE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def two_halves(width=32, height=16):
    photo = np.empty((height, width, 3), dtype=np.uint8)
    photo[:, : width // 2], photo[:, width // 2 :] = LEFT, RIGHT
    return photo


def flat(level, height=16, width=16):
    return np.full((height, width, 3), level, dtype=np.uint8)


def write_truncated(path):
    write_photo(path, NOISE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "ppm", "gif", "PNG"])
def test_lossless_photo_is_read_exactly(suffix, tmp_path):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(two_halves()).save(path)
    photo = read_photo(path)
    assert photo.dtype == np.uint8
    assert np.array_equal(photo, two_halves())
    assert list_photos(tmp_path) == [path]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp", "avif"])
def test_lossy_photo_is_read_within_tolerance(suffix, tmp_path):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(two_halves()).save(path, quality=95)
    difference = np.abs(read_photo(str(path)).astype(int) - two_halves())
    assert difference.shape == (16, 32, 3)
    # Compression blurs the colours along the boundary of the halves.
    assert max(difference[:, :12].max(), difference[:, 20:].max()) <= 8
    assert list_photos(tmp_path) == [path]


@pytest.mark.parametrize(
    ("mode", "suffix", "tolerance"),
    [("P", "png", 0), ("RGBA", "png", 0), ("CMYK", "tif", 1), ("YCbCr", "tif", 2)],
)
def test_photo_in_another_colour_mode_is_converted_to_rgb(mode, suffix, tolerance, tmp_path):
    path = tmp_path / f"photo.{suffix}"
    image = Image.fromarray(two_halves())
    image = image.convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else image.convert(mode)
    image.save(path)
    assert Image.open(path).mode == mode
    photo = read_photo(path)
    assert photo.shape == (16, 32, 3)
    assert np.abs(photo.astype(int) - two_halves()).max() <= tolerance


def test_transparency_is_dropped_and_the_colours_below_it_are_kept(tmp_path):
    image = Image.fromarray(two_halves())
    image.putalpha(0)
    image.save(tmp_path / "glass.png")
    assert np.array_equal(read_photo(tmp_path / "glass.png"), two_halves())


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_greyscale_photo_gets_three_equal_channels(mode, tmp_path):
    levels = np.array([[0, 255], [255, 0]] if mode == "1" else [[0, 80], [160, 255]], dtype=np.uint8)
    Image.fromarray(levels).convert(mode).save(tmp_path / "grey.png")
    assert np.array_equal(read_photo(tmp_path / "grey.png"), np.stack([levels] * 3, axis=-1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_wide_greyscale_photo_is_scaled_not_clipped(suffix, tmp_path):
    # 65535 / 257 = 255
    levels = np.array([[0, 257 * 40, 257 * 200, 65535]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / f"wide.{suffix}")
    assert read_photo(tmp_path / f"wide.{suffix}")[0, :, 0].tolist() == [0, 40, 200, 255]


def test_floating_point_greyscale_photo_is_scaled_from_the_range_0_to_1(tmp_path):
    Image.fromarray(np.array([[0.0, 0.2, 1.0]], dtype=np.float32)).save(tmp_path / "float.tif")
    assert read_photo(tmp_path / "float.tif")[0, :, 1].tolist() == [0, 51, 255]


@pytest.mark.parametrize(
    ("orientation", "upright"), [(1, two_halves()), (6, np.rot90(two_halves(), k=-1)), (3, two_halves()[:, ::-1])]
)
def test_photo_is_rotated_according_to_its_exif_orientation(orientation, upright, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(two_halves()).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_photo(tmp_path / "turned.png"), upright)


def test_error_names_a_missing_photo(tmp_path):
    with pytest.raises(PhotoError, match=r"absent\.jpg: no such file"):
        read_photo(tmp_path / "absent.jpg")


def test_error_names_an_empty_photo(tmp_path):
    (tmp_path / "nothing.jpg").touch()
    with pytest.raises(PhotoError, match=r"nothing\.jpg: the file is empty"):
        read_photo(tmp_path / "nothing.jpg")


def test_error_names_a_text_file_with_a_photo_extension(tmp_path):
    (tmp_path / "notes.jpg").write_text("a dark photo\n")
    with pytest.raises(PhotoError, match=r"notes\.jpg: not an image in a known format"):
        read_photo(tmp_path / "notes.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "gif", "ppm"])
def test_error_names_a_truncated_photo(suffix, tmp_path):
    path = write_truncated(tmp_path / f"half.{suffix}")
    with pytest.raises(PhotoError, match=rf"half\.{suffix}: (cannot be decoded|not an image)"):
        read_photo(path)


def test_photo_with_a_billion_pixels_is_refused(tmp_path, monkeypatch):
    write_photo(tmp_path / "bomb.png", flat(0))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PhotoError, match=r"bomb\.png: cannot be decoded.*exceeds limit"):
        read_photo(tmp_path / "bomb.png")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_written_photo_reads_back_exactly(suffix, tmp_path):
    path = write_photo(tmp_path / "new folder" / f"photo.{suffix}", NOISE)
    assert np.array_equal(read_photo(path), NOISE)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_tensor_is_clipped_rounded_and_written(tmp_path):
    levels = torch.tensor([-0.5, 0.0, 99.4 / 255, 99.6 / 255, 1.0, 1.5])
    path = write_photo(tmp_path / "photo.png", levels.expand(3, 1, -1))
    assert read_photo(path)[0, :, 0].tolist() == [0, 0, 99, 100, 255, 255]


def test_arrays_and_tensors_convert_without_loss():
    tensor = to_tensor(NOISE)
    assert tensor.shape == (3, 32, 48)
    assert tensor.dtype == torch.float32
    assert tensor[1, 2, 3].item() == pytest.approx(NOISE[2, 3, 1] / 255)
    assert np.array_equal(to_array(tensor.requires_grad_()), NOISE)
    assert np.array_equal(to_array(to_tensor(NOISE[:, ::-1])), NOISE[:, ::-1])


@pytest.mark.parametrize(
    "photo", [NOISE.astype(np.float32), NOISE[..., 0], NOISE[..., :2], NOISE[None], torch.rand(1, 8, 8)]
)
def test_array_with_the_wrong_shape_or_type_is_not_written(photo, tmp_path):
    with pytest.raises(ValueError, match=r"photo\.png: expected H×W×3 uint8"):
        write_photo(tmp_path / "photo.png", photo)
    assert list(tmp_path.iterdir()) == []


def test_unknown_extension_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="unknown file extension"):
        write_photo(tmp_path / "photo.xyz", NOISE)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_the_old_photo_and_nothing_else(tmp_path, little_room):
    path = write_photo(tmp_path / "photo.png", NOISE)
    little_room(path.stat().st_size - 1)
    with pytest.raises(OSError, match="File too large"):
        write_photo(path, NOISE[::-1])
    assert np.array_equal(read_photo(path), NOISE)
    assert list(tmp_path.iterdir()) == [path]


def test_failed_replacement_leaves_nothing_behind(tmp_path):
    (tmp_path / "photo.png").mkdir()
    with pytest.raises(OSError, match=r"photo\.png"):
        write_photo(tmp_path / "photo.png", NOISE)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_photos_are_listed_from_all_subfolders_except_hidden_ones(tmp_path):
    wanted = [tmp_path / name for name in ("a/2.JPG", "a/b/1.png", "z.webp")]
    others = [tmp_path / name for name in (".hidden.png", ".cache/3.png", "a/.part.jpg", "notes.txt", "clip.mp4")]
    for path in (*wanted, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list_photos(tmp_path) == wanted
    assert list_photos(str(tmp_path)) == wanted


def test_photos_are_listed_below_a_hidden_folder_given_explicitly(tmp_path):
    write_photo(tmp_path / ".photos" / "a.png", NOISE)
    assert len(list_photos(tmp_path / ".photos")) == 1


def test_error_on_an_unlistable_folder_gives_the_reason(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        list_photos(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"no photos in .*looked for .*\.jpg"):
        list_photos(tmp_path)
    path = write_photo(tmp_path / "photo.png", NOISE)
    with pytest.raises(NotADirectoryError, match=r"photo\.png is a file; give the folder"):
        list_photos(path)


def test_folder_with_a_bad_photo_warns_and_keeps_the_rest(tmp_path):
    write_photo(tmp_path / "1.png", flat(10))
    write_truncated(tmp_path / "2.jpg")
    write_photo(tmp_path / "3.png", flat(30))
    with pytest.warns(UserWarning, match=r"skipped .*2\.jpg"):
        photos = load_photos(tmp_path, size=16)
    assert len(photos) == 2
    assert photos.photos.dtype == torch.uint8
    assert torch.equal(photos.photos, torch.tensor([10, 30], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 16, 16))
    assert len(photos.skipped) == 1
    assert str(tmp_path / "2.jpg") in photos.skipped[0]


@pytest.mark.filterwarnings("ignore:skipped")
def test_folder_with_only_bad_photos_is_an_error(tmp_path):
    write_truncated(tmp_path / "1.jpg")
    (tmp_path / "2.png").touch()
    with pytest.raises(ValueError, match=r"none of the 2 photos in .* can be read; the first error: .*1\.jpg"):
        load_photos(tmp_path, size=16)


def test_limit_takes_photos_at_even_intervals(tmp_path):
    for i in range(10):
        write_photo(tmp_path / f"{i}.png", flat(10 * i))
    assert load_photos(tmp_path, size=16, limit=5).photos[:, 0, 0, 0].tolist() == [0, 20, 40, 60, 80]
    assert load_photos(tmp_path, size=16, limit=3).photos[:, 0, 0, 0].tolist() == [0, 30, 60]
    assert len(load_photos(tmp_path, size=16, limit=99)) == 10


def test_central_square_of_a_photo_is_kept_and_resized(tmp_path):
    wide = flat(0, 32, 96)
    wide[:, 32:64] = LEFT
    wide[::2, 32:64] = RIGHT
    write_photo(tmp_path / "wide.png", wide)
    write_photo(tmp_path / "tall.png", wide.swapaxes(0, 1))
    middle = (np.array(LEFT) + RIGHT) / 2
    for photo in load_photos(tmp_path, size=16).photos:
        assert photo.shape == (3, 16, 16)
        assert np.abs(photo.permute(1, 2, 0).numpy() - middle).max() <= 1


def test_small_photo_is_enlarged(tmp_path):
    write_photo(tmp_path / "small.png", flat(77, 3, 5))
    assert load_photos(tmp_path, size=16).photos.unique().tolist() == [77]


def test_only_the_dark_photos_of_a_paired_folder_are_loaded(tmp_path):
    write_photo(tmp_path / "low" / "1.png", flat(10))
    write_photo(tmp_path / "high" / "1.png", flat(200))
    assert load_photos(tmp_path, size=16).photos.unique().tolist() == [10]
    assert [photo.unique().tolist() for _, photo in dark_photos(str(tmp_path))] == [[np.float32(10 / 255)]]


def test_large_set_is_stored_in_a_file_with_the_same_content(tmp_path, monkeypatch):
    for i in range(3):
        write_photo(tmp_path / f"{i}.png", np.roll(NOISE, i, axis=0))
    in_memory = load_photos(tmp_path, size=16).photos
    monkeypatch.setattr(datasets, "MEMORY_LIMIT", 100)
    assert torch.equal(load_photos(tmp_path, size=16).photos, in_memory)


def test_progress_sees_every_photo(tmp_path):
    for i in range(3):
        write_photo(tmp_path / f"{i}.png", flat(i))
    calls = []

    def progress(photos, total):
        calls.append(total)
        for photo in photos:
            calls.append("photo")
            yield photo

    assert len(load_photos(tmp_path, size=16, progress=progress)) == 3
    assert calls == [3, "photo", "photo", "photo"]


def test_training_images_have_a_minimum_size():
    with pytest.raises(ValueError, match="of at least 16, not 15"):
        load_photos(size=15)


def test_embedded_crops_depend_on_the_seed():
    first, again, other = (load_photos(size=16, count=6, seed=seed).photos for seed in (0, 0, 1))
    assert first.shape == (6, 3, 16, 16)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({crop.numpy().tobytes() for crop in first}) == 6
    assert len(load_photos(size=16, count=6, limit=2)) == 2
    assert len(load_photos(size=16, count=2, limit=6)) == 2


def test_embedded_crops_never_show_the_held_out_photos(monkeypatch):
    shades = {name: flat(255 if name in samples.HELD_OUT else 0, 20, 24) for name in samples.SAMPLES}
    monkeypatch.setattr(samples, "SAMPLES", {name: lambda shade=shade: shade for name, shade in shades.items()})
    assert sample_crops(64, 16).max() < 20  # noise only


def test_embedded_photos_match_the_list():
    photos = sample_photos()
    assert list(photos) == list(samples.SAMPLES)
    assert set(samples.HELD_OUT) < set(photos)
    for name, photo in photos.items():
        assert photo.dtype == np.uint8, name
        assert photo.ndim == 3, name
        assert photo.shape[2] == 3, name
        assert min(photo.shape[:2]) >= 300, name


@pytest.mark.slow
def test_embedded_pairs_have_the_original_photo_as_truth():
    photos = sample_photos()
    pairs = sample_pairs(stops=3.5, seed=0)
    assert list(pairs) == list(photos)
    for name, (dark, truth) in pairs.items():
        assert torch.equal(truth, to_tensor(photos[name])), name
        assert dark.shape == truth.shape, name
        assert dark.mean() < 0.4 * truth.mean(), name
    assert all(torch.equal(again[0], pairs[name][0]) for name, again in sample_pairs(stops=3.5, seed=0).items())
    assert [name for name, _, _ in evaluation_pairs()] == list(photos)


def test_pairs_match_by_name_regardless_of_the_extension(tmp_path):
    for path in ("low/b.png", "low/a.png", "high/a.webp", "high/b.bmp"):
        write_photo(tmp_path / path, NOISE)
    low, high = tmp_path / "low", tmp_path / "high"
    assert find_pairs(tmp_path) == [("a", low / "a.png", high / "a.webp"), ("b", low / "b.png", high / "b.bmp")]


def test_error_names_photos_without_a_partner(tmp_path):
    for path in ("low/a.png", "low/b.png", "high/a.png", "high/c.png"):
        write_photo(tmp_path / path, NOISE)
    with pytest.raises(ValueError, match="2 photos have no partner with the same name: b, c"):
        find_pairs(tmp_path)


def test_error_on_a_folder_without_pairs_says_what_it_needs(tmp_path):
    (tmp_path / "low").mkdir()
    with pytest.raises(ValueError, match="holds no pairs: it needs the subfolders low and high"):
        find_pairs(tmp_path)


def lol_v2(folder, names=("00001", "00002"), low="Low", normal="Normal"):
    """Uniform pairs in the layout and with the names of LOL-v2; the truth is twice as bright."""
    for part, level in (("Train", 40), ("Test", 60)):
        for number, name in enumerate(names):
            write_photo(folder / part / low / f"low{name}.png", flat(level + 10 * number))
            write_photo(folder / part / normal / f"normal{name}.png", flat(2 * (level + 10 * number)))
    return folder


@pytest.mark.parametrize("folders", [("Low", "Normal"), ("low", "normal"), ("LOW", "high")])
@pytest.mark.parametrize("where", ["Real_captured/Train", "Real_captured", ""])
def test_pairs_of_lol_v2_are_found_from_every_folder_above_them(tmp_path, where, folders):
    train = lol_v2(tmp_path / "Real_captured", low=folders[0], normal=folders[1]) / "Train"
    pairs = find_pairs(tmp_path / where)
    assert [name for name, _, _ in pairs] == ["00001", "00002"]
    assert {path.parent.parent for _, *paths in pairs for path in paths} == {train}
    assert pair_folders(tmp_path / where) is not None
    assert training_folder(tmp_path / where) == train / folders[0]
    for _, dark, truth in pairs:
        assert np.array_equal(2 * read_photo(dark), read_photo(truth))


def test_training_uses_the_train_part_and_evaluation_the_test_part(tmp_path):
    folder = lol_v2(tmp_path)
    assert load_photos(folder, size=16).photos.unique().tolist() == [40, 50]
    dark, truth = load_pairs(folder, size=16)
    assert (dark.unique().tolist(), truth.unique().tolist()) == ([40, 50], [80, 100])
    assert [name for name, _, _ in evaluation_pairs(folder)] == ["00001", "00002"]
    assert [round(float(dark.mean()) * 255) for _, dark, _ in evaluation_pairs(folder)] == [60, 70]
    assert [round(float(photo.mean()) * 255) for _, photo in dark_photos(folder)] == [60, 70]
    assert [round(float(dark.mean()) * 255) for _, dark, _ in evaluation_pairs(folder / "Train")] == [40, 50]


def test_matching_names_keep_a_prefix_equal_to_their_folder(tmp_path):
    for path in ("low/lowland.png", "high/lowland.png", "low/1.png", "high/1.png"):
        write_photo(tmp_path / path, NOISE)
    assert [name for name, _, _ in find_pairs(tmp_path)] == ["1", "lowland"]


def test_errors_name_a_missing_partner_and_a_missing_part_of_lol_v2(tmp_path):
    folder = lol_v2(tmp_path)
    (folder / "Train" / "Normal" / "normal00002.png").unlink()
    with pytest.raises(ValueError, match="1 photos have no partner with the same name: 00002"):
        find_pairs(folder)
    shutil.rmtree(folder / "Test")
    with pytest.raises(ValueError, match=r"holds no pairs.*Low and Normal, as in LOL-v2.*inside Test"):
        list(evaluation_pairs(folder))


def test_evaluation_pairs_have_full_size(tmp_path):
    write_photo(tmp_path / "low" / "a.png", flat(51, 12, 20))
    write_photo(tmp_path / "high" / "a.png", flat(204, 12, 20))
    [(name, dark, truth)] = evaluation_pairs(tmp_path)
    assert name == "a"
    torch.testing.assert_close(dark, torch.full((3, 12, 20), 0.2))
    torch.testing.assert_close(truth, torch.full((3, 12, 20), 0.8))


def test_error_names_a_pair_of_different_sizes(tmp_path):
    write_photo(tmp_path / "low" / "a.png", flat(51, 12, 20))
    write_photo(tmp_path / "high" / "a.png", flat(204, 20, 12))
    with pytest.raises(ValueError, match=r"low.a\.png and .*high.a\.png differ in size: \(12, 20\) and \(20, 12\)"):
        list(evaluation_pairs(tmp_path))


def test_pair_with_a_bad_photo_is_skipped_with_a_warning(tmp_path):
    write_truncated(tmp_path / "low" / "a.png")
    write_photo(tmp_path / "high" / "a.png", NOISE)
    for part in ("low", "high"):
        write_photo(tmp_path / part / "b.png", NOISE)
    with pytest.warns(UserWarning, match=r"skipped the pair a: .*a\.png"):
        assert [name for name, _, _ in evaluation_pairs(tmp_path)] == ["b"]


def test_bad_dark_photo_is_skipped_with_a_warning(tmp_path):
    write_photo(tmp_path / "one" / "1.png", flat(51, 12, 20))
    (tmp_path / "one" / "2.png").touch()
    write_photo(tmp_path / "two" / "3.png", flat(102, 20, 12))
    with pytest.warns(UserWarning, match=r"skipped .*2\.png: the file is empty"):
        photos = dict(dark_photos([tmp_path / "one", tmp_path / "two"]))
    assert list(photos) == [str(tmp_path / "one" / "1.png"), str(tmp_path / "two" / "3.png")]
    assert [photo.shape for photo in photos.values()] == [(3, 12, 20), (3, 20, 12)]


@pytest.mark.slow
def test_dark_photos_are_the_held_out_ones_at_four_exposures_by_default():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photos = dict(dark_photos())
    assert len(photos) == 8
    assert all(name.startswith(samples.HELD_OUT) for name in photos)
    chelsea = [photo.mean().item() for name, photo in photos.items() if name.startswith("chelsea")]
    assert chelsea == sorted(chelsea, reverse=True)
    assert chelsea[0] > 2 * chelsea[-1]


def test_srgb_curve_and_its_inverse():
    levels = torch.linspace(0, 1, 256, dtype=torch.float64)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(levels)), levels, rtol=0, atol=1e-6)
    # ((0.5 + 0.055) / 1.055)^2.4 = 0.21404; below 0.04045 the curve is a line of slope 1 / 12.92
    assert srgb_to_linear(torch.tensor([0.0, 0.02, 0.5, 1.0])).tolist() == pytest.approx(
        [0.0, 0.02 / 12.92, 0.214041, 1.0], rel=1e-5
    )
    assert linear_to_srgb(torch.tensor([-0.3, 1.7])).tolist() == pytest.approx([0.0, 1.0])


def test_one_stop_halves_the_light():
    # 0.5 is 0.21404 in linear light; half of it, 0.10702, is 1.055 · 0.10702^(1 / 2.4) − 0.055 = 0.36078: level 92
    quiet = Darkening(stops=(1.0, 1.0), cast=0.0, full_well=float("inf"), read_noise=0.0)
    dark = darken(torch.full((2, 3, 4, 4), 0.5), quiet, generator=generator())
    assert dark.unique().tolist() == pytest.approx([92 / 255])


def test_darkening_with_zero_ranges_is_the_identity():
    quiet = Darkening(stops=(0.0, 0.0), cast=0.0, full_well=float("inf"), read_noise=0.0)
    photo = to_tensor(NOISE)[None]
    torch.testing.assert_close(darken(photo, quiet, generator=generator()), photo, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("full_well", "read_noise", "variance"),
    [
        (200.0, 0.0, 0.107021 / 200),  # shot noise: signal / full well, at the light of the dark photo
        (float("inf"), 0.02, 0.02**2),
        (200.0, 0.01, 0.107021 / 200 + 0.01**2),
    ],
)
def test_noise_variance_follows_the_model(full_well, read_noise, variance):
    noisy = Darkening(stops=(1.0, 1.0), cast=0.0, full_well=full_well, read_noise=read_noise)
    light = srgb_to_linear(darken(torch.full((1, 3, 128, 128), 0.5), noisy, generator=generator()))
    # With 49,152 samples the standard error of the variance is 0.6 %.
    assert light.var().item() == pytest.approx(variance, rel=0.03)
    assert light.mean().item() == pytest.approx(0.107021, rel=0.01)


def test_each_photo_of_a_batch_has_its_own_exposure_and_cast_within_the_ranges():
    ranges = Darkening(stops=(1.0, 2.0), cast=0.5, full_well=float("inf"), read_noise=0.0)
    dark = darken(torch.full((200, 3, 1, 1), 0.9), ranges, generator=generator())
    stops = -torch.log2(srgb_to_linear(dark)[..., 0, 0] / srgb_to_linear(torch.tensor(0.9)))
    assert stops.min() > 1.0 - 0.5 - 0.05
    assert stops.max() < 2.0 + 0.5 + 0.05
    assert stops.mean().item() == pytest.approx(1.5, abs=0.1)
    # A uniform distribution over an interval of length 1 has variance 1 / 12: exposure varies between photos, the cast
    # between channels.
    assert stops.var(dim=1).mean().item() == pytest.approx(1 / 12, rel=0.2)
    assert stops.var().item() == pytest.approx(2 / 12, rel=0.2)


def test_unevenness_varies_the_light_smoothly_over_the_photo():
    settings = {"stops": (2.0, 2.0), "cast": 0.0, "full_well": float("inf"), "read_noise": 0.0}
    photo = torch.full((1, 3, 32, 32), 0.7)
    even = darken(photo, Darkening(**settings), generator=generator())
    uneven = darken(photo, Darkening(**settings, unevenness=1.0), generator=generator())
    assert even.std() < 1e-6
    assert uneven.std() > 0.05
    assert uneven.diff(dim=-1).abs().max() < 0.25
    assert torch.equal(uneven[:, 0], uneven[:, 1])


def test_darkening_depends_only_on_its_generator():
    photo = to_tensor(NOISE)[None]
    torch.manual_seed(1)
    first = darken(photo, generator=generator(5))
    torch.manual_seed(2)
    assert torch.equal(darken(photo, generator=generator(5)), first)
    assert not torch.equal(darken(photo, generator=generator(6)), first)


def test_dark_photo_is_quantised_to_eight_bits():
    dark = darken(torch.rand(2, 3, 16, 16, generator=generator()), generator=generator())
    assert dark.min() >= 0
    assert dark.max() <= 1
    torch.testing.assert_close(dark * 255, (dark * 255).round(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"stops": (3.0, 1.0)}, r"stops must be an ascending range from 0 or more, got \(3\.0, 1\.0\)"),
        ({"stops": (-1.0, 2.0)}, "stops must be an ascending range"),
        ({"full_well": 0.0}, "full_well must be a number above 0, not 0.0"),
        ({"read_noise": -0.1}, "read_noise must be a number of at least 0"),
        ({"cast": -0.1}, "cast must be a number of at least 0"),
        ({"unevenness": -0.1}, "unevenness must be a number of at least 0"),
    ],
)
def test_invalid_darkening_ranges_are_refused(ranges, message):
    with pytest.raises(ValueError, match=message):
        Darkening(**ranges)


@pytest.mark.parametrize(
    "photo", [torch.full((3, 8, 8), 128, dtype=torch.uint8), torch.rand(1, 3, 8, 8), torch.rand(8, 8)]
)
def test_tensor_with_the_wrong_shape_or_type_is_not_written(photo, tmp_path):
    with pytest.raises(ValueError, match=r"photo\.png: expected"):
        write_photo(tmp_path / "photo.png", photo)


def test_folder_with_a_photo_extension_is_not_a_photo(tmp_path):
    path = write_photo(tmp_path / "album.jpg" / "1.png", NOISE)
    assert list_photos(tmp_path) == [path]


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_one_is_refused(limit, tmp_path):
    write_photo(tmp_path / "1.png", NOISE)
    for data_dir in (tmp_path, None):
        with pytest.raises(ValueError, match=f"limit.*{limit}"):
            load_photos(data_dir, size=16, limit=limit)


def test_pairs_with_equal_names_in_two_subfolders_are_two_pairs(tmp_path):
    for part in ("low", "high"):
        for name in ("a/1.png", "b/1.png"):
            write_photo(tmp_path / part / name, NOISE)
    assert [name for name, _, _ in find_pairs(tmp_path)] == ["a/1", "b/1"]


def test_error_names_two_photos_with_the_same_name(tmp_path):
    for part in ("low", "high"):
        for name in ("1.png", "1.bmp"):
            write_photo(tmp_path / part / name, NOISE)
    with pytest.raises(ValueError, match=r"two photos named 1: 1\.bmp and 1\.png"):
        find_pairs(tmp_path)


def test_very_dark_wide_greyscale_photo_stays_dark(tmp_path):
    Image.fromarray(np.array([[0, 200, 255]], dtype=np.uint16)).save(tmp_path / "dark.png")
    assert read_photo(tmp_path / "dark.png").max() <= 1


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_every_damaged_avif_raises_a_photo_error(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, format="AVIF")
    whole = bytearray(buffer.getvalue())
    path = tmp_path / "damaged.avif"
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(PhotoError):  # any other exception fails the test
            read_photo(path)


def test_postscript_with_a_photo_extension_is_not_executed(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **_: started.append(arguments))
    with pytest.raises(PhotoError, match="not an image in a known format"):
        read_photo(path)
    assert started == []
