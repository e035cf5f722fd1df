"""The exercises of lesson 03: training without a teacher."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdlib.data.samples import sample_crops
from kdlib.exercises import Wrong, close_to, exercise, same
from kdlib.losses.zero_reference import ZeroReferenceLoss
from kdlib.models import apply_curve

ALIVE = 12
"""Hidden units of student-565 that respond to any photo of lesson 03, with PyTorch's random weights."""


def with_gammas(photos: Tensor, gammas: Tensor) -> Tensor:
    return photos ** gammas.view(-1, 1, 1, 1)


@exercise("03.1", "A gamma for each photo", solution=with_gammas)
def check_with_gammas(answer: Callable[..., Any]) -> None:
    for gammas in ([0.5, 1.0, 1.5], [1.5]):
        photos = torch.rand(len(gammas), 3, 4, 5)
        photos[:, 0, 0] = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5])
        expected = with_gammas(photos, torch.tensor(gammas))
        mistakes = {
            "takes the first γ for all photos": photos ** gammas[0],
            "takes the mean γ for all photos": photos ** (sum(gammas) / len(gammas)),
            "raises to 1/γ: the exponent is γ itself": with_gammas(photos, 1 / torch.tensor(gammas)),
        }
        same(answer(photos, torch.tensor(gammas)), expected, f"the result for γ = {gammas}", mistakes=mistakes)


@exercise("03.2", "Dead on arrival", solution=ALIVE)
def check_alive(answer: float) -> None:
    close_to(answer, ALIVE, 4, "a number of")


def plateaued(losses: list[float], window: int = 3, tolerance: float = 0.01) -> bool:
    if len(losses) < 2 * window:
        return False
    before, after = sum(losses[-2 * window : -window]), sum(losses[-window:])
    return before - after < tolerance * before


@exercise("03.3", "Has it plateaued?", solution=plateaued)
def check_plateaued(answer: Callable[..., Any]) -> None:
    cases: list[tuple[list[float], dict[str, Any], bool, str]] = [
        ([1.0] * 10, {}, True, "a constant loss is a plateau"),
        ([1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125], {}, False, "a loss that halves every epoch is none"),
        ([1.0, 1.0, 1.0], {}, False, "three epochs are too few to tell"),
        ([5.0, 3.0, 1.0, 1.01, 0.99, 1.0, 1.0, 0.995], {}, True, "noise around 1 is a plateau"),
        ([1.0] * 3 + [2.0] * 3, {}, True, "a rising loss does not fall any more"),
        ([100.0, 99.9, 99.8, 99.7, 99.6, 99.5], {}, True, "the tolerance is relative to the loss"),
        ([4.0, 3.0, 2.0, 1.0], {"window": 1}, False, "with a window of 1 the last two epochs decide"),
        ([1.0, 0.5, 0.25, 0.125, 0.0625, 0.0624], {}, False, "the last epoch alone does not decide, the windows do"),
        ([1.0, 0.5, 1.0, 0.5, 0.5, 0.5], {}, False, "sums are compared, not the smallest losses"),
        ([1.0, 0.9, 0.9], {"window": 1, "tolerance": 0.2}, True, "with a tolerance of 0.2"),
    ]
    for losses, settings, expected, reason in cases:
        found = answer(list(losses), **settings)
        if isinstance(found, Tensor) or found not in (True, False):
            raise Wrong(f"plateaued returns {found!r}, expected True or False")
        if bool(found) != expected:
            raise Wrong(f"plateaued({losses}) is {bool(found)}, expected {expected}: {reason}")


def colour_shift(dark_photos: Tensor, enhanced: Tensor) -> Tensor:
    before, after = (batch.mean(dim=(2, 3)) for batch in (dark_photos, enhanced))
    change = after / after.sum(dim=1, keepdim=True) - before / before.sum(dim=1, keepdim=True)
    return 3 * change.abs().amax(dim=1).mean()


@exercise("03.4", "An alarm for the collapse", solution=colour_shift)
def check_colour_shift(answer: Callable[..., Any]) -> None:
    low = torch.rand(4, 3, 6, 7) * 0.2 + 0.05
    one = torch.ones(4, 6, 7)
    cases = {
        "equal gains for all channels": 3 * low,
        "photos whose green is 0": torch.stack([one, 0 * one, one], dim=1),
        "a gamma of 0.5": low**0.5,
        "one collapsed photo among four": torch.cat([torch.stack([one, one, 0 * one], dim=1)[:1], low[1:]]),
    }
    for what, enhanced in cases.items():
        expected = colour_shift(low, enhanced).round(decimals=5)
        same(torch.as_tensor(answer(low, enhanced)), expected, f"the score of {what}", atol=1e-4)
    expected = colour_shift(low[:1], low[:1] ** 2)
    same(torch.as_tensor(answer(low[:1], low[:1] ** 2)), expected, "the score of one photo", atol=1e-4)


def best_curves(photos: Tensor, colour_weight: float, steps: int = 60, exposure: float = 7.0) -> list[float]:
    loss = ZeroReferenceLoss({"multi-region exposure": exposure, "colour": colour_weight})
    z = torch.tensor([-0.2, -0.2, 0.2]).view(1, 3, 1, 1).requires_grad_()
    optimiser = torch.optim.Adam([z], lr=0.1)
    for _ in range(steps):
        r = z.tanh().expand_as(photos)
        optimiser.zero_grad()
        torch.stack(list(loss(apply_curve(photos, r, 8), r, photos).values())).sum().backward()
        optimiser.step()
    return z.tanh().detach().flatten().tolist()


@exercise("03.5", "How little colour constancy is enough?", solution=best_curves)
def check_best_curves(answer: Callable[..., Any]) -> None:
    crops = sample_crops(8, 32, seed=0).float() / 255
    found = {weight: answer(crops, weight) for weight in (0.0, 5.0)}
    for weight, curves in found.items():
        if not isinstance(curves, list | tuple) or len(curves) != 3:
            raise Wrong("best_curves returns a list of three numbers, one r for each channel")
        if not all(-1 <= r <= 1 for r in curves):
            raise Wrong(f"r lies between −1 and 1, as tanh(z) does; for the weight {weight:g} it is {curves}")
    if not max(found[0.0]) > 0 > min(found[0.0]):
        raise Wrong(
            "without colour constancy one channel is given up, which has a positive r: minimise, from both signs"
        )
    if max(found[5.0]) - min(found[5.0]) > 0.3:
        raise Wrong("with the weight 5 the three r stay within 0.3 of each other: the colour term is missing")
    mistakes = {"gives multi-region exposure the weight 1, expected 7": best_curves(crops, 5.0, exposure=1.0)}
    same(list(found[5.0]), best_curves(crops, 5.0), "best_curves(photos, 5.0)", mistakes=mistakes, atol=0.02)
