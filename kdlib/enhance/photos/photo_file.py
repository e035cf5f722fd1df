"""Decode and encode any photo, losing nothing but what its format always loses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import GifImagePlugin

from kdlib.enhance.photos.formats.shared import require_single
from kdlib.enhance.photos.paths import PHOTO_SUFFIXES, PhotoError, photo_errors
from kdlib.files import replacing

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "PHOTO_SUFFIXES",
    "PhotoError",
    "PhotoFile",
    "decode_photo",
    "encode_photo",
    "resized",
]

MAX_PIXELS = 250_000_000
"""More than the largest sensors of cameras and phones have; decoded, that is 750 MB of 8-bit RGB."""
MAX_SIDE = 262_144
"""Pixels; four times what JPEG has. Some steps hold a few rows in float32: a photo of one row would be all of them."""

_CODECS = {
    name: f"kdlib.enhance.photos.formats.{name.lower()}" for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF")
}
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}  # pixels of a side that encoders take
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True, eq=False)
class PhotoFile:
    """A decoded photo and everything that is needed to write the same kind of file again.

    ``dataclasses.replace(photo, pixels=enhanced)`` puts other pixels in.

    Attributes:
        pixels: H×W (grey), H×W×2 (grey and alpha), H×W×3 (RGB) or H×W×4 (RGB and alpha), uint8 or uint16, writable
            and C-contiguous; as stored, not turned upright.
        format: "JPEG", "PNG", "WEBP", "BMP", "TIFF" or "AVIF", told by the content and not by the extension.
        container: what the format holds besides pixels: metadata, and how the pixels were compressed.
        notes: what the file to be written will lack, in words for a user; most have none.
    """

    pixels: np.ndarray
    format: str
    container: Any
    notes: tuple[str, ...] = ()


def decode_photo(path: str | Path, max_pixels: int | None = MAX_PIXELS, upscale: int = 1) -> PhotoFile:
    """Decode a photo without turning it. Palettes become RGB, CMYK becomes sRGB. Several threads may decode at once.

    Args:
        path: a JPEG (MPO: the first picture), PNG, WebP, BMP, TIFF or AVIF file.
        max_pixels: refuse larger photos by their header, before they fill the memory, and those with a side longer
            than :data:`MAX_SIDE`; None for no limit.
        upscale: how many times as wide and high the photo is going to be: that size has to be within the limit, and
            within what the format holds.

    Raises:
        PhotoError: missing, empty, truncated, damaged, too large, not an image, an animation, or of a kind that
            cannot be written again. The message names the file and the reason.
    """
    path = Path(path)

    def check_size(width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise PhotoError(f"the file is damaged, its size is given as {width} × {height}")
        enlarged = f", enlarged from {width:,} × {height:,}," if upscale > 1 else ""
        width, height = width * upscale, height * upscale
        if max_pixels is not None and width * height > max_pixels:
            raise PhotoError(
                f"{width:,} × {height:,} pixels{enlarged} are more than the limit of {max_pixels:,}; "
                f"--max-pixels {width * height} allows them, if there is memory for them"
            )
        if max_pixels is not None and max(width, height) > MAX_SIDE:
            raise PhotoError(
                f"{width:,} × {height:,} pixels{enlarged} have too long a side, the limit is {MAX_SIDE:,}; "
                "cut it into parts"
            )
        if enlarged and max(width, height) > (longest := _LONGEST.get(name, 2**31)):
            raise PhotoError(
                f"{width:,} × {height:,} pixels{enlarged} are too many for {name}, which has at most {longest:,} a "
                "side; convert it to PNG first"
            )

    with photo_errors(path):
        name = _format(path)
        decoded = import_module(_CODECS[name]).decode(path, check_size)
        return PhotoFile(decoded.pixels, name, decoded.container, decoded.notes)


def resized(photo: PhotoFile, pixels: np.ndarray) -> PhotoFile:
    """The photo with pixels of another size, which its EXIF data then tell, where they tell one."""
    height, width = pixels.shape[:2]
    container = import_module(_CODECS[photo.format]).resized(photo.container, width, height)
    return replace(photo, pixels=pixels, container=container)


def encode_photo(photo: PhotoFile, path: str | Path, *, overwrite: bool = True) -> Path:
    """Write a photo in its own format, whatever the extension; a file is never left half-written.

    Lossless formats give exactly ``photo.pixels`` when read again. Several threads may encode at once, to files of
    different names.

    Args:
        photo: from :func:`decode_photo`, with the same or with other pixels of a shape that the format can hold, in any
            order in memory.
        path: where to; its folder is made.
        overwrite: whether to replace a file that is there in the end.

    Raises:
        MadeMeanwhileError: it is there, and is not to be replaced.
        ValueError: the format cannot hold pixels of that shape or dtype.
        OSError: the file cannot be written.
    """
    path = Path(path)
    pixels = np.ascontiguousarray(photo.pixels, dtype=photo.pixels.dtype.newbyteorder("="))
    with replacing(path, overwrite=overwrite) as partial:
        import_module(_CODECS[photo.format]).encode(pixels, photo.container, partial)
    return path


def _format(path: Path) -> str:
    """The format by the first bytes of a file."""
    if not path.is_file():
        raise PhotoError("not a regular file")
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM"):
        return "BMP"
    if head.startswith(_TIFF_SIGNATURES):
        return "TIFF"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"mif1", b"msf1"):
        return "AVIF"
    if head[4:8] == b"ftyp":
        raise PhotoError("HEIC and videos are not photos that can be written again; convert a photo to JPEG or AVIF")
    if head.startswith(b"GIF8"):
        with path.open("rb") as stream:
            require_single(GifImagePlugin.GifImageFile(stream).n_frames)
        raise PhotoError("a GIF has 256 colours at most, too few for a brightened photo; convert it to PNG")
    raise PhotoError("not a photo in a known format (JPEG, PNG, WebP, BMP, TIFF or AVIF)")
