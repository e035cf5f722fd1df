"""The light-enhancement curve in a single pass over the photo, compiled for the CPU.

As layers of a network, the curve reads and writes the whole photo in float32 eight times, plus once for the curve map
at full size. Here each sample is read once in its stored type, passes through all iterations in a register, and is
written once. The curve map stays small: each of its rows is stretched to the photo's width when needed, and the rows
in between are weighted means of two such rows.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from kdlib.enhance.kernels.compiled import compiled
from kdlib.threads import over_rows

# Compute type and white. float32 is enough for 8 bits, where all but about one sample in 10,000 equal the float64
# result; 16 bits need float64.
_COMPUTE: dict[str, tuple[type, float]] = {
    "uint8": (np.float32, 255.0),
    "uint16": (np.float64, 65535.0),
    "float32": (np.float32, 1.0),
}


@compiled
def _stretch(maps: Any, row: int, width: int, across: int, between: int, out: Any) -> None:
    """Stretch row ``row`` of the maps (M, colours, h, w) to ``width`` columns, bilinearly with aligned corners.

    In ``out``, M × samples, neighbours are ``across`` samples apart, and the colours ``between``. Samples that belong
    to no colour (alpha) keep 0, for which the curve is the identity.
    """
    w = maps.shape[3]
    step = (w - 1) / (width - 1) if width > 1 else 0.0
    for m in range(maps.shape[0]):
        for c in range(maps.shape[1]):
            line = maps[m, c, row]
            first = 0
            for k in range(max(w - 1, 1)):
                left = line[k]
                slope = line[min(k + 1, w - 1)] - left
                # Columns from map column k up to map column k + 1.
                last = width if k >= w - 2 or width == 1 else min(width, int(np.ceil((k + 1) / step)))
                for x in range(first, last):
                    out[m, x * across + c * between] = left + out.dtype.type(x * step - k) * slope
                first = last


def _row_kernel(iterations: int, shared: bool, compute: type, whole: bool) -> Callable[..., None]:
    """Compile the curve for a row of samples that all take it."""
    half = compute(0.5 if whole else 0.0)
    zero, one = compute(0), compute(1)

    @compiled
    def row_kernel(row: Any, target: Any, upper: Any, lower: Any, weight: Any, unit: Any, scale: Any) -> None:
        for i in range(len(row)):
            x = compute(row[i]) * unit
            r = upper[0, i] + weight * (lower[0, i] - upper[0, i])
            for n in range(iterations):
                if not shared and n > 0:
                    r = upper[n, i] + weight * (lower[n, i] - upper[n, i])
                x = x + r * (x * x - x)
            if whole:
                target[i] = x * scale + half
            else:
                target[i] = min(max(x, zero), one)

    return row_kernel


def _row_kernel_of_four(iterations: int, shared: bool, compute: type, whole: bool) -> Callable[..., None]:
    """Compile the curve for a row of pixels with three colours and a fourth channel, which is copied.

    The colours of a pixel are computed side by side, because the compiler does not vectorise a loop over channels. The
    maps have a plane for each colour.
    """
    half = compute(0.5 if whole else 0.0)
    zero, one = compute(0), compute(1)

    @compiled
    def row_kernel(row: Any, target: Any, upper: Any, lower: Any, weight: Any, unit: Any, scale: Any) -> None:
        width = len(row) // 4
        for i in range(width):
            j, k = i + width, i + 2 * width
            x, y, z = compute(row[4 * i]) * unit, compute(row[4 * i + 1]) * unit, compute(row[4 * i + 2]) * unit
            a = upper[0, i] + weight * (lower[0, i] - upper[0, i])
            b = upper[0, j] + weight * (lower[0, j] - upper[0, j])
            c = upper[0, k] + weight * (lower[0, k] - upper[0, k])
            for n in range(iterations):
                if not shared and n > 0:
                    a = upper[n, i] + weight * (lower[n, i] - upper[n, i])
                    b = upper[n, j] + weight * (lower[n, j] - upper[n, j])
                    c = upper[n, k] + weight * (lower[n, k] - upper[n, k])
                x, y, z = x + a * (x * x - x), y + b * (y * y - y), z + c * (z * z - z)
            if whole:
                x, y, z = x * scale + half, y * scale + half, z * scale + half
            else:
                x, y, z = min(max(x, zero), one), min(max(y, zero), one), min(max(z, zero), one)
            target[4 * i], target[4 * i + 1], target[4 * i + 2], target[4 * i + 3] = x, y, z, row[4 * i + 3]

    return row_kernel


@cache
def _curve_kernel(iterations: int, shared: bool, compute: type, whole: bool, of_four: bool) -> Callable[..., None]:
    """Compile the fused pass for a constant number of iterations, and for pixels of four channels or other ones.

    With a constant, the compiler unrolls the loop over iterations and vectorises the loop over samples.
    """
    row_kernel = (_row_kernel_of_four if of_four else _row_kernel)(iterations, shared, compute, whole)

    @compiled
    def rows(
        source: Any,
        target: Any,
        maps: Any,
        upper: Any,
        lower: Any,
        channels: int,
        first: int,
        last: int,
        top: float,
        in_place: bool,
    ) -> None:
        height, samples = source.shape
        width = samples // channels
        across, between = (1, width) if of_four else (channels, 1)
        h = maps.shape[2]
        step = (h - 1) / (height - 1) if height > 1 else 0.0
        reached = -2
        line = np.empty(samples, source.dtype)
        for y in range(first, last):
            above = max(0, min(int(y * step), h - 2))
            if above != reached:
                if above == reached + 1:
                    for m in range(upper.shape[0]):  # assigned as a whole, it could fail with a message of numba's
                        for i in range(samples):
                            upper[m, i] = lower[m, i]
                else:
                    _stretch(maps, above, width, across, between, upper)
                _stretch(maps, min(above + 1, h - 1), width, across, between, lower)
                reached = above
            row = source[y]
            if in_place:  # the loop of the kernel has no vector instructions where it reads the memory that it writes
                for i in range(samples):
                    line[i] = row[i]
                row = line
            row_kernel(row, target[y], upper, lower, compute(y * step - above), compute(1 / top), compute(top))

    return rows


def apply_curve_map(
    photo: np.ndarray, maps: np.ndarray, iterations: int, *, out: np.ndarray | None = None, threads: int = 1
) -> np.ndarray:
    """Enhance a photo with a curve map of any size, which is interpolated bilinearly with aligned corners.

    Args:
        photo: H×W×C, C-contiguous, with 1 or 3 colours and optionally alpha, which is kept; uint8, uint16, or float32
            in [0, 1].
        maps: K×h×w float in [-1, 1]; K is the number of colours, or ``iterations`` times as many.
        iterations: number of applications of the curve.
        out: array like ``photo`` for the result, which may be ``photo`` itself; created if absent.
        threads: number of threads.

    Returns:
        ``out``. A uint8 or uint16 result differs from the rounded float64 result by at most one level and nearly
        always equals it.
    """
    height, width, channels = photo.shape
    colours = 3 if channels >= 3 else 1
    maps = maps.reshape(-1, colours, *maps.shape[1:])
    out = np.empty_like(photo) if out is None else out
    compute, top = _COMPUTE[photo.dtype.name]
    kernel = _curve_kernel(iterations, len(maps) == 1, compute, photo.dtype.kind == "u", channels == 4)
    maps = np.ascontiguousarray(maps, dtype=compute)
    source, target = photo.reshape(height, -1), out.reshape(height, -1)
    in_place = photo.ctypes.data == out.ctypes.data

    def work(first: int, last: int) -> None:
        lines = np.zeros((2, len(maps), width * channels), dtype=compute)
        kernel(source, target, maps, lines[0], lines[1], channels, first, last, top, in_place)

    over_rows(work, height, threads)
    return out
