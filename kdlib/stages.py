"""What IAT and its student do to a photo once their maps, colour matrix and gamma are known."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

# What the published code takes for black: a power has no slope at zero.
BLACK = 1e-8
# Far outside what published weights use (0.5 to 1.4). At −5, black would overflow.
GAMMA_RANGE = (0.01, 10.0)
# The darkest that a guarded colour matrix makes white.
WHITE_FLOOR = 0.25


class Stages(NamedTuple):
    """What a photo goes through, in order; a student can be taught each of them.

    Attributes:
        multiply: B×3×H×W, from 0 up.
        add: B×3×H×W in [-1, 1].
        local: multiply · photo + add, B×3×H×W, not cut off.
        colour: matrix from local to output RGB, B×3×3, as applied.
        gamma: exponent, B×1, as the network gives it.
    """

    multiply: Tensor
    add: Tensor
    local: Tensor
    colour: Tensor
    gamma: Tensor


def guard_colour(colour: Tensor) -> Tensor:
    """Bring colour matrices (B×3×3) so near to the identity that no row makes white darker than ``WHITE_FLOOR``.

    Nothing bounds what a linear head answers to a photo unlike those it was trained on. Where a row's sum is negative,
    every grey falls below black, the cut-off passes no gradient on, and the picture is black for good. Rows that are
    bright enough stay as they are, to the last bit.
    """
    white = colour.sum(dim=2, keepdim=True)
    share = (1 - WHITE_FLOOR) / (1 - white.clamp_max(WHITE_FLOOR))
    return torch.lerp(torch.eye(3).to(colour), colour, share)


def apply_colour_and_gamma(image: Tensor, colour: Tensor, gamma: Tensor) -> Tensor:
    """Mix the channels, cut off at black and white, and raise to a power; values and gradients are finite for any
    finite photo, matrix and gamma.

    Args:
        image: B×3×H×W, any values.
        colour: B×3×3; the rows make red, green and blue.
        gamma: B×1, taken into ``GAMMA_RANGE``.

    Returns:
        B×3×H×W in (0, 1].
    """
    # Half precision has no 1e-8, and under autocast the photo itself would be rounded to eight bits of mantissa.
    work = torch.promote_types(image.dtype, torch.float32)
    kind = image.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        mixed = (colour.to(work) @ image.to(work).flatten(2)).view_as(image)
        power = gamma.to(work).clamp(*GAMMA_RANGE)[:, :, None, None]
        return mixed.clamp(BLACK, 1).pow(power).to(image.dtype)


def compose(seen: Tensor, multiply: Tensor, add: Tensor, colour: Tensor, gamma: Tensor) -> tuple[Tensor, Stages]:
    """The enhanced photo and its stages; ``seen`` is the photo as the network saw it, the rest as in `Stages`."""
    local = seen * multiply + add
    return apply_colour_and_gamma(local, colour, gamma), Stages(multiply, add, local, colour, gamma)
