"""Reading photos as 8-bit RGB, and writing them, for training and evaluation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from kdlib.enhance.photos.paths import PHOTO_SUFFIXES, PhotoError, list_photos, photo_errors
from kdlib.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "PHOTO_SUFFIXES", "PhotoError", "list_photos", "open_photo", "read_photo", "to_array", "to_tensor",
    "write_photo",
]  # fmt: skip

# Pillow's names of the formats behind PHOTO_SUFFIXES.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "GIF", "PPM")


def open_photo(path: str | Path) -> Image.Image:
    """Decode a photo as 8-bit RGB, with its EXIF orientation applied.

    Greyscale, palette, CMYK and 16-bit greyscale photos are converted; transparency is dropped.

    Raises:
        PhotoError: the file is missing, empty, truncated, too large, or not an image.
    """
    path = Path(path)
    Image.init()
    # Pillow supports many more formats, some of which start a program; PostScript does, whatever the file's extension.
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with photo_errors(path), Image.open(path, formats=formats) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I") or upright.mode == "F":
            upright = Image.fromarray(_to_eight_bits(np.asarray(upright), upright.mode))
        return upright.convert("RGB")


def _to_eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale wide greyscale from its real range to 8 bits; Pillow's conversion would clip it to 255."""
    if values.dtype.kind == "f":
        scale = 255.0 if values.max(initial=0) <= 1 else 1.0
    else:
        scale = 1 / 257 if mode.startswith("I;16") or values.max(initial=0) > 255 else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def read_photo(path: str | Path) -> np.ndarray:
    """Decode a photo as H×W×3 uint8 RGB, upright.

    Raises:
        PhotoError: as :func:`open_photo`.
    """
    return np.array(open_photo(path))


def write_photo(path: str | Path, photo: np.ndarray | Tensor) -> Path:
    """Encode a photo in the format of the extension. The file is never left incomplete.

    Args:
        path: file to write; its folder is created.
        photo: H×W×3 uint8, or 3×H×W floating point in [0, 1].

    Raises:
        ValueError: the shape or dtype is wrong, or the extension is unknown.
    """
    path = Path(path)
    array = photo if isinstance(photo, np.ndarray) else _from_tensor(path, photo)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"{path}: expected H×W×3 uint8, got {array.shape} {array.dtype}")
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format is None:
        raise ValueError(f"{path}: unknown file extension {path.suffix!r}; use, for example, .png or .jpg")
    # In memory: writing to a file, Pillow does not notice when the system has written a part only.
    encoded = io.BytesIO()
    Image.fromarray(array).save(encoded, format=image_format, quality=95)
    with replacing(path) as partial:
        partial.write_bytes(encoded.getvalue())
    return path


def _from_tensor(path: Path, photo: Tensor) -> np.ndarray:
    if photo.ndim != 3 or not photo.is_floating_point():
        raise ValueError(f"{path}: expected 3×H×W floating point, got {tuple(photo.shape)} {photo.dtype}")
    return to_array(photo)


def to_tensor(photo: np.ndarray) -> Tensor:
    """Convert H×W×3 uint8 to 3×H×W float32 in [0, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1).float() / 255


def to_array(photo: Tensor) -> np.ndarray:
    """Convert 3×H×W floating point, clamped to [0, 1], to H×W×3 uint8 with rounding."""
    return photo.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
