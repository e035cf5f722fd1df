"""Downsampling, upsampling and super-resolution scores; Set5 and Set14 are scored if the reference data is present."""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.cli._super_resolution import without_super_resolution
from kdlib.data import to_array, to_tensor, write_photo
from kdlib.evaluation import super_resolution
from kdlib.evaluation.metrics import quantise
from kdlib.evaluation.report import as_method
from kdlib.evaluation.super_resolution import (
    bicubic,
    luminance,
    milliseconds_per_megapixel,
    psnr_y,
    score_super_resolution,
    sharp_photos,
    ssim_y,
)
from kdlib.models import create_model
from kdlib.resampling import as_stored, blur, crop_to_multiple, enlarge, shrink
from kdlib.weights import load_model, save_model

runner = CliRunner()
DB = 0.02
RESULTS = Path(__file__).resolve().parent.parent / "results"
PUBLISHED = "light_msafn_peer"
FOLDERS = {"Set5": (5, 28.43, 29.89), "Set14": (14, 26.09, 27.13)}


def scene(height, width, seed=0):
    """An 8-bit photo with detail at several scales."""
    photo, generator = torch.zeros(1, 3, height, width), torch.Generator().manual_seed(seed)
    for size in (2, 6, 20):
        noise = torch.rand(1, 3, size, size, generator=generator)
        photo += torch.nn.functional.interpolate(noise, (height, width), mode="bilinear") / 3
    return as_stored(photo + torch.rand(photo.shape, generator=generator) * 0.1)[0]


# Scaling


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_matches_pillows(dtype):
    sharp = scene(48, 64)
    photo = Image.fromarray(to_array(sharp))
    small = photo.resize((16, 12), Image.Resampling.BICUBIC)
    ours = shrink(sharp[None].to(dtype))
    assert ours.dtype == dtype
    # Pillow rounds its weights and the rows between its two passes.
    assert np.abs(to_array(ours[0]).astype(int) - np.asarray(small)).max() <= 1
    large = np.asarray(small.resize((64, 48), Image.Resampling.BICUBIC)).astype(int)
    again = enlarge(to_tensor(np.array(small))[None].to(dtype))
    assert np.abs(to_array(again[0]) - large).max() <= 1


def test_upsampling_uses_a_cubic_kernel_with_a_of_minus_one_half():
    # Next to a single bright pixel, a cubic kernel undershoots by 0.074 of its value for a = −0.5, by 0.111 for −0.75.
    line = torch.zeros(1, 3, 1, 9)
    line[..., 4] = 1
    assert enlarge(line, (1, 27))[0, 0, 0, 13 - 4].item() == pytest.approx(cubic(4 / 3), abs=1e-6)
    assert enlarge(line, (1, 27))[0, 0, 0, 13 - 1].item() == pytest.approx(cubic(1 / 3), abs=1e-6)


def cubic(x, a=-0.5):
    return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x < 1 else a * (x**3 - 5 * x**2 + 8 * x - 4)


def test_downsampling_averages_instead_of_picking_pixels():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::4] = 1  # every fourth column, which picking pixels would turn into 0 or 1
    inner = shrink(stripes)[..., 4:-4]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.25), atol=0.02, rtol=0)


def test_a_blurred_photo_matches_two_stored_files():
    sharp = scene(32, 40)[None]
    small = as_stored(shrink(sharp))
    blurred = blur(sharp)
    assert torch.equal(blurred, as_stored(enlarge(small, (32, 40))))
    for stored in (small, blurred):
        assert (stored * 255 - (stored * 255).round()).abs().max() < 1e-4
        assert 0 <= stored.min() <= stored.max() <= 1
    assert torch.equal(to_tensor(to_array(small[0])), small[0])  # the file itself
    assert not torch.equal(blurred, as_stored(enlarge(shrink(sharp), (32, 40))))


def test_bicubic_overshoots_but_a_stored_photo_does_not():
    edge = torch.zeros(1, 3, 32, 32)
    edge[..., 16:] = 1
    small = shrink(edge)
    assert small.min() < 0
    assert small.max() > 1
    assert as_stored(small).min() == 0
    assert as_stored(small).max() == 1


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_factors(factor):
    sharp = scene(7 * factor, 9 * factor)[None]
    small = shrink(sharp, factor)
    assert small.shape == (1, 3, 7, 9)
    assert torch.equal(enlarge(small, factor), enlarge(small, (7 * factor, 9 * factor)))
    torch.testing.assert_close(shrink(torch.full_like(sharp, 0.4), factor), torch.full_like(small, 0.4))


