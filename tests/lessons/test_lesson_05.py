"""Lesson 05 states what ``results/`` and the embedded photos say."""

import json
import re
from statistics import fmean

import matplotlib
import nbformat
import pytest
import torch
import torch.nn.functional as F

from kdlib import load_model
from kdlib.data import Darkening, darken, evaluation_pairs, sample_photos, to_tensor
from kdlib.data.degrade import linear_to_srgb, srgb_to_linear
from kdlib.evaluation import classical_methods, gt_mean, psnr, ssim
from kdlib.evaluation.leaderboard import leaderboard
from kdlib.evaluation.report import as_method
from kdlib.exercises.lesson_05 import best_gamma
from kdlib.exercises.registry import find
from kdlib.viz.scores import plot_scores
from tests.helpers import NOTEBOOKS, prose

RESULTS = NOTEBOOKS.parent / "results"
PAGE = prose("05_evaluate")


@pytest.fixture(scope="module")
def board():
    return {row["method"]: row for row in leaderboard(RESULTS)}


@pytest.fixture(scope="module")
def pairs():
    return {name: (dark, truth) for name, dark, truth in evaluation_pairs()}


def is_published(name):
    return name.split(",")[0].endswith(("_official", "_peer", "_bsun"))


def ends_in_a_curve(name):
    return name.startswith(("nano", "student-565", "zero-dce"))


def test_the_scores_of_the_standard_test(board):
    assert "fixed gamma of 0.3 scores at least as high as every published zero-reference network" in PAGE
    published = [row for n, row in board.items() if is_published(n) and row["category"] == "zero-reference"]
    assert published
    for key in ("psnr", "ssim"):
        assert all(board["gamma 0.3"][key] >= row[key] for row in published)
    assert "spread more than ten times as large" in PAGE
    taught, alone = board["student-565"], board["student-565, no teacher"]
    assert alone["psnr"] < taught["psnr"]
    assert alone["psnr_sd"] > 10 * taught["psnr_sd"]
    quoted = re.search(r"authors score ([\d.]+) and ([\d.]+) dB here", PAGE).groups()
    measured = [board[name]["psnr"] for name in ("zero_dce_official", "zero_dce_pp_official")]
    assert list(quoted) == [f"{psnr:.2f}" for psnr in measured]
    assert board["glance-650"]["psnr"] > board["grid-960"]["psnr"]
    assert abs(board["student-565"]["psnr"] - board["zero-dce++"]["psnr"]) < 0.1


def test_curve_networks_stay_below_gamma_in_ssim_and_smoothing_lifts_them(board):
    own = {name: row for name, row in board.items() if row["parameters"] and not is_published(name)}
    for name, row in own.items():
        assert (row["ssim"] < board["gamma 0.3"]["ssim"]) == ends_in_a_curve(name)
    rows = {row["method"]: row for row in json.loads((RESULTS / "denoise.json").read_text(encoding="utf-8"))["rows"]}
    before, after = (rows[name]["ssim"] for name in ("student-565", "student-565, denoise 1"))
    assert f"rises from {before:.3f} to {after:.3f}" in PAGE


@torch.no_grad()
def test_the_steepness_of_the_curve_and_of_gamma(pairs):
    assert "about twice as steep as gamma at the median pixel" in PAGE
    model = load_model("student-565")
    for dark, _ in pairs.values():
        photo = dark[None, :, ::2, ::2]
        r = model(photo)[1]
        r = F.interpolate(r, size=photo.shape[2:], mode="bilinear", align_corners=True)
        x, slope = photo, torch.ones_like(photo)
        for _ in range(model.iterations):
            slope, x = slope * (1 + r * (2 * x - 1)), x + r * (x * x - x)
        low, high = 0.05, 1.0
        for _ in range(30):
            exponent = (low + high) / 2
            low, high = (exponent, high) if (photo**exponent).mean() > x.mean() else (low, exponent)
        # Gamma has no finite slope at black, where the first level's step stands for it.
        of_gamma = torch.where(photo > 0, exponent * photo ** (exponent - 1), 255 ** (1 - exponent))
        assert 1.8 < slope.median() / of_gamma.median() < 2.3
        assert of_gamma.square().mean() > slope.square().mean()


