"""How an enhanced photo looks, in figures that need no ground truth or only a well-exposed photo of the scene.

PSNR against an exposure fusion rewards flat pictures, and no score of that kind shows a halo. These figures complete
it: brightness, contrast and colourfulness, the change of hue, and two signs of halos.
"""

import cv2
import numpy as np
from torch import Tensor

from kdlib.data.degrade import srgb_to_linear
from kdlib.evaluation.metrics import quantise

# Ottosson, "A perceptual color space for image processing" (2020): linear sRGB to cone responses, and their cube roots
# to lightness and two opponent colours.
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
# Chroma from which a hue is visible, and the share of both ends of the range that counts as clipped.
SATURATED, CLIPPED = 0.05, 8 / 255
# A step of luminance that noise or rounding rarely turns over, one that is a strong edge, and the reach of halos in
# pixels.
_STEP, _EDGE, _REACH = 4 / 255, 0.2, 12
_SMOOTHING = 1.5


def oklab(photo: Tensor) -> np.ndarray:
    """Convert a photo to OKLab.

    Args:
        photo: 3×H×W in [0, 1], sRGB; rounded to 8 bits first.

    Returns:
        3×H×W float64: lightness from 0 (black) to 1 (white), and the opponent colours a and b, 0 for greys.
    """
    linear = srgb_to_linear(quantise(photo)).cpu().numpy()
    cones = np.cbrt(np.tensordot(_TO_CONES, linear, 1))
    converted: np.ndarray = np.tensordot(_TO_OKLAB, cones, 1)
    return converted


def tone(photo: Tensor) -> dict[str, float]:
    """Return ``lightness`` and ``contrast``, mean and standard deviation of OKLab's lightness, and mean ``chroma``."""
    lightness, a, b = oklab(photo)
    return {
        "lightness": float(lightness.mean()),
        "contrast": float(lightness.std()),
        "chroma": float(np.hypot(a, b).mean()),
    }


def hue_shift(before: Tensor, after: Tensor) -> float:
    """Return by how many degrees the hue of saturated pixels changes on average; 0 if there are none.

    Pixels count if they are saturated in both photos and no channel is clipped in either.

    Args:
        before, after: 3×H×W in [0, 1].
    """
    (_, a0, b0), (_, a1, b1) = oklab(before), oklab(after)
    counted = (np.hypot(a0, b0) > SATURATED) & (np.hypot(a1, b1) > SATURATED)
    for photo in (before, after):
        values = photo.cpu().numpy()
        counted &= (values.min(0) > CLIPPED) & (values.max(0) < 1 - CLIPPED)
    if not counted.any():
        return 0.0
    turn = np.angle(np.exp(1j * (np.arctan2(b1, a1) - np.arctan2(b0, a0)))[counted])
    return float(np.degrees(np.abs(turn).mean()))


def halos(before: Tensor, after: Tensor) -> dict[str, float]:
    """Measure two signs of halos.

    Luminance is smoothed by a Gaussian (σ = 1.5 pixels) first, so that noise does not count. Pixels that are nearly
    black or white in either photo do not count either.

    Args:
        before, after: 3×H×W in [0, 1].

    Returns:
        ``reversals``: share of the pixels with a visible step to their neighbour (4/255 or more) whose step has the
        opposite sign afterwards; no tone curve that rises has any. ``overshoot``: beside strong edges, mean step per
        pixel of the enhanced photo where the original is flat, in 255ths. Both are 0 if nothing is to be counted.
    """
    y0, y1 = _luminance(before), _luminance(after)
    unclipped = (np.minimum(y0, y1) > CLIPPED) & (np.maximum(y0, y1) < 1 - CLIPPED)
    edges = (np.abs(_steps(y0, 0, 4)) > _EDGE) | (np.abs(_steps(y0, 1, 4)) > _EDGE)
    near = cv2.dilate(edges.astype(np.uint8), np.ones((2 * _REACH + 1,) * 2, np.uint8)) > 0
    turned = visible = 0
    introduced: list[np.ndarray] = []
    for axis in (0, 1):
        step0, step1 = _steps(y0, axis, 2), _steps(y1, axis, 2)
        counted = unclipped & (np.abs(step0) > _STEP)
        visible += int(counted.sum())
        turned += int((counted & (step0 * step1 < 0) & (np.abs(step1) > _STEP / 2)).sum())
        introduced.append(np.abs(step1[near & unclipped & (np.abs(step0) < 0.5 / 255)]) / 2)
    flat = np.concatenate(introduced)
    return {
        "reversals": turned / visible if visible else 0.0,
        "overshoot": float(flat.mean()) * 255 if flat.size else 0.0,
    }


def _luminance(photo: Tensor) -> np.ndarray:
    red, green, blue = quantise(photo).cpu().numpy()
    return np.asarray(cv2.GaussianBlur(0.299 * red + 0.587 * green + 0.114 * blue, (0, 0), _SMOOTHING))


def _steps(luminance: np.ndarray, axis: int, distance: int) -> np.ndarray:
    """Return for each pixel the difference of the pixels on both sides, ``distance`` apart in all."""
    half = distance // 2
    padded = np.pad(luminance, half, mode="edge")
    height, width = luminance.shape
    if axis == 0:
        return padded[2 * half :, half : half + width] - padded[:height, half : half + width]
    return padded[half : half + height, 2 * half :] - padded[half : half + height, :width]
