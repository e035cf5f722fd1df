"""The gains of a bilateral grid over rows of pixels, compiled for the CPU.

Between the centres of two neighbouring cells of a row, the gain at each knot is linear in the column. A run of pixels
thus needs 2·9 coefficients, and its gains follow without reading from tables, so that they are computed with vector
instructions. The gain is a sum of ramps, one for each interval between knots and bounded by the change of the gain in
it; with slopes instead, large terms would cancel, and float32 would not suffice.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy import uintp as at  # see kdlib.enhance.kernels.denoise_rows

from kdlib.enhance.kernels.compiled import compiled, wide_vectors
from kdlib.gain_grid import DEEP, KNOTS, LEAST_DIVISOR, LEAST_SIGNAL

COEFFICIENTS = len(KNOTS) + 1  # the gain at the first knot, its changes from knot to knot, and the photo's chroma
TILE = 512  # pixels computed at a time: three planes in one small array, as in kdlib.enhance.kernels.denoise_rows
PAD = 16  # room for pixels of its neighbours at each end of a smoothed tile, and for whole vectors
ROW = TILE + 2 * PAD  # samples in a plane of a smoothed tile
_STEEP = tuple(1 / (above - below) for below, above in pairwise(KNOTS))
_START = tuple(below * steep for below, steep in zip(KNOTS[:-1], _STEEP, strict=True))
_TINY = LEAST_SIGNAL / 255
_DEPTH = 1 / DEEP


@compiled
def vectors(count: Any) -> Any:
    """Round up to whole vectors, because single pixels at the end of a loop would take as long as a vector each."""
    return (count + PAD - 1) // PAD * PAD


@compiled
def _split(source: Any, first: Any, count: Any, channels: Any, tile: Any) -> None:
    """Read pixels as three planes; grey is repeated."""
    wide_vectors()
    real = tile.dtype.type
    green, blue = (at(1), at(2)) if channels >= 3 else (at(0), at(0))
    for x in range(count):
        i = (at(first) + at(x)) * at(channels)
        tile[at(x)] = real(source[i])
        tile[at(x) + at(TILE)] = real(source[i + green])
        tile[at(x) + at(2 * TILE)] = real(source[i + blue])


@compiled
def colours_of(word: Any) -> Any:
    """Return red, green and blue of a pixel of four bytes, which vector instructions read as one number."""
    byte = np.int32(255)
    return word & byte, (word >> np.int32(8)) & byte, (word >> np.int32(16)) & byte


@compiled
def _split_words(source: Any, first: Any, count: Any, tile: Any) -> None:
    """Read pixels of four bytes as three planes."""
    wide_vectors()
    real = tile.dtype.type
    for x in range(count):
        red, green, blue = colours_of(source[at(first) + at(x)])
        tile[at(x)], tile[at(x) + at(TILE)], tile[at(x) + at(2 * TILE)] = real(red), real(green), real(blue)


@compiled
def _unite(source: Any, first: Any, count: Any, top: Any, tile: Any) -> None:
    """Convert pixels of a smoothed row from luminance and two colour differences to three planes, clipped."""
    zero, half = tile.dtype.type(0), tile.dtype.type(0.5)
    for x in range(count):
        k = at(first) + at(x) + at(PAD)
        y, o, g = source[k], half * source[k + at(ROW)], half * source[k + at(2 * ROW)]
        tile[at(x)] = min(max(y - g + o, zero), top)
        tile[at(x) + at(TILE)] = min(max(y + g, zero), top)
        tile[at(x) + at(2 * TILE)] = min(max(y - g - o, zero), top)


@compiled
def _merge(tile: Any, first: Any, count: Any, channels: Any, top: Any, half: Any, target: Any) -> None:
    """Write three planes as pixels, clipped and rounded, without alpha."""
    zero = tile.dtype.type(0)
    for x in range(count):
        i = (at(first) + at(x)) * at(channels)
        target[i] = min(max(tile[at(x)], zero), top) + half
        if channels >= 3:
            target[i + at(1)] = min(max(tile[at(x) + at(TILE)], zero), top) + half
            target[i + at(2)] = min(max(tile[at(x) + at(2 * TILE)], zero), top) + half


@compiled
def _merge_words(tile: Any, first: Any, count: Any, top: Any, half: Any, target: Any) -> None:
    """Do the same for pixels of four bytes."""
    wide_vectors()
    zero, last = tile.dtype.type(0), np.int32(-(1 << 24))
    for x in range(count):
        red = np.int32(min(max(tile[at(x)], zero), top) + half)
        green = np.int32(min(max(tile[at(x) + at(TILE)], zero), top) + half)
        blue = np.int32(min(max(tile[at(x) + at(2 * TILE)], zero), top) + half)
        i = at(first) + at(x)
        target[i] = (target[i] & last) | np.int32(blue << np.int32(16)) | np.int32(green << np.int32(8)) | red


@compiled
def _apply_tile(tile: Any, count: Any, ends: Any, start: Any, step: Any, factors: Any, noisy: bool) -> None:
    """Apply the gains to a tile.

    Args:
        ends: coefficients at the cell on the left, and their differences to those of the cell on the right.
        start, step: position of the first pixel between the two cells, from 0 to 1, and distance of two pixels.
        factors: see :func:`gain_rows`.
        noisy: whether the gain decreases near the noise.
    """
    wide_vectors()
    real = tile.dtype.type
    zero, one, quarter = real(0), real(1), real(0.25)
    up, down, floor, top = factors[0], factors[1], factors[2], factors[3]
    unit = one / top
    # Read once, because the compiler cannot know that the tile and these do not overlap.
    a, b = ends[0], ends[1]
    a0, a1, a2, a3, a4, a5, a6, a7, a8 = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]
    b0, b1, b2, b3, b4, b5, b6, b7, b8 = b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8]
    for x in range(count):
        i = at(x)
        red, green, blue = tile[i], tile[i + at(TILE)], tile[i + at(2 * TILE)]
        luminance = (red + green + green + blue) * quarter
        y = luminance * unit
        t = start + real(np.int32(x)) * step
        gain = a0 + t * b0
        gain += (a1 + t * b1) * min(y * real(_STEEP[0]), one)
        gain += (a2 + t * b2) * min(max(y * real(_STEEP[1]) - real(_START[1]), zero), one)
        gain += (a3 + t * b3) * min(max(y * real(_STEEP[2]) - real(_START[2]), zero), one)
        gain += (a4 + t * b4) * min(max(y * real(_STEEP[3]) - real(_START[3]), zero), one)
        gain += (a5 + t * b5) * min(max(y * real(_STEEP[4]) - real(_START[4]), zero), one)
        gain += (a6 + t * b6) * min(max(y * real(_STEEP[5]) - real(_START[5]), zero), one)
        gain += (a7 + t * b7) * max(y * real(_STEEP[6]) - real(_START[6]), zero)
        lift = max(gain - one, zero)
        deep = max(one - y * real(_DEPTH), zero)
        lost = max(one + up * lift * deep, real(LEAST_DIVISOR))
        chroma = (a8 + t * b8) * (one + down * max(one - gain, zero)) / lost
        if noisy:
            gain -= lift * (one - y / max(y + floor, real(_TINY)))
        # gain · (luminance + chroma · (channel − luminance))
        scale = gain * chroma
        base = (gain - scale) * luminance
        red, green, blue = base + scale * red, base + scale * green, base + scale * blue
        share = top / max(max(red, green), max(blue, top))  # 1 within white
        tile[i] = share * red
        tile[i + at(TILE)] = share * green
        tile[i + at(2 * TILE)] = share * blue


@compiled
def working_memory(grid: Any) -> Any:
    """Return arrays for :func:`grid_row` and :func:`gain_row`: a row of the grid, the ends of a run, and a tile."""
    line = np.zeros((grid.shape[1], COEFFICIENTS), grid.dtype)
    return line, np.zeros((2, COEFFICIENTS), grid.dtype), np.zeros(3 * TILE, grid.dtype)


@compiled
def grid_row(grid: Any, y: int, height: int, line: Any) -> None:
    """Interpolate the coefficients, h×w×9, linearly over the photo's row ``y``: w×9 in ``line``."""
    h = grid.shape[0]
    place = min(max((y + 0.5) * h / height - 0.5, 0.0), h - 1.0)
    above = int(place)
    upper, lower, weight = grid[above], grid[min(above + 1, h - 1)], grid.dtype.type(place - above)
    for cell in range(grid.shape[1]):
        for k in range(COEFFICIENTS):
            line[cell, k] = upper[cell, k] + weight * (lower[cell, k] - upper[cell, k])


