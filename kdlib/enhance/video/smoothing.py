"""Curve maps that change steadily from frame to frame, so that a brightened video does not flicker.

A causal moving average: it needs no frame ahead, so that videos and cameras share it. On night scenes an average over
past and future frames steadied the brightness no further, and would hold frames back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

# A scene begins where all of these hold. On pairs of photos and on night scenes they miss one cut in twenty, and take
# neither a pan by a tenth of the width a frame nor a lamp or a flash for a cut.
_UNLIKE = 0.55  # correlation of the two frames, below: a flash keeps it high
_OTHERWISE = 0.4  # how much most cells have changed, in spreads of the brightness, above: a lamp changes few cells
_RELIT = 0.1  # how much the brightness is spread otherwise, in logarithms, above: a moving camera keeps it
_CELLS = (32, 18)  # structure is compared on so many cells, columns and rows
_SAMPLE_SIDE = 160


class Enhances(Protocol):
    """What enhancing a video needs of an :class:`kdlib.Enhancer`."""

    def estimate(self, image: Any) -> np.ndarray:
        """The curve map of a picture."""
        ...

    def apply(self, image: Any, curve_map: np.ndarray, out: Any = None) -> Any:
        """The picture enhanced with a curve map, written to ``out``."""
        ...


def check_same_size(enhancer: Enhances) -> None:
    """Raise ValueError for an Enhancer that enlarges, which takes seconds for a picture."""
    if (upscale := getattr(enhancer, "upscale", 1)) > 1:
        raise ValueError(
            f"this network enlarges photos by {upscale}, which is far too slow for videos and cameras; these take a "
            "network that brightens"
        )


def coarse_copy(frame: np.ndarray) -> np.ndarray:
    """A coarse copy of a frame by leaving pixels out, at most about 320 a side, for statistics that cost next to
    nothing.

    Args:
        frame: H×W×3, uint8 or uint16.
    """
    step = max(1, max(frame.shape[:2]) // _SAMPLE_SIDE)
    return frame[::step, ::step].copy()


def brightness(frame: np.ndarray) -> float:
    """Mean of a uint8 or uint16 frame, 0 to 1."""
    return float(frame.mean()) / np.iinfo(frame.dtype).max


def flicker(brightness: npt.ArrayLike, cuts: Iterable[int] = ()) -> float:
    """How unsteady a video's brightness is: the standard deviation of the ratio of each frame's to the one before.

    Args:
        brightness: mean brightness of the frames, 0 to 1.
        cuts: indices of frames that begin a scene, whose step is no flicker.

    Returns:
        0 for steady brightness; 0.01 is a typical step of 1 %. 0 for fewer than two frames.
    """
    levels = np.maximum(np.asarray(brightness, dtype=np.float64), 1 / 255)  # black divided by black is no flicker
    ratios = np.delete(levels[1:] / levels[:-1], [cut - 1 for cut in cuts if 0 < cut < len(levels)])
    return float(ratios.std()) if ratios.size else 0.0


class SceneCuts:
    """Tells where a new scene begins: two frames are unlike each other, nearly everywhere, and lit otherwise.

    Where a new scene is lit as the one before it is not told apart, and an average over both does no harm.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def __call__(self, frame: np.ndarray) -> bool:
        """Whether a scene begins with this frame (H×W×3, uint8 or uint16); the first frame begins one."""
        cells = cv2.resize(frame, _CELLS, interpolation=cv2.INTER_AREA).mean(2, dtype=np.float32)
        # The logarithm: a lamp may not outweigh everything else in the dark. 4 of 255 levels are noise.
        current = np.log(cells * np.float32(255 / np.iinfo(frame.dtype).max) + 4)
        last, self._last = self._last, current
        if last is None:
            return True
        relit = np.abs(np.sort(current, axis=None) - np.sort(last, axis=None)).mean()
        return bool(
            relit > _RELIT
            and _correlation(last, current) < _UNLIKE
            and _spread(current - last) > _OTHERWISE * (_spread(current) + _spread(last) + 0.05)
        )


def _spread(values: np.ndarray) -> float:
    """Median distance from the median."""
    return float(np.median(np.abs(values - np.median(values))))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum()) / math.sqrt(float((a * a).sum() * (b * b).sum()) + 1e-12)


class MapSmoother:
    """Exponential moving average of the curve map in time, begun anew with each scene.

    Args:
        seconds: time constant, after which 63 % of a change is followed; 0 switches smoothing off. In seconds, so that
            it works alike for all frame rates, and for variable ones.

    Attributes:
        cut: whether the last frame began a scene.

    Raises:
        ValueError: ``seconds`` is negative or not finite.
    """

    def __init__(self, seconds: float = 0.25) -> None:
        if not 0 <= seconds < math.inf:
            raise ValueError(f"smoothing is a time of 0 seconds or more, not {seconds}")
        self.seconds = seconds
        self.cut = True
        self._cuts = SceneCuts()
        self._average: np.ndarray | None = None
        self._time = 0.0

    def __call__(self, curve_map: np.ndarray, frame: np.ndarray, time: float) -> np.ndarray:
        """The smoothed map.

        Args:
            curve_map: this frame's own, h×w×C.
            frame: the frame, or a :func:`coarse_copy` of it: H×W×3, uint8 or uint16.
            time: when it is shown, in seconds.
        """
        self.cut = self._cuts(frame)
        passed, self._time = time - self._time, time
        if self.seconds == 0 or self.cut or self._average is None or self._average.shape != curve_map.shape:
            self._average = curve_map
        else:
            share = np.float32(-math.expm1(-max(passed, 0.0) / self.seconds))
            self._average = self._average + share * (curve_map - self._average)
        return self._average
