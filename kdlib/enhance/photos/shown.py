"""A decoded photo as a person sees it: upright, and in 8 bits for a screen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from kdlib.enhance.photos.convert import metadata_of, with_depth
from kdlib.enhance.photos.photo_file import PhotoFile

_ORIENTATION = 0x0112  # EXIF's tag

# By EXIF orientation: the stored pixels as a person sees them, without a copy.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def orientation_of(photo: PhotoFile) -> int:
    """Return the EXIF orientation, from 1 to 8, in which the pixels of a photo are to be shown."""
    tags = Image.Exif()
    try:
        tags.load(metadata_of(photo).exif)
        value = tags.get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data, which Pillow meets with many kinds of errors
        return 1
    return value if value in _UPRIGHT else 1


def profile_of(photo: PhotoFile) -> bytes:
    """Return the ICC profile of the pixels, empty if there is none."""
    return metadata_of(photo).icc


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return stored pixels, H×W or H×W×C, as a person sees them: a view of the same memory."""
    return _UPRIGHT[orientation](pixels)


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as uint8, of uint8, uint16, or float32 in [0, 1]."""
    return with_depth(pixels, (np.uint8,))
