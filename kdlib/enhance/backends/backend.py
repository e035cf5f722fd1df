"""What an Enhancer expects of a backend, and what several backends share.

A backend runs one family of networks in one library. The meaning of the maps, the size of the copy that the network
sees and the effect of a strength do not depend on the library, so that a family with several backends keeps them in one
class from which all of them derive.
"""

import math
from typing import Any, Protocol

import numpy as np

DAMAGED = "the network gives values that are NaN or infinite; its weights are damaged"
# For fewer samples, handing rows to other threads takes longer than the fused pass.
WORTH_THREADS = 200_000


class NoCompiledFormError(Exception):
    """The network has no form that runs without PyTorch."""


class Backend(Protocol):
    """A network on a device, as an Enhancer uses it. Each backend chooses the type of its maps.

    Attributes:
        name: what runs the fused pass: ``numba``, ``triton`` or ``torch``.
        worth_threads: number of samples in a photo below which one thread is faster than several.
        upscale: factor by which the result is wider and higher than the photo.
    """

    name: str
    worth_threads: int
    upscale: int

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless this (h×w×K) is a curve map for the network."""

    def own(self, maps: np.ndarray) -> Any:
        """Return maps of K×h×w, float32, in this backend's own type."""

    def as_array(self, maps: Any) -> np.ndarray:
        """Return maps of this backend's own type as K×h×w, float32."""

    def estimate(self, photo: Any, limit: int, threads: int) -> Any:
        """Return the network's maps of a photo (H×W×C), which it sees as a copy of at most ``limit`` pixels a side."""

    def apply(self, photo: Any, maps: Any, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        """Enhance a photo with given maps and write the result to ``out``.

        ``out`` has the photo's dtype and, but for ``upscale``, its shape; where the sizes are equal it may be ``photo``
        itself. ``maps`` may be None if strength and denoise are both 0.
        """


class ThumbnailMaps:
    """What families share whose network sees a thumbnail.

    Args:
        side: the thumbnail has at most this many pixels a side.
    """

    upscale = 1
    worth_threads = WORTH_THREADS

    def __init__(self, side: int) -> None:
        self.side = side

    def copy_size(self, height: int, width: int, limit: int) -> tuple[int, int]:
        """Return height and width of the thumbnail, which does not keep the photo's proportions."""
        return min(height, self.side, limit), min(width, self.side, limit)


def shrunk(height: int, width: int, shrink: float) -> tuple[int, int]:
    """Return height and width divided by ``shrink`` and rounded up, rounding errors aside."""
    return max(1, math.ceil(height / shrink - 1e-9)), max(1, math.ceil(width / shrink - 1e-9))


def check_shape(curve_map: Any, *channels: int) -> None:
    """Raise ValueError unless a curve map is h×w×K with one of these K."""
    if curve_map.ndim != 3 or curve_map.shape[2] not in channels or 0 in curve_map.shape:
        raise ValueError(f"a curve map has shape h×w×{channels[0]}, not {'×'.join(map(str, curve_map.shape))}")
