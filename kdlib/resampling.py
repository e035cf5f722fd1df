"""Bicubic downsampling and upsampling, which make the training and test photos for super-resolution.

Scores in super-resolution depend on the kernel. Published figures use that of MATLAB's ``imresize``, which is also
Pillow's: a = −0.5, widened when a photo is downsampled. PyTorch has this kernel only with ``antialias=True``, so
upsampling uses that option too, although it widens nothing there. Without it, a is −0.75 and bicubic scores 0.2 dB
higher on Set5 (28.63 dB instead of 28.43 dB), which cannot be compared with published figures.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.checks import check_number


def crop_to_multiple(images: Tensor, factor: int = 4) -> Tensor:
    """Return a view of the largest upper left part of ``…×H×W`` whose sides are multiples of ``factor``.

    Raises:
        ValueError: a side is smaller than ``factor``, or ``factor`` is below 1.
    """
    check_number("the factor", factor, 1)
    height, width = images.shape[-2:]
    if min(height, width) < factor:
        raise ValueError(f"a photo of {width}×{height} pixels is too small to be downsampled to 1/{factor}")
    return images[..., : height // factor * factor, : width // factor * factor]


def shrink(images: Tensor, factor: int = 4) -> Tensor:
    """Downsample by bicubic interpolation with anti-aliasing.

    Args:
        images: B×3×H×W floating point, with H and W multiples of ``factor``.

    Returns:
        B×3×H/factor×W/factor. Bicubic overshoots beside edges, possibly beyond [0, 1]; see :func:`as_stored`.

    Raises:
        ValueError: the rank or dtype is wrong, a side is not a multiple of ``factor``, or ``factor`` is below 1.
    """
    check_number("the factor", factor, 1)
    height, width = images.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"a side of {width}×{height} pixels is not a multiple of {factor}; use crop_to_multiple first")
    return resize(images, (height // factor, width // factor))


def enlarge(images: Tensor, to: int | Sequence[int] = 4) -> Tensor:
    """Upsample by bicubic interpolation.

    Args:
        images: B×3×H×W floating point.
        to: the factor, or the new height and width.

    Returns:
        B×3 and the new height and width; not clamped, as in :func:`shrink`.

    Raises:
        ValueError: the rank or dtype is wrong, or the new size is smaller.
    """
    height, width = images.shape[-2:]
    rows, columns = (height * to, width * to) if isinstance(to, int) else to
    if rows < height or columns < width:
        raise ValueError(f"{width}×{height} pixels cannot be enlarged to {columns}×{rows}")
    return resize(images, (rows, columns))


def as_stored(images: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bits, as in a file, for any shape; the floating-point type stays the same."""
    return images.clamp(0, 1).mul(255).round().div(255)


def blur(images: Tensor, factor: int = 4) -> Tensor:
    """Downsample sharp photos, store them in 8 bits, and upsample them to their original size.

    The upsampled photo is rounded to 8 bits too, because that is what a super-resolution network gets from a program
    that enlarges photos. Rounding the small photo, the large one or both changes bicubic's PSNR on Set5 and Set14 by
    0.012 dB at most.

    Args:
        images: B×3×H×W floating point in [0, 1], with H and W multiples of ``factor``.

    Raises:
        ValueError: as :func:`shrink`.
    """
    return as_stored(enlarge(as_stored(shrink(images, factor)), images.shape[-2:]))


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Resize by bicubic interpolation with anti-aliasing; images that have the size already are returned themselves.

    Args:
        images: B×C×H×W floating point; the result is not clamped.
        size: new height and width.

    Raises:
        ValueError: the rank or dtype is wrong.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"expected B×3×H×W floating point, got {'×'.join(map(str, images.shape))} {images.dtype}")
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    # In half precision, the error of summing sixteen taps would exceed that of rounding to 8 bits.
    wide = images if images.dtype == torch.float64 else images.float()
    return F.interpolate(wide, size=tuple(size), mode="bicubic", align_corners=False, antialias=True).to(images.dtype)
