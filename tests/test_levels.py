"""Multi-level losses, compared with values computed by hand, and weights that change during training."""

from __future__ import annotations

import pytest
import torch

from kdlib.losses.distillation import SSIMLoss
from kdlib.losses.levels import EARLY_WEIGHTS, LATE_WEIGHTS, LEVELS, LevelLosses, ProgressiveWeights, check_levels
from kdlib.losses.perceptual import BackboneUnavailableError, PerceptualLoss
from kdlib.stages import Stages

STAGES = Stages._fields


def answer(image=0.5, **parts):
    """An enhanced photo, 1×3×16×16, and its stages, each with a constant value."""
    shapes = {"colour": (1, 3, 3), "gamma": (1, 1)}
    stages = [torch.full(shapes.get(name, (1, 3, 16, 16)), parts.get(name, 0.5)) for name in STAGES]
    return torch.full((1, 3, 16, 16), image), Stages(*stages)


def value(level, student, teacher, truth=0.5, distance="l1", weight=1.0):
    truth = torch.full((1, 3, 16, 16), truth)
    terms = LevelLosses(distance)({level: weight}, student, teacher, truth)
    assert terms.keys() == {level}
    return float(terms[level])


# Differences of 0.2 and 0.02, above and below 0.05. Smooth L1 is d²/(2·0.05) below 0.05 and d − 0.025 above.
@pytest.mark.parametrize(
    ("distance", "large", "small"), [("l1", 0.2, 0.02), ("smooth-l1", 0.175, 0.004), ("mse", 0.04, 0.0004)]
)
@pytest.mark.parametrize("level", ["truth", "image", *STAGES])
def test_each_level_alone_by_hand(level, distance, large, small):
    for off, wanted in ((0.2, large), (0.02, small)):
        if level == "truth":
            found = value(level, answer(0.5 + off), answer(0.9), 0.5, distance)
        elif level == "image":
            found = value(level, answer(0.5 + off), answer(0.5), 0.9, distance)
        else:
            found = value(level, answer(**{level: 0.5 + off}), answer(), 0.9, distance)
        assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("level", STAGES)
def test_a_stage_is_independent_of_the_others(level):
    others = {name: 0.1 for name in STAGES if name != level}
    assert value(level, answer(0.1, **others), answer(0.9), truth=0.3) == 0


def test_truth_ssim_is_the_ssim_loss_to_the_truth_and_a_weight_is_a_factor():
    rng = torch.Generator().manual_seed(0)
    have, truth, teacher = (torch.rand(2, 3, 24, 24, generator=rng) for _ in range(3))
    stages = answer()[1]
    terms = LevelLosses()({"truth ssim": 0.3, "truth": 2.0}, (have, stages), (teacher, stages), truth)
    assert terms["truth ssim"].item() == pytest.approx(0.3 * SSIMLoss()(have, truth).item())
    assert terms["truth"].item() == pytest.approx(2 * (have - truth).abs().mean().item())


@pytest.mark.parametrize("level", ["truth perceptual", "image perceptual"])
def test_perceptual_levels_use_their_own_reference_and_load_the_network_once(level, monkeypatch):
    loaded = []

    class Fake(torch.nn.Module):
        def __init__(self, backbone):
            super().__init__()
            loaded.append(backbone)

        def forward(self, have, want):
            return (have - want).mean()

    monkeypatch.setattr("kdlib.losses.levels.PerceptualLoss", Fake)
    losses = LevelLosses(backbone="some")
    assert loaded == []
    for _ in range(2):
        terms = losses({level: 1.0}, answer(0.9), answer(0.4), torch.full((1, 3, 16, 16), 0.6))
    wanted = 0.3 if level == "truth perceptual" else 0.5
    assert terms[level].item() == pytest.approx(wanted)
    assert loaded == ["some"]


@pytest.mark.usefixtures("checkpoints")
def test_a_level_with_weight_zero_is_not_computed():
    with pytest.raises(BackboneUnavailableError):
        PerceptualLoss()
    terms = LevelLosses()({"truth": 1.0, "image perceptual": 0.0, "gamma": 0}, answer(), answer(), answer()[0])
    assert terms.keys() == {"truth"}


