"""Shrinking and enlarging by bicubic, which makes the photos that networks learn to sharpen, and test photos.

Scores in super-resolution depend on the kernel: the tests' figures are those of MATLAB's ``imresize``, and Pillow's,
with a = −0.5, and with a kernel that widens as a photo shrinks. PyTorch has that kernel under ``antialias=True`` only,
and so enlarging asks for it too, where there is nothing to widen: without, a is −0.75, and bicubic scores 0.2 dB
higher on Set5 (28.63 dB, not 28.43), against which no published figure can be held.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_to_multiple(images: Tensor, factor: int = 4) -> Tensor:
    """The largest part of ``…×H×W`` at the upper left whose sides are multiples of ``factor``; a view.

    Raises:
        ValueError: a side is smaller than ``factor``, or it is below 1.
    """
    _check_factor(factor)
    height, width = images.shape[-2:]
    if min(height, width) < factor:
        raise ValueError(f"a photo of {width}×{height} pixels is too small to be shrunk to 1/{factor}")
    return images[..., : height // factor * factor, : width // factor * factor]


def shrink(images: Tensor, factor: int = 4) -> Tensor:
    """Shrink by bicubic with anti-aliasing.

    Args:
        images: B×3×H×W floating point, H and W multiples of ``factor``.

    Returns:
        B×3×H/factor×W/factor; bicubic overshoots beside edges, beyond [0, 1] too: see :func:`as_stored`.

    Raises:
        ValueError: wrong rank or dtype, a side that is no multiple of ``factor``, or a factor below 1.
    """
    _check_factor(factor)
    height, width = images.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"a side of {width}×{height} pixels is no multiple of {factor}; see crop_to_multiple")
    return resize(images, (height // factor, width // factor))


def enlarge(images: Tensor, to: int | Sequence[int] = 4) -> Tensor:
    """Enlarge by bicubic.

    Args:
        images: B×3×H×W floating point.
        to: by this factor, or to this height and width.

    Returns:
        B×3 and the new size; not clamped, as in :func:`shrink`.

    Raises:
        ValueError: wrong rank or dtype, or a size that is smaller.
    """
    height, width = images.shape[-2:]
    rows, columns = (height * to, width * to) if isinstance(to, int) else to
    if rows < height or columns < width:
        raise ValueError(f"{width}×{height} pixels cannot be enlarged to {columns}×{rows}")
    return resize(images, (rows, columns))


def _check_factor(factor: int) -> None:
    if factor < 1:
        raise ValueError(f"photos are shrunk by a whole number from 1 up, not {factor}")


def as_stored(images: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bits, as a file would hold it; any shape, in the same floating-point type."""
    return images.clamp(0, 1).mul(255).round().div(255)


def blur(images: Tensor, factor: int = 4) -> Tensor:
    """What is left of sharp photos when they were shrunk, stored in 8 bits, and enlarged to their size again.

    The enlarged photo is in 8 bits too: that is what a sharpening network gets from the program that enlarged. Whether
    the small, the large or both are rounded moves bicubic's PSNR on Set5 and Set14 by 0.012 dB at most.

    Args:
        images: B×3×H×W floating point in [0, 1], H and W multiples of ``factor``.

    Raises:
        ValueError: as :func:`shrink`.
    """
    return as_stored(enlarge(as_stored(shrink(images, factor)), images.shape[-2:]))


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Bicubic at another height and width, averaging where it shrinks; the images themselves if that is their size.

    Args:
        images: B×C×H×W floating point; the result is not clamped.

    Raises:
        ValueError: wrong rank or dtype.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"expected B×3×H×W floating point, got {'×'.join(map(str, images.shape))} {images.dtype}")
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    # In half precision the sixteen taps would cost more than the 8 bits that are kept.
    wide = images if images.dtype == torch.float64 else images.float()
    return F.interpolate(wide, size=tuple(size), mode="bicubic", align_corners=False, antialias=True).to(images.dtype)
