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
    unweighted = "the room has twice as many pixels as the window"
    close_to(answer, 0.35 / _MEAN, 0.03, mistakes={0.35 / ((0.08 + 0.9) / 2): unweighted})


def slice_at(gains: Tensor, across: float, down: float, luminance: float) -> float:
    """The solution of 12.2."""
    return _sliced(gains, across, down, luminance)


def _sliced(
    gains: Tensor,
    across: float,
    down: float,
    luminance: float,
    *,
    knots: Sequence[float] = KNOTS,
    corners: bool = False,
    nearest: bool = False,
) -> float:
    """The gain of a pixel; the last three arguments are usual mistakes."""
    for size, position in ((gains.shape[2], across), (gains.shape[1], down)):
        place = position * (size - 1) if corners else position * size - 0.5
        place = min(max(place, 0.0), size - 1.0)
        place = float(round(place)) if nearest else place
        below = min(int(place), size - 2)
        gains = torch.lerp(gains[..., below], gains[..., below + 1], place - below)
    return float(np.interp(luminance, knots, gains.numpy()))


@exercise("12.2", "Slice a grid at one pixel", solution=slice_at)
def check_slice(answer: Callable[..., Any]) -> None:
    gains = 0.2 + 3 * torch.rand(8, 4, 6)
    places = ((0.75, 0.375, 0.11), (0.4, 0.7, 0.05), (0.4, 0.7, 0.3), (0.0, 1.0, 0.66), (0.01, 0.98, 0.013))
    for at in (*places, (0.4, 0.7, 1.0), (1.0, 0.0, 0.0)):
        what = "slice_at at {:g} across, {:g} down, luminance {:g}".format(*at)
        try:
            found = answer(gains, *at)
        except Wrong as wrong:
            raise Wrong(f"{what}: {wrong}") from None
        across, down, luminance = at
        mistakes = {
            "puts the outermost centres at the edges of the photo: the centre of cell k of n lies at (k + ½) / n": (
                _sliced(gains, *at, corners=True)
            ),
            "takes the knots as evenly spaced: their luminances are KNOTS": (
                _sliced(gains, *at, knots=np.linspace(0, 1, len(KNOTS)).tolist())
            ),
            "has across and down swapped: gains are 8×h×w": slice_at(gains, down, across, luminance),
            "interpolates logarithms: the gains are factors and are interpolated as they are": (
                math.exp(slice_at(gains.log(), *at))
            ),
            "is that of the nearest cell: interpolate between the four": _sliced(gains, *at, nearest=True),
        }
        same(float(found), slice_at(gains, *at), what, mistakes=mistakes, rtol=1e-3)


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
    mistakes = {
        "clips each channel by itself, which changes their ratios: divide all three by the largest": image.clamp(0, 1)
    }
    same(found, within_white(image), "within(image)", mistakes=mistakes)


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

    def bright(clipped: int, nearly: int, *, white: float | tuple[float, float, float] = 1.0) -> np.ndarray:
        """A photo of 4,800 pixels, so many of them clipped, and so many nearly."""
        photo = np.full((4800, 3), 0.3)
        photo[:clipped], photo[clipped : clipped + nearly] = white, np.multiply(white, 0.95)
        return photo.reshape(60, 80, 3)

    twentieth = "the nearly clipped pixels are compared with a twentieth of the clipped ones"
    photos: dict[str, tuple[Any, ...]] = {
        "a sky that is clipped in a gradual transition": (ramp, True),
        "a lamp of which only red is clipped": (ramp * (1, 0.6, 0.2), True),
        "snow below white": (0.95 * ramp, False),
        "a screenshot, white and then dark at once": (screen, False),
        "a photo of which 0.25% are clipped": (few, False),
        "a dark photo": (0.3 * ramp, False),
        "a photo of which 10% are clipped and 2% nearly": (bright(480, 96), True, twentieth),
        "a photo of which 10% are clipped and 0.75% nearly": (bright(480, 36), True, twentieth),
        "a photo of which 10% are clipped and 0.25% nearly": (bright(480, 12), False, twentieth),
        "a photo of which 1% are clipped and 1% nearly": (bright(48, 48), True, "more than 0.5% are clipped"),
        "a photo of which 1% are clipped and 1% nearly, in red only": (
            bright(48, 48, white=(1, 0.2, 0.1)), True, "count pixels by their largest channel, not values",
        ),
        "a photo of which 5% are clipped in red, with a green of 0.95": (
            bright(240, 0, white=(1, 0.95, 0.2)), False, "count pixels by their largest channel, not values",
        ),
    }  # fmt: skip
    for what, (photo, expected, *why) in photos.items():
        found = answer(photo.astype(np.float32))
        if "bool" not in str(getattr(found, "dtype", type(found))) or np.ndim(found):
            raise Wrong(f"white_is_lost returns a {type(found).__name__}, expected True or False")
        if bool(found) != expected:
            raise Wrong(": ".join([f"white_is_lost gives {not expected} for {what}, expected {expected}", *why]))


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
        expected, to_target = taught_loss(picture, target, answers[:count], alpha), picture_error(picture, target)
        mistakes = {"leaves the target a share: without a teacher it has all of the weight": (1 - alpha) * to_target}
        if count:
            errors = torch.stack([picture_error(picture, one) for one in answers[:count]])
            mistakes = {
                "has α and 1 − α swapped": taught_loss(picture, target, answers[:count], 1 - alpha),
                "takes the mean of the teachers' errors: the error is that to the mean of their pictures": (
                    (1 - alpha) * to_target + alpha * errors.mean()
                ),
                "adds the errors of the teachers: there is one error, to the mean of their pictures": (
                    (1 - alpha) * to_target + alpha * errors.sum()
                ),
                "uses the first teacher only": (1 - alpha) * to_target + alpha * errors[0],
                "uses the last teacher only": (1 - alpha) * to_target + alpha * errors[-1],
            }
        same(found, expected, f"taught_loss with {teachers}, α = {alpha:g}", mistakes=mistakes)
