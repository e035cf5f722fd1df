"""The two steps that touch the full photo, as Triton kernels for CUDA: area average and fused curve.

The arithmetic is that of :mod:`kdlib.enhance.kernels.separable` and :mod:`kdlib.enhance.kernels.curve`; the gains of a
grid are in :mod:`kdlib.enhance.kernels.triton_grid`. With ``TRITON_INTERPRET=1`` set before the import they run on the
CPU, slowly, which is how they are tested without a GPU.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kdlib.enhance.kernels.plain_torch import WHITE

_BLOCK = 1024


# mypy: disable-error-code=no-untyped-def
# Photos have all sizes, and one compiled kernel serves them: special ones for sides of 1 or multiples of 16 would not.
_SIDES = ["height", "width", "h", "w"]


@triton.jit(do_not_specialize=_SIDES)
def _area_average(photo, small, height, width, channels, h, w, scale, COLUMNS: tl.constexpr):
    """Average COLUMNS neighbouring windows of one row of the small copy, for one colour, in each program."""
    i, c = tl.program_id(0), tl.program_id(2)
    j = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    top, bottom = i * height // h, ((i + 1) * height + h - 1) // h
    left, right = j * width // w, ((j + 1) * width + w - 1) // w
    widest = (width + w - 1) // w + 1
    total = tl.zeros([COLUMNS], dtype=tl.float32)
    line = photo + top.to(tl.int64) * width * channels + c
    for _ in range(top, bottom):
        # Summed row by row, because one running sum over a large window would lose its last terms to rounding.
        row = tl.zeros([COLUMNS], dtype=tl.float32)
        for k in range(widest):
            x = left + k
            row += tl.load(line + x * channels, mask=(x < right) & (j < w), other=0).to(tl.float32)
        total += row
        line += width * channels
    mean = total / ((bottom - top) * (right - left)).to(tl.float32)
    tl.store(small + (c * h + i) * w + j, mean * scale, mask=j < w)


@triton.jit
def interpolated(plane, above, below, left, right, w, down, across, mask):
    """Interpolate a plane of w columns bilinearly, in the type of the weights; 0 where the mask is false."""
    a = tl.load(plane + above * w + left, mask=mask, other=0.0).to(down.dtype)
    b = tl.load(plane + above * w + right, mask=mask, other=0.0).to(down.dtype)
    upper = a + across * (b - a)
    a = tl.load(plane + below * w + left, mask=mask, other=0.0).to(down.dtype)
    b = tl.load(plane + below * w + right, mask=mask, other=0.0).to(down.dtype)
    lower = a + across * (b - a)
    return upper + down * (lower - upper)


@triton.jit
def as_sample(v, top, DTYPE: tl.constexpr, WHOLE: tl.constexpr):
    """Convert from [0, 1] to a photo's type, clipped, and rounded half up where it has whole numbers."""
    v = tl.minimum(tl.maximum(v, 0.0), 1.0)
    if WHOLE:
        v = (v * top + 0.5).to(tl.int32)
    return v.to(DTYPE)


@triton.jit(do_not_specialize=_SIDES)
def _curve(
    photo, maps, out, height, width, h, w, top,
    CHANNELS: tl.constexpr, COLOURS: tl.constexpr, ITERATIONS: tl.constexpr, SHARED: tl.constexpr,
    WHOLE: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program enhances BLOCK neighbouring samples of one row: read, all iterations in registers, written."""
    y = tl.program_id(0)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = i < width * CHANNELS
    x, c = i // CHANNELS, i % CHANNELS
    at = y.to(tl.int64) * width * CHANNELS + i
    sample = tl.load(photo + at, mask=inside, other=0)
    number = tl.float64 if WIDE else tl.float32
    v = sample.to(number) / top
    # Positions in float64, as on the CPU: float32 would shift the map on wide photos. A side of 1 has position 0.
    pos_y = (y * (h - 1)).to(tl.float64) / tl.maximum(height - 1, 1).to(tl.float64)
    pos_x = (x * (w - 1)).to(tl.float64) / tl.maximum(width - 1, 1).to(tl.float64)
    above = tl.minimum(pos_y.to(tl.int32), tl.maximum(h - 2, 0))
    left = tl.minimum(pos_x.to(tl.int32), tl.maximum(w - 2, 0))
    below, right = tl.minimum(above + 1, h - 1), tl.minimum(left + 1, w - 1)
    down, across = (pos_y - above).to(number), (pos_x - left).to(number)
    colour = inside & (c < COLOURS)
    r = tl.zeros([BLOCK], dtype=number)
    for n in tl.static_range(ITERATIONS):
        if n == 0 or not SHARED:
            plane = maps + (n * COLOURS + c) * (h * w)
            r = interpolated(plane, above, below, left, right, w, down, across, colour)
        v = v + r * (v * v - v)
    result = as_sample(v, top, out.dtype.element_ty, WHOLE)
    tl.store(out + at, tl.where(c < COLOURS, result, sample), mask=inside)


def small_copy(photo: Tensor, size: tuple[int, int]) -> Tensor:
    """H×W×C, contiguous → 3×h×w float32 in [0, 1], on the same device."""
    height, width, channels = photo.shape
    colours = 3 if channels >= 3 else 1
    small = torch.empty((colours, *size), dtype=torch.float32, device=photo.device)
    columns = 32
    grid = (size[0], triton.cdiv(size[1], columns), colours)
    with launching_on(photo):
        _area_average[grid](photo, small, height, width, channels, *size, 1 / WHITE[photo.dtype], COLUMNS=columns)
    return small.expand(3, *size)


def apply_curve_map(photo: Tensor, maps: Tensor, iterations: int, out: Tensor) -> None:
    """The fused pass, into ``out``; arguments as in :func:`kdlib.enhance.kernels.plain_torch.apply_curve_map`.

    They are contiguous.
    """
    height, width, channels = photo.shape
    colours = 3 if channels >= 3 else 1
    h, w = maps.shape[1:]
    options: dict[str, Any] = {
        "CHANNELS": channels,
        "COLOURS": colours,
        "ITERATIONS": iterations,
        "SHARED": maps.shape[0] == colours,
        "WHOLE": photo.dtype != torch.float32,
        "WIDE": photo.dtype == torch.uint16,
        "BLOCK": _BLOCK,
    }
    grid = (height, triton.cdiv(width * channels, _BLOCK))
    with launching_on(photo):
        _curve[grid](photo, maps.contiguous(), out, height, width, h, w, float(WHITE[photo.dtype]), **options)


def launching_on(photo: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the photo's."""
    return torch.cuda.device(photo.device) if photo.is_cuda else contextlib.nullcontext()
