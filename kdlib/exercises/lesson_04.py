"""The exercises of lesson 04: a distillation step by hand."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.exercises import Wrong, close_to, exercise, same
from kdlib.losses.distillation import SAME_DEPTH_LAYERS, FeatureMatchingLoss, OutputAlignmentLoss
from kdlib.models import ZeroDCE, create_model
from kdlib.training.distill_curve import RecipeObjective
from kdlib.training.recipes import RECIPES

GAIN = 9.4
"""Fidelity by output alignment alone less that without a teacher, in dB: results/what_matters.json."""


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def teacher_targets(teacher: ZeroDCE, photos: Tensor) -> tuple[Tensor, ...]:
    return RecipeObjective(teacher, teacher, RECIPES["one-stage"], "none").ask_teacher(photos)


_TARGETS = ("curve map", "shallow feature map", "middle feature map", "deep feature map")


@exercise("04.1", "The teacher's targets, once", solution=teacher_targets)
def check_teacher_targets(answer: Callable[..., Any]) -> None:
    teacher = create_model("student-565")
    teacher.scale_factor = 1
    for shape in ((3, 3, 24, 24), (1, 3, 17, 23)):
        photos = _random(*shape)
        found, expected = answer(teacher, photos), teacher_targets(teacher, photos)
        if any(module._forward_hooks for module in teacher.modules()):
            raise Wrong("a hook stays on the teacher: collect the features within `with LayerFeatures(…) as tap`")
        if not isinstance(found, list | tuple) or len(found) != 4:
            raise Wrong("teacher_targets returns the curve map and three features, in one tuple of four tensors")
        if any(isinstance(target, Tensor) and target.requires_grad for target in found):
            raise Wrong("the targets carry a graph through the teacher: compute them under torch.no_grad()")
        with torch.no_grad():
            others = {"enhanced photo": teacher(photos)[0], **dict(zip(_TARGETS, expected, strict=True))}
        for one, what in zip(found, _TARGETS, strict=True):
            mistakes = {f"is the {name}": value for name, value in others.items() if name != what}
            same(one, others[what], f"the {what} of {shape[0]} photo{'s' * (shape[0] > 1)}", mistakes=mistakes)


def alignment(enhanced: Tensor, curve_map: Tensor, taught: Tensor, taught_map: Tensor) -> Tensor:
    return OutputAlignmentLoss(0.1)((enhanced, curve_map), (taught, taught_map))


@exercise("04.2", "Output alignment", solution=alignment)
def check_alignment(answer: Callable[..., Any]) -> None:
    for shape in ((2, 3, 5, 7), (1, 3, 4, 4)):
        enhanced, taught = _random(*shape), _random(*shape, seed=1)
        curve_map, taught_map = 2 * _random(*shape, seed=2) - 1, 2 * _random(*shape, seed=3) - 1
        same(answer(taught, taught_map, taught, taught_map), torch.tensor(0.0), "the loss of a perfect student")
        same(answer(enhanced, taught_map, taught, taught_map), (enhanced - taught).square().mean(), "the photo's error")
        found = answer(taught, curve_map, taught, taught_map)
        same(found, 0.1 * (curve_map - taught_map).square().mean(), "the loss of a student with the right photo")
        answers = [enhanced.requires_grad_(), curve_map.requires_grad_()]
        expected = alignment(answers[0], answers[1], taught, taught_map)
        found = answer(*answers, taught, taught_map)
        same(found, expected, "the sum of both errors")
        _same_gradients(found, expected, answers)


def _same_gradients(found: Tensor, expected: Tensor, inputs: Sequence[Tensor]) -> None:
    if not found.requires_grad:
        raise Wrong("the loss has no gradient: no_grad, detach or float() belongs to the teacher, not to the student")
    gradients = [torch.autograd.grad(loss, inputs, allow_unused=True) for loss in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        if one is None:
            raise Wrong("the loss does not depend on a part of the student's answer, which is detached or not used")
        same(one, other, "the gradient of the loss")


def feature_loss(own: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    layers = [layer for layer, _ in SAME_DEPTH_LAYERS]
    match = FeatureMatchingLoss(SAME_DEPTH_LAYERS)
    return match(*(dict(zip(layers, features, strict=True)) for features in (own, taught)))


@exercise("04.3", "Features, from shallow to deep", solution=feature_loss)
def check_feature_loss(answer: Callable[..., Any]) -> None:
    for batch in (2, 1):
        own, taught = ([_random(batch, 8, 8, seed=4 * side + i) for i in range(3)] for side in range(2))
        same(answer(taught, taught), torch.tensor(0.0), "the loss of equal features")
        for place, (weight, name) in enumerate(zip((0.2, 0.3, 0.5), ("shallow", "middle", "deep"), strict=True)):
            mixed = [*taught[:place], own[place], *taught[place + 1 :]]
            expected = weight * (own[place] - taught[place]).square().mean()
            same(answer(mixed, taught), expected, f"the loss where only the {name} layer differs")
        for features in own:
            features.requires_grad_()
        _same_gradients(answer(own, taught), feature_loss(own, taught), own)


def total(alignment: Tensor, features: Tensor, task: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * RECIPES["one-stage"].alignment * alignment + beta * features + (1 - alpha - beta) * task


@exercise("04.4", "The weighted total", solution=total)
def check_total(answer: Callable[..., Any]) -> None:
    aligned, features, task = torch.tensor([0.01, 0.2, 3.0])
    cases = {"α = 1, β = 0": (1.0, 0.0), "α = 0, β = 1": (0.0, 1.0), "α = β = 0": (0.0, 0.0)}
    for what, shares in {**cases, "α = 0.7, β = 0.2": (0.7, 0.2)}.items():
        expected = total(aligned, features, task, *shares)
        same(answer(aligned, features, task, *shares), expected, f"the total for {what}")


def step(student: nn.Module, loss: Tensor, optimiser: torch.optim.Optimizer, limit: float) -> None:
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), limit)
    optimiser.step()


def _without_limit(student: nn.Module, loss: Tensor, optimiser: torch.optim.Optimizer, _limit: float) -> None:
    step(student, loss, optimiser, float("inf"))


def _with_limit_one(student: nn.Module, loss: Tensor, optimiser: torch.optim.Optimizer, _limit: float) -> None:
    step(student, loss, optimiser, 1.0)


def _without_zeroing(student: nn.Module, loss: Tensor, optimiser: torch.optim.Optimizer, limit: float) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), limit)
    optimiser.step()


def _after_two_steps(take_step: Callable[..., Any], size: float, limit: float) -> Tensor:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for seed in (0, 1):
        before = layer.weight.detach().clone()
        take_step(layer, size * layer(_random(4, 3, seed=seed)).square().mean(), optimiser, limit)
        if torch.equal(layer.weight, before):
            raise Wrong("the weights have not changed: the optimiser's step is missing, or there is no gradient")
    return layer.weight.detach()


@exercise("04.5", "One step", solution=step, in_place=True)
def check_step(answer: Callable[..., Any]) -> None:
    for size, limit in ((1.0, 1.0), (100.0, 1.0), (100.0, 0.5)):
        mistakes = {
            "is that of a gradient without limit: clip it after backward() and before step()": _without_limit,
            "is that of gradients that add up: set them to zero before each backward()": _without_zeroing,
            "is that of the limit 1, whatever the argument says": _with_limit_one,
        }
        same(
            _after_two_steps(answer, size, limit),
            _after_two_steps(step, size, limit),
            f"the weight after two steps with the limit {limit:g}",
            mistakes={said: _after_two_steps(wrong, size, limit) for said, wrong in mistakes.items()},
        )


@exercise("04.7", "The worth of a teacher", solution=GAIN)
def check_worth(answer: float) -> None:
    close_to(answer, GAIN, 3.0, "a gain of")


@exercise("04.9", "Half the iterations", solution=-0.4)
def check_iterations(answer: float) -> None:
    if answer > 0:
        raise Wrong(f"r = {answer:g} darkens: a negative r brightens, as the teacher's does")
    close_to(answer, -0.4, 0.02, "r =")


def small_set(photos: Tensor, count: int) -> Tensor:
    return photos[torch.linspace(0, len(photos) - 1, count).round().long()]


@exercise("04.10", "How many photos does a student need?", solution=small_set)
def check_small_set(answer: Callable[..., Any]) -> None:
    for every, count in ((12, 4), (10, 3), (10, 10), (7, 1)):
        photos = torch.arange(every, dtype=torch.uint8)[:, None, None, None].expand(every, 3, 2, 2)
        found = answer(photos, count)
        if not isinstance(found, Tensor) or found.shape != (count, 3, 2, 2):
            shape = "×".join(map(str, getattr(found, "shape", ()))) or type(found).__name__
            raise Wrong(f"small_set returns {shape} for {every} photos, expected {count}×3×2×2")
        chosen = found[:, 0, 0, 0].tolist()
        gaps = [after - before for before, after in itertools.pairwise(chosen)]
        if gaps and (min(gaps) < every // count or max(gaps) - min(gaps) > 1):
            raise Wrong(f"small_set picks the photos {chosen} of {every}, expected {count} that are evenly spread")
