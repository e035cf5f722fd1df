"""The filter of :mod:`kdlib.inference.denoise`, compiled for the CPU.

A row goes through a round in tiles, copied to and from one small array: there, the compiler can prove that reading and
writing never meet, which vector instructions need. They make the filter ten times as fast as
compiled plainly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import float32 as f32
from numpy import uintp as at  # an index that cannot be negative; asking for that would keep vector instructions away

from kdlib.inference._compile import compiled

ROUNDS = 3
REACH = 2**ROUNDS - 1  # rows that all rounds together reach up and down
_RING = 2 * 2 ** (ROUNDS - 1) + 1  # rows of a round that the next one needs at a time
_PAD = 4  # columns by which a row is continued at its ends, for the farthest tap
_TILE = 256  # columns that are computed at a time
_ROW = _TILE + 16
_DIAGONAL = f32(0.5)  # weight of a diagonal neighbour, relative to the others


@compiled
def _split(source: Any, channels: Any, scale: Any, row: Any) -> None:
    """Read a row of pixels as luminance and two colour differences, in 255ths."""
    green, blue = (at(1), at(2)) if channels >= 3 else (at(0), at(0))
    for x in range(source.size // channels):
        i, k = at(x) * at(channels), at(x) + at(_PAD)
        r, g, b = f32(source[i]) * scale, f32(source[i + green]) * scale, f32(source[i + blue]) * scale
        row[0, k] = (r + g + g + b) * f32(0.25)
        row[1, k] = r - b
        row[2, k] = g - (r + b) * f32(0.5)


@compiled
def _merge(row: Any, channels: Any, scale: Any, half: Any, top: Any, target: Any) -> None:
    """Write a row of pixels, alpha left out; the reverse of _split."""
    for x in range(target.size // channels):
        i, k = at(x) * at(channels), at(x) + at(_PAD)
        y, o, g = row[0, k], row[1, k] * f32(0.5), row[2, k] * f32(0.5)
        target[i] = min(max((y - g + o) * scale + half, f32(0)), top)
        if channels >= 3:
            target[i + at(1)] = min(max((y + g) * scale + half, f32(0)), top)
            target[i + at(2)] = min(max((y - g - o) * scale + half, f32(0)), top)


@compiled
def _continue(row: Any, width: int) -> None:
    """Repeat the pixels at a row's ends, for taps beyond them."""
    for c in range(3):
        row[c, :_PAD] = row[c, _PAD]
        row[c, _PAD + width : 2 * _PAD + width] = row[c, _PAD + width - 1]


@compiled
def _gain_row(gains: Any, y: float, width: int, out: Any) -> None:
    """Stretch a row of the map of gains to the photo's width, bilinearly; ``y`` is its place among the map's rows."""
    last = gains.shape[1] - 1
    above = min(int(y), gains.shape[0] - 1)
    upper, lower = gains[above], gains[min(above + 1, gains.shape[0] - 1)]
    down, stretch = f32(y - above), f32(last / max(width - 1, 1))
    for x in range(width):
        place = f32(x) * stretch
        left = min(int(place), last)
        right = min(left + 1, last)
        a = upper[at(left)] + down * (lower[at(left)] - upper[at(left)])
        b = upper[at(right)] + down * (lower[at(right)] - upper[at(right)])
        out[x] = a + (place - f32(left)) * (b - a)


@compiled
def _smooth_tile(tile: Any, step: int, luminance: Any, colour_edge: Any, colour: Any) -> None:
    """One round for a tile of a row.

    Args:
        tile: rows of _ROW samples, in one array without dimensions, so that the compiler sees that they are apart:
            luminance and two colour differences of the upper row, the middle row and the lower row; the gains;
            then the three of the result.
    """
    one, zero = f32(1), f32(0)
    for x in range(_TILE):
        here = at(x) + at(3 * _ROW + _PAD)
        y, o, g = tile[here], tile[here + at(_ROW)], tile[here + at(2 * _ROW)]
        # The curve's slope where it has reached y, if it has the slope gain at black: that of a logistic curve.
        gain, level = tile[at(x) + at(9 * _ROW)], y * f32(1 / 255)
        unlifted = level + (one - level) * gain
        precision = gain / (unlifted * unlifted)
        precision *= precision  # 1 / slope²
        in_y, in_edge, in_colour = luminance * precision, colour_edge * precision, colour * precision
        weights, weights_c, sum_y, sum_o, sum_g = one, one, zero, zero, zero  # the pixel itself counts twice
        for row in range(3):
            for side in range(3):
                there = at(x) + at(row * 3 * _ROW + _PAD) + at(side) * at(step) - at(step)
                share = one if row == 1 or side == 1 else _DIAGONAL
                dy, do, dg = tile[there] - y, tile[there + at(_ROW)] - o, tile[there + at(2 * _ROW)] - g
                w = max(one - dy * dy * in_y, zero)
                w *= w * share
                weights += w
                sum_y += w * dy
                w = max(one - (dy * dy * in_edge + (do * do + dg * dg) * in_colour), zero)
                w *= w * share
                weights_c += w
                sum_o += w * do
                sum_g += w * dg
        # Means of differences, not of values: what is constant stays so, to the last bit.
        tile[at(x) + at(10 * _ROW)] = y + sum_y / weights
        tile[at(x) + at(11 * _ROW)] = o + sum_o / weights_c
        tile[at(x) + at(12 * _ROW)] = g + sum_g / weights_c