def test_half_precision_is_rounded_only_at_the_end():
    sharp = scene(32, 32)[None]
    small = shrink(sharp.half())
    assert small.dtype == torch.half
    assert torch.equal(small, shrink(sharp.half().float()).half())


def test_cropping_keeps_the_upper_left_corner():
    photo = scene(23, 14)
    assert torch.equal(crop_to_multiple(photo), photo[:, :20, :12])
    assert torch.equal(crop_to_multiple(photo[None], 5), photo[None, :, :20, :10])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shrink(torch.rand(1, 3, 30, 32)), "32×30 pixels is not a multiple of 4"),
        (lambda: shrink(torch.rand(3, 32, 32)), "expected B×3×H×W floating point, got 3×32×32"),
        (lambda: shrink(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)), "uint8"),
        (lambda: enlarge(torch.rand(1, 3, 8, 8), (32, 4)), "8×8 pixels cannot be enlarged to 4×32"),
        (lambda: crop_to_multiple(torch.rand(3, 3, 50)), "50×3 pixels is too small"),
        (lambda: crop_to_multiple(torch.rand(3, 8, 8), 0), "the factor must be a number of at least 1, not 0"),
        (lambda: shrink(torch.rand(1, 3, 8, 8), 0), "the factor must be a number of at least 1, not 0"),
    ],
)
def test_photos_that_cannot_be_scaled_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Scores


def test_luminance_follows_bt601():
    colours = torch.tensor([[0.0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 1, 0, 0, 1]]).view(3, 1, 5)
    levels = luminance(colours) * 255
    wanted = [16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966]
    assert levels.shape == (1, 1, 5)
    assert levels.flatten().tolist() == pytest.approx(wanted, abs=1e-4)
    assert luminance(scene(8, 9)[None].expand(2, -1, -1, -1)).shape == (2, 1, 8, 9)


def test_psnr_y_uses_the_luminance_without_the_border():
    truth = scene(40, 30).double()
    photo = truth + 0.01
    assert psnr_y(photo, truth) == pytest.approx(-20 * np.log10(0.01 * 219 / 255))
    photo[:, :4], photo[:, -4:], photo[..., :4], photo[..., -4:] = 0, 0, 1, 1
    assert psnr_y(photo, truth) == pytest.approx(-20 * np.log10(0.01 * 219 / 255))
    assert psnr_y(photo, truth, border=3) < 30
    # A change of colour that preserves the luminance does not affect the score.
    tinted = truth.clone()
    tinted[0] += 0.1
    tinted[1] -= 0.1 * 65.481 / 128.553
    assert psnr_y(tinted, truth) > 100
    assert psnr_y(truth, truth) == float("inf")


def test_ssim_y_uses_the_luminance_without_the_border():
    truth = scene(40, 30)
    photo = truth.clone()
    photo[:, :4], photo[:, -4:], photo[..., :4], photo[..., -4:] = 0, 0, 1, 1
    assert ssim_y(photo, truth) == pytest.approx(1)
    assert ssim_y(photo, truth, border=3) < 0.99
    assert ssim_y(blur(truth[None, :, :, :28])[0], truth[..., :28]) < 0.9


def test_a_border_that_leaves_no_pixel_is_refused():
    with pytest.raises(ValueError, match="of 30×8 pixels is too small to crop a border of 4"):
        psnr_y(scene(8, 30), scene(8, 30))


def test_scores_are_averaged_over_photos():
    images = [("a", scene(42, 33)), ("b", scene(29, 50, seed=1))]
    seen = []

    def method(photo):
        seen.append(photo)
        return photo + 0.3 / 255

    scores = score_super_resolution(method, images)
    for (_, sharp), photo, row in zip(images, seen, scores["each"], strict=True):
        truth = crop_to_multiple(sharp)
        assert torch.equal(photo, blur(truth[None])[0])
        assert row["psnr_y"] == pytest.approx(psnr_y(photo, truth), abs=1e-4)  # 0.3 is lost in 8 bits
        assert row["ssim_y"] == pytest.approx(ssim_y(photo, truth), abs=1e-5)
        assert 0 < row["psnr"] < row["psnr_y"]
    assert scores["photos"] == 2
    assert [row["name"] for row in scores["each"]] == ["a", "b"]
    for key in ("psnr_y", "ssim_y", "psnr", "ssim"):
        assert scores[key] == pytest.approx(np.mean([row[key] for row in scores["each"]]))