@compiled
def gain_row(source: Any, target: Any, line: Any, channels: int, factors: Any, ends: Any, tile: Any) -> None:
    """Apply the gains to a row of pixels, without alpha; ``target`` may be ``source``.

    Args:
        source: W·channels; or a smoothed row, whose gain decreases near the noise, as 1×(tiles·3·ROW) of luminance and
            two colour differences.
        target: W·channels.
        line: see :func:`grid_row`.
        factors: see :func:`gain_rows`.
        ends, tile: see :func:`working_memory`.
    """
    real = tile.dtype.type
    w, width = len(line), target.size // channels
    step, top, half = w / width, factors[3], factors[4]
    x = 0
    for cell in range(-1, w):  # to the right of the cell's centre, and at −1 to the left of the first
        last = width if cell == w - 1 else min(width, int(np.ceil((cell + 1.5) / step - 0.5)))
        if x >= last:
            continue
        left, right = line[max(cell, 0)], line[min(cell + 1, w - 1)]
        for k in range(COEFFICIENTS):
            ends[0, k], ends[1, k] = left[k], right[k] - left[k]
        while x < last:
            start = real((x + 0.5) * step - 0.5 - cell)
            if source.ndim == 2:
                count = min(last - x, TILE - x % TILE)
                _unite(source[0], x // TILE * 3 * ROW + x % TILE, vectors(count), top, tile)
                _apply_tile(tile, vectors(count), ends, start, real(step), factors, True)
            else:
                count = min(last - x, TILE)
                if channels == 3:  # a constant stride lets the compiler vectorise
                    _split(source, x, count, 3, tile)
                elif channels == 4 and source.itemsize == 1:
                    _split_words(source.view(np.int32), x, count, tile)
                else:
                    _split(source, x, count, channels, tile)
                _apply_tile(tile, vectors(count), ends, start, real(step), factors, False)
            if channels == 3:
                _merge(tile, x, count, 3, top, half, target)
            elif channels == 4 and target.itemsize == 1:
                _merge_words(tile, x, count, top, half, target.view(np.int32))
            else:
                _merge(tile, x, count, channels, top, half, target)
            x += count


@compiled
def gain_rows(source: Any, target: Any, grid: Any, factors: Any, channels: int, first: int, last: int) -> None:
    """Apply the gains to rows ``first`` to ``last`` of a photo; ``target`` may be ``source``.

    Args:
        source, target: H×(W·channels).
        grid: coefficients of the cells, h×w×9, in the type to compute with.
        factors: of the same type: factors by which chroma decreases with gains above 1 in deep shadows, and increases
            with gains below 1; the luminance from 0 to 1 at which half of the gain above 1 remains, for photos that
            have been smoothed; white; and what is added before integers are cut off, 0.5 or 0.
    """
    line, ends, tile = working_memory(grid)
    for y in range(first, last):
        grid_row(grid, y, len(source), line)
        gain_row(source[y], target[y], line, channels, factors, ends, tile)
