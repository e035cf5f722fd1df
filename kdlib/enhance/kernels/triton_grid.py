"""The gains of a bilateral grid as a Triton kernel for CUDA: read, interpolated, applied and written in one pass.

The arithmetic is that of :mod:`kdlib.enhance.kernels.grid_rows`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kdlib.enhance.kernels.plain_torch import WHITE
from kdlib.enhance.kernels.triton import as_sample, interpolated, launching_on
from kdlib.gain_grid import DEEP, KNOTS, LEAST_DIVISOR, LEAST_SIGNAL

_BLOCK = 256  # fewer than for a curve, because each pixel needs many registers
_KNOTS = tl.constexpr(KNOTS)
_RAMPS = tl.constexpr(len(KNOTS) - 1)
_LEAST_DIVISOR = tl.constexpr(LEAST_DIVISOR)
_TINY = tl.constexpr(LEAST_SIGNAL / 255)
_DEPTH = tl.constexpr(1 / DEEP)


# mypy: disable-error-code=no-untyped-def
# As in kdlib.enhance.kernels.triton, one compiled kernel serves photos of all sizes.
@triton.jit(do_not_specialize=["first", "height", "width", "h", "w", "row", "plane", "out_row"])
def _gains(
    photo, cells, out, first, height, width, h, w, row, pixel, plane, out_row, out_pixel, out_plane,
    white, top, up, down, floor,
    GREY: tl.constexpr, COLOURS: tl.constexpr, NOISY: tl.constexpr, WHOLE: tl.constexpr, WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program enhances BLOCK neighbouring pixels of one row."""
    i = tl.program_id(0)
    x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = x < width
    number = tl.float64 if WIDE else tl.float32
    source = photo + i.to(tl.int64) * row + x * pixel
    red = tl.load(source, mask=inside, other=0).to(number) / white
    green = red
    blue = red
    if not GREY:
        green = tl.load(source + plane, mask=inside, other=0).to(number) / white
        blue = tl.load(source + 2 * plane, mask=inside, other=0).to(number) / white
    luminance = (red + green + green + blue) * 0.25
    # Positions between the centres of cells, in float64, as on the CPU.
    pos_y = ((i + first).to(tl.float64) + 0.5) * h / height - 0.5
    pos_x = (x.to(tl.float64) + 0.5) * w / width - 0.5
    pos_y, pos_x = tl.minimum(tl.maximum(pos_y, 0.0), h - 1), tl.minimum(tl.maximum(pos_x, 0.0), w - 1)
    above, left = pos_y.to(tl.int32), pos_x.to(tl.int32)
    below, right = tl.minimum(above + 1, h - 1), tl.minimum(left + 1, w - 1)
    lower, across = (pos_y - above).to(number), (pos_x - left).to(number)
    at_knot = interpolated(cells, above, below, left, right, w, lower, across, inside)
    gain = at_knot
    for k in tl.static_range(_RAMPS):
        cells += h * w
        at_next = interpolated(cells, above, below, left, right, w, lower, across, inside)
        ramp = (luminance - _KNOTS[k]) * (1 / (_KNOTS[k + 1] - _KNOTS[k]))
        gain += (at_next - at_knot) * tl.minimum(tl.maximum(ramp, 0.0), 1.0)
        at_knot = at_next
    chroma = interpolated(cells + h * w, above, below, left, right, w, lower, across, inside)
    lift = tl.maximum(gain - 1, 0.0)
    deep = tl.maximum(1 - luminance * _DEPTH, 0.0)
    chroma *= (1 + down * tl.maximum(1 - gain, 0.0)) / tl.maximum(1 + up * lift * deep, _LEAST_DIVISOR)
    if NOISY:
        gain -= lift * (1 - luminance / tl.maximum(luminance + floor, _TINY))
    # gain · (luminance + chroma · (channel − luminance))
    scale = gain * chroma
    base = (gain - scale) * luminance
    red, green, blue = base + scale * red, base + scale * green, base + scale * blue
    peak = tl.maximum(tl.maximum(red, green), tl.maximum(blue, 1.0))
    target = out + i.to(tl.int64) * out_row + x * out_pixel
    tl.store(target, as_sample(red / peak, top, out.dtype.element_ty, WHOLE), mask=inside)
    if COLOURS == 3:
        tl.store(target + out_plane, as_sample(green / peak, top, out.dtype.element_ty, WHOLE), mask=inside)
        tl.store(target + 2 * out_plane, as_sample(blue / peak, top, out.dtype.element_ty, WHOLE), mask=inside)


def apply_gains(
    photo: Tensor,
    gains: Tensor,
    chroma: tuple[float, float],
    floor: float | None,
    out: Tensor,
    *,
    first: int = 0,
    height: int | None = None,
) -> None:
    """Apply the gains of a grid to a photo, or to rows of one.

    Args:
        photo: H×W×C without alpha, of any strides: samples of a photo, or the smoothed photo in [0, 1]. Grey may have
            three channels.
        gains: 9×h×w, factors, in the type to compute with.
        chroma: factors by which chroma decreases with gains above 1 in deep shadows, and increases with gains below 1.
        floor: luminance, from 0 to 1, at which half of the gain above 1 remains; None for a photo that is not smoothed.
        out: H×W×C of a photo's dtype, without alpha, of any strides; may be ``photo``.
        first: the photo's row with which ``photo`` begins.
        height: rows of the whole photo; by default, those of ``photo``.
    """
    rows, width, colours = out.shape
    white, top = float(WHITE.get(photo.dtype, 1)), float(WHITE[out.dtype])
    with launching_on(photo):
        _gains[(rows, triton.cdiv(width, _BLOCK))](
            photo, gains.contiguous(), out, first, height or rows, width, *gains.shape[1:], *photo.stride(),
            *out.stride(), white, top, *chroma, floor or 0.0, GREY=photo.shape[2] == 1, COLOURS=colours,
            NOISY=floor is not None, WHOLE=out.dtype != torch.float32, WIDE=gains.dtype == torch.float64, BLOCK=_BLOCK,
        )  # fmt: skip
