"""The maps of GridNet: gains over position and luminance, and the photo's chroma."""

from typing import Any

import numpy as np

from kdlib.enhance.backends.backend import ThumbnailMaps, check_shape
from kdlib.gain_grid import KNOTS, MOST_CHROMA, MOST_GAIN


class GridMaps(ThumbnailMaps):
    """GridNet smooths a photo and then applies the gains of a grid."""

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless h×w×9: logarithms of gains in [-3, 3], and of the chroma in [-0.3, 0.3]."""
        check_shape(curve_map, len(KNOTS) + 1)
        curve_map = np.asarray(curve_map)
        for what, values, most in (
            ("gains", curve_map[..., :-1], MOST_GAIN),
            ("chroma", curve_map[..., -1], MOST_CHROMA),
        ):
            low, high = float(values.min()), float(values.max())
            if not (low >= -most - 1e-6 and high <= most + 1e-6):  # also refuses NaN
                found = f"from {low:g} to {high:g}" if np.isfinite([low, high]).all() else "that are NaN or infinite"
                raise ValueError(
                    f"the curve map has logarithms of {what} {found}; values from {-most:g} to {most:g} are allowed"
                )

    def settle(self, maps: Any, strength: float) -> Any:
        """Return the factors that are applied, 9×h×w: the strength multiplies their logarithms."""
        scaled = maps * strength
        return np.exp(scaled) if isinstance(scaled, np.ndarray) else scaled.exp()
