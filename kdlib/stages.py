"""The image operations of IAT and its student, given their maps, colour matrix and gamma.

The module is separate from the architectures because the multi-level losses and the figures use it as well.
"""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

# Lower limit of brightness in the published code, because the gradient of a power is undefined at zero.
BLACK = 1e-8
# Much wider than the range of the published weights (0.5 to 1.4). A gamma of −5 would make black overflow.
GAMMA_RANGE = (0.01, 10.0)
# Minimum brightness to which a guarded colour matrix maps white.
WHITE_FLOOR = 0.25


class Stages(NamedTuple):
    """Intermediate results of the enhancement, in order; each can serve as a target for a student.

    Attributes:
        multiply: B×3×H×W, values ≥ 0.
        add: B×3×H×W in [-1, 1].
        local: multiply · photo + add, B×3×H×W, not clipped.
        colour: matrix from local to output RGB, B×3×3, as applied.
        gamma: exponent, B×1, as predicted, before clipping.
    """

    multiply: Tensor
    add: Tensor
    local: Tensor
    colour: Tensor
    gamma: Tensor


def guard_colour(colour: Tensor) -> Tensor:
    """Move colour matrices (B×3×3) towards the identity until no row maps white below ``WHITE_FLOOR``.

    The output of a linear head is unbounded for photos unlike those it was trained on. If the sum of a row is negative,
    every grey is clipped to black, clipping passes no gradient, and training cannot recover. Rows that are bright
    enough are returned unchanged, bit for bit.
    """
    white = colour.sum(dim=2, keepdim=True)
    share = (1 - WHITE_FLOOR) / (1 - white.clamp_max(WHITE_FLOOR))
    return torch.lerp(torch.eye(3).to(colour), colour, share)


def apply_colour_and_gamma(image: Tensor, colour: Tensor, gamma: Tensor) -> Tensor:
    """Mix the channels, clip to black and white, and apply the power curve.

    Values and gradients are finite for any finite photo, matrix and gamma.

    Args:
        image: B×3×H×W, any values.
        colour: B×3×3, whose rows produce red, green and blue.
        gamma: B×1, clipped to ``GAMMA_RANGE``.

    Returns:
        B×3×H×W in (0, 1].
    """
    # Half precision cannot represent 1e-8, and autocast would round the photo itself to an eight-bit mantissa.
    work = torch.promote_types(image.dtype, torch.float32)
    kind = image.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        mixed = (colour.to(work) @ image.to(work).flatten(2)).view_as(image)
        power = gamma.to(work).clamp(*GAMMA_RANGE)[:, :, None, None]
        return mixed.clamp(BLACK, 1).pow(power).to(image.dtype)


def compose(seen: Tensor, multiply: Tensor, add: Tensor, colour: Tensor, gamma: Tensor) -> tuple[Tensor, Stages]:
    """Return the enhanced photo and its stages.

    Args:
        seen: the network's input, B×3×H×W.
        multiply, add, colour, gamma: as in :class:`Stages`.
    """
    local = seen * multiply + add
    return apply_colour_and_gamma(local, colour, gamma), Stages(multiply, add, local, colour, gamma)