def test_the_border_equals_the_factor():
    sharp = scene(48, 48)

    def spoilt(photo):
        spoilt = photo.clone()
        spoilt[:, :2] = spoilt[:, -2:] = 0
        return spoilt

    for upscale in (2, 3):
        image = [("a", sharp)]
        assert (
            score_super_resolution(spoilt, image, upscale)["psnr_y"]
            == score_super_resolution(bicubic, image, upscale)["psnr_y"]
        )


@pytest.mark.parametrize(
    ("images", "message"),
    [([], "no photos to score"), ([("tiny.png", torch.rand(3, 19, 40))], "tiny.png: a photo of 40×19 pixels")],
)
def test_photos_that_cannot_be_scored_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        score_super_resolution(bicubic, images)


def test_uniform_photos_keep_the_mean_finite():
    white = score_super_resolution(bicubic, [("white", torch.ones(3, 40, 40))])
    both = score_super_resolution(bicubic, [("white", torch.ones(3, 40, 40)), ("a", scene(40, 40))])
    assert white["psnr_y"] == white["psnr"] == 100
    assert both["psnr_y"] == pytest.approx((100 + both["each"][1]["psnr_y"]) / 2)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda photo: photo * float("nan"), r"a\.png: .* returned NaN values"),
        (lambda photo: photo[:, ::2], r"a\.png: .*\(3, 40, 40\), the method returned shape \(3, 20, 40\)"),
    ],
)
def test_results_that_cannot_be_scored_are_refused(method, message):
    with pytest.raises(ValueError, match=message):
        score_super_resolution(method, [("a.png", scene(40, 40))])


def test_a_photo_of_the_stated_minimum_size_is_scored():
    assert score_super_resolution(bicubic, [("a", scene(20, 20))])["photos"] == 1


def test_time_is_given_per_megapixel_of_output(monkeypatch):
    shapes = []
    monkeypatch.setattr(
        super_resolution, "measure", lambda runs, _n: {key: [run() and 0.5] for key, run in runs.items()}
    )

    def method(photo):
        shapes.append(photo.shape)
        return True

    assert milliseconds_per_megapixel({"a": method}, side=64) == {"a": pytest.approx(500e6 / 64**2, abs=1e-3)}
    assert shapes == [(3, 64, 64)]
    with pytest.raises(ValueError, match="at least 1"):
        milliseconds_per_megapixel({"a": method}, repeats=0)


def psnr_of_photos(method, photos):
    """The mean that `score_super_resolution` reports, which measures SSIM too."""
    truths = [crop_to_multiple(sharp) for _, sharp in photos]
    return fmean(psnr_y(quantise(method(blur(truth[None])[0])), truth) for truth in truths)


@pytest.mark.parametrize("folder", FOLDERS)
def test_bicubic_scores_as_stated(folder, shared):
    count, wanted, _ = FOLDERS[folder]
    photos = list(sharp_photos(shared / "data" / "super_resolution" / folder))
    assert len(photos) == count
    assert psnr_of_photos(bicubic, photos) == pytest.approx(wanted, abs=DB)


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_published_network_scores_as_stated(folder, shared):
    """The stored score of each photo makes up the stated mean, and is found again; in short runs for the smallest."""
    count, _, wanted = FOLDERS[folder]
    name = {"Set5": "super_resolution.json", "Set14": "super_resolution_set14.json"}[folder]
    rows = json.loads((RESULTS / name).read_text(encoding="utf-8"))["rows"]
    [stored] = [{each["name"]: each["psnr_y"] for each in row["each"]} for row in rows if row["method"] == PUBLISHED]
    assert len(stored) == count
    assert fmean(stored.values()) == pytest.approx(wanted, abs=DB)
    photos = sorted(sharp_photos(shared / "data" / "super_resolution" / folder), key=lambda item: item[1].numel())
    assert {name for name, _ in photos} == set(stored)
    method = as_method(load_model(shared / "weights" / f"{PUBLISHED}.pth"))
    for name, sharp in photos[:5] if os.environ.get("KDLIB_TRAININGS") == "short" else photos:
        assert psnr_of_photos(method, [(name, sharp)]) == pytest.approx(stored[name], abs=0.001), name


# The command


@pytest.fixture
def folder(tmp_path):
    for k, suffix in enumerate((".png", ".webp", ".tif")):
        write_photo(tmp_path / "sharp" / f"{k}{suffix}", scene(40, 36, seed=k))
    return tmp_path / "sharp"


