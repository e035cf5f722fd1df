"""Lesson 06: memory traffic, fused passes, noise of a small copy, and the strength of a curve."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from kdlib.exercises import Wrong, close_to, exercise, same
from kdlib.models import apply_curve

ITERATIONS = 8
# Bytes for each sample: conversion to float and back, and the stretched map, before and after the iterations.
_AROUND = (1 + 4) + (4 + 4) + 4 + (4 + 4) + (4 + 4) + (4 + 1)
# x·x into the buffer, minus x, then x + r·buffer: bytes read and written.
IN_PLACE = _AROUND + ITERATIONS * ((4 + 4) + (8 + 4) + (12 + 4))


@exercise("06.1", "The traffic of the form in place", solution=IN_PLACE)
def check_traffic(answer: float) -> None:
    mistakes = {
        float(ITERATIONS * 36): "the passes before and after the iterations count, too",
        390.0: "this is the traffic of the form in the figure above",
    }
    close_to(answer, IN_PLACE, within=0.5, mistakes=mistakes)


def strips(photo: np.ndarray, r: np.ndarray, rows: int = 8) -> np.ndarray:
    """The solution: all iterations on one strip of rows before the next."""
    out = np.empty_like(photo)
    for y in range(0, len(photo), rows):
        strip = slice(y, y + rows)
        x = photo[strip] * np.float32(1 / 255)
        buffer = np.empty_like(x)
        for _ in range(ITERATIONS):
            np.multiply(x, x, out=buffer)
            buffer -= x
            buffer *= r[strip]
            x += buffer
        out[strip] = 255 * x + np.float32(0.5)
    return out


def rounded_curve(photo: np.ndarray, r: np.ndarray) -> np.ndarray:
    """The curve in float64, rounded once."""
    x, maps = (torch.from_numpy(array).permute(2, 0, 1)[None].double() for array in (photo / 255, r))
    return np.floor(255 * apply_curve(x, maps, ITERATIONS)[0].permute(1, 2, 0).numpy() + 0.5)


@exercise("06.2", "A few rows at a time", solution=strips)
def check_strips(answer):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    for height, width, rows in ((16, 5, 4), (13, 6, 4), (7, 4, 50), (5, 3, 1)):
        photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        r = rng.uniform(-0.9, 0.9, photo.shape).astype(np.float32)
        found, what = answer(photo, r, rows), f"the result for {height} rows in strips of {rows}"
        wanted = rounded_curve(photo, r)
        same(found, found if getattr(found, "shape", None) == photo.shape else wanted, what)
        if found.dtype != np.uint8:
            raise Wrong(f"{what} has the dtype {found.dtype}, expected uint8")
        off = np.abs(found - wanted)
        if off.max() > 1:
            first = int((off > 1).any(axis=(1, 2)).argmax())  # row that is wrong
            if rows < height and first >= height - height % rows:
                raise Wrong(f"{what} is wrong in the last strip alone, which has fewer than {rows} rows")
            if rows <= first < 2 * rows:
                raise Wrong(f"{what} is right in the first strip alone: take the same rows of r as of the photo")
            raise Wrong(f"{what} is up to {off.max():.0f} levels away from float64, at most 1 is expected")
        if (off > 0).mean() > 0.1:
            raise Wrong(f"{what} is one level away in many samples: add 0.5 before the conversion to bytes")
    photo, r = np.zeros((512, 64, 3), np.uint8), np.zeros((512, 64, 3), np.float32)
    of_strips, of_all = (_peak_memory(answer, photo, r, rows) for rows in (8, len(photo)))
    if of_strips > 0.9 * of_all:
        raise Wrong("strips makes arrays as large as the photo: do all iterations on a few rows before the next rows")


def _peak_memory(function: Callable[..., Any], *arguments: Any) -> int:
    """Return the most bytes that Python and NumPy hold during a call."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def gamma_row(x, upper, lower, share, out):  # type: ignore[no-untyped-def]
    """The solution: the row of bytes of the lesson with another curve, x ← x^g."""
    for i in range(x.size):
        g = upper[i] + share * (lower[i] - upper[i])
        value = (np.float32(x[i]) * np.float32(1 / 255)) ** g
        out[i] = value * np.float32(255) + np.float32(0.5)


@exercise("06.3", "A fused pass for gamma", solution=gamma_row, in_place=True)
def check_gamma_row(answer):  # type: ignore[no-untyped-def]
    x = np.array([0, 1, 17, 60, 128, 200, 254, 255, 90], np.uint8)
    upper = np.linspace(0.3, 1, x.size, dtype=np.float32)
    for lower, share in ((upper, 0.0), (upper[::-1].copy(), 0.25)):
        out = np.full_like(x, 77)
        answer(x, upper, lower, np.float32(share), out)
        g = upper + share * (lower.astype(float) - upper)
        exact = 255 * (x / 255) ** g
        off = np.abs(out - exact)
        if off.max() > 0.51:
            at = int(off.argmax())
            raise Wrong(
                f"out[{at}] is {out[at]}, expected {exact[at]:.0f}, for the byte {x[at]}, the exponents "
                f"{upper[at]:.2f} above and {lower[at]:.2f} below, and the share {share:g}"
            )


@exercise("06.4", "Four pixels or 144", solution=6.0)
def check_noise(answer: float) -> None:
    mistakes = {36.0: "the mean of n values divides the variance by n; noise is its root"}
    close_to(answer, (144 / 4) ** 0.5, within=0.5, mistakes=mistakes)


def equal_strength(r: float, iterations: int) -> float:
    """The solution of (1 − s·r)⁸ = (1 − r)ⁿ for s."""
    return float((1 - (1 - r) ** (iterations / ITERATIONS)) / r)


@exercise("06.6", "Stronger, or more often?", solution=equal_strength)
def check_equal_strength(answer):  # type: ignore[no-untyped-def]
    black = torch.full((1, 3, 1, 1), 1e-9, dtype=torch.float64)
    for r, iterations in ((-0.3, 8), (-0.2, 12), (-0.15, 16), (0.2, 4)):
        s = answer(r, iterations)
        same(s, float(s) if isinstance(s, int | float | np.floating) else 0.0, f"equal_strength({r}, {iterations})")
        wanted, found = (
            float(apply_curve(black, torch.full_like(black, strength), n)[0, 0, 0, 0] / black[0, 0, 0, 0])
            for strength, n in ((r, iterations), (float(s) * r, ITERATIONS))
        )
        what = f"with equal_strength({r}, {iterations}), the factor of eight iterations near black"
        same(found, wanted, what, rtol=1e-3)
