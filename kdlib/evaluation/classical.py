"""Classical baselines for learned methods: gamma curves and histogram equalisation, which need no training."""

from collections.abc import Callable

import cv2
import numpy as np
from torch import Tensor

from kdlib.enhance.photos.rgb import to_array, to_tensor

Method = Callable[[Tensor], Tensor]
InPlace = Callable[[np.ndarray, np.ndarray], object]

EXPONENTS = (0.25, 0.3, 0.4)
TARGET_MEAN = 0.45
_LEVELS = np.linspace(0, 1, 256)


def gamma(exponent: float) -> Method:
    """Return the fixed curve x ← x^exponent."""
    return lambda photo: photo**exponent


def exponent_for_mean(photo: np.ndarray, mean: float = TARGET_MEAN) -> float:
    """Return the exponent whose curve maps a photo's mean level, over pixels and channels, to ``mean``.

    It is log(mean) / log(mean before). The output of a dark photo has a slightly lower mean, because the curve is
    concave.

    Args:
        photo: H×W×3 uint8.
        mean: between 0 and 1.

    Returns:
        A positive number; 1 for photos that are entirely black or white, which no curve changes.
    """
    # The histogram is faster: summing twelve million pixels directly takes longer than applying the curve.
    counts = cv2.calcHist([photo.reshape(len(photo), -1)], [0], None, [256], [0, 256]).ravel()
    before = float(counts @ _LEVELS / counts.sum(dtype=np.float64))
    return float(np.log(mean) / np.log(before)) if 0 < before < 1 else 1.0


def gamma_to_mean(mean: float = TARGET_MEAN) -> Method:
    """Return the curve x ← x^γ with γ chosen for each photo by :func:`exponent_for_mean`.

    It amounts to automatic exposure, the simplest adaptive method, and is the baseline for a network's adaptivity.
    """
    return lambda photo: photo ** exponent_for_mean(to_array(photo), mean)


def clahe_in_lab(photo: np.ndarray, clip: float = 4.0, tiles: int = 8) -> np.ndarray:
    """Apply contrast-limited adaptive histogram equalisation to lightness in LAB (OpenCV); H×W×3 uint8 in and out."""
    lightness, *colours = cv2.split(cv2.cvtColor(photo, cv2.COLOR_RGB2LAB))
    equalised = cv2.createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles)).apply(lightness)
    return cv2.cvtColor(cv2.merge([equalised, *colours]), cv2.COLOR_LAB2RGB)


def classical_methods() -> dict[str, Method]:
    """Return by name: the unchanged input, fixed gamma curves, a gamma chosen for each photo, and CLAHE."""
    return {
        "input": lambda photo: photo,
        **{f"gamma {exponent:g}": gamma(exponent) for exponent in EXPONENTS},
        f"gamma to mean {TARGET_MEAN:g}": gamma_to_mean(),
        "CLAHE": lambda photo: to_tensor(clahe_in_lab(to_array(photo))),
    }


def gamma_table(exponent: float) -> np.ndarray:
    """Return x^exponent for each of the 256 levels, uint8."""
    return np.rint(255 * _LEVELS**exponent).astype(np.uint8)


def eight_bit_methods() -> dict[str, InPlace]:
    """Return 8-bit implementations of :func:`classical_methods` for timing, each called as ``run(photo, out)``.

    The unchanged input is not included, because there is nothing to time.
    """

    def fixed(exponent: float) -> InPlace:
        return lambda photo, out: cv2.LUT(photo, gamma_table(exponent), out)

    def to_mean(photo: np.ndarray, out: np.ndarray) -> object:
        return cv2.LUT(photo, gamma_table(exponent_for_mean(photo)), out)

    return {
        **{f"gamma {exponent:g}": fixed(exponent) for exponent in EXPONENTS},
        f"gamma to mean {TARGET_MEAN:g}": to_mean,
        "CLAHE": lambda photo, _: clahe_in_lab(photo),
    }
