"""Reading and writing photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from kdlib.enhance.photos.paths import PHOTO_SUFFIXES, PhotoError, list_photos, photo_errors
from kdlib.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "PHOTO_SUFFIXES",
    "PhotoError",
    "list_photos",
    "open_photo",
    "read_photo",
    "to_array",
    "to_tensor",
    "write_photo",
]

# All that have one of PHOTO_SUFFIXES; Pillow's names.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "GIF", "PPM")


def open_photo(path: str | Path) -> Image.Image:
    """Decode a photo, upright (EXIF orientation applied), as 8-bit RGB.

    Greyscale, palette, CMYK and 16-bit greyscale photos are converted; transparency is dropped.

    Raises:
        PhotoError: missing, empty, truncated, too large, or not an image.
    """
    path = Path(path)
    Image.init()
    # Pillow knows many more, some of which start a program: PostScript, for one, whatever the file is called.
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with photo_errors(path), Image.open(path, formats=formats) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I") or upright.mode == "F":
            upright = Image.fromarray(_to_eight_bits(np.asarray(upright), upright.mode))
        return upright.convert("RGB")


def _to_eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Pillow clips wide greyscale to 255 when it converts; scale it from its real range instead."""
    if values.dtype.kind == "f":
        scale = 255.0 if values.max(initial=0) <= 1 else 1.0
    else:
        scale = 1 / 257 if mode.startswith("I;16") or values.max(initial=0) > 255 else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def read_photo(path: str | Path) -> np.ndarray:
    """Decode a photo as H×W×3 RGB, uint8, upright. Raises :class:`PhotoError` as :func:`open_photo` does."""
    return np.array(open_photo(path))


def write_photo(path: str | Path, photo: np.ndarray | Tensor) -> Path:
    """Encode a photo; the extension chooses the format, and a file is never left half-written.

    Args:
        path: where to; its folder is made.
        photo: H×W×3 uint8, or 3×H×W floating point in [0, 1].

    Raises:
        ValueError: wrong shape or dtype, or an unknown extension.
    """
    path = Path(path)
    array = photo if isinstance(photo, np.ndarray) else _from_tensor(path, photo)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"{path}: expected H×W×3 uint8, got {array.shape} {array.dtype}")
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format is None:
        raise ValueError(f"{path}: unknown file extension {path.suffix!r}; .png and .jpg are known, for example")
    with replacing(path) as partial:
        Image.fromarray(array).save(partial, format=image_format, quality=95)
    return path


def _from_tensor(path: Path, photo: Tensor) -> np.ndarray:
    if photo.ndim != 3 or not photo.is_floating_point():
        raise ValueError(f"{path}: expected 3×H×W floating point, got {tuple(photo.shape)} {photo.dtype}")
    return to_array(photo)


def to_tensor(photo: np.ndarray) -> Tensor:
    """H×W×3 uint8 → 3×H×W float32 in [0, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1).float() / 255


def to_array(photo: Tensor) -> np.ndarray:
    """3×H×W floating point → H×W×3 uint8, clamped to [0, 1] and rounded."""
    return photo.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