@compiled
def _smooth(above: Any, row: Any, below: Any, gain: Any, tile: Any, step: int, limits: Any, out: Any) -> None:
    """One round for a row."""
    for start in range(0, gain.size, _TILE):
        for c in range(3):
            for place, source in ((c, above), (3 + c, row), (6 + c, below)):
                part = source[c, start : start + _TILE + 2 * _PAD]
                for x in range(_TILE + 2 * _PAD):
                    tile[at(place * _ROW) + at(x)] = part[x]
        part = gain[start : start + _TILE]
        for x in range(_TILE):
            tile[at(9 * _ROW) + at(x)] = part[x]
        _smooth_tile(tile, step, limits[0], limits[1], limits[2])
        for c in range(3):
            part = out[c, start + _PAD : start + _PAD + _TILE]
            for x in range(_TILE):
                part[x] = tile[at((10 + c) * _ROW) + at(x)]


@compiled
def denoise_rows(
    photo: Any, out: Any, head: Any, tail: Any, channels: int, first: int, last: int, top: Any, gains: Any, limits: Any
) -> None:
    """Denoise rows ``first`` to ``last`` of a photo; ``out`` may be ``photo``.

    Each row that is read sets off one row of each round, as far behind as the taps of the rounds reach. Of every round,
    the rows that the next one needs are kept, in a ring: the working memory is some 120 rows of float32.

    Args:
        photo, out: H×(W·channels).
        head, tail: copies of the rows before ``first`` and from ``last`` on, up to :data:`REACH` of each: in ``photo``,
            they may have been written over by then.
        top: white, as float32.
        gains: the curve's slope at black, h×w, stretched over the photo.
        limits: for each round, the factors that make 1 of the squares of the differences at which a neighbour's weight
            ends, where the slope is 1: of luminance; of luminance and of colour for averaging colour.
    """
    height, width = photo.shape[0], photo.shape[1] // channels
    padded = (width + _TILE - 1) // _TILE * _TILE
    rings = np.zeros((ROUNDS + 1, _RING, 3, padded + 2 * _PAD), f32)
    gain = np.ones((_RING, padded), f32)
    tile = np.zeros(13 * _ROW, f32)
    scale, half = top / f32(255), f32(0.5 if top > 1 else 0)
    stretch = (gains.shape[0] - 1) / max(height - 1, 1)
    for newest in range(first - len(head), last + REACH):
        if newest < last + len(tail):
            if newest < first:
                source = head[newest - first + len(head)]
            elif newest < last:
                source = photo[newest]
            else:
                source = tail[newest - last]
            row = rings[0, newest % _RING]
            if channels == 3:  # where the compiler knows the distance of samples, it makes vector instructions
                _split(source, 3, f32(255) / top, row)
            else:
                _split(source, channels, f32(255) / top, row)
            _continue(row, width)
            _gain_row(gains, newest * stretch, width, gain[newest % _RING])
        y, reach = newest, REACH
        for n in range(ROUNDS):
            step = 1 << n
            y -= step
            reach -= step
            if max(0, first - reach) <= y < min(height, last + reach):
                above, here, below = max(y - step, 0) % _RING, y % _RING, min(y + step, height - 1) % _RING
                source, row = rings[n], rings[n + 1, here]
                _smooth(source[above], source[here], source[below], gain[here], tile, step, limits[n], row)
                _continue(row, width)
        if y >= first:
            if channels == 3:
                _merge(rings[ROUNDS, y % _RING], 3, scale, half, top, out[y])
            else:
                _merge(rings[ROUNDS, y % _RING], channels, scale, half, top, out[y])
