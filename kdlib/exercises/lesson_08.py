"""The checks of lesson 08, Zero-DCE."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kdlib.exercises.compare import close_to, same
from kdlib.exercises.registry import Wrong, exercise
from kdlib.models import apply_curve


def crosses(sequence: Sequence[float], visible: float = 0.02) -> bool:
    """Whether the curve of eight values of r brightens some level and darkens another, by more than ``visible``."""
    levels = torch.linspace(0, 1, 101).expand(1, 3, 1, -1)
    r = torch.tensor([float(value) for value in sequence]).repeat_interleave(3).view(1, 24, 1, 1)
    change = apply_curve(levels, r.expand(1, 24, 1, 101), 8) - levels
    return bool(change.max() > visible and change.min() < -visible)


@exercise("08.1", "Does a sequence cross the diagonal?", solution=crosses)
def check_crosses(answer: Callable[..., Any]) -> None:
    """Sequences of one sign, both orders of two signs, and a crossing that only a finer limit shows."""
    for sequence, why in (
        ([-0.3] * 8, "every step brightens"),
        ([0.3] * 8, "every step darkens"),
        ([0.6] * 4 + [-0.9] * 4, "it darkens the shadows and brightens the highlights"),
        ([-0.9] * 4 + [0.6] * 4, "the reverse order darkens by 0.01 at most"),
        ([-0.5, 0.5] * 4, "the signs alternate, but the curve stays on one side"),
    ):
        found, expected = answer(list(sequence)), crosses(sequence)
        if found is not expected and not hasattr(found, "dtype"):
            same(bool(found) if found in (0, 1) else found, expected, f"crosses({sequence}) ({why})")
        elif bool(found) is not expected:
            raise Wrong(f"crosses({sequence}) is {bool(found)}, expected {expected}: {why}")
    if answer([0.6] * 4 + [-0.9] * 4, visible=0.15):
        raise Wrong("with visible=0.15, four times 0.6 and then four times −0.9 do not cross: use the argument visible")
    if not answer([-0.9] * 4 + [0.6] * 4, visible=0.005):
        raise Wrong(
            "with visible=0.005, four times −0.9 and then four times 0.6 do cross, because levels near 0.03 become "
            "darker by 0.01: look at more levels, 101 from 0 to 1"
        )


@exercise("08.2", "Lift the shadows, lower the highlights", solution=0.0)
def check_share(answer: float) -> None:
    """The share of sequences, of which the product of both conditions allows none."""
    if not 0 <= answer <= 1:
        raise Wrong(f"a share lies between 0 and 1, not at {answer:g}")
    both = "the two conditions are not independent, since the same eight numbers decide over both ends of the curve"
    close_to(answer, 0.0, 0.005, mistakes={0.25: both, 0.5: both})


def equal_gradients(squared_weight: float, absolute_weight: float) -> float:
    """The distance d at which 2 · squared_weight · d equals absolute_weight."""
    return absolute_weight / (2 * squared_weight)


@exercise("08.3", "Equal gradients", solution=equal_gradients)
def check_equal_gradients(answer: Callable[..., Any]) -> None:
    """Equal weights, and the two published ones."""
    for weights in ((1.0, 1.0), (1.75, 1.75), (10.0, 1.75)):
        found, expected = answer(*weights), equal_gradients(*weights)
        if isinstance(found, int | float) and math.isclose(found, 2 * expected, rel_tol=1e-6):
            raise Wrong(f"equal_gradients{weights} is {found:.4g}: there the losses are equal, not their slopes")
        mistakes = {
            "has the weights swapped: the slope of the square is 2 · squared_weight · d": (
                weights[0] / (2 * weights[1])
            )
        }
        same(found, expected, f"equal_gradients{weights}", mistakes=mistakes)


def shared_map_of(curve_map: Tensor) -> Tensor:
    """The map B×3×H×W with the gain at black of eight maps B×24×H×W."""
    return 1 - (1 - torch.stack(curve_map.split(3, dim=1))).log().mean(dim=0).exp()


@exercise("08.4", "Eight maps into one", solution=shared_map_of)
def check_shared_map_of(answer: Callable[..., Any]) -> None:
    """Equal maps, maps of both signs, and three channels that differ."""
    equal = torch.full((2, 24, 3, 2), -0.3)
    mistakes = {
        "has the product of the eight factors in one step: take its eighth root": 1 - (1 - equal[:, :3]) ** 8,
        "holds the factors 1 − r, expected r": 1 - equal[:, :3],
    }
    same(answer(equal), equal[:, :3], "the shared map of eight equal maps", mistakes=mistakes, atol=1e-5)
    draw = torch.rand(1, 24, 2, 3, generator=torch.Generator().manual_seed(0)) * 1.5 - 0.9
    draw[:, 1::3] *= 0.3
    found, expected = answer(draw), shared_map_of(draw)
    if isinstance(found, Tensor) and found.shape == expected.shape:
        if torch.allclose(found, torch.stack(draw.split(3, dim=1)).mean(dim=0), atol=1e-4):
            raise Wrong(
                "the shared map is the mean of the eight: the gains 1 − r multiply, so take their geometric mean"
            )
        if torch.allclose(found, 1 - (1 - torch.stack(draw.split(8, dim=1), dim=2)).log().mean(dim=1).exp(), atol=1e-4):
            raise Wrong("channels of different colours are mixed: the first three channels are RGB of iteration 1")
    of_sums = (1 + torch.stack(draw.split(3, dim=1))).log().mean(dim=0).exp() - 1
    mistakes = {"is made from 1 + r: near black, an iteration multiplies the level by 1 − r": of_sums}
    same(found, expected, "the shared map", mistakes=mistakes, atol=1e-4)