@pytest.fixture
def files(tmp_path):
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = create_model("light-msafn", width=8, blocks=1, residual=True)
        torch.nn.init.normal_(model.recon[2].weight, std=0.01)
        paths.append(str(save_model(model, tmp_path / f"seed{seed}.safetensors")))
    return paths


@pytest.fixture
def evaluate(folder, tmp_path):
    def run(*arguments):
        out = tmp_path / "scores.json"
        result = runner.invoke(app, ["evaluate", *arguments, "--data", str(folder), "--out", str(out)])
        assert result.exit_code == 0, result.output
        content = json.loads(out.read_text(encoding="utf-8"))
        assert content["data"] == "sharp"
        return {row["method"]: row for row in content["rows"]}

    return run


def test_the_command_scores_models_beside_bicubic(evaluate, files, folder):
    rows = evaluate(*files)
    assert [*rows] == ["bicubic", "seed0", "seed1"]
    photos = list(sharp_photos(folder))
    for name, method in {"bicubic": bicubic, "seed0": as_method(load_model(files[0]))}.items():
        wanted = score_super_resolution(method, photos)
        assert {key: rows[name][key] for key in wanted} == wanted
    assert rows["bicubic"]["parameters"] == 0
    assert rows["seed0"]["parameters"] > 0
    assert rows["seed0"]["psnr_y"] != rows["seed1"]["psnr_y"]
    assert rows["seed0"]["upscale"] == 4
    assert not any("ms_per_megapixel" in row for row in rows.values())


def test_rows_are_appended_and_seeds_become_one(evaluate, files, tmp_path):
    evaluate(files[0])
    content = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    first = {row["method"]: row for row in content["rows"]}
    first["bicubic"]["psnr_y"] = 12.5  # to be taken over, not measured again
    (tmp_path / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    both = evaluate(*files, "--as", "ours", "--category", "self-made pairs", "--append")
    assert [*both] == ["bicubic", "seed0", "ours"]
    assert both["bicubic"] == first["bicubic"]
    assert both["ours"]["seeds"] == 2
    assert both["ours"]["category"] == "self-made pairs"
    assert both["ours"]["runs"][0]["psnr_y"] == first["seed0"]["psnr_y"]
    assert both["ours"]["psnr_y_sd"] > 0
    assert "--as ours" in both["ours"]["command"]


def test_times_belong_to_the_rows(evaluate, files, monkeypatch):
    timed = []

    def fake(methods, *, upscale, threads):
        timed.append((upscale, list(methods)))
        return {name: float(k) for k, name in enumerate(methods, start=1)}

    monkeypatch.setattr(super_resolution, "milliseconds_per_megapixel", fake)
    rows = evaluate(*files, "--as", "ours", "--time")
    assert timed == [(4, ["bicubic", "ours"])]
    assert {name: row["ms_per_megapixel"] for name, row in rows.items()} == {"bicubic": 1.0, "ours": 2.0}


def test_all_shipped_models_means_those_that_brighten():
    loaded = {"a": create_model("nano-161"), "b": create_model("light-msafn", width=8)}
    assert [*without_super_resolution(loaded)] == ["a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{0}", "nano-161"], "super-resolution (seed0) and brightening (nano-161) have different tests"),
        (["{0}", "{2}"], "enlarged by 2 and by 4"),
        (["{0}", "--denoise", "1"], "--denoise: for networks that brighten"),
        (["{0}", "--teacher", "nano-161"], "--teacher: for networks that brighten"),
        (["{0}", "--data", "nowhere"], "the folder nowhere does not exist"),
        (["{0}", "--data", "{3}"], "dot.png: a photo of 3×2 pixels is too small"),
    ],
)
def test_the_command_fails_with_a_readable_message(arguments, message, files, folder, tmp_path):
    double = save_model(create_model("light-msafn", width=8, upscale=2), tmp_path / "double.safetensors")
    write_photo(tmp_path / "dots" / "dot.png", torch.rand(3, 2, 3))
    given = [word.format(*files, double, tmp_path / "dots") for word in arguments]
    result = runner.invoke(app, ["evaluate", *given, *([] if "--data" in given else ["--data", str(folder)])])
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_sharpening_needs_a_folder(files):
    result = runner.invoke(app, ["evaluate", files[0]])
    assert result.exit_code == 1
    assert "give it with --data" in " ".join(result.output.split())
