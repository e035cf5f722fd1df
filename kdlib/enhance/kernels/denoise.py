"""Smoothing of the noise that brightening lifts, edges kept.

*Noise model.* In the dark photo, noise has one standard deviation σ everywhere (:mod:`kdlib.noise`). The curve
multiplies it by its own slope, which is known from the curve map. So the tolerance of the filter follows the slope:
shadows, lifted up to fifteenfold, are smoothed, lamps and skies that the curve left alone are not.

*Filter.* Three rounds of a 3×3 weighted mean whose taps lie 1, 2 and 4 pixels apart (edge-avoiding à-trous wavelets;
Dammertz et al., "Edge-Avoiding À-Trous Wavelet Transform for Fast Global Illumination Filtering", HPG 2010): a reach of
7 pixels for 24 taps. A neighbour whose difference cannot be noise gets no weight (Lee, "Digital Image Smoothing and the
Sigma Filter", CVGIP 1983), with Tukey's biweight for a soft limit (Black et al., "Robust Anisotropic Diffusion", TIP
1998). The tolerance narrows from round to round, because each leaves less noise.

*Colour.* Luminance and two colour differences are averaged apart. The eye resolves colours coarsely but sees coloured
blotches, and differences of channels carry twice the noise of their mean: colour is given the wider tolerance. It
stops at edges of luminance too, so that it does not bleed.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from kdlib.enhance.kernels.denoise_rows import ROUNDS, filter_rows
from kdlib.noise import TOP, black_gain, measure_noise
from kdlib.threads import over_rows

# Tuned on LOL's training photos, and on photos darkened with shot and read noise. All in multiples of σ, which is that
# of luminance: beyond these differences of luminance, of luminance again, and of colour, neighbours have no weight.
_LUMINANCE, _COLOUR_EDGE, _COLOUR = 7.0, 18.0, 30.0
_LUMINANCE_NARROWS, _COLOUR_NARROWS = 2.0, 1.5  # by this factor each round


def denoise_photo(
    image: np.ndarray,
    amount: float = 1.0,
    *,
    curve_map: np.ndarray | None = None,
    iterations: int = 8,
    noise: float | None = None,
    out: np.ndarray | None = None,
    threads: int = 1,
) -> np.ndarray:
    """Smooth the noise of a brightened photo.

    Args:
        image: H×W or H×W×C with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha), already brightened; uint8,
            uint16, or float32 in [0, 1].
        amount: 0 changes nothing, 1 is recommended, up to 2 tolerates twice the noise.
        curve_map: h×w×K, with which the photo was brightened (strength included), in [-1, 1]; K is the number of
            colours, or ``iterations`` times as many. Without it, noise is taken to be the same in shadows and lights.
        iterations: how often the curve was applied.
        noise: from :func:`~kdlib.noise.measure_noise`, of this photo or, for a steady video, of the frames before;
            measured when absent.
        out: C-contiguous array like ``image`` to write to, ``image`` itself included; made when absent.
        threads: how many parts to work on at once. The result does not depend on it.

    Returns:
        ``out``; alpha as in ``image``.

    Raises:
        ValueError: ``amount`` out of range, or a curve map for another number of colours.
        TypeError: another dtype.
    """
    if image.dtype.name not in TOP:
        raise TypeError(f"a photo is of dtype {', '.join(TOP)}, not {image.dtype}")
    if not 0 <= amount <= 2:
        raise ValueError(f"denoise is a number from 0 to 2, not {amount}")
    if out is None:
        out = np.empty(image.shape, image.dtype)
    height, width = image.shape[:2]
    channels = image.size // (height * width)
    if amount == 0 or not image.flags.c_contiguous:
        out[...] = image  # a strided photo is straightened out on the way
        image = out
    if amount == 0:
        return out
    if noise is None:
        noise = measure_noise(image, curve_map=curve_map, iterations=iterations)
    rounds = np.arange(ROUNDS)
    narrowed = np.stack([_LUMINANCE_NARROWS**rounds, *2 * [_COLOUR_NARROWS**rounds]], axis=1)
    tolerance = amount * noise * np.array([_LUMINANCE, _COLOUR_EDGE, _COLOUR]) / narrowed
    limits = 1 / np.maximum(tolerance, 1e-3) ** 2  # an infinite one would turn 0 into NaN
    gains = black_gain(curve_map, iterations, 3 if channels >= 3 else 1)
    shape = (height, width, channels)
    filter_photo(image.reshape(shape), out.reshape(shape), gains, limits, lifted=True, threads=threads)
    return out


def filter_photo(
    photo: np.ndarray,
    out: np.ndarray,
    tolerances: np.ndarray,
    limits: np.ndarray,
    *,
    lifted: bool = False,
    curve: np.ndarray | None = None,
    threads: int = 1,
) -> None:
    """Run :func:`~kdlib.enhance.kernels.denoise_rows.filter_rows` on all rows of a photo; the arguments are described
    there.

    Args:
        photo: H×W×C, C-contiguous.
        out: array like ``photo``, ``photo`` itself included. Alpha is copied.
        tolerances: h×w.
        curve: 2×colours×h×w.
    """
    height, _, channels = photo.shape
    if channels in {2, 4}:
        out[..., -1] = photo[..., -1]
    source, target = photo.reshape(height, -1), out.reshape(height, -1)
    reach = 2 ** len(limits) - 1
    parts = max(1, min(threads, height // max(2 * reach, 1)))
    bounds = [height * part // parts for part in range(parts + 1)]
    # Each part reads rows of its neighbours, who may be writing there by then.
    edges = [(source[max(a - reach, 0) : a].copy(), source[b : b + reach].copy()) for a, b in pairwise(bounds)]
    top = np.float32(TOP[photo.dtype.name])
    if curve is None:
        curve = np.empty((0, 1, 1, 1))
    maps = [np.ascontiguousarray(array, np.float32) for array in (tolerances[None, None], limits, curve)]

    def work(first: int, last: int) -> None:
        for part in range(first, last):
            rows = bounds[part : part + 2]
            filter_rows(source, target, *edges[part], channels, *rows, top, maps[0], lifted, maps[1], maps[2])

    over_rows(work, parts, threads)


def smooth_lifted(photo: np.ndarray, maps: np.ndarray, iterations: int, denoise: float, threads: int) -> None:
    """Smooth in place a photo that was enhanced with these maps (K×h×w)."""
    curve_map = np.moveaxis(maps, 0, -1)
    denoise_photo(photo, denoise, curve_map=curve_map, iterations=iterations, out=photo, threads=threads)
