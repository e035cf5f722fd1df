"""The maps of the Zero-DCE family, whose light-enhancement curve is applied several times."""

import math
from typing import Any

import numpy as np

from kdlib.enhance.backends.backend import WORTH_THREADS, check_shape, shrunk


class CurveMaps:
    """Zero-DCE and its students apply the iterated curve and then, if asked to, smooth."""

    upscale = 1
    worth_threads = WORTH_THREADS

    def __init__(self, iterations: int, scale_factor: int, network_side: int) -> None:
        self.iterations, self.scale_factor, self.network_side = iterations, scale_factor, network_side

    def copy_size(self, height: int, width: int, limit: int) -> tuple[int, int]:
        """Return height and width of the copy that the network sees, in the photo's proportions.

        The model's own factor (``ZeroDCE.shrink``) is a whole number; ``limit`` may ask for a larger one that is not.
        """
        longest = max(height, width)
        own = max(self.scale_factor, math.ceil(longest / self.network_side) if self.network_side else 1)
        return shrunk(height, width, max(own, longest / limit))

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless h×w×3 or h×w×(3·iterations) in [-1, 1]."""
        check_shape(curve_map, 3, 3 * self.iterations)
        if not np.abs(curve_map).max() <= 1:  # also refuses NaN
            raise ValueError("the curve map has values outside [-1, 1]")

    def settle(self, maps: Any, channels: int, strength: float) -> Any:
        """Return the maps as they are applied to a photo with this number of channels.

        A grey photo gets the mean over the colours, so that it stays grey.
        """
        if channels < 3:
            maps = maps.reshape(-1, 3, *maps.shape[1:]).mean(1)
        return (maps * strength).clip(-1, 1)
