"""Measurements of behaviour, and ``kdlib evaluate`` with seeds, further sets of photos and timing."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

import kdlib
from kdlib.cli import app
from kdlib.cli.evaluate import label_models
from kdlib.data import write_photo
from kdlib.data.datasets import dark_photos, evaluation_pairs
from kdlib.data.samples import sample_photos
from kdlib.enhance.photos.rgb import to_array, to_tensor
from kdlib.evaluation import behaviour, metrics, report, tables
from kdlib.evaluation.classical import classical_methods, eight_bit_methods, gamma, gamma_to_mean
from kdlib.evaluation.metrics import FIDELITY_CAP, gt_mean, lpips, psnr
from kdlib.evaluation.timing import milliseconds_1080p
from kdlib.models import create_model
from kdlib.resampling import as_stored, resize
from kdlib.weights.catalogue import CatalogueEntry

runner = CliRunner()


pytestmark = pytest.mark.usefixtures("checkpoints")  # so that LPIPS is not to be had


def scene(seed, brightness=1.0, size=(40, 56)):
    photo = torch.rand(3, *size, generator=torch.Generator().manual_seed(seed)) * brightness
    return to_tensor(to_array(photo))


@pytest.fixture
def photos():
    return [(f"photo {k}", scene(k, brightness)) for k, brightness in enumerate((0.1, 0.3, 0.9))]


# Fixed curves


@pytest.mark.parametrize("method", [gamma(0.3), lambda photo: photo, lambda photo: 1 - photo, lambda photo: photo * 2])
def test_a_mapping_from_level_to_level_is_a_fixed_curve(method, photos):
    assert behaviour.fixed_curve_psnr(method, photos) == FIDELITY_CAP


def test_a_separate_curve_per_channel_is_a_fixed_curve(photos):
    exponents = torch.tensor([0.3, 0.5, 0.9]).view(3, 1, 1)
    assert behaviour.fixed_curve_psnr(lambda photo: photo**exponents, photos) == FIDELITY_CAP


def test_a_gamma_for_each_photo_is_fixed_on_one_photo_and_not_on_several(photos):
    assert behaviour.fixed_curve_psnr(gamma_to_mean(), photos[:1]) == FIDELITY_CAP
    assert behaviour.fixed_curve_psnr(gamma_to_mean(), photos) < 25


def test_a_method_that_depends_on_position_is_not_a_fixed_curve(photos):
    def vignette(photo):
        return photo * torch.linspace(0.5, 1, photo.shape[2])

    assert behaviour.fixed_curve_psnr(vignette, photos[2:]) < 25


def test_the_fixed_curve_is_the_least_squares_fit(photos):
    method = classical_methods()["CLAHE"]
    curve = behaviour.FixedCurve()
    shown = [(to_array(photo), to_array(method(photo))) for _, photo in photos]
    for before, after in shown:
        curve.add(before, after)
    table, expected = curve.table(), np.full((3, 256), np.nan)
    for c in range(3):
        for level in range(256):
            out = np.concatenate([after[..., c][before[..., c] == level] for before, after in shown])
            expected[c, level] = out.mean() if out.size else np.nan
    np.testing.assert_allclose(table, expected, rtol=1e-12)
    scores = []
    for before, after in shown:
        redone = np.stack([np.rint(table[c])[before[..., c]] for c in range(3)], axis=2)
        scores.append(10 * np.log10(255**2 / ((redone - after) ** 2).mean()))
    assert curve.psnr() == pytest.approx(np.mean(scores), rel=1e-12)
    assert curve.psnr() == behaviour.fixed_curve_psnr(method, photos)


def test_fixed_curves_need_photos_of_unchanged_size(photos):
    with pytest.raises(ValueError, match="no photos"):
        behaviour.fixed_curve_psnr(gamma(0.3), [])
    with pytest.raises(ValueError, match="sizes must match"):
        behaviour.fixed_curve_psnr(lambda photo: photo[:, 1:], photos)


@pytest.mark.slow
def test_published_networks_are_nearly_fixed_curves_on_one_set(shared):
    def fixed(folder, **overrides):
        model = kdlib.load_model(shared / "weights" / "nano_161_peer.pth", **overrides)
        return behaviour.fixed_curve_psnr(report.as_method(model), dark_photos([shared / "data" / folder]))

    assert fixed("lol_v1/eval15", scale_factor=1) == pytest.approx(45, abs=0.5)
    indoors, anywhere = fixed("lol_v1/eval15", scale_factor=12), fixed("no_reference/DICM", scale_factor=12)
    assert indoors == pytest.approx(39.85, abs=0.05)
    assert anywhere == pytest.approx(29.08, abs=0.05)


# Daylight


def test_daylight_photos_are_well_exposed_and_of_different_scenes():
    means = {name: photo.mean() / 255 for name, photo in sample_photos().items()}
    chosen = behaviour.daylight_photos()
    assert set(chosen) == {name for name, mean in means.items() if 1 / 3 < mean < 2 / 3} - {"motorcycle-right"}


def test_the_identity_has_no_daylight_change():
    assert behaviour.daylight_change(lambda photo: photo) == {"daylight": 0, "daylight_worst": 0}


def test_daylight_change_is_relative_and_counts_both_ways():
    photos = [("a", torch.full((3, 20, 20), 0.4)), ("b", torch.full((3, 20, 20), 0.8))]
    halved = behaviour.daylight_change(lambda photo: photo / 2, photos)
    assert halved["daylight"] == pytest.approx(0.5, abs=1e-9)
    to_grey = behaviour.daylight_change(lambda photo: torch.full_like(photo, 0.6), photos)
    assert to_grey == pytest.approx({"daylight": 0.375, "daylight_worst": 0.5})


def test_gamma_brightens_daylight_but_gamma_to_mean_hardly_does():
    assert behaviour.daylight_change(gamma(0.3))["daylight"] > 0.5
    assert behaviour.daylight_change(gamma_to_mean())["daylight_worst"] < 0.25


@pytest.mark.parametrize(("photos", "message"), [([], "no photos"), ([("night", torch.zeros(3, 9, 9))], "night")])
def test_daylight_change_refuses_black_photos_and_an_empty_set(photos, message):
    with pytest.raises(ValueError, match=message):
        behaviour.daylight_change(gamma(0.3), photos)


# Classical methods


def test_gamma_to_mean_maps_the_mean_level_to_the_target():
    for level in (0.02, 0.2, 0.9):
        photo = to_tensor(to_array(torch.full((3, 12, 12), level)))
        assert gamma_to_mean(0.45)(photo).mean() == pytest.approx(0.45, abs=1e-3)
    for level in (0.0, 1.0):
        photo = torch.full((3, 12, 12), level)
        assert torch.equal(gamma_to_mean()(photo), photo)


def test_timed_methods_match_the_scored_ones():
    photo = scene(0, 0.2)
    scored = classical_methods()
    timed = eight_bit_methods()
    assert [*timed] == [name for name in scored if name != "input"]
    for name, method in timed.items():
        array = to_array(photo)
        np.testing.assert_array_equal(method(array, np.empty_like(array)), to_array(scored[name](photo)), name)


def test_classical_methods_score_as_stated(scored):
    found = scored(gamma_to_mean(), psnr, lambda photo, truth: psnr(gt_mean(photo, truth), truth))
    assert found == pytest.approx([16.25, 20.41], abs=0.006)


# Seeds


def test_seeds_are_summarised_as_mean_and_sample_standard_deviation():
    runs = [
        {"method": f"s{k}", "parameters": 161, "psnr": psnr, "lpips": None, "fidelity": near, "photos": 15}
        for k, (psnr, near) in enumerate([(17.0, 40.0), (18.5, None), (17.2, 41.0)])
    ]
    row = report.over_seeds("ours", runs)
    assert row["psnr"] == pytest.approx(np.mean([17.0, 18.5, 17.2]))
    assert row["psnr_sd"] == pytest.approx(np.std([17.0, 18.5, 17.2], ddof=1))
    assert row["lpips"] is row["lpips_sd"] is row["fidelity"] is row["fidelity_sd"] is None
    assert (row["method"], row["parameters"], row["photos"], row["seeds"]) == ("ours", 161, 15, 3)
    assert row["runs"] == runs
    table = tables.markdown_table([row])
    assert f"| {row['psnr']:.2f} ± {row['psnr_sd']:.2f} |" in table
    assert "161 ±" not in table


def test_one_seed_has_no_deviation():
    row = report.over_seeds("ours", [{"method": "s0", "parameters": 1, "psnr": 17.0, "photos": 15}])
    assert row["psnr_sd"] is None
    assert "±" not in tables.markdown_table([row])


@pytest.mark.parametrize(("key", "value"), [("parameters", 565), ("photos", 14), ("category", "real pairs")])
def test_seeds_of_one_method_must_agree_in_their_properties(key, value):
    run = {"method": "s0", "parameters": 161, "psnr": 17.0, "photos": 15, "category": "zero-reference"}
    with pytest.raises(ValueError, match=f"differ in {key}"):
        report.over_seeds("ours", [run, {**run, key: value}])


# The command


@pytest.fixture
def pairs(tmp_path):
    for k, scale in enumerate((0.2, 0.4)):
        write_photo(tmp_path / "pairs" / "low" / f"{k}.png", scene(k) * scale)
        write_photo(tmp_path / "pairs" / "high" / f"{k}.png", scene(k))
    return tmp_path / "pairs"


@pytest.fixture
def seeds(tmp_path):
    paths = []
    for seed in range(3):
        torch.manual_seed(seed)
        paths.append(str(kdlib.save_model(create_model("nano-161"), tmp_path / f"seed{seed}" / "student.safetensors")))
    return paths


@pytest.fixture
def evaluate(pairs, tmp_path):
    def run(*arguments):
        out = tmp_path / "scores.json"
        result = runner.invoke(app, ["evaluate", *arguments, "--data", str(pairs), "--out", str(out)])
        assert result.exit_code == 0, result.output
        return {row["method"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}

    return run


@pytest.mark.slow
def test_models_with_the_same_method_name_share_a_row(evaluate, seeds, pairs):
    teacher = ["--teacher", seeds[0]]
    apart = evaluate(*seeds, *teacher)
    rows = evaluate(*seeds, *teacher, "--as", "ours", "--category", "zero-reference")
    labels = ["student", "seed1/student", "seed2/student"]
    assert [*apart] == [*classical_methods(), *labels]
    assert [*rows] == [*classical_methods(), "ours"]
    ours = rows["ours"]
    assert ours["seeds"] == 3
    assert ours["category"] == "zero-reference"
    assert [run["method"] for run in ours["runs"]] == labels
    for key in ("psnr", "ssim", "gt_mean_psnr", "fixed_curve", "daylight", "daylight_worst"):
        values = [apart[label][key] for label in labels]
        assert ours[key] == pytest.approx(statistics.mean(values))
        assert ours[f"{key}_sd"] == pytest.approx(statistics.stdev(values))
        assert ours[f"{key}_sd"] > 0, key
    # The first model is its own teacher, so there is no mean of three.
    assert ours["runs"][1]["fidelity"] == apart["seed1/student"]["fidelity"]
    assert ours["fidelity"] is None
    assert "category" not in rows["input"]


@pytest.mark.slow
def test_each_row_records_its_command_without_paths_of_the_machine(evaluate, seeds, tmp_path):
    first = evaluate(seeds[0], "--category", "zero-reference")
    command = "kdlib evaluate seed0/student.safetensors --data {0}/pairs --category zero-reference "
    command += "--out {0}/scores.json"
    assert {row["command"] for row in first.values()} == {command.format(tmp_path.name)}
    both = evaluate(*seeds[1:], "--as", "ours", "--append", "--denoise", "0.5")
    assert both["student"]["command"] == command.format(tmp_path.name)
    # Methods without training are not scored again.
    assert both["gamma 0.3"] == first["gamma 0.3"]
    assert list(both)[: len(first)] == list(first)
    assert "seed1/student.safetensors seed2/student.safetensors" in both["ours"]["command"]
    assert "--as ours" in both["ours"]["command"]
    assert both["ours"]["command"].endswith("--append")
    assert str(tmp_path.parent) not in json.dumps(both)


@pytest.mark.slow
def test_seeds_of_one_method_can_be_denoised(evaluate, seeds):
    rows = evaluate(*seeds[:2], "--as", "ours", "--denoise", "1")
    assert [*rows][len(classical_methods()) :] == ["ours", "ours, Gaussian of sigma 1", "ours, denoise 1"]
    assert all(rows[name]["seeds"] == 2 for name in rows if name.startswith("ours"))


@pytest.mark.slow
def test_mirrored_photos_are_scored_beside_the_others(evaluate, tmp_path, pairs):
    torch.manual_seed(0)
    model = create_model("nano-161", scale_factor=1)
    with torch.no_grad():
        model.e_conv1.depth_conv.weight.normal_(std=2)
        model.e_conv3.point_conv.weight.normal_(std=2)
    path = kdlib.save_model(model, tmp_path / "student.safetensors")
    rows = evaluate(str(path), "--mirror")
    assert [*rows][len(classical_methods()) :] == ["student", "student, mirrored"]
    turned = [(name, dark.flip(-1), truth.flip(-1)) for name, dark, truth in evaluation_pairs(pairs)]
    expected = report.score(report.as_method(model.eval()), turned)
    assert rows["student, mirrored"]["psnr"] == pytest.approx(expected["psnr"])
    assert rows["student, mirrored"]["psnr"] != pytest.approx(rows["student"]["psnr"], abs=1e-6)


@pytest.mark.slow
def test_adaptivity_is_measured_on_further_photos(evaluate, seeds, tmp_path):
    photos = [("dark", scene(3, 0.05)), ("bright", scene(4, 0.9))]
    for name, photo in photos:
        write_photo(tmp_path / "DICM" / f"{name}.png", photo)
    rows = evaluate(seeds[0], "--adaptivity-data", str(tmp_path / "DICM"))
    assert all("fixed_curve_dicm" in row for row in rows.values())
    assert rows["gamma 0.25"]["fixed_curve"] == rows["gamma 0.25"]["fixed_curve_dicm"] == FIDELITY_CAP
    expected = behaviour.fixed_curve_psnr(gamma_to_mean(), photos)
    assert rows["gamma to mean 0.45"]["fixed_curve_dicm"] == pytest.approx(expected)
    assert rows["gamma to mean 0.45"]["fixed_curve"] != pytest.approx(expected)


@pytest.mark.slow
def test_every_method_except_the_input_is_timed(evaluate, seeds, monkeypatch):
    seen = {}

    def fake(methods, *, threads):
        photo = to_array(scene(1, 0.3))
        seen.update({name: method(photo, np.empty_like(photo)) for name, method in methods.items()})
        return {name: float(k) for k, name in enumerate(methods, start=1)}

    monkeypatch.setattr("kdlib.evaluation.timing.milliseconds_1080p", fake)
    rows = evaluate(*seeds[:2], "--as", "ours", "--denoise", "1", "--time")
    assert {name for name, row in rows.items() if "ms_1080p" in row} == set(seen)
    assert rows.keys() - seen.keys() == {"input", "ours, Gaussian of sigma 1"}
    assert rows["ours"]["ms_1080p"] == list(seen).index("ours") + 1
    np.testing.assert_array_equal(seen["ours"], kdlib.Enhancer(seeds[0], device="cpu")(to_array(scene(1, 0.3))))
    assert (seen["ours, denoise 1"] != seen["ours"]).any()


def test_methods_are_timed_at_1080p_in_alternating_blocks():
    calls = []

    def method(name):
        def run(photo, out):
            assert photo.shape == out.shape == (1080, 1920, 3)
            assert photo.dtype == out.dtype == np.uint8
            calls.append(name)

        return run

    times = milliseconds_1080p({"a": method("a"), "b": method("b")}, threads=1, repeats=3)
    assert times.keys() == {"a", "b"}
    assert "".join(calls) == "aabbaabbaabb"  # the first run of each block is untimed
    with pytest.raises(ValueError, match="at least 1"):
        milliseconds_1080p({}, threads=1, repeats=0)


@pytest.mark.slow
def test_the_catalogue_gives_the_training_data_of_shipped_models(evaluate, seeds, monkeypatch):
    entry = kdlib.weights.catalogue.catalogue()["nano-161"]
    known = CatalogueEntry(entry.name, entry.path, entry.sha256, entry.licence, entry.made, "self-made pairs")
    monkeypatch.setattr("kdlib.weights.catalogue.catalogue", lambda: {"nano-161": known})
    rows = evaluate("nano-161", seeds[0], "--category", "real pairs")
    assert rows["nano-161"]["category"] == "self-made pairs"
    assert rows["student"]["category"] == "real pairs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--category", "magic"], "magic"),
        (["--as", "ours"], "--as ours"),
        (["nano-161", "--adaptivity-data", "nowhere"], "nowhere"),
        (["nano-161", "student-565", "--as", "ours"], "differ in parameters"),
    ],
)
def test_evaluate_fails_with_a_readable_message(arguments, message, pairs):
    result = runner.invoke(app, ["evaluate", *arguments, "--data", str(pairs)])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_models_have_distinct_labels():
    names = ["a/x.pth", "b/x.pth", "other/b/x.pth", "nano-161", "nano-161"]
    assert label_models(names, ", 1/4") == {
        "x, 1/4": "a/x.pth",
        "b/x, 1/4": "b/x.pth",
        "other/b/x.pth, 1/4": "other/b/x.pth",
        "nano-161, 1/4": "nano-161",
    }


def test_sharing_a_map_is_lossless_only_for_equal_maps():
    model = create_model("zero-dce")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        photos = [("grey", torch.full((3, 8, 8), 0.4))]
        model.e_conv7.bias.fill_(-0.3)
        assert behaviour.shared_map_psnr(model, photos) > 90
        model.e_conv7.bias[:12], model.e_conv7.bias[12:] = 0.6, -1.2
        assert behaviour.shared_map_psnr(model, photos) < 40
    with pytest.raises(ValueError, match="already shares one map between all iterations"):
        behaviour.shared_map_psnr(create_model("zero-dce++"), photos)
    with pytest.raises(ValueError, match="no photos"):
        behaviour.shared_map_psnr(model, [])


@pytest.mark.slow
def test_pairs_can_be_resized_before_scoring(evaluate, tmp_path, pairs):
    path = kdlib.save_model(create_model("nano-161"), tmp_path / "student.safetensors")
    rows = evaluate(str(path), "--resize", "24x16")

    def shrunk():
        for name, dark, truth in evaluation_pairs(pairs):
            yield name, *(as_stored(resize(photo[None], (16, 24)))[0] for photo in (dark, truth))

    expected = report.score(lambda photo: photo, shrunk())
    assert expected["psnr"] != pytest.approx(
        report.score(lambda photo: photo, evaluation_pairs(pairs))["psnr"], abs=1e-3
    )
    assert rows["input"]["psnr"] == pytest.approx(expected["psnr"])
    assert json.loads((tmp_path / "scores.json").read_text())["data"] == "pairs, 24×16"


def test_photos_too_small_for_lpips_are_scored_without_it(checkpoints):
    torch.save(squeezenet1_1(weights=None).state_dict(), checkpoints / "squeezenet1_1-b8a52dc0.pth")
    large, small = torch.rand(3, 17, 20), torch.rand(3, 16, 40)
    assert report.score(lambda photo: 1 - photo, [("large", large, large)])["lpips"] > 0
    both = report.score(lambda photo: photo, [("large", large, large), ("small", small, small)])
    assert both["lpips"] is None
    assert both["gt_mean_lpips"] is None
    assert both["photos"] == 2
    with pytest.raises(ValueError, match="LPIPS needs photos of at least 17×17 pixels, got 40×16"):
        lpips(small, small)


def test_data_is_looked_at_before_anything_is_downloaded(seeds, tmp_path, monkeypatch):
    def downloaded():
        raise AssertionError("LPIPS was asked for")

    monkeypatch.setattr(metrics, "_lpips_network", downloaded)
    write_photo(tmp_path / "no_pairs" / "a.png", scene(0))
    (tmp_path / "empty").mkdir()
    for folder, reason in (
        ("missing", "missing does not exist"), ("empty", "no photos in"), ("no_pairs", "holds no pairs")
    ):  # fmt: skip
        result = runner.invoke(app, ["evaluate", seeds[0], "--data", str(tmp_path / folder)])
        assert result.exit_code == 1
        assert reason in " ".join(result.output.split())
    with pytest.raises(ValueError, match="no pairs"):
        report.score(lambda photo: photo, [])


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 16])
def test_a_reason_is_given_where_lpips_is_left_out(size, seeds, tmp_path, checkpoints):
    for part in ("low", "high"):
        write_photo(tmp_path / "pairs" / part / "0.png", torch.rand(3, size, size))
    expected = "squeezenet1_1 could not be downloaded"
    if size == 16:
        torch.save(squeezenet1_1(weights=None).state_dict(), checkpoints / "squeezenet1_1-b8a52dc0.pth")
        expected = "a side of a photo is shorter than 17 pixels"
    result = runner.invoke(app, ["evaluate", seeds[0], "--data", str(tmp_path / "pairs")])
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.output.splitlines() if line.startswith("LPIPS left out: ")]
    assert expected in line
    assert "perceptual" not in line


def test_help_says_what_is_downloaded():
    said = " ".join(runner.invoke(app, ["evaluate", "--help"]).output.split())
    assert "downloads the weights of SqueezeNet, 5 MB, for LPIPS" in said


def test_append_asks_for_the_file_to_append_to(seeds):
    result = runner.invoke(app, ["evaluate", seeds[0], "--append"])
    assert result.exit_code == 1
    assert "--out" in result.output
