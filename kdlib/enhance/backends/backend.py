"""What the families of networks have of their own, on whatever device and in whatever library they run.

An engine (:class:`Engine`) is one family on one kind of device: :mod:`kdlib.enhance.backends.cpu` and
:mod:`kdlib.enhance.backends.torch_curves` derive theirs from the families here.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

# Beyond e^±20, a photo is white or black anyway, and a float32 might overflow.
_MOST_GAIN = 20.0
BLACK = 0.5 / 255  # kdlib.models.glance.BLACK
# Of gamma − 1; kdlib.models.glance.GAMMA_RANGE
GAMMA_LIMITS = (-0.9, 1.0)
# Said of a network whose weights are finite and still overflow.
DAMAGED = "the network gives values that are NaN or infinite; its weights are damaged"
# For fewer samples, handing rows to other threads takes longer than the fused pass.
_WORTH_THREADS = 200_000


class Engine(Protocol):
    """A network on a device, as an Enhancer uses it. Maps are whatever the engine likes to keep them in.

    Attributes:
        backend: what runs the fused pass.
        denoise: how much smoothing suits the network's own photos; None where there is no smoothing.
        worth_threads: samples in a photo, for fewer of which one thread is faster than several.
        upscale: how many times as wide and as high as the photo the result is.
    """

    backend: str
    denoise: float | None
    worth_threads: int
    upscale: int

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless this (h×w×K) is a curve map for the network."""

    def own(self, maps: np.ndarray) -> Any:
        """Maps as this engine takes them, of K×h×w."""

    def as_array(self, maps: Any) -> np.ndarray:
        """The same maps as K×h×w, float32."""

    def estimate(self, photo: Any, limit: int, threads: int) -> Any:
        """The network's maps of a photo (H×W×C), of which it sees a copy with at most ``limit`` pixels a side."""

    def apply(self, photo: Any, maps: Any, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        """Enhance a photo with given maps into ``out``, which is like ``photo``, and may be ``photo`` where the result
        is of its size. ``maps`` is None where neither strength nor denoising asks for them."""


class CurveFamily:
    """Zero-DCE and its students: the iterated curve, then smoothing, if any."""

    denoise: float | None = 0.0
    upscale = 1
    worth_threads = _WORTH_THREADS

    def __init__(self, iterations: int, scale_factor: int, network_side: int) -> None:
        self.iterations, self.scale_factor, self.network_side = iterations, scale_factor, network_side

    def copy_size(self, height: int, width: int, limit: int) -> tuple[int, int]:
        """Height and width of the copy that the network sees, in the photo's proportions.

        The shrinking of the model itself (``ZeroDCE.shrink``), a whole number; ``limit`` may take one that is none.
        """
        longest = max(height, width)
        own = max(self.scale_factor, math.ceil(longest / self.network_side) if self.network_side else 1)
        return _shrunk(height, width, max(own, longest / limit))

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless h×w×3 or h×w×(3·iterations) in [-1, 1]."""
        _check_shape(curve_map, 3, 3 * self.iterations)
        if not np.abs(curve_map).max() <= 1:  # also when it is NaN
            raise ValueError("the curve map has values outside [-1, 1]")

    def settle(self, maps: Any, channels: int, strength: float) -> Any:
        """The maps as they are applied to a photo of so many channels; grey gets the mean of the colours, and stays
        grey."""
        if channels < 3:
            maps = maps.reshape(-1, 3, *maps.shape[1:]).mean(1)
        return (maps * strength).clip(-1, 1)


class GlanceFamily:
    """GlanceNet: smoothing, then a power curve."""

    denoise: float | None = 1.0
    upscale = 1
    worth_threads = _WORTH_THREADS

    def __init__(self, side: int) -> None:
        self.side = side

    def copy_size(self, height: int, width: int, limit: int) -> tuple[int, int]:
        """Height and width of the thumbnail; not in the photo's proportions."""
        return min(height, self.side, limit), min(width, self.side, limit)

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless h×w×7: gain, gamma − 1 in [-0.9, 1], tolerance from 0 up."""
        _check_shape(curve_map, 7)
        curve_map = np.asarray(curve_map)
        if not np.isfinite(curve_map).all():
            raise ValueError("the curve map has values that are NaN or infinite")
        low, high = float(curve_map[..., 3:6].min()), float(curve_map[..., 3:6].max())
        if low < GAMMA_LIMITS[0] - 1e-6 or high > GAMMA_LIMITS[1] + 1e-6:
            raise ValueError(f"the curve map has gamma − 1 from {low:g} to {high:g}, it lies in [-0.9, 1]")
        if curve_map[..., 6].min() < 0:
            raise ValueError("the curve map has a negative tolerance; 0 smooths nothing")

    def settle(self, maps: Any, channels: int, strength: float, denoise: float) -> tuple[Any, Any, Any]:
        """Logarithm of the gain and gamma − 1, colours×h×w, and tolerance, h×w, as they are applied to a photo of so
        many channels; grey gets the mean of the colours, and stays grey."""
        gain, gamma = maps[:3], maps[3:6]
        if channels < 3:
            gain, gamma = gain.mean(0)[None], gamma.mean(0)[None]
        if strength != 1:
            # What the strength multiplies is the logarithm of white's new brightness, not the gain itself: that belongs
            # to one gamma, and with another, photos would get darker again beyond a strength of 1.5.
            white = gain + _log_white(gamma)
            gamma = (gamma * strength).clip(*GAMMA_LIMITS)
            gain = white * strength - _log_white(gamma) if strength else 0 * gain
        return gain.clip(-_MOST_GAIN, _MOST_GAIN), gamma, maps[6] * denoise


class StagesFamily:
    """IAT and its student: local maps at full resolution, then a colour matrix and a power for the whole photo.

    The curve map is what holds for the whole photo alone, 1×1×10. The local maps belong to the very photo: no other
    frame can use them, and of a shrunken copy they would be blurred.
    """

    denoise: float | None = None
    upscale = 1
    worth_threads = 0  # convolutions at full resolution

    def copy_size(self, height: int, width: int, limit: int) -> tuple[int, int]:
        """Height and width of the copy that colour matrix and gamma are estimated from, in the photo's proportions."""
        return _shrunk(height, width, max(1, max(height, width) / limit))

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless 1×1×10, finite: colour matrix, row by row, and gamma."""
        if curve_map.shape != (1, 1, 10):
            raise ValueError(f"a curve map of this network has shape 1×1×10, not {'×'.join(map(str, curve_map.shape))}")
        if not np.isfinite(np.asarray(curve_map)).all():
            raise ValueError("the curve map has values that are NaN or infinite")


class UpscaleFamily:
    """MSAFN and LightMSAFN: bicubic enlarging, then a network at the full size.

    The curve map is what the network has to know of the whole photo, the factors of its gates one after another, 1×1×K.
    """

    denoise: float | None = None
    worth_threads = 0  # convolutions at full size

    def __init__(self, upscale: int, gate_widths: tuple[int, ...]) -> None:
        self.upscale, self.gate_widths = upscale, gate_widths

    def budget(self, limit: int) -> int:
        """Of how many pixels of the enlarged photo the gates are found."""
        return limit**2 // 4

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless 1×1×K in [0, 1]."""
        wanted = (1, 1, sum(self.gate_widths))
        if tuple(curve_map.shape) != wanted:
            raise ValueError(
                f"a curve map of this network has shape {'×'.join(map(str, wanted))}, "
                f"not {'×'.join(map(str, curve_map.shape))}"
            )
        if not ((curve_map >= 0) & (curve_map <= 1)).all():  # also when it is NaN
            raise ValueError("the curve map has values outside [0, 1]")


def _shrunk(height: int, width: int, shrink: float) -> tuple[int, int]:
    """Height and width divided by ``shrink`` and rounded up, but for rounding errors."""
    return max(1, math.ceil(height / shrink - 1e-9)), max(1, math.ceil(width / shrink - 1e-9))


def _log_white(gamma: Any) -> Any:
    """The logarithm of white's brightness under the power curve with a gain of 0; ``gamma`` is γ − 1."""
    white = (1 + BLACK) ** (1 + gamma) - BLACK ** (1 + gamma)
    return np.log(white) if isinstance(white, np.ndarray) else white.log()


def _check_shape(curve_map: Any, *channels: int) -> None:
    if curve_map.ndim != 3 or curve_map.shape[2] not in channels or 0 in curve_map.shape:
        raise ValueError(f"a curve map has shape h×w×{channels[0]}, not {'×'.join(map(str, curve_map.shape))}")
