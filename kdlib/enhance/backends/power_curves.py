"""The maps of GlanceNet: gain and gamma of a power curve, and the tolerance of the smoothing."""

from typing import Any

import numpy as np

from kdlib.enhance.backends.backend import ThumbnailMaps, check_shape
from kdlib.power_curve import BLACK, GAMMA_LIMITS

# Beyond e^±20 a photo is white or black anyway, and a float32 might overflow.
_MOST_GAIN = 20.0


class PowerCurveMaps(ThumbnailMaps):
    """GlanceNet smooths a photo and then applies a power curve."""

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless h×w×7: gain, gamma − 1 in [-0.9, 1], tolerance from 0 up."""
        check_shape(curve_map, 7)
        curve_map = np.asarray(curve_map)
        if not np.isfinite(curve_map).all():
            raise ValueError("the curve map has values that are NaN or infinite")
        low, high = float(curve_map[..., 3:6].min()), float(curve_map[..., 3:6].max())
        if low < GAMMA_LIMITS[0] - 1e-6 or high > GAMMA_LIMITS[1] + 1e-6:
            raise ValueError(f"the curve map has gamma − 1 from {low:g} to {high:g}; values from -0.9 to 1 are allowed")
        if curve_map[..., 6].min() < 0:
            raise ValueError("the curve map has a negative tolerance; use 0 to switch the smoothing off")

    def settle(self, maps: Any, channels: int, strength: float, denoise: float) -> tuple[Any, Any, Any]:
        """Return the maps as they are applied to a photo with this number of channels.

        A grey photo gets the mean over the colours, so that it stays grey.

        Returns:
            Logarithm of the gain and gamma − 1, each colours×h×w, and tolerance, h×w.
        """
        gain, gamma = maps[:3], maps[3:6]
        if channels < 3:
            gain, gamma = gain.mean(0)[None], gamma.mean(0)[None]
        if strength != 1:
            # The strength multiplies the logarithm of white's new brightness instead of the gain itself. The gain suits
            # one gamma only; with another one, photos would get darker again beyond a strength of 1.5.
            white = gain + _log_white(gamma)
            gamma = (gamma * strength).clip(*GAMMA_LIMITS)
            gain = white * strength - _log_white(gamma) if strength else 0 * gain
        return gain.clip(-_MOST_GAIN, _MOST_GAIN), gamma, maps[6] * denoise


def _log_white(gamma: Any) -> Any:
    """Return the logarithm of white's brightness under the power curve without gain; ``gamma`` is γ − 1."""
    white = (1 + BLACK) ** (1 + gamma) - BLACK ** (1 + gamma)
    return np.log(white) if isinstance(white, np.ndarray) else white.log()
