"""Edge-preserving smoothing of the noise that brightening amplifies.

*Noise model.* In the dark photo, noise has the same standard deviation σ everywhere (:mod:`kdlib.noise`). The curve
multiplies it by the slope of the curve, which is known from the curve map, so the tolerance of the filter follows the
slope. Shadows, amplified up to fifteenfold, are smoothed; lamps and skies that the curve left unchanged are not.

*Filter.* The filter makes three rounds of a 3×3 weighted mean whose taps lie 1, 2 and 4 pixels apart (edge-avoiding
à-trous wavelets; Dammertz et al., "Edge-Avoiding À-Trous Wavelet Transform for Fast Global Illumination Filtering",
HPG 2010), which reach 7 pixels with 24 taps. A neighbour whose difference cannot be noise gets no weight (Lee, "Digital
Image Smoothing and the Sigma Filter", CVGIP 1983), with Tukey's biweight as a soft limit (Black et al., "Robust
Anisotropic Diffusion", TIP 1998). The tolerance decreases from round to round, because each leaves less noise.

*Colour.* Luminance and two colour differences are averaged separately. The eye resolves colours coarsely but sees
coloured blotches, and differences of channels have twice the noise of their mean; therefore colour has the wider
tolerance. Edges of luminance also limit the smoothing of colour, so that colours do not bleed.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from kdlib.checks import check_number
from kdlib.enhance.kernels.denoise_rows import ROUNDS, filter_rows
from kdlib.noise import TOP, black_gain, measure_noise
from kdlib.threads import over_rows

# Differences beyond which neighbours have no weight, in multiples of σ of the luminance: of luminance for luminance,
# and of luminance and colour for colour. Tuned on LOL's training photos, and on photos darkened with shot and read
# noise.
LUMINANCE, COLOUR_EDGE, COLOUR = 7.0, 18.0, 30.0
LUMINANCE_NARROWS, COLOUR_NARROWS = 2.0, 1.5  # factors by which the tolerances decrease per round


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
        image: brightened photo, H×W or H×W×C with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha); uint8,
            uint16, or float32 in [0, 1].
        amount: tolerance from 0 (no change) to 2 (twice the noise); 1 is recommended.
        curve_map: h×w×K in [-1, 1], the map with which the photo was brightened, including the strength; K is the
            number of colours, or ``iterations`` times as many. Without it, noise is assumed to be the same in shadows
            and highlights.
        iterations: number of applications of the curve.
        noise: from :func:`~kdlib.noise.measure_noise`, of this photo or, in a steady video, of earlier frames;
            measured if absent.
        out: C-contiguous array like ``image`` for the result, which may be ``image`` itself; created if absent.
        threads: number of threads; the result does not depend on it.

    Returns:
        ``out``, with the alpha of ``image``.

    Raises:
        ValueError: ``amount`` is out of range, or the curve map is for another number of colours.
        TypeError: the dtype is not supported.
    """
    if image.dtype.name not in TOP:
        raise TypeError(f"a photo must have dtype {', '.join(TOP)}, not {image.dtype}")
    check_number("denoise", amount, 0, 2)
    if out is None:
        out = np.empty(image.shape, image.dtype)
    height, width = image.shape[:2]
    channels = image.size // (height * width)
    if amount == 0 or not image.flags.c_contiguous:
        out[...] = image  # this also makes a strided photo contiguous
        image = out
    if amount == 0:
        return out
    if noise is None:
        noise = measure_noise(image, curve_map=curve_map, iterations=iterations)
    rounds = np.arange(ROUNDS)
    narrowed = np.stack([LUMINANCE_NARROWS**rounds, *2 * [COLOUR_NARROWS**rounds]], axis=1)
    tolerance = amount * noise * np.array([LUMINANCE, COLOUR_EDGE, COLOUR]) / narrowed
    limits = 1 / np.maximum(tolerance, 1e-3) ** 2  # an infinite limit times 0 would be NaN
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
    """Run :func:`~kdlib.enhance.kernels.denoise_rows.filter_rows`, which describes the arguments, on a whole photo.

    Args:
        photo: H×W×C, C-contiguous.
        out: array like ``photo`` for the result, which may be ``photo`` itself. Alpha is copied.
        tolerances: h×w.
        curve: 2×colours×h×w.
    """
    top = np.float32(TOP[photo.dtype.name])
    curve = np.empty((0, 1, 1, 1)) if curve is None else curve
    maps = [np.ascontiguousarray(array, np.float32) for array in (tolerances[None, None], limits, curve)]

    def work(*rows: Any) -> None:
        filter_rows(*rows, top, maps[0], lifted, *maps[1:])

    over_parts(photo, out, 2 ** len(limits) - 1, work, threads)


def over_parts(photo: np.ndarray, out: np.ndarray, reach: int, work: Callable[..., object], threads: int) -> None:
    """Run a filter that reads ``reach`` rows around each row on parts of a photo at once, and copy alpha.

    Args:
        photo, out: see :func:`filter_photo`.
        work: gets the arguments of :func:`~kdlib.enhance.kernels.denoise_rows.filter_rows` up to ``last``.
    """
    height, _, channels = photo.shape
    if channels in {2, 4} and out.ctypes.data != photo.ctypes.data:
        out[..., -1] = photo[..., -1]
    source, target = photo.reshape(height, -1), out.reshape(height, -1)
    parts = max(1, min(threads, height // max(2 * reach, 1)))
    bounds = [height * part // parts for part in range(parts + 1)]
    # Each part also reads rows of its neighbours, which may already have been overwritten; so they are copied first.
    edges = [(source[max(a - reach, 0) : a].copy(), source[b : b + reach].copy()) for a, b in pairwise(bounds)]

    def run(first: int, last: int) -> None:
        for part in range(first, last):
            work(source, target, *edges[part], channels, *bounds[part : part + 2])

    over_rows(run, parts, threads)


def smooth_lifted(photo: np.ndarray, maps: np.ndarray, iterations: int, denoise: float, threads: int) -> None:
    """Smooth in place a photo that was enhanced with these maps (K×h×w)."""
    curve_map = np.moveaxis(maps, 0, -1)
    denoise_photo(photo, denoise, curve_map=curve_map, iterations=iterations, out=photo, threads=threads)
