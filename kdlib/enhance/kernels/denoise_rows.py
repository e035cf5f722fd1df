"""The filter of :mod:`kdlib.enhance.kernels.denoise` in one pass with a power curve, compiled for the CPU.

A round processes a row in tiles, which are copied to and from one small array. There the compiler can prove that reads
and writes do not overlap, as vector instructions require; these make the filter ten times as fast.

GlanceNet's power curve follows in the same pass, so that smoothed values stay float32.
"""

from typing import Any

import numpy as np
from numpy import float32 as f32
from numpy import uintp as at  # unsigned indices need no check for negative values, which would prevent vectorisation

from kdlib.enhance.kernels.compiled import compiled, wide_vectors
from kdlib.noise import LEAST_TOLERATED

ROUNDS = 3
_RING = 2 * 2 ** (ROUNDS - 1) + 1  # rows of a round that the next round needs at a time
_PAD = 4  # columns of padding at each end of a row, for the farthest tap
_TILE = 256  # columns computed at a time
_ROW = _TILE + 16
DIAGONAL = f32(0.5)  # weight of a diagonal neighbour, relative to the others
_LEAST_TOLERANCE = f32(LEAST_TOLERATED)
BLACK = f32(0.5 / 255)  # kdlib.models.glance.BLACK


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
def _merge(row: Any, channels: Any, line: Any) -> None:
    """Convert a row of luminance and colour differences back to pixels, in 255ths and without alpha."""
    zero, white = f32(0), f32(255)
    for x in range(line.size // channels):
        i, k = at(x) * at(channels), at(x) + at(_PAD)
        y, o, g = row[0, k], row[1, k] * f32(0.5), row[2, k] * f32(0.5)
        line[i] = min(max(y - g + o, zero), white)
        if channels >= 3:
            line[i + at(1)] = min(max(y + g, zero), white)
            line[i + at(2)] = min(max(y - g - o, zero), white)


@compiled
def _continue(row: Any, width: int) -> None:
    """Pad a row by repeating the pixels at its ends, for taps beyond them."""
    for c in range(3):
        row[c, :_PAD] = row[c, _PAD]
        row[c, _PAD + width : 2 * _PAD + width] = row[c, _PAD + width - 1]


@compiled
def _stretch(maps: Any, row: int, width: int, out: Any) -> None:
    """Stretch row ``row`` of the maps (M, colours, h, w) to out (M, W·channels), bilinearly with aligned corners."""
    last, channels = maps.shape[3] - 1, out.shape[1] // width
    step = last / max(width - 1, 1)
    for x in range(width):
        left = min(int(x * step), last)
        right, weight = min(left + 1, last), f32(x * step - left)
        for m in range(maps.shape[0]):
            for c in range(maps.shape[1]):
                value = maps[m, c, row, left]
                out[m, x * channels + c] = value + weight * (maps[m, c, row, right] - value)


@compiled
def _stretch_around(maps: Any, y: int, height: int, width: int, rows: Any, held: Any) -> Any:
    """Store the stretched map rows around the photo's row ``y`` in rows[0] and rows[1]; return the weight of rows[1].

    ``held`` is an array of one element, the index of the map row that rows[0] currently holds; initially −2.
    """
    h = maps.shape[2]
    place = y * ((h - 1) / max(height - 1, 1))
    above = max(0, min(int(place), h - 2))
    if above != held[0]:
        if above == held[0] + 1:
            for m in range(maps.shape[0]):
                for i in range(rows.shape[2]):
                    rows[0, m, i] = rows[1, m, i]
        else:
            _stretch(maps, above, width, rows[0])
        _stretch(maps, min(above + 1, h - 1), width, rows[1])
        held[0] = above
    return f32(place - above)


@compiled
def _tolerance_row(rows: Any, weight: Any, lifted: bool, out: Any) -> None:
    """Interpolate a row of the gains (if ``lifted``), or of the tolerances, which become their inverse squares."""
    upper, lower = rows[0, 0], rows[1, 0]
    for x in range(upper.size):
        out[x] = upper[x] + weight * (lower[x] - upper[x])
    if not lifted:
        for x in range(upper.size):
            tolerance = max(out[x], _LEAST_TOLERANCE)
            out[x] = f32(1) / (tolerance * tolerance)


@compiled
def _follow_slope(tile: Any) -> None:
    """Turn a tile's gains at black into 1 / slope², with the slope of a logistic curve at each pixel's luminance."""
    for x in range(_TILE):
        gain, level = tile[at(x) + at(9 * _ROW)], tile[at(x) + at(3 * _ROW + _PAD)] * f32(1 / 255)
        unlifted = level + (f32(1) - level) * gain
        precision = gain / (unlifted * unlifted)
        tile[at(x) + at(9 * _ROW)] = precision * precision


@compiled
def _smooth_tile(tile: Any, step: int, luminance: Any, colour_edge: Any, colour: Any) -> None:
    """Run one round on a tile of a row.

    Args:
        tile: rows of _ROW samples in one flat array, so that the compiler sees that they do not overlap: luminance and
            two colour differences of the upper, middle and lower row; the factor of the limits; and the three rows of
            the result.
    """
    wide_vectors()
    one, zero = f32(1), f32(0)
    for x in range(_TILE):
        here = at(x) + at(3 * _ROW + _PAD)
        y, o, g = tile[here], tile[here + at(_ROW)], tile[here + at(2 * _ROW)]
        precision = tile[at(x) + at(9 * _ROW)]
        in_y, in_edge, in_colour = luminance * precision, colour_edge * precision, colour * precision
        weights, weights_c, sum_y, sum_o, sum_g = one, one, zero, zero, zero  # the pixel itself counts twice
        for row in range(3):
            for side in range(3):
                if row == 1 and side == 1:
                    weights += one
                    weights_c += one
                    continue
                there = at(x) + at(row * 3 * _ROW + _PAD) + at(side) * at(step) - at(step)
                share = one if row == 1 or side == 1 else DIAGONAL
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
        # Averaging differences instead of values keeps constant areas constant to the last bit.
        tile[at(x) + at(10 * _ROW)] = y + sum_y / weights
        tile[at(x) + at(11 * _ROW)] = o + sum_o / weights_c
        tile[at(x) + at(12 * _ROW)] = g + sum_g / weights_c


@compiled
def _smooth(
    above: Any, row: Any, below: Any, gain: Any, lifted: bool, tile: Any, step: int, limits: Any, out: Any
) -> None:
    """Run one round on a row."""
    for start in range(0, gain.size, _TILE):
        for c in range(3):
            for place, source in ((c, above), (3 + c, row), (6 + c, below)):
                part = source[c, start : start + _TILE + 2 * _PAD]
                for x in range(_TILE + 2 * _PAD):
                    tile[at(place * _ROW) + at(x)] = part[x]
        part = gain[start : start + _TILE]
        for x in range(_TILE):
            tile[at(9 * _ROW) + at(x)] = part[x]
        if lifted:
            _follow_slope(tile)
        _smooth_tile(tile, step, limits[0], limits[1], limits[2])
        for c in range(3):
            part = out[c, start + _PAD : start + _PAD + _TILE]
            for x in range(_TILE):
                part[x] = tile[at((10 + c) * _ROW) + at(x)]


@compiled
def log2(value: Any) -> Any:
    """Return log2 of a normal, positive float32, accurate to float32 rounding, with operations that vectorise."""
    # Split off the exponent so that the mantissa lies between √½ and √2.
    shifted = np.int32(f32(value).view(np.int32) - np.int32(0x3F3504F3))
    exponent = np.int32(shifted >> np.int32(23))
    t = np.int32(np.int32(shifted & np.int32(0x7FFFFF)) + np.int32(0x3F3504F3)).view(np.float32) - f32(1)
    # Minimax polynomial of log2(1 + t) / t.
    p = (f32(-0.14599061) * t + f32(0.23674612)) * t - f32(0.24992369)
    p = (p * t + f32(0.28672734)) * t - f32(0.36010382)
    p = (p * t + f32(0.48093846)) * t - f32(0.72135663)
    return f32(exponent) + (p * t + f32(1.44269478)) * t


@compiled
def exp2(value: Any) -> Any:
    """Return 2 to the power of a float32, which is clamped to −126 … 126."""
    value = min(max(value, f32(-126)), f32(126))
    whole = np.floor(value + f32(0.5))
    t = value - whole
    # Minimax polynomial from −½ to ½; the integer part goes to the exponent.
    p = (f32(0.0013276472) * t + f32(0.0096755419)) * t + f32(0.055507131)
    p = ((p * t + f32(0.2402212)) * t + f32(0.69314694)) * t + f32(1.0000001)
    return np.int32(f32(p).view(np.int32) + np.int32(np.int32(whole) << np.int32(23))).view(np.float32)


@compiled
def _power_row(line: Any, rows: Any, weight: Any) -> None:
    """Apply the power curve in place; ``rows`` holds the upper and lower rows of log2 of the gain and of gamma."""
    gain_above, gain_below, gamma_above, gamma_below = rows[0, 0], rows[1, 0], rows[0, 1], rows[1, 1]
    black = log2(BLACK)
    for i in range(line.size):
        gain = gain_above[i] + weight * (gain_below[i] - gain_above[i])
        gamma = gamma_above[i] + weight * (gamma_below[i] - gamma_above[i])
        y = exp2(gamma * log2(line[i] * f32(1 / 255) + BLACK) + gain) - exp2(gamma * black + gain)
        line[i] = min(max(y, f32(0)), f32(1)) * f32(255)


@compiled
def _write(line: Any, channels: int, top: Any, target: Any) -> None:
    """Scale a row from 255ths to the photo's range, round it and write it, without alpha."""
    scale, half = top / f32(255), f32(0.5 if top > 1 else 0)
    if channels == 1 or channels == 3:
        for i in range(target.size):
            target[i] = line[i] * scale + half
        return
    for x in range(target.size // channels):
        for i in range(x * channels, (x + 1) * channels - 1):
            target[i] = line[i] * scale + half


@compiled
def row_of(photo: Any, head: Any, tail: Any, first: int, last: int, y: int) -> Any:
    """Return row ``y`` of a photo, from the copies where it lies outside of the part; see :func:`filter_rows`."""
    if y < first:
        return head[y - first + len(head)]
    if y >= last:
        return tail[y - last]
    return photo[y]


@compiled
def filter_rows(
    photo: Any, out: Any, head: Any, tail: Any, channels: int, first: int, last: int, top: Any,
    tolerances: Any, lifted: bool, limits: Any, curve: Any,
) -> None:  # fmt: skip
    """Smooth rows ``first`` to ``last`` of a photo and apply a power curve; ``out`` may be ``photo``.

    After each row that is read, one row of each round is computed, delayed by the reach of the rounds' taps. A ring
    buffer per round keeps the rows that the next round needs; the working memory is about 120 rows of float32.

    Args:
        photo, out: H×(W·channels).
        head, tail: copies of the rows before ``first`` and from ``last`` on, as many as all rounds together reach,
            because these rows of ``photo`` may have been overwritten.
        top: white, as float32.
        tolerances: 1×1×h×w, stretched over the photo: the noise in 255ths or, if ``lifted``, the slope at black of the
            curve that amplified the noise.
        limits: rounds×3; inverse squares of the differences at which a neighbour's weight reaches 0, for a tolerance
            or slope of 1: of luminance, and for averaging colour of luminance and of colour. With no rounds, nothing
            is smoothed.
        curve: 2×colours×h×w, log2 of the gain and gamma, stretched over the photo; 0×1×1×1 for no curve.
    """
    height, width = photo.shape[0], photo.shape[1] // channels
    padded = (width + _TILE - 1) // _TILE * _TILE
    rounds = len(limits)
    farthest = 2**rounds - 1
    rings = np.zeros((rounds + 1, _RING, 3, padded + 2 * _PAD), f32)
    gain = np.ones((_RING, padded), f32)
    tile = np.zeros(13 * _ROW, f32)
    gain_rows, gains_held = np.zeros((2, 1, width), f32), np.full(1, -2)
    curve_rows, curve_held = np.zeros((2, len(curve), width * channels), f32), np.full(1, -2)
    line = np.zeros(width * channels, f32)
    for newest in range(first - len(head), last + farthest):
        if newest < last + len(tail):
            source = row_of(photo, head, tail, first, last, newest)
            row = rings[0, newest % _RING]
            if channels == 3:  # a constant stride lets the compiler vectorise
                _split(source, 3, f32(255) / top, row)
            else:
                _split(source, channels, f32(255) / top, row)
            if rounds:
                _continue(row, width)
                weight = _stretch_around(tolerances, newest, height, width, gain_rows, gains_held)
                _tolerance_row(gain_rows, weight, lifted, gain[newest % _RING])
        y, reach = newest, farthest
        for n in range(rounds):
            step = 1 << n
            y -= step
            reach -= step
            if max(0, first - reach) <= y < min(height, last + reach):
                above, here, below = max(y - step, 0) % _RING, y % _RING, min(y + step, height - 1) % _RING
                source, row = rings[n], rings[n + 1, here]
                _smooth(source[above], source[here], source[below], gain[here], lifted, tile, step, limits[n], row)
                _continue(row, width)
        if y < first:
            continue
        row = rings[rounds, y % _RING]
        if channels == 3:
            _merge(row, 3, line)
        else:
            _merge(row, channels, line)
        if len(curve):
            weight = _stretch_around(curve, y, height, width, curve_rows, curve_held)
            _power_row(line, curve_rows, weight)
        _write(line, channels, top, out[y])