def test_what_the_three_faults_do_to_the_scores(pairs):
    truth = pairs["astronaut"][1]
    noise = truth + 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    blur = F.avg_pool2d(truth[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    faults = {"darker": truth * 0.9, "noise": noise.clamp(0, 1), "blur": blur}
    scores = {name: psnr(photo, truth) for name, photo in faults.items()}
    assert "lie within two decibels" in PAGE
    assert max(scores.values()) - min(scores.values()) < 2
    similar = {name: ssim(photo, truth) for name, photo in faults.items()}
    assert similar["darker"] > 0.98
    assert min(similar, key=similar.get) == "noise"


def test_the_scores_of_the_embedded_pairs(pairs):
    thin = [(name, dark[:, ::2, ::2], truth[:, ::2, ::2]) for name, (dark, truth) in pairs.items()]
    exponent = best_gamma(thin, torch.linspace(0.2, 1, 41))
    gamma = fmean(psnr(dark**exponent, truth) for _, dark, truth in thin)
    methods = {name: as_method(load_model(name)) for name in ("zero-dce++", "student-565", "glance-650", "grid-960")}
    score = {name: fmean(psnr(method(dark), truth) for _, dark, truth in thin) for name, method in methods.items()}
    assert "ahead of the zero-reference networks" in PAGE
    assert gamma > score["zero-dce++"]
    assert abs(score["student-565"] - score["zero-dce++"]) < 0.3
    assert score["glance-650"] > score["grid-960"] > score["student-565"]
    assert "unprocessed dark photo scores higher than most methods" in PAGE
    matched = {
        name: fmean(psnr(gt_mean(method(dark), truth), truth) for _, dark, truth in thin)
        for name, method in {**classical_methods(), **methods}.items()
    }
    assert sum(matched["input"] > value for value in matched.values()) > len(matched) / 2


def test_daylight_is_brightened_by_about_three_quarters(board):
    own = json.loads((RESULTS / "eval15.json").read_text(encoding="utf-8"))["rows"]
    [shipped] = [row for row in own if row["method"] == "student-565"]
    assert find("05.5").solution == pytest.approx(100 * shipped["daylight"], abs=1)
    assert "within a few percent" in PAGE
    assert all(board[name]["daylight"] < 0.05 for name in ("student-565-pairs", "glance-650", "grid-960"))


@pytest.fixture(scope="module")
def exposed():
    photos = {name: to_tensor(photo) for name, photo in sample_photos().items()}

    def expose(name, stops, every=1):
        photo = photos[name][:, ::every, ::every]
        if stops >= 0:
            return linear_to_srgb(srgb_to_linear(photo) * 2**stops).mul(255).round() / 255
        less = Darkening(stops=(-stops, -stops), cast=0)
        return darken(photo[None], less, generator=torch.Generator().manual_seed(0))[0]

    return expose


@pytest.fixture(scope="module")
def failures(exposed):
    """Of the default network, as the lesson makes them: input, output and original."""
    default = as_method(load_model("grid-960"))
    cases = [("rocket", 0), ("chelsea", 2), ("astronaut", 2.5), ("motorcycle", -7)]
    taken = {case: exposed(*case) for case in cases}
    return {case: (photo, default(photo), exposed(case[0], 0)) for case, photo in taken.items()}


def test_where_the_default_network_fails(failures):
    before, after, _ = failures["rocket", 0]
    assert "about two thirds brighter" in PAGE
    assert 0.6 < after.mean() / before.mean() - 1 < 0.75
    _, after, original = failures["motorcycle", -7]
    assert after.mean() < 0.8 * original.mean()
    before, after, original = failures["chelsea", 2]
    white = (before == 1).all(dim=0)
    assert white.float().mean() > 0.1
    assert float(after[:, white].mean()) < 0.9
    assert after[:, white].std() < original[:, white].std()
    half = (before[0] == 1) & (before[2] < 0.9)
    blue, green = (
        [float(photo[c, half].mean() / photo[0, half].mean()) for photo in (after, original)] for c in (2, 1)
    )
    assert green[0] > green[1] + 0.1
    assert blue[0] < green[0]
    before, after, original = failures["astronaut", 2.5]
    assert "Two fifths of the astronaut's photo are purely white" in PAGE
    assert float((before == 1).all(dim=0).float().mean()) == pytest.approx(0.4, abs=0.02)
    assert "keeps this white and darkens only the rest" in PAGE
    white = (before == 1).all(dim=0)
    assert float(after[:, white].mean()) > 0.98
    assert float(after[:, ~white].mean()) < 0.9 * float(before[:, ~white].mean())
    assert float(after.mean()) > 1.3 * float(original.mean())


def test_the_network_is_ahead_of_the_adaptive_gamma_where_there_is_something_to_correct(exposed):
    assert "From six stops too little to one and a half too much" in PAGE
    gamma, default = classical_methods()["gamma to mean 0.45"], as_method(load_model("grid-960"))
    lead = {}
    for stops in (2.5, 1.5, 0.5, 0, -1.5, -6, -7):
        pairs = [(exposed(name, stops, 2), exposed(name, 0, 2)) for name in ("astronaut", "chelsea", "coffee")]
        lead[stops] = fmean(psnr(default(photo), truth) - psnr(gamma(photo), truth) for photo, truth in pairs)
    assert min(lead[stops] for stops in (1.5, 0.5, -1.5, -6)) > 1
    assert lead[2.5] < lead[1.5] / 2
    assert "The gamma loses less" in PAGE
    assert lead[0] < 0
    assert lead[-7] < lead[-6] / 3


def test_uneven_light_and_the_lamp(pairs):
    methods = {n: as_method(load_model(n)) for n in ("student-565", "student-565-pairs", "glance-650", "grid-960")}
    truth = pairs["astronaut"][1]
    ramp = torch.linspace(-5, 0, truth.shape[2]).clamp(-4, -0.5)
    uneven = linear_to_srgb(srgb_to_linear(truth) * 2**ramp)
    shown = {name: method(uneven) for name, method in methods.items()}
    third = truth.shape[2] // 3
    sides = {
        name: (float(photo[..., :third].mean()), float(photo[..., -third:].mean())) for name, photo in shown.items()
    }
    assert max(shown, key=lambda name: psnr(shown[name], truth)) == "grid-960"
    assert sides["glance-650"][0] < truth[..., :third].mean() / 2
    assert sides["grid-960"][0] < truth[..., :third].mean()
    assert "nearly equally bright" in PAGE
    assert sides["student-565"][0] == pytest.approx(sides["student-565"][1], rel=0.15)
    assert min(sides["student-565"]) > truth[..., :third].mean() > truth[..., -third:].mean()
    night = linear_to_srgb(srgb_to_linear(pairs["rocket"][1]) / 24)
    night[:, 60:110, 420:450] = 0.95
    halo = methods["student-565-pairs"](night)
    assert halo[:, 40:130, 400:418].mean() < 1.3 * night[:, 40:130, 400:418].mean()
    assert halo[:, 40:130, 150:250].mean() > 4 * night[:, 40:130, 150:250].mean()


def test_the_figure_of_scores_has_a_dot_for_each_method(board):
    rows = [*board.values(), {"method": "unscored", "category": "–", "psnr": None}]
    figure = plot_scores(rows, ("grid-960",))
    [axes] = figure.axes
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == len(board)
    assert [text.get_text() for text in axes.texts] == ["grid-960"]
    matplotlib.pyplot.close(figure)


def test_no_name_in_the_figure_of_scores_covers_another(board):
    cells = nbformat.read(NOTEBOOKS / "05_evaluate.ipynb", as_version=4).cells
    [drawn] = [cell.source for cell in cells if "plot_scores(board" in cell.source]
    space = {"leaderboard": lambda _: list(board.values()), "project_path": str, "plot_scores": plot_scores}
    exec(drawn.replace("viz.plt.show()", ""), space)
    figure = matplotlib.pyplot.gcf()
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 7
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    matplotlib.pyplot.close(figure)
