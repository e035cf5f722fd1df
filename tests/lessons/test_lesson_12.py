"""What lesson 12 says is what its cells and the stored results show."""

import json
import math
from functools import partial

import numpy as np
import pytest

from kdlib import Enhancer
from kdlib.evaluation.appearance import tone
from kdlib.evaluation.brackets import is_backlit
from kdlib.evaluation.metrics import enhance_tensor, psnr
from kdlib.gain_grid import MOST_GAIN, MOST_LOSS_OF_WHITE
from kdlib.models import count_parameters, create_model
from tests.helpers import NOTEBOOKS, prose
from tests.lessons.cells import run_cells

TEXT, ROOT = prose("12_every_photo"), NOTEBOOKS.parent
ROWS = json.loads((NOTEBOOKS.parent / "results" / "every_photo.json").read_text(encoding="utf-8"))["rows"]
ROWS = {row["method"]: row for row in ROWS}
RIVALS = ("input", "gamma to mean 0.466", "six numbers", "CLAHE", "fused copies", "glance-650")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The lesson without its training."""
    also = ("after = {}", "SERIES = (", "failures = {")
    smaller = [("steps=150", "steps=75")]  # of the fits that compare two ranges of exposure
    end = "Within the narrow range a dark photo"
    return run_cells("12_every_photo", tmp_path_factory.mktemp("runs"), end, also, smaller=smaller)


@pytest.mark.slow
def test_one_curve_fails_where_the_student_does_not(page):
    for name in ("room, window", "over-exposed"):
        row = page["after"][name]
        assert abs(float((row["glance-650"] - row["as taken"]).mean())) < 0.1
        assert psnr(row["grid-960"], row["target"]) > psnr(row["glance-650"], row["target"]) + 4
    garden, noon, house = (page["photos"][name] for name in ("under-exposed", "noon", "over-exposed"))
    assert page["after"]["under-exposed"]["glance-650"].mean() > 5 * garden.mean()
    assert float((noon**0.5).mean()) > 1.4 * float(noon.mean())
    assert float((house**0.5).mean()) > float(house.mean())
    assert 0.2 < float(page["photos"]["room, window"].mean()) < 0.4
    assert is_backlit(page["photos"]["room, window"])


@pytest.mark.slow
def test_the_target_lies_a_quarter_of_the_way_to_the_metered_photo(page):
    assert "**a quarter of the way** from the fusion to the metered photo" in TEXT
    (light, contrast), (fused, flat), (wanted, _) = (page["mean_looks"][n] for n in ("metered", "fusion", "target"))
    assert (fused - wanted) / (fused - light) == pytest.approx(0.25, abs=0.05)
    assert flat < contrast


@pytest.mark.slow
def test_six_numbers_score_highest_of_the_rivals(page):
    scores = {name: row["all"] for name, row in page["scores"].items()}
    assert max(scores, key=scores.get) == "six numbers"
    assert page["score"](partial(enhance_tensor, page["shipped"]))["all"] > scores["six numbers"]
    gain, gamma = page["lines"]["gain"], page["lines"]["gamma"]
    assert gain[2] > 1 > gain[-5]
    assert gamma[2] < 1 < gamma[-5]


@pytest.mark.slow
def test_the_grid_fits_best_and_a_map_draws_halos(page):
    bounds = page["bounds"]
    fit, overshoot = ({name: row.get(key) for name, row in bounds.items()} for key in ("psnr", "overshoot"))
    assert fit["grid"] > fit["curve"] + 2 > fit["one gain"] + 4
    assert fit["curve"] > fit["map of 16×16"] > fit["map"]
    assert overshoot["map of 16×16"] > overshoot["map"] > 2 * max(overshoot["grid"], overshoot["curve"])
    assert overshoot["grid"] < overshoot["target"]
    gains = page["gains"]
    assert gains[2].mean() > 2 > 1.2 > gains[-1].mean()
    assert gains.log().std(dim=0).mean() > gains.log().flatten(1).std(dim=1).mean()


@pytest.mark.slow
def test_networks_are_nearer_to_the_target_than_methods_without_one(page):
    photo, truth, results = (page[name] for name in ("photo", "truth", "results"))
    overshoot = {name: page["halos"](photo, picture)["overshoot"] for name, picture in results.items()}
    assert max(overshoot, key=overshoot.get) == "CLAHE"
    assert min(overshoot, key=overshoot.get) == "fused copies"
    assert max(overshoot["grid-960"], overshoot["grid-teacher"]) < 0.6 * overshoot["CLAHE"]
    near = {name: psnr(picture, truth) for name, picture in results.items()}
    assert min(near["grid-960"], near["grid-teacher"]) > max(near["CLAHE"], near["fused copies"])


@pytest.mark.slow
def test_the_lesson_rebuilds_the_network(page):
    shown = enhance_tensor(page["shipped"], page["photo"])
    assert float((page["by_hand"][0] - shown).abs().max()) < 1e-4
    assert float(page["one_pixel"]) == pytest.approx(float(page["gain"][0, 0, page["row"], page["column"]]), abs=1e-3)


@pytest.mark.slow
def test_colour_and_noise_are_treated_as_stated(page):
    assert page["turned"]["within white"] < 1 < 10 < page["turned"]["each channel is clipped"]
    assert abs(page["a"]) < 0.05 < page["b"]
    assert page["denoised"]["smoothing, floor, gains"] > page["denoised"]["gains alone"] + 1


@pytest.mark.slow
def test_a_narrow_range_leaves_dark_photos_dark(page):
    for values, least in ((page["prior"], 0.02), (page["answer"], 0.05)):
        narrow, wide = (np.array(values[name][:2]) for name in page["RANGES"])
        assert (narrow < wide - least).all()
    dark = [float((given.mean((1, 2, 3)) < 0.1).float().mean()) for given, _ in page["lots"].values()]
    assert dark[0] < 0.1 * dark[1]


@pytest.mark.slow
def test_exposures_agree_and_failures_fail(page):
    assert "shrinks to less than half" in TEXT
    wide, narrow = (max(page["spread"][name]) - min(page["spread"][name]) for name in ("as taken", "grid-960"))
    assert narrow < 0.5 * wide
    chroma = {title: tone(picture)["chroma"] for title, picture in page["enhanced"].items()}
    assert max(chroma, key=chroma.get) in ("-1 stops", "+1 stops")
    assert page["skies"]["grid-960"] < 0.5 * page["skies"]["wanted"]
    shown = page["shown"]
    assert shown["dark on purpose"]["grid-960"].mean() > 1.5 * page["night_short"].mean()
    assert shown["hardly any light"]["grid-960"].mean() < 0.5 * shown["hardly any light"]["wanted"].mean()


def test_sizes_and_limits_are_as_stated():
    assert count_parameters(create_model("grid-960")) == 960
    assert "266,004 parameters" in TEXT
    assert count_parameters(create_model("grid-teacher")) == 266_004
    assert "to a factor of 20, and the darkening of white to 14%" in TEXT
    assert math.exp(MOST_GAIN) == pytest.approx(20, abs=0.1)
    assert 1 - math.exp(-MOST_LOSS_OF_WHITE) == pytest.approx(0.14, abs=0.005)
    assert "at least 0.86" in TEXT


def test_the_student_is_ahead_of_six_numbers_where_it_is_said():
    grid, six = ROWS["grid-960"], ROWS["six numbers"]
    assert "ahead of the six numbers on dark, middle and backlit photos" in TEXT
    for key in ("psnr_dark", "psnr_middle", "psnr_backlit", "ssim", "psnr"):
        assert grid[key] > six[key]
    assert grid["psnr_bright"] < six["psnr_bright"]
    assert "the interval includes 0" in TEXT
    assert grid["over_six_numbers"][1] < 0 < grid["over_six_numbers"][0]
    assert "on backlit photos it is far ahead" in TEXT
    assert grid["psnr_backlit"] > six["psnr_backlit"] + 1.5
    for key in ("contrast", "chroma"):
        assert abs(grid[key] - 1) < abs(six[key] - 1)
    assert 0 < grid["hue_shift"] < min(ROWS[name]["hue_shift"] for name in RIVALS if name != "input")
    assert grid["reversals"] > max(ROWS[name]["reversals"] for name in RIVALS)


SEEDS = json.loads((NOTEBOOKS.parent / "results" / "every_photo_seeds.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", [TEXT, " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())])
def test_what_a_teacher_adds_is_what_three_seeds_show(text):
    taught, alone = SEEDS["rows"]
    assert taught["seeds"] == alone["seeds"] == len(SEEDS["by_seed"]) == 3
    for row in (taught, alone):
        assert f"{row['psnr']:.2f} ± {row['psnr_sd']:.2f} dB" in text
    difference, low, high = SEEDS["difference"]
    assert f"{difference:.2f} dB" in text
    assert f"from {low:.2f} to {high:.2f} dB" in text
    assert low > 0


def test_a_page_stays_white_and_a_dark_one_is_brightened():
    """As the card and the guide say."""
    page = np.full((240, 180, 3), 250, np.uint8)
    page[20:220:12, 20:160] = 20
    enhance = Enhancer("grid-960", device="cpu")
    assert np.percentile(enhance(page), 95) >= 240
    dark = 255 - page
    assert enhance(dark).mean() > 1.2 * dark.mean()
    assert "Dark pages" in (ROOT / "weights" / "grid-960.md").read_text(encoding="utf-8")
    assert "dark pages are brightened" in (ROOT / "docs" / "photos-and-videos.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_white_on_purpose_is_told_from_over_exposure(page):
    judged = page["judged"]
    assert [bool(page["white_is_lost"](row["as taken"].permute(1, 2, 0).numpy())) for row in judged.values()] == [
        False,
        True,
        False,
    ]
    paper = judged["paper"]
    assert paper["by brightness alone"].amax() < 0.9 * paper["as taken"].amax()
    assert (paper["grid-960"] - paper["as taken"]).abs().mean() < 0.01
