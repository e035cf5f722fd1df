"""What lesson 11 says is what its cells and the stored results show."""

import math

import pytest
import torch

from kdlib.data import Darkening, darken, sample_photos, to_tensor
from kdlib.evaluation.leaderboard import leaderboard
from kdlib.evaluation.metrics import enhance_tensor, psnr
from kdlib.models import count_parameters
from kdlib.models.glance import apply_power_curve
from kdlib.weights import load_model
from kdlib.weights.catalogue import catalogue
from tests.helpers import NOTEBOOKS, prose
from tests.lessons.cells import run_cells

TEXT = prose("11_below_a_thousand")
FAMILIES = ("light-enhancement", "gamma", "gain × power")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The lesson up to the network, and its rule with four numbers."""
    also = ("(targets,) = ", "make_pairs = ", "def rule(", "rule = check", "four = ")
    # The curves behind the smoothing are fitted to every fourth row and column instead of every second.
    fit = "fit(family, given[name][thin], truths[name][thin])"
    smaller = [(fit, fit.replace("[thin]", "[thinner]"))]
    return run_cells("11_below_a_thousand", tmp_path_factory.mktemp("runs"), "## 4 ·", also, smaller=smaller)


@pytest.fixture(scope="module")
def board():
    rows = {row["method"]: row for row in leaderboard(NOTEBOOKS.parent / "results")}
    return {name: row for name, row in rows.items() if name in catalogue()}


@pytest.mark.slow
def test_the_oracle_of_the_light_enhancement_curve_is_below_that_of_the_power_curve(page):
    assert "at least 2 dB lower than gain × power" in TEXT
    for row in page["bests"]:
        assert row["gain × power"] > row["light-enhancement"] + 2
        assert row["gamma"] == min(row[family] for family in FAMILIES)
    for scores in page["richer"].values():
        order = ("light-enhancement", "map of 4×4 r", "8 different r", "gain × power")
        assert sorted(scores[name] for name in order) == [scores[name] for name in order]


@pytest.mark.slow
def test_only_the_power_curve_has_the_shape_of_less_light(page):
    assert "within a twentieth of the range" in TEXT
    assert "at least three times as much" in TEXT
    for row in page["shapes"]:
        assert row["gain × power"] < 0.05
        assert min(row["light-enhancement"], row["gamma"]) > 3 * row["gain × power"]


@pytest.mark.slow
def test_gamma_is_the_steeper_curve_on_all_five_photos(page):
    assert "steeper than the light-enhancement curve on all five photos" in TEXT
    assert len(page["steep"]) == 5
    for row in page["steep"]:
        assert row["gamma"] > row["light-enhancement"]
        assert row["light-enhancement"] == pytest.approx(row["gain × power"], rel=0.15)


@pytest.mark.slow
def test_a_thumbnail_tells_more_of_the_exposure_than_a_window(page):
    assert page["field"] == 15
    guesses = page["guesses"]
    assert guesses["the whole"] < 0.75 * guesses["a window"] < 0.75 * guesses["not looking"]


@pytest.mark.slow
def test_noise_is_even_before_the_curve_and_uneven_after_it(page):
    level, sigma = (page[name] for name in ("level", "sigma"))
    light = page["srgb_to_linear"](level)
    assert "by a factor of more than a hundred, σ varies only by a factor of two" in TEXT
    assert light[-1] > 100 * light[0]
    assert float(sigma.max() / sigma.min()) == pytest.approx(2, abs=0.25)
    for family in ("light-enhancement", "gain × power"):
        measured, expected = page["spread"][family]
        torch.testing.assert_close(measured, expected, rtol=0.1, atol=0.1)
        assert measured.max() > 3 * measured[-1]
    assert page["smooth"][:, 8:40].std() < 0.3 * page["step"][:, 8:40].std()


@pytest.mark.slow
def test_smoothing_helps_the_power_curve_most(page):
    for scores in page["bounds"].values():
        gained = {family: scores[f"{family} + smoothing"] - scores[family] for family in FAMILIES}
        assert gained["gain × power"] > 1 + max(gained["light-enhancement"], gained["gamma"])
    assert page["bounds"]["5 stops"]["gain × power + smoothing"] > page["bounds"]["3.5 stops"]["light-enhancement"]
    assert page["blurred"].std() < 0.2 * page["pattern"].std()
    assert "limited to 1.5 levels of 255" in TEXT
    assert float(page["noise_of"](torch.rand(1, 3, 64, 64))) == 1.5


@pytest.mark.slow
def test_four_numbers_are_between_a_fixed_curve_and_the_shipped_network(page):
    tests = [page["sample_pairs"](stops=v, seed=0)[name] for v in (2.0, 3.5, 5.0, 6.5) for name in page["HELD_OUT"]]
    lows, highs = (torch.cat([pair[k][:, ::4, ::4].flatten(1) for pair in tests], dim=1)[:, None] for k in (0, 1))

    def four(low):
        return apply_power_curve(low[None], *page["rule"](low[None], page["four"]))[0].clamp(0, 1)

    def mean(method):
        return sum(psnr(method(low).clamp(0, 1), high) for low, high in tests) / len(tests)

    assert "on average 3 dB ahead of the four numbers" in TEXT
    assert mean(four) > mean(page["fit"]("gain × power", lows, highs)) + 2
    shipped = load_model("glance-650")
    assert mean(lambda low: enhance_tensor(shipped, low)) - mean(four) == pytest.approx(3, abs=1)


def test_the_layers_have_the_stated_shares():
    assert "More than half of the parameters are in the convolutions, more than a third in the decision" in TEXT
    network = load_model("glance-650")
    share = {name: count_parameters(layer) / count_parameters(network) for name, layer in network.named_children()}
    assert share["conv"] + share["depth_conv"] + share["point_conv"] > 1 / 2
    assert share["decide"] + share["globals"] > 1 / 3
    assert network.smoothing.log_tolerance.numel() == 9


def test_the_class_decides_about_daylight(board):
    assert "(above 36 dB)" in TEXT
    assert "(below 28 dB)" in TEXT
    zero, own = (
        [row for row in board.values() if row["category"] == kind] for kind in ("zero-reference", "self-made pairs")
    )
    assert len(zero) >= 6
    assert len(own) >= 4
    assert min(row["fixed_curve"] for row in zero) > 36
    assert min(row["daylight"] for row in zero) > 2 / 3
    assert max(row["fixed_curve"] for row in own) < 28
    assert max(row["daylight"] for row in own) < 0.03
    assert "2%, 9% and 95%" in TEXT
    assert [f"{run['daylight']:.0%}" for run in board["glance-650-real"]["runs"]] == ["2%", "9%", "95%"]


def test_glance_650_leads_its_class_and_larger_ones(board):
    glance = board["glance-650"]
    for name, row in board.items():
        if name != "glance-650" and row["category"] in ("zero-reference", "self-made pairs"):
            assert glance["psnr"] > row["psnr"]
            assert glance["ssim"] > row["ssim"] + 0.2


def test_the_curve_leaves_the_neutral_one_as_photos_get_darker():
    network = load_model("glance-650").requires_grad_(False)
    for name in ("astronaut", "chelsea", "coffee"):
        truth = to_tensor(sample_photos()[name])[None]
        draws = torch.Generator().manual_seed(0)
        photos = [darken(truth, Darkening((v, v), cast=0), generator=draws) for v in range(1, 7)]
        means = torch.cat([network.curve_map(photo).mean((2, 3)) for photo in photos])
        assert (means[:, :3].mean(1).diff() > 0).all()
        assert (means[:, 3:6].mean(1).diff() < 0).all()
        assert means[0, :6].abs().max() < 0.25


def test_halving_errors_changes_means_as_stated():
    assert "by 0.025, halving the small one by 0.00025" in TEXT
    assert math.isclose((0.1 - 0.05) / 2, 0.025)
    assert math.isclose((0.001 - 0.0005) / 2, 0.00025)
