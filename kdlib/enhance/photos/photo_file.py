"""Decoding and encoding photos of any format, with no loss other than that of the format itself."""

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import GifImagePlugin

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.photos.formats.jpeg_pixels import PixelMemory
from kdlib.enhance.photos.formats.shared import require_single
from kdlib.enhance.photos.paths import PHOTO_SUFFIXES, PhotoError, photo_errors
from kdlib.files import replacing

__all__ = [
    "MAX_PIXELS", "MAX_SIDE", "PHOTO_SUFFIXES", "PhotoError", "PhotoFile", "decode_photo", "encode_photo",
    "resized",
]  # fmt: skip

MAX_PIXELS = 250_000_000
"""Default limit; more than the largest sensors of cameras and phones have, and 750 MB as 8-bit RGB."""
MAX_SIDE = 262_144
"""Limit in pixels, four times that of JPEG. Some steps hold a few rows in float32, and a photo may be a single row."""

_CODECS = {
    name: f"kdlib.enhance.photos.formats.{name.lower()}" for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF")
}
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}  # longest side in pixels that the encoders accept
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True, eq=False)
class PhotoFile:
    """A decoded photo and everything needed to write the same kind of file again.

    ``dataclasses.replace(photo, pixels=enhanced)`` exchanges the pixels.

    Attributes:
        pixels: H×W (grey), H×W×2 (grey and alpha), H×W×3 (RGB) or H×W×4 (RGB and alpha), uint8 or uint16, writable
            and C-contiguous, unless :func:`decode_photo` was told otherwise; as stored, not rotated upright.
        format: "JPEG", "PNG", "WEBP", "BMP", "TIFF" or "AVIF", recognised by content, not by extension.
        container: what the file contains besides pixels, which is metadata and settings of the compression.
        notes: what the written file will lack, in words for a user; usually empty.
    """

    pixels: np.ndarray
    format: str
    container: Any
    notes: tuple[str, ...] = ()


def decode_photo(
    path: str | Path, max_pixels: int | None = MAX_PIXELS, upscale: int = 1, *, memory: PixelMemory | None = None
) -> PhotoFile:
    """Decode a photo without rotating it. Palettes become RGB, CMYK becomes sRGB. Several threads may decode at once.

    Args:
        path: a JPEG, PNG, WebP, BMP, TIFF or AVIF file; of an MPO file, the first picture is read.
        max_pixels: photos with more pixels, or with a side longer than :data:`MAX_SIDE`, are refused by their header
            before they fill the memory; None is no limit.
        upscale: factor by which the photo will be enlarged; the enlarged size must be within the limit and within
            that of the format.
        memory: where a JPEG is decoded to. RGB pixels are then the first three of four channels, and valid until the
            next photo; an Enhancer brightens them in place, and :func:`encode_photo` writes them, without a copy.

    Raises:
        PhotoError: the file is missing, empty, truncated, damaged, too large, not an image, an animation, or of a
            kind that cannot be written again. The message names the file and the reason.
    """
    path = Path(path)

    def check_size(width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise PhotoError(f"the file is damaged; its header gives the size {width} × {height}")
        enlarged = f", enlarged from {width:,} × {height:,}," if upscale > 1 else ""
        width, height = width * upscale, height * upscale
        if max_pixels is not None and width * height > max_pixels:
            raise PhotoError(
                f"{width:,} × {height:,} pixels{enlarged} are more than the limit of {max_pixels:,}; "
                f"--max-pixels {width * height} allows them, if there is enough memory"
            )
        if max_pixels is not None and max(width, height) > MAX_SIDE:
            raise PhotoError(
                f"{width:,} × {height:,} pixels{enlarged} exceed the limit of {MAX_SIDE:,} for a side; "
                "cut the photo into parts"
            )
        if enlarged and max(width, height) > (longest := _LONGEST.get(name, 2**31)):
            raise PhotoError(
                f"{width:,} × {height:,} pixels{enlarged} are too many for {name}, which allows {longest:,} on a side; "
                "convert the photo to PNG first"
            )

    with photo_errors(path):
        name = _format(path)
        where = {"memory": memory} if memory and name == "JPEG" else {}
        decoded = import_module(_CODECS[name]).decode(path, check_size, **where)
        pixels = decoded.pixels if memory else np.ascontiguousarray(decoded.pixels)
        return PhotoFile(pixels, name, decoded.container, decoded.notes)


def resized(photo: PhotoFile, pixels: np.ndarray) -> PhotoFile:
    """Return the photo with pixels of another size; size tags in its EXIF data are updated."""
    height, width = pixels.shape[:2]
    container = import_module(_CODECS[photo.format]).resized(photo.container, width, height)
    return replace(photo, pixels=pixels, container=container)


def encode_photo(photo: PhotoFile, path: str | Path, *, overwrite: bool = True) -> Path:
    """Write a photo in its own format, whatever the extension. The file is never left incomplete.

    Lossless formats return exactly ``photo.pixels`` when read again. Several threads may encode at once, to files with
    different names.

    Args:
        photo: from :func:`decode_photo`, with the same or other pixels of a shape that the format can hold, in any
            memory layout.
        path: file to write; its folder is created.
        overwrite: whether to replace a file that exists when writing ends.

    Raises:
        MadeMeanwhileError: the file exists and must not be replaced.
        ValueError: the format cannot hold pixels of that shape or dtype.
        OSError: the file cannot be written.
    """
    path = Path(path)
    pixels = photo.pixels
    if photo.format != "JPEG" or kinds.padded(pixels) is None:
        pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    with replacing(path, overwrite=overwrite) as partial:
        import_module(_CODECS[photo.format]).encode(pixels, photo.container, partial)
    return path


def _format(path: Path) -> str:
    """Return the format that the first bytes of a file indicate."""
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
        raise PhotoError("HEIC photos and videos cannot be written again; convert a photo to JPEG or AVIF")
    if head.startswith(b"GIF8"):
        with path.open("rb") as stream:
            require_single(GifImagePlugin.GifImageFile(stream).n_frames)
        raise PhotoError("a GIF has at most 256 colours, too few for a brightened photo; convert it to PNG")
    raise PhotoError("not a photo in a known format (JPEG, PNG, WebP, BMP, TIFF or AVIF)")
