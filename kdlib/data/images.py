"""Reading and writing photos."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".ppm", ".pgm"})


class PhotoError(ValueError):
    """A file is no readable photo; the message names the file and the reason."""


def open_photo(path: str | Path) -> Image.Image:
    """Decode a photo, upright (EXIF orientation applied), as 8-bit RGB.

    Greyscale, palette, CMYK and 16-bit greyscale photos are converted; transparency is dropped.

    Raises:
        PhotoError: missing, empty, truncated, too large, or not an image.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise PhotoError(f"{path}: the file is empty")
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I") or upright.mode == "F":
                upright = Image.fromarray(_to_eight_bits(np.asarray(upright), upright.mode))
            return upright.convert("RGB")
    except UnidentifiedImageError:
        raise PhotoError(f"{path}: not an image in a known format") from None
    except FileNotFoundError:
        raise PhotoError(f"{path}: no such file") from None
    except (OSError, SyntaxError, ValueError, RuntimeError, struct.error, Image.DecompressionBombError) as error:
        if isinstance(error, PhotoError):
            raise
        raise PhotoError(f"{path}: cannot be decoded ({error})") from None


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
    if isinstance(photo, Tensor) and (photo.ndim != 3 or not photo.is_floating_point()):
        raise ValueError(f"{path}: expected 3×H×W floating point, got {tuple(photo.shape)} {photo.dtype}")
    array = to_array(photo) if isinstance(photo, Tensor) else photo
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"{path}: expected H×W×3 uint8, got {array.shape} {array.dtype}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        Image.fromarray(array).save(partial, quality=95)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def to_tensor(photo: np.ndarray) -> Tensor:
    """H×W×3 uint8 → 3×H×W float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1).float() / 255


def to_array(photo: Tensor) -> np.ndarray:
    """3×H×W floating point → H×W×3 uint8, clamped to [0, 1] and rounded."""
    return photo.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def list_photos(folder: str | Path) -> list[Path]:
    """All photos below a folder, sorted, hidden files left out.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: it is a file.
        ValueError: there is no photo in it.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"the folder {folder} does not exist")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give the folder that holds the photos")
    photos = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PHOTO_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not photos:
        raise ValueError(f"no photos in {folder} (looked for {', '.join(sorted(PHOTO_SUFFIXES))}, in subfolders too)")
    return photos
