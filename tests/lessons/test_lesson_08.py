"""The sentences of lesson 08 against the files in results/, and against short computations."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch

from kdlib.experiments.exposure_targets import summarise_targets
from kdlib.losses.zero_reference import OBJECTIVES, ColourConstancyLoss, ExposureControlLoss, SpatialConsistencyLoss
from kdlib.models import apply_curve, count_parameters, create_model
from tests.helpers import prose

RESULTS = Path(__file__).resolve().parents[2] / "results"


@cache
def stored(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def states(*sentences):
    page = prose("08_zero_dce")
    for sentence in sentences:
        assert sentence in page


def curve(sequence):
    """The change of 101 levels by the curve of eight values of r."""
    levels = torch.linspace(0, 1, 101).expand(1, 3, 1, -1)
    r = torch.tensor(sequence).repeat_interleave(3).view(1, 24, 1, 1).expand(1, 24, 1, 101)
    return (apply_curve(levels, r, 8) - levels)[0, 0, 0]


def cost(name, **options):
    """Multiply-adds for each pixel at 1080p: of the network, and of network, map and curve together."""
    net = create_model(name, **options)
    rows, columns = net.network_size(1080, 1920)
    seen, channels = rows * columns / (1080 * 1920), 3 if net.shared_map else 24
    return count_parameters(net) * seen, count_parameters(net) * seen + (seen < 1) * 4 * channels + 6 * net.iterations


def test_cost():
    states("79,416 parameters, plain convolutions", "Parameters differ by a factor of 7.5")
    first, second = (count_parameters(create_model(name)) for name in ("zero-dce", "zero-dce++"))
    assert (first, round(first / second, 1)) == (79_416, 7.5)
    states("the totals differ by a factor of six hundred", "the networks cost 22 and 3 multiply-adds for each pixel")
    assert 575 < cost("zero-dce")[1] / cost("zero-dce++")[1] < 650
    small = {"scale_factor": 1, "network_side": 32}
    one, other = (cost(name, **small) for name in ("zero-dce", "zero-dce++"))
    assert (round(one[0]), round(other[0])) == (22, 3)
    states("with an equal small copy by less than 3")
    assert 1 < one[1] / other[1] < 3
    layers = {name: {part: count_parameters(layer) for part, layer in create_model(name).named_children()}
              for name in ("zero-dce", "zero-dce++")}  # fmt: skip
    states("the last layer is the smallest of the three although it computes 24 maps")
    *_, fifth, sixth, last = layers["zero-dce"].values()
    assert last < min(fifth, sixth)
    assert all(min([*parts.values()][-3:-1]) >= max([*parts.values()][:-3]) for parts in layers.values())


def test_sequences():
    states("The sequences (−0.6, 0) and (−0.3, −0.3) have the same sum and nearly the same curve")
    assert (curve([-0.6] * 4 + [0.0] * 4) - curve([-0.3] * 8)).abs().max() < 0.05
    states("First darker, then brighter (0.6, −0.9) makes shadows darker, highlights brighter")
    change = curve([0.6] * 4 + [-0.9] * 4)
    assert change[10] < -0.02
    assert change[90] > 0.02
    states("the same eight numbers in reverse give a different curve")
    assert (curve([-0.9] * 4 + [0.6] * 4) - change).abs().max() > 0.1
    states("which a single r never does")
    for r in (-0.9, -0.4, 0.4, 0.9):
        assert (curve([r] * 8) * -math.copysign(1, r)).min() > -1e-6


def test_published_files():
    states("The published weights of the two differ by 0.5 dB")
    scores = {row["method"]: row["psnr"] for row in stored("published")["rows"]}
    assert round(scores["zero_dce_pp_official"] - scores["zero_dce_official"], 1) == 0.5
    states("The authors' own file has 78 dB", "the value is 45 dB, a difference of one or two levels", "is 48 dB")
    kept = {row["method"]: row["shared_map"] for row in stored("zero_dce_maps")["rows"]}
    assert (int(kept["zero_dce_official"]), round(kept["zero_dce_bsun"])) == (78, 45)
    assert round(20 * math.log10(255)) == 48
    assert 1 < 255 * 10 ** (-kept["zero_dce_bsun"] / 20) < 2


def test_formulas():
    states("The re-implementation trains with weights 8, 1.75, 1 and 7", "own weights are 1, 10, 5 and 200")
    assert list(OBJECTIVES["zero-dce"].values()) == list(OBJECTIVES["zero-dce-absolute"].values()) == [8, 1.75, 1, 7]
    assert list(OBJECTIVES["zero-dce-official"].values()) == [1, 10, 5, 200]
    states("an exposure error of 0.1 costs 0.0175 squared and 0.175 absolute, ten times as much")
    patch = torch.full((1, 3, 16, 16), 0.5)
    assert 1.75 * float(ExposureControlLoss(0.6)(patch)) == pytest.approx(0.0175, abs=1e-5)
    assert 1.75 * float(ExposureControlLoss(0.6, absolute=True)(patch)) == pytest.approx(0.175, abs=1e-5)
    states(
        r"| $\sqrt{\sum (J^p - J^q)^4}$ | $\sum (J^p - J^q)^2$ |",
        "The command that it gives with these four weights uses the differences",
    )
    colour = torch.tensor([0.2, 0.4, 0.7]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    apart = (0.2, 0.3, 0.5)
    assert float(ColourConstancyLoss()(colour)) == pytest.approx(sum(d**4 for d in apart) ** 0.5)
    assert float(ColourConstancyLoss(squared=True)(colour)) == pytest.approx(sum(d**2 for d in apart))
    states("((Yᵢ − Yⱼ) − (Iᵢ − Iⱼ))²")
    step = torch.zeros(1, 3, 4, 8)
    step[..., 4:] = 0.3
    # Reversed, the step has the same height but the other sign, which absolute differences would not notice.
    assert float(SpatialConsistencyLoss()(step.flip(-1), step)) == pytest.approx(0.36)


def test_speed():
    states("at 1080p 9 ms on two cores, where the published form takes 397")
    rows = {row["method"]: row["ms"] for row in stored("benchmark_zero-dce")["rows"] if row["height"] == 1080}
    assert (round(rows["kdlib"]), round(rows["PyTorch, eager"])) == (9, 397)


def test_the_exposure_target():
    rows = stored("zero_dce")["rows"]
    change = {(row["objective"], row["target"], row["seed"]): row for row in rows}
    bright = {key: row["bright"] for key, row in change.items()}
    states("24 runs", "of 400 photos of SICE part 1", "the middle of 16 photos of DICM")
    settings = stored("zero_dce")["settings"]
    assert (len(rows), settings["photos"], settings["looked_at"], settings["bright"]) == (24, 400, 16, "DICM")
    states("The runs are short (100 steps)")
    assert settings["epochs"] * settings["photos"] // 16 == 100
    states("An E of 0.4 darkens bright areas", "At 0.5 all runs still lower the mean, slightly with squared exposure")
    assert all(bright[key] < 0 for key in bright if key[1] <= 0.5)
    states("about nine in ten bright pixels")
    assert all(0.85 < row["darkened"] < 0.96 for key, row in change.items() if key[1] == 0.4)
    states("even E = 0.6 darkens bright areas slightly, in every seed; only 0.7 does not")
    at_06 = {objective: [bright[key] for key in bright if key[:2] == (objective, 0.6)] for objective, *_ in bright}
    assert -0.05 < min(at_06["zero-dce-absolute"]) < max(at_06["zero-dce-absolute"]) < 0 < min(at_06["zero-dce"])
    assert all(bright[key] > 0 for key in bright if key[1] == 0.7)
    states("Dark areas get brighter at every E, in every run")
    assert all(row["dark"] > 0 for row in rows)
    assert max(row["dark"] for key, row in change.items() if key[:2] == ("zero-dce", 0.4)) < 0.03
    states("it gives positive r to bright places")
    assert all(row["positive"] > 0.8 for key, row in change.items() if key[1] == 0.4)
    states("The gain of dark areas grows more than threefold, and the change of bright areas reverses its sign")
    gains = {(row["objective"], row["target"]): row["dark"] for row in summarise_targets(rows)}
    assert all(gains[objective, 0.7] > 3 * gains[objective, 0.4] for objective in at_06)
    states("the change of bright areas is negative at 0.4 and positive at 0.7 in all 12 runs")
    assert sum(key[1] in (0.4, 0.7) for key in bright) == 12


def test_the_receptive_field():
    states("Its receptive field of 15×15 pixels")
    torch.manual_seed(0)
    photo = torch.rand(1, 3, 31, 31, requires_grad=True)
    create_model("zero-dce").curve_map(photo)[..., 15, 15].sum().backward()
    rows = photo.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 <= 15
