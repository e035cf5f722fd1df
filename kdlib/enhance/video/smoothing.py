"""Smoothing curve maps over time, so that a brightened video does not flicker.

The moving average is causal, so that videos and cameras share it. On night scenes, an average over past and future
frames did not reduce the flicker further, and it would delay frames.
"""

import math
from collections.abc import Iterable
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from kdlib.checks import check_number

# A scene begins where all three conditions hold. On pairs of photos and on night scenes they miss one cut in twenty,
# and detect no cut in a pan by a tenth of the width per frame, a lamp switched on, or a flash.
_CORRELATION = 0.55  # upper limit of the correlation of two frames; a flash leaves it higher
_CHANGE = 0.4  # lower limit of the change of most cells, in spreads of the brightness; a lamp changes few cells
_RELIT = 0.1  # lower limit of the change of the brightness distribution, in logarithms; a moving camera leaves it
_CELLS = (32, 18)  # columns and rows of the cells on which frames are compared
_SAMPLE_SIDE = 160


class Enhances(Protocol):
    """The part of :class:`kdlib.Enhancer` that enhancing a video needs."""

    def estimate(self, image: Any) -> np.ndarray:
        """Return the curve map of a picture."""
        ...

    def apply(self, image: Any, curve_map: np.ndarray, out: Any = None) -> Any:
        """Return the picture enhanced with a curve map, written to ``out`` if given."""
        ...


def check_same_size(enhancer: Enhances) -> None:
    """Raise ValueError for an Enhancer that enlarges photos, which takes seconds per picture."""
    if (upscale := getattr(enhancer, "upscale", 1)) > 1:
        raise ValueError(
            f"this network enlarges photos by {upscale}, which is far too slow for videos and cameras; choose a "
            "network that brightens photos"
        )


def coarse_copy(frame: np.ndarray) -> np.ndarray:
    """Return a coarse copy of a frame, made by skipping pixels, of at most about 320 a side, for cheap statistics.

    Args:
        frame: H×W×3, uint8 or uint16.
    """
    step = max(1, max(frame.shape[:2]) // _SAMPLE_SIDE)
    return frame[::step, ::step].copy()


def brightness(frame: np.ndarray) -> float:
    """Return the mean of a uint8 or uint16 frame, scaled to 0 to 1."""
    return float(frame.mean()) / np.iinfo(frame.dtype).max


def flicker(brightness: npt.ArrayLike, cuts: Iterable[int] = ()) -> float:
    """Measure flicker as the standard deviation of the ratio of each frame's brightness to that of the one before.

    Args:
        brightness: mean brightness of the frames, 0 to 1.
        cuts: indices of frames that begin a scene; their steps do not count.

    Returns:
        0 for steady brightness, 0.01 for a typical step of 1%; 0 for fewer than two frames.
    """
    levels = np.maximum(np.asarray(brightness, dtype=np.float64), 1 / 255)  # black frames do not flicker
    ratios = np.delete(levels[1:] / levels[:-1], [cut - 1 for cut in cuts if 0 < cut < len(levels)])
    return float(ratios.std()) if ratios.size else 0.0


class SceneCuts:
    """A detector of scene cuts, where two frames differ in structure, nearly everywhere, and in lighting.

    A new scene with the same lighting as the one before is not detected; averaging over both does no harm.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def __call__(self, frame: np.ndarray) -> bool:
        """Return whether a scene begins with this frame (H×W×3, uint8 or uint16); the first frame begins one."""
        cells = cv2.resize(frame, _CELLS, interpolation=cv2.INTER_AREA).mean(2, dtype=np.float32)
        # The logarithm keeps a lamp from outweighing everything else in the dark. 4 of 255 levels are noise.
        current = np.log(cells * np.float32(255 / np.iinfo(frame.dtype).max) + 4)
        last, self._last = self._last, current
        if last is None:
            return True
        relit = np.abs(np.sort(current, axis=None) - np.sort(last, axis=None)).mean()
        return bool(
            relit > _RELIT
            and _correlation(last, current) < _CORRELATION
            and _spread(current - last) > _CHANGE * (_spread(current) + _spread(last) + 0.05)
        )


def _spread(values: np.ndarray) -> float:
    """Return the median distance from the median."""
    return float(np.median(np.abs(values - np.median(values))))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum()) / math.sqrt(float((a * a).sum() * (b * b).sum()) + 1e-12)


class MapSmoother:
    """Exponential moving average of the curve map over time, restarted with each scene.

    Args:
        seconds: time constant after which 63 % of a change is followed; 0 switches smoothing off. It is in seconds so
            that it works the same for all frame rates, including variable ones.

    Attributes:
        cut: whether the last frame began a scene.

    Raises:
        ValueError: ``seconds`` is negative or not finite.
    """

    def __init__(self, seconds: float = 0.25) -> None:
        check_number("smoothing (in seconds)", seconds)
        self.seconds = seconds
        self.cut = True
        self._cuts = SceneCuts()
        self._average: np.ndarray | None = None
        self._time = 0.0

    def __call__(self, curve_map: np.ndarray, frame: np.ndarray, time: float) -> np.ndarray:
        """Return the smoothed map.

        Args:
            curve_map: the frame's own curve map, h×w×C.
            frame: the frame, or a :func:`coarse_copy` of it, H×W×3, uint8 or uint16.
            time: display time of the frame in seconds.
        """
        self.cut = self._cuts(frame)
        passed, self._time = time - self._time, time
        if self.seconds == 0 or self.cut or self._average is None or self._average.shape != curve_map.shape:
            self._average = curve_map
        else:
            share = np.float32(-math.expm1(-max(passed, 0.0) / self.seconds))
            self._average = self._average + share * (curve_map - self._average)
        return self._average
