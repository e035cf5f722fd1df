"""Brackets of exposures: finding, fusing and scoring them, and how results look."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.data.brackets import fuse_exposures, load_bracketed_photos, most_shift, read_brackets
from kdlib.data.samples import sample_photos
from kdlib.enhance.photos.rgb import to_tensor, write_photo
from kdlib.evaluation import brackets as scores
from kdlib.evaluation.appearance import halos, hue_shift, oklab, tone
from kdlib.evaluation.exposure_rivals import SIX_NUMBERS, SixNumbers, exposure_rivals, fused_copies
from kdlib.experiments.taught_or_alone import compare
from kdlib.models import create_model
from kdlib.weights import save_model

ROOT = Path(__file__).resolve().parent.parent


def exposed(photo, *gammas):
    """Copies of a photo as brighter and darker exposures would show it."""
    return [np.rint(255 * (photo / 255) ** gamma).astype(np.uint8) for gamma in gammas]


@pytest.fixture(scope="module")
def scenes():
    """Two scenes with three exposures each, 96×96."""
    photos = sample_photos()
    return {
        name: exposed(cv2.resize(photos[name], (96, 96), interpolation=cv2.INTER_AREA), 2.5, 1.0, 0.4)
        for name in ("coffee", "chelsea")
    }


@pytest.fixture
def folder(scenes, tmp_path):
    for name, photos in scenes.items():
        for number, photo in enumerate(photos):
            write_photo(tmp_path / name / f"exposure_{number}.png", photo)
    return tmp_path


def test_a_scene_without_fusion_is_fused_and_a_given_fusion_is_the_truth(scenes, folder):
    given = np.full((96, 96, 3), 90, np.uint8)
    write_photo(folder / "coffee" / "fused.png", given)
    first, second = read_brackets(folder)
    assert (first.name, second.name) == ("chelsea", "coffee")
    assert np.array_equal(first.fused, fuse_exposures(scenes["chelsea"]))
    assert np.array_equal(second.fused, given)
    assert [len(first.exposures), len(second.exposures)] == [3, 3]


def test_a_fusion_is_between_its_exposures(scenes):
    dark, _, bright = scenes["coffee"]
    assert dark.mean() < fuse_exposures(scenes["coffee"]).mean() < bright.mean()


def test_folders_that_are_no_brackets_are_refused_by_name(folder, tmp_path_factory):
    flat = tmp_path_factory.mktemp("flat")
    write_photo(flat / "a.png", np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(ValueError, match="no subfolders with photos"):
        list(read_brackets(flat))
    write_photo(folder / "coffee" / "other.png", np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(ValueError, match="coffee has photos of different sizes"):
        list(read_brackets(folder))


def test_training_finds_scenes_and_names_what_it_leaves_out(scenes, tmp_path):
    names = iter(range(100))
    for photos in scenes.values():
        for photo in photos:
            write_photo(tmp_path / f"{next(names):03}.png", photo)
    lonely = np.zeros((96, 96, 3), np.uint8)
    lonely[:48] = 200
    write_photo(tmp_path / "999.png", lonely)
    with pytest.warns(UserWarning, match="999.png and 0 more: a bracket has 3 to 11 exposures"):
        found = load_bracketed_photos(tmp_path, 32)
    assert found.photos.shape == found.targets.shape == (6, 3, 32, 32)
    assert len(found.scene.unique()) == 2
    for name in found.scene.unique():
        assert len(found.targets[found.scene == name].unique(dim=0)) == 1


def test_displacement_is_measured_but_not_between_photos_without_content(scenes):
    photo = cv2.resize(scenes["coffee"][1], (256, 256))
    assert most_shift([photo, *exposed(photo, 0.7)]) < 0.005
    assert most_shift([photo, np.roll(photo, 13, axis=1)]) == pytest.approx(13 / 256, abs=0.005)
    assert most_shift([np.zeros_like(photo), photo]) == 0


def test_groups_follow_their_definitions():
    photo = torch.full((3, 10, 10), 0.1)
    assert scores.groups_of(photo) == ["dark"]
    photo[:, :1] = 0.8  # a tenth of the photo is bright
    assert scores.groups_of(photo) == ["dark", "backlit"]
    assert scores.groups_of(torch.full((3, 4, 4), 0.56)) == ["bright"]
    assert scores.groups_of(torch.full((3, 4, 4), 0.3)) == ["middle"]


def test_scores_are_means_over_inputs_and_groups(folder):
    rows = scores.score_brackets({"input": lambda photo: photo}, read_brackets(folder))
    (row,) = rows
    expected = []
    for bracket in read_brackets(folder):
        truth = bracket.fused / 255
        expected.append([-10 * np.log10(np.mean((photo / 255 - truth) ** 2)) for photo in bracket.exposures])
    assert row["inputs"] == 6
    assert row["psnr"] == pytest.approx(np.mean(expected))
    assert row["scenes"] == pytest.approx({"chelsea": np.mean(expected[0]), "coffee": np.mean(expected[1])})
    assert row["hue_shift"] == row["reversals"] == 0
    assert row["psnr_bright"] > 0
    with pytest.raises(ValueError, match="no brackets"):
        scores.score_brackets({}, [])


def test_differences_are_paired_by_scene():
    first = {"method": "a", "scenes": {"x": 20.0, "y": 22.0, "z": 21.0}}
    second = {"method": "b", "scenes": {"x": 19.0, "y": 21.0, "z": 20.0}}
    assert scores.paired_difference(first, second) == pytest.approx((1.0, 1.0, 1.0))
    spread = {"method": "c", "scenes": {"x": 16.0, "y": 26.0, "z": 21.0}}
    mean, low, high = scores.paired_difference(first, spread)
    assert (mean, low < 0 < high) == (0, True)
    with pytest.raises(ValueError, match="a and d were scored on different scenes"):
        scores.paired_difference(first, {"method": "d", "scenes": {"x": 1.0}})


def test_oklab_agrees_with_known_colours():
    # From the table of Ottosson's article, for sRGB's primaries.
    colours = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]]).T[:, None]
    known = [[1, 0, 0], [0.628, 0.225, 0.126], [0.452, -0.032, -0.312], [0, 0, 0]]
    assert pytest.approx(np.array(known), abs=1e-3) == oklab(colours)[:, 0].T


def test_appearance_sees_what_it_is_named_for():
    photo = to_tensor(cv2.resize(sample_photos()["coffee"], (120, 80), interpolation=cv2.INTER_AREA))
    grey = photo.mean(0, keepdim=True).expand(3, -1, -1)
    assert tone(grey)["chroma"] < 1e-3 < tone(photo)["chroma"]
    assert tone(photo * 0.5)["lightness"] < tone(photo)["lightness"]
    assert tone(photo * 0.5 + 0.25)["contrast"] < tone(photo)["contrast"]
    assert hue_shift(photo, (photo * 0.8).clamp(0, 1)) < 2
    assert hue_shift(photo, photo[[1, 2, 0]]) > 30


def test_halos_are_seen_and_tone_curves_have_none():
    edge = torch.full((3, 60, 80), 0.25)
    edge[..., 40:] = 0.75
    ramp = torch.linspace(0, 0.1, 80).expand(3, 60, 80)
    photo = edge + ramp
    across = torch.arange(80) - 39.5
    glow = 0.2 * torch.exp(-across.abs() / 6) * across.sign()  # brighter beside the edge, and darker on its other side
    assert halos(photo, photo.sqrt())["reversals"] == 0
    assert halos(edge, edge.sqrt())["overshoot"] < 0.3 < halos(edge, (edge + glow).clamp(0, 1))["overshoot"]
    assert halos(photo, 1 - photo)["reversals"] > 0.9


def test_six_numbers_are_gain_and_gamma_of_the_mean():
    photo = torch.full((3, 4, 4), 0.25)
    numbers = SixNumbers((0.1, 0.2, 0.0), (-0.5, 0.0, 1.0))
    expected = np.exp(0.1 + 0.2 * 0.25) * 0.25 ** np.exp(-0.5 + 0.25**2)
    torch.testing.assert_close(numbers(photo), torch.full((3, 4, 4), float(expected)))


def test_the_rivals_six_numbers_are_the_fitted_ones():
    fitted = json.loads((ROOT / "results" / "six_numbers.json").read_text(encoding="utf-8"))
    assert pytest.approx(fitted["gain"], abs=5e-5) == SIX_NUMBERS.gain
    assert pytest.approx(fitted["gamma"], abs=5e-5) == SIX_NUMBERS.gamma


def test_rivals_brighten_dark_photos_and_darken_bright_ones(scenes):
    dark, _, bright = (to_tensor(photo) for photo in scenes["coffee"])
    for name in ("gamma to mean 0.466", "six numbers"):
        method = exposure_rivals()[name]
        assert method(dark).mean() > dark.mean()
        assert method(bright).mean() < bright.mean()
    assert fused_copies(dark).mean() > dark.mean()


def test_command_scores_models_beside_their_rivals(folder, tmp_path):
    out = tmp_path / "scores.json"
    command = ["evaluate", "glance-650", "--brackets", str(folder), "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["method"]: row for row in content["rows"]}
    assert list(rows) == [*exposure_rivals(), "glance-650"]
    assert rows["glance-650"]["parameters"] == 650
    assert len(rows["glance-650"]["over_six_numbers"]) == 3
    assert content["data"] == folder.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mirror"], "--mirror: not with --brackets"),
        (["--append", "--out", "x.json"], "--append: not with --brackets"),
        (["light-msafn"], "super-resolution networks do not correct exposure"),
    ],
)
def test_command_refuses_what_it_would_ignore(folder, options, message):
    result = CliRunner().invoke(app, ["evaluate", "--brackets", str(folder), *options])
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())


@pytest.mark.slow
def test_scores_of_the_reference_brackets_are_reproduced(shared):
    folder = shared / "data" / "brackets"
    published = SixNumbers((0.442, -1.578, 0.717), (-1.036, 1.695, 0.562))
    methods = {name: exposure_rivals(published)[name] for name in ("input", "gamma to mean 0.466", "six numbers")}
    found = {name: [] for name in methods}
    for bracket in read_brackets(folder):
        truth = bracket.fused / 255.0
        for photo in bracket.exposures:
            for name, method in methods.items():
                result = np.rint(method(to_tensor(photo)).clamp(0, 1).numpy().transpose(1, 2, 0) * 255) / 255
                found[name].append(-10 * np.log10(np.mean((result - truth) ** 2)))
    assert [len(values) for values in found.values()] == [222] * 3
    expected = {"input": 13.62, "gamma to mean 0.466": 18.05, "six numbers": 19.82}
    assert {name: round(float(np.mean(values)), 2) for name, values in found.items()} == expected


def test_taught_and_alone_are_compared_by_seed_and_over_the_seeds(folder, tmp_path):
    models = []
    for bias in (0.4, 0.3, 0.1, 0.0):
        model = create_model("grid-960")
        with torch.no_grad():
            model.knots.bias.fill_(bias)
        models.append(save_model(model, tmp_path / "weights" / f"{bias}.safetensors"))
    result = compare(models[:2], models[2:], folder)
    taught, alone = result["rows"]
    assert [taught["method"], alone["method"], taught["seeds"], alone["seeds"]] == ["taught", "alone", 2, 2]
    difference, low, high = result["difference"]
    assert low <= difference <= high
    assert difference == pytest.approx(np.mean([seed[0] for seed in result["by_seed"]]))
    means = [np.mean([np.mean(list(run["scenes"].values())) for run in row["runs"]]) for row in result["rows"]]
    assert difference == pytest.approx(means[0] - means[1])
    with pytest.raises(ValueError, match="as many students alone as taught are needed, at least one: 1 and 2"):
        compare(models[:1], models[2:], folder)
