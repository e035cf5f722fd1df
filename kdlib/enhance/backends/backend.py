"""What an Enhancer expects of a backend, and what several backends need.

A backend is one family of networks in one library. What its maps mean, which copy of a photo its network sees, and how
a strength changes the maps are the same in every library: each family has one class for that, from which its backends
derive.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

DAMAGED = "the network gives values that are NaN or infinite; its weights are damaged"
# For fewer samples, handing rows to other threads takes longer than the fused pass.
WORTH_THREADS = 200_000


class Backend(Protocol):
    """A network on a device, as an Enhancer uses it. Maps are whatever the backend likes to keep them in.

    Attributes:
        name: what runs the fused pass: ``numba``, ``triton`` or ``torch``.
        denoise: how much smoothing suits the network's own photos; None where there is no smoothing.
        worth_threads: samples in a photo, for fewer of which one thread is faster than several.
        upscale: how many times as wide and as high as the photo the result is.
    """

    name: str
    denoise: float | None
    worth_threads: int
    upscale: int

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless this (h×w×K) is a curve map for the network."""

    def own(self, maps: np.ndarray) -> Any:
        """Maps as this backend takes them, of K×h×w."""

    def as_array(self, maps: Any) -> np.ndarray:
        """The same maps as K×h×w, float32."""

    def estimate(self, photo: Any, limit: int, threads: int) -> Any:
        """The network's maps of a photo (H×W×C), of which it sees a copy with at most ``limit`` pixels a side."""

    def apply(self, photo: Any, maps: Any, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        """Enhance a photo with given maps into ``out``, which is like ``photo``, and may be ``photo`` where the result
        is of its size. ``maps`` is None where neither strength nor denoising asks for them."""


def shrunk(height: int, width: int, shrink: float) -> tuple[int, int]:
    """Height and width divided by ``shrink`` and rounded up, but for rounding errors."""
    return max(1, math.ceil(height / shrink - 1e-9)), max(1, math.ceil(width / shrink - 1e-9))


def check_shape(curve_map: Any, *channels: int) -> None:
    if curve_map.ndim != 3 or curve_map.shape[2] not in channels or 0 in curve_map.shape:
        raise ValueError(f"a curve map has shape h×w×{channels[0]}, not {'×'.join(map(str, curve_map.shape))}")
