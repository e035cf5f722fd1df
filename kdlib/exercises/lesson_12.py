"""Checks of lesson 12: photos of every exposure."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.evaluation.appearance import oklab
from kdlib.exercises import Wrong, close_to, exercise, same
from kdlib.gain_grid import KNOTS
from kdlib.models.grid import within_white
from kdlib.training.exposure import picture_error

_MEAN = (2 * 0.08 + 0.9) / 3


@exercise("12.1", "The mean of a room and a window", solution=0.35 / _MEAN)
def check_mean(answer: float) -> None:
    if abs(answer - 0.35 / 0.08) < 0.1:
        raise Wrong(f"{answer:.3g} is what the room alone would get; the window belongs to the photo, too")
    close_to(answer, 0.35 / _MEAN, 0.03)


def slice_at(gains: Tensor, across: float, down: float, luminance: float) -> float:
    """The solution of 12.2."""
    for size, position in ((gains.shape[2], across), (gains.shape[1], down)):
        place = min(max(position * size - 0.5, 0.0), size - 1.0)
        below = min(int(place), size - 2)
        gains = torch.lerp(gains[..., below], gains[..., below + 1], place - below)
    return float(np.interp(luminance, KNOTS, gains.numpy()))


@exercise("12.2", "Slice a grid at one pixel", solution=slice_at)
def check_slice(answer: Callable[..., Any]) -> None:
    gains = 0.2 + 3 * torch.rand(8, 4, 6)
    for at in ((0.75, 0.375, 0.11), (0.4, 0.7, 0.05), (0.4, 0.7, 0.3), (0.0, 1.0, 0.66), (0.01, 0.98, 0.013)):
        found, expected = answer(gains, *at), slice_at(gains, *at)
        same(float(found), expected, "slice_at at {:g} across, {:g} down, luminance {:g}".format(*at), rtol=1e-3)


@exercise("12.3", "Within white", solution=within_white)
def check_within(answer: Callable[..., Any]) -> None:
    image = 4 * torch.rand(2, 3, 5, 7) - 0.1
    found = answer(image)
    if isinstance(found, Tensor) and found.shape == image.shape:
        if not torch.equal(found, found.clamp(0, 1)):
            raise Wrong(f"within gives values from {found.min():.2f} to {found.max():.2f}, expected [0, 1]")
        inside = (image.amax(1, keepdim=True) <= 1).expand_as(image) & (image >= 0)
        if not torch.allclose(found[inside], image[inside]):
            raise Wrong("within changes pixels whose largest channel is at most 1; they should stay as they are")
    same(found, within_white(image), "within(image)")


def _hue(colour: Tensor) -> float:
    a, b = oklab(colour.view(3, 1, 1))[1:, 0, 0]
    return math.degrees(math.atan2(b, a))


@exercise("12.4", "The worst colour for clipping", solution=(1.0, 0.25, 0.0))
def check_colour(answer: Any) -> None:
    colour = torch.as_tensor(answer, dtype=torch.float32).flatten()
    if len(colour) != 3 or not 0 <= float(colour.min()) <= float(colour.max()) <= 1:
        raise Wrong("a colour has three values in [0, 1]")
    if float(colour.max() - colour.min()) < 0.02:
        raise Wrong("a grey has no hue: the three values must differ")
    turned = abs((_hue((4 * colour).clamp(0, 1)) - _hue(colour) + 180) % 360 - 180)
    if turned <= 70:
        raise Wrong(f"the hue turns by {turned:.0f}°, more than 70° is expected")


def white_is_lost(photo: np.ndarray) -> bool:
    """The solution of 12.5."""
    brightest = photo.max(axis=2)
    clipped, bright = int((brightest > 0.978).sum()), int((brightest > 0.9).sum())
    return clipped > 0.005 * brightest.size and bright - clipped > clipped / 20


@exercise("12.5", "White on purpose", solution=white_is_lost)
def check_white_is_lost(answer: Callable[..., Any]) -> None:
    ramp = np.linspace(0.2, 1.3, 80).clip(0, 1)[None, :, None] * np.ones((60, 80, 3))
    screen = np.ones((60, 80, 3))
    screen[8:52:6, 8:72] = 0.1
    few = np.full((60, 80, 3), 0.5)
    few[0, :12], few[1, :12] = 1.0, 0.95
    photos = {
        "a sky that is clipped in a gradual transition": (ramp, True),
        "a lamp of which only red is clipped": (ramp * (1, 0.6, 0.2), True),
        "snow below white": (0.95 * ramp, False),
        "a screenshot, white and then dark at once": (screen, False),
        "a photo of which 0.25% are clipped": (few, False),
        "a dark photo": (0.3 * ramp, False),
    }
    for what, (photo, expected) in photos.items():
        if bool(answer(photo.astype(np.float32))) != expected:
            raise Wrong(f"white_is_lost gives {not expected} for {what}, expected {expected}")


def taught_loss(picture: Tensor, target: Tensor, answers: Sequence[Tensor], alpha: float) -> Tensor:
    """The solution of 12.6."""
    if not answers:
        return picture_error(picture, target)
    committee = torch.stack(list(answers)).mean(dim=0)
    return (1 - alpha) * picture_error(picture, target) + alpha * picture_error(picture, committee)


@exercise("12.6", "A committee teaches", solution=taught_loss)
def check_taught_loss(answer: Callable[..., Any]) -> None:
    picture, target, *answers = torch.rand(5, 2, 3, 6, 5)
    for count, alpha in ((1, 0.7), (1, 1.0), (3, 0.4), (0, 0.7)):
        found = answer(picture, target, answers[:count], alpha)
        teachers = f"{count} teacher{'s' * (count != 1)}"
        same(found, taught_loss(picture, target, answers[:count], alpha), f"taught_loss with {teachers}, α = {alpha:g}")