@pytest.mark.parametrize("level", [level for level in LEVELS if "perceptual" not in level])
def test_every_level_passes_gradients_to_the_student_only(level):
    def graph(seed):
        rng = torch.Generator().manual_seed(seed)
        image, stages = answer()
        return [torch.rand(part.shape, generator=rng).requires_grad_() for part in (image, *stages)]

    student, teacher = graph(0), graph(1)
    truth = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = (teacher[0], Stages(*teacher[1:]))
    term = LevelLosses()({level: 1.0}, (student[0], Stages(*student[1:])), wanted, truth)[level]
    term.backward()
    touched = {name for name, part in zip(("image", *STAGES), student, strict=True) if part.grad is not None}
    assert touched == {level if level in STAGES else "image"}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"color": 1.0}, "unknown level 'color'; choose from truth, .*colour, gamma"),
        ({"truth": -0.1}, "weight of 'truth' must be a number of at least 0, not -0.1"),
        ({"gamma": float("nan")}, "weight of 'gamma'"),
        ({"gamma": float("inf")}, "weight of 'gamma'"),
        ({"gamma": True}, "weight of 'gamma'"),
        ({"gamma": "1"}, "weight of 'gamma'"),
    ],
)
def test_unknown_levels_and_invalid_weights_are_refused(weights, message):
    for call in (
        check_levels,
        lambda w: LevelLosses()(w, answer(), answer(), answer()[0]),
        lambda w: ProgressiveWeights(w, {"truth": 1}),
        lambda w: ProgressiveWeights({"truth": 1}, w),
    ):
        with pytest.raises(ValueError, match=message):
            call(weights)


def test_error_on_an_unknown_distance_lists_the_known_ones():
    with pytest.raises(ValueError, match="'l3'; choose from l1, smooth-l1, mse"):
        LevelLosses("l3")


# Progressive weights


def test_weights_are_constant_then_linear_then_constant():
    schedule = ProgressiveWeights({"image": 1.0, "truth": 0.2}, {"truth": 1.0}, warm_up=0.2, late_from=0.6)
    expected = {0.0: (1.0, 0.2), 0.19: (1.0, 0.2), 0.2: (1.0, 0.2), 0.3: (0.75, 0.4), 0.5: (0.25, 0.8)}
    expected |= {0.6: (0.0, 1.0), 0.99: (0.0, 1.0), 1.0: (0.0, 1.0)}
    for progress, (image, truth) in expected.items():
        assert schedule(progress) == pytest.approx({"image": image, "truth": truth}), progress
    phases = [schedule.phase(p) for p in (0.0, 0.19, 0.2, 0.59, 0.6, 1.0)]
    assert phases == ["warm-up", "warm-up", "ramp", "ramp", "late", "late"]


def test_levels_have_a_fixed_order():
    schedule = ProgressiveWeights({"gamma": 1.0, "truth": 1.0}, {"image": 1.0})
    assert list(schedule(0.5)) == ["truth", "image", "gamma"]


@pytest.mark.parametrize(("warm_up", "late_from"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.0, 1.0)])
def test_phases_may_be_empty(warm_up, late_from):
    schedule = ProgressiveWeights({"image": 1.0}, {"truth": 1.0}, warm_up=warm_up, late_from=late_from)
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        weights = schedule(progress)
        assert sum(weights.values()) == pytest.approx(1.0)
        if schedule.phase(progress) != "ramp":
            assert weights["image"] == (schedule.phase(progress) == "warm-up")


def test_the_repr_of_a_schedule_recreates_it():
    schedule = ProgressiveWeights(EARLY_WEIGHTS, LATE_WEIGHTS, warm_up=0.15, late_from=2 / 3)
    again = eval(repr(schedule))
    for progress in (0.0, 0.1, 0.15, 0.4, 2 / 3, 1.0):
        assert again(progress) == schedule(progress)
    assert repr(again) == repr(schedule)
    assert repr(schedule) != repr(ProgressiveWeights(EARLY_WEIGHTS, LATE_WEIGHTS, warm_up=0.15, late_from=0.66))


@pytest.mark.parametrize(("warm_up", "late_from"), [(-0.1, 0.5), (0.6, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_invalid_phases_are_refused(warm_up, late_from):
    with pytest.raises(ValueError, match="0 ≤ warm_up ≤ late_from ≤ 1"):
        ProgressiveWeights({"truth": 1}, {"truth": 1}, warm_up=warm_up, late_from=late_from)


@pytest.mark.parametrize(("early", "late"), [({}, {"truth": 1}), ({"truth": 1}, {"truth": 0, "gamma": 0.0})])
def test_weights_that_are_all_zero_are_refused(early, late):
    with pytest.raises(ValueError, match="need at least one weight above 0"):
        ProgressiveWeights(early, late)


def test_the_recipe_moves_from_the_teachers_stages_to_the_truth():
    schedule = ProgressiveWeights(EARLY_WEIGHTS, LATE_WEIGHTS)
    early, late = schedule(0.0), schedule(1.0)
    assert all(early[stage] > late[stage] for stage in STAGES)
    assert all(early[stage] > 0 for stage in STAGES)
    assert late["truth"] > max(late[level] for level in late if level != "truth") >= 0
    assert late["truth"] > early["truth"]
