"""GridNet's smoothing and gains over rows of pixels in one pass, compiled for the CPU.

The reference is :class:`kdlib.models.grid.QuincunxSmoothing`. Before a round, luminance and colour differences are
divided by the round's tolerances, so that a weight is 1 minus the squared distance of two pixels. A row is stored in
tiles that repeat a few columns of their neighbours: three planes of ROW samples one after another. All taps of a tile
then lie at constant distances in three rows, and a few comparisons tell the compiled code that these are apart from the
result; it can use vector instructions without copies.
"""

import math
from typing import Any

import numpy as np
from numpy import float32 as f32
from numpy import uintp as at  # see kdlib.enhance.kernels.denoise_rows

from kdlib.enhance.kernels.compiled import compiled, wide_vectors
from kdlib.enhance.kernels.denoise_rows import row_of
from kdlib.enhance.kernels.grid_rows import PAD, ROW, TILE, colours_of, gain_row, grid_row, vectors, working_memory
from kdlib.gain_grid import TAPS

_FARTHEST = max(step for step, *_ in TAPS)


def working_rows(width: int) -> np.ndarray:
    """Return zeros for :func:`smooth_gain_rows` on photos of a width, rings×rows×samples.

    No vector of a tile straddles cache lines, which would take two loads.
    """
    shape = (len(TAPS) + 1, 2 * _FARTHEST + 1, -(-width // TILE) * 3 * ROW)
    memory = np.zeros(math.prod(shape) + PAD, np.float32)
    start = -memory.ctypes.data // 4 % PAD
    return memory[start : len(memory) - PAD + start].reshape(shape)


@compiled
def _split(source: Any, channels: Any, scales: Any, row: Any) -> None:
    """Read a row of pixels as tiles of luminance and two colour differences, divided by the first tolerances."""
    wide_vectors()
    green, blue = (at(1), at(2)) if channels >= 3 else (at(0), at(0))
    width = source.size // channels
    light, colour, half = scales[0] * f32(0.25), scales[1], scales[1] * f32(0.5)
    for t in range(len(row) // (3 * ROW)):
        for x in range(min(width - t * TILE, TILE)):
            i, k = (at(t * TILE) + at(x)) * at(channels), at(t * 3 * ROW + PAD) + at(x)
            r, g, b = f32(source[i]), f32(source[i + green]), f32(source[i + blue])
            row[k] = (r + g + g + b) * light
            row[k + at(ROW)] = (r - b) * colour
            row[k + at(2 * ROW)] = (g + g - r - b) * half


@compiled
def _split_words(source: Any, scales: Any, row: Any) -> None:
    """Do the same for pixels of four bytes; see :func:`~kdlib.enhance.kernels.grid_rows.colours_of`."""
    wide_vectors()
    light, colour, half = scales[0] * f32(0.25), scales[1], scales[1] * f32(0.5)
    for t in range(len(row) // (3 * ROW)):
        for x in range(min(source.size - t * TILE, TILE)):
            k = at(t * 3 * ROW + PAD) + at(x)
            red, green, blue = colours_of(source[at(t * TILE) + at(x)])
            r, g, b = f32(red), f32(green), f32(blue)
            row[k] = (r + g + g + b) * light
            row[k + at(ROW)] = (r - b) * colour
            row[k + at(2 * ROW)] = (g + g - r - b) * half


@compiled
def _continue(row: Any, width: int) -> None:
    """Repeat the columns of neighbouring tiles at the ends of each tile, and the pixels at the ends of the row."""
    last = len(row) // (3 * ROW) - 1
    for t in range(last, -1, -1):
        for start in range((3 * t) * ROW + PAD, (3 * t + 3) * ROW, ROW):
            end = start + min(width - t * TILE, TILE)
            for x in range(_FARTHEST):
                row[start - 1 - x] = row[start - 1 - x + TILE - 3 * ROW] if t else row[start]
                row[end + x] = row[start + x + 3 * ROW] if t < last else row[end - 1]


@compiled
def _smooth_tile(
    above: Any, here: Any, below: Any, first: Any, count: Any, step: Any, diagonal: Any, colour_only: Any, scales: Any,
    out: Any,
) -> None:  # fmt: skip
    """Run one round on ``count`` pixels of a tile, the first of which is the sample ``first``; see :func:`_smooth`."""
    wide_vectors()
    one, zero, step = f32(1), f32(0), at(step)
    light, colour = scales[0], scales[1]
    for x in range(count):
        i = at(x) + first
        y, o, g = here[i], here[i + at(ROW)], here[i + at(2 * ROW)]
        weights, sum_y, sum_o, sum_g = f32(2), zero, zero, zero  # the pixel itself counts twice
        for n in range(4):
            if diagonal:
                source = above if n < 2 else below
                k = i - step if n % 2 == 0 else i + step
            else:
                source = above if n == 0 else (below if n == 1 else here)
                k = i if n < 2 else (i - step if n == 2 else i + step)
            dy, do, dg = source[k] - y, source[k + at(ROW)] - o, source[k + at(2 * ROW)] - g
            w = max(one - dy * dy - do * do - dg * dg, zero)
            w *= w
            weights += w
            if not colour_only:
                sum_y += w * dy
            sum_o += w * do
            sum_g += w * dg
        # Averaging differences instead of values keeps constant areas constant.
        share = one / weights
        out[i] = light * (y + sum_y * share)
        out[i + at(ROW)] = colour * (o + sum_o * share)
        out[i + at(2 * ROW)] = colour * (g + sum_g * share)


@compiled
def _smooth(above: Any, here: Any, below: Any, width: int, taps: Any, scales: Any, out: Any) -> None:
    """Run one round on a row; ``scales`` turn luminance and colour into multiples of the next round's tolerances."""
    step, diagonal, colour_only = taps
    for t in range(len(out) // (3 * ROW)):
        first, count = at(t * 3 * ROW + PAD), vectors(min(width - t * TILE, TILE))
        if colour_only:  # constants let the compiler vectorise
            _smooth_tile(above, here, below, first, count, step, False, True, scales, out)
        elif diagonal:
            _smooth_tile(above, here, below, first, count, step, True, False, scales, out)
        else:
            _smooth_tile(above, here, below, first, count, step, False, False, scales, out)


@compiled
def smooth_gain_rows(
    photo: Any, out: Any, head: Any, tail: Any, channels: int, first: int, last: int,
    scales: Any, grid: Any, factors: Any, rings: Any,
) -> None:  # fmt: skip
    """Smooth rows ``first`` to ``last`` of a photo and apply gains; ``out`` may be ``photo``.

    After each row that is read, one row of each round is computed, delayed by the reach of the rounds' taps.

    Args:
        photo, out, head, tail, channels: see :func:`~kdlib.enhance.kernels.denoise_rows.filter_rows`.
        scales: (rounds + 1)×2 float32, which turn luminance and colour into multiples of the first round's tolerances,
            then from one round to the next, and at last back into the photo's range.
        grid, factors: see :func:`~kdlib.enhance.kernels.grid_rows.gain_rows`; float32.
        rings: see :func:`working_rows`.
    """
    height, width, rounds = photo.shape[0], photo.shape[1] // channels, len(TAPS)
    kept = np.ones(rounds + 1, np.int64)  # rows of each round that the next one needs at a time
    for n in range(rounds):
        kept[n] += 2 * TAPS[n][0]
    cells, ends, run = working_memory(grid)
    farthest = (kept.sum() - rounds) // 2
    for newest in range(first - len(head), last + farthest):
        if newest < last + len(tail):
            source = row_of(photo, head, tail, first, last, newest)
            row = rings[0, newest % kept[0]]
            if channels == 3:  # a constant stride lets the compiler vectorise
                _split(source, 3, scales[0], row)
            elif channels == 4 and source.itemsize == 1:
                _split_words(source.view(np.int32), scales[0], row)
            else:
                _split(source, channels, scales[0], row)
            _continue(row, width)
        y, reach = newest, farthest
        for n in range(rounds):
            step = TAPS[n][0]
            y -= step
            reach -= step
            if max(0, first - reach) <= y < min(height, last + reach):
                ring, row = rings[n], rings[n + 1, y % kept[n + 1]]
                above, below = ring[max(y - step, 0) % kept[n]], ring[min(y + step, height - 1) % kept[n]]
                _smooth(above, ring[y % kept[n]], below, width, TAPS[n], scales[n + 1], row)
                _continue(row, width)
        if y >= first:
            grid_row(grid, y, height, cells)
            gain_row(rings[rounds], out[y], cells, channels, factors, ends, run)
