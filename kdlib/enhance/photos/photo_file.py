"""Decoding and encoding photos of any format, with no loss other than that of the format itself."""

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.photos.formats.jpeg_pixels import PixelMemory
from kdlib.enhance.photos.formats.shared import Timing
from kdlib.enhance.photos.kinds import FORMATS, RAW_BECOMES, format_of
from kdlib.enhance.photos.paths import PHOTO_SUFFIXES, PhotoError, photo_errors
from kdlib.extras import needed_by
from kdlib.files import replacing

__all__ = [
    "MAX_PIXELS", "MAX_SIDE", "PHOTO_SUFFIXES", "PhotoError", "PhotoFile", "decode_photo", "encode_photo",
    "resized",
]  # fmt: skip

MAX_PIXELS = 250_000_000
"""Default limit; more than the largest sensors of cameras and phones have, and 750 MB as 8-bit RGB."""
MAX_SIDE = 262_144
"""Limit in pixels, four times that of JPEG. Some steps hold a few rows in float32, and a photo may be a single row."""

CODECS = {name: f"kdlib.enhance.photos.formats.{name.lower()}" for name in FORMATS}
# Longest side in pixels that the encoders accept.
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535, "HEIC": 16_384, "AVIF": 32_768}
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Of cameras whose raw files are not TIFF files: Olympus, Panasonic, Fujifilm, Sigma, Minolta.
_RAW_SIGNATURES = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILM", b"FOVb", b"\0MRM")
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


@dataclass(frozen=True, eq=False)
class PhotoFile:
    """A decoded photo and everything needed to write the same kind of file again.

    ``dataclasses.replace(photo, pixels=enhanced)`` exchanges the pixels.

    Attributes:
        pixels: H×W (grey), H×W×2 (grey and alpha), H×W×3 (RGB) or H×W×4 (RGB and alpha), uint8, uint16, or float32 in
            [0, 1], writable and C-contiguous, unless :func:`decode_photo` was told otherwise; as stored, not rotated
            upright. Of several pages or frames, the first.
        format: a key of :data:`kdlib.enhance.photos.kinds.FORMATS`, recognised by content, not by extension. It is that
            of the file to be written, so that of a raw photo is "TIFF".
        container: what the file contains besides pixels, which is metadata and settings of the compression.
        notes: what the written file will lack, in words for a user; usually empty.
        pages: pixels of the further pages of a document, or frames of an animation.
        timing: of the frames of an animation, else None.
    """

    pixels: np.ndarray
    format: str
    container: Any
    notes: tuple[str, ...] = ()
    pages: tuple[np.ndarray, ...] = ()
    timing: Timing | None = None


_NAMES = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "AVIF", "GIF", "PPM", "PGM", "HEIC", "raw")


def decode_photo(
    path: str | Path, max_pixels: int | None = MAX_PIXELS, upscale: int = 1, *, memory: PixelMemory | None = None
) -> PhotoFile:
    """Decode a photo without rotating it. Palettes become RGB, CMYK becomes sRGB. Several threads may decode at once.

    Args:
        path: a file of a format in :data:`kdlib.enhance.photos.kinds.FORMATS`; of an MPO file, the first picture is
            read. HEIC and raw photos take an extra, and are upright.
        max_pixels: photos with more pixels, or with a side longer than :data:`MAX_SIDE`, are refused by their header
            before they fill the memory; None is no limit.
        upscale: factor by which the photo will be enlarged; the enlarged size must be within the limit and within
            that of the format.
        memory: where a JPEG is decoded to. RGB pixels are then the first three of four channels, and valid until the
            next photo; an Enhancer brightens them in place, and :func:`encode_photo` writes them, without a copy.

    Raises:
        PhotoError: the file is missing, empty, truncated, damaged, too large, not an image, or of a kind that is not
            supported or needs an extra that is not installed. The message names the file and the reason.
    """
    path = Path(path)

    def check_size(width: int, height: int, pictures: int = 1, /) -> None:
        if width < 1 or height < 1:
            raise PhotoError(f"the file is damaged; its header gives the size {width} × {height}")
        enlarged = f", enlarged from {width:,} × {height:,}," if upscale > 1 else ""
        width, height = width * upscale, height * upscale
        if max_pixels is not None and width * height * pictures > max_pixels:
            each = f"{pictures:,} pictures of " if pictures > 1 else ""
            raise PhotoError(
                f"{each}{width:,} × {height:,} pixels{enlarged} are more than the limit of {max_pixels:,}; "
                f"--max-pixels {width * height * pictures} allows them, if there is enough memory"
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
        with needed_by({"HEIC": "a HEIC photo", "RAW": "a raw photo"}.get(name, name)):
            decoded = import_module(CODECS[name]).decode(path, check_size, **where)
        pixels, container, notes, pages, timing = decoded
        pixels = pixels if memory else np.ascontiguousarray(pixels)
        return PhotoFile(pixels, RAW_BECOMES if name == "RAW" else name, container, notes, pages, timing)


def resized(photo: PhotoFile, pixels: np.ndarray, pages: tuple[np.ndarray, ...] = ()) -> PhotoFile:
    """Return the photo with pixels of another size, and so its pages; size tags in its EXIF data are updated."""
    codec = import_module(CODECS[photo.format])

    def of_size(container: Any, picture: np.ndarray) -> Any:
        height, width = picture.shape[:2]
        return codec.resized(container, width, height)

    container = of_size(photo.container, pixels)
    if containers := getattr(container, "pages", ()):
        container = replace(container, pages=tuple(map(of_size, containers, pages)))
    return replace(photo, pixels=pixels, container=container, pages=pages)


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
    pixels, *pages = (photo.pixels, *photo.pages)
    if photo.format != "JPEG" or kinds.padded(pixels) is None:
        pixels, *pages = (np.ascontiguousarray(page, page.dtype.newbyteorder("=")) for page in (pixels, *pages))
    codec = import_module(CODECS[photo.format])
    with replacing(path, overwrite=overwrite) as partial:
        if pages:
            codec.encode_frames([pixels, *pages], photo.container, photo.timing, partial)
        else:
            codec.encode(pixels, photo.container, partial)
    return path


def _format(path: Path) -> str:
    """Return the format that the first bytes of a file indicate."""
    if not path.is_file():
        raise PhotoError("not a regular file")
    with path.open("rb") as stream:
        head = stream.read(256)
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM"):
        return "BMP"
    if head.startswith(_RAW_SIGNATURES) or head[4:12] == b"ftypcrx ":
        return "RAW"
    if head.startswith(_TIFF_SIGNATURES):
        # Most raw files are TIFF files, of which only the maker knows how the pixels are stored.
        return "RAW" if format_of(path) == "RAW" or head[8:10] == b"CR" else "TIFF"
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if head.startswith(b"GIF8"):
        return "GIF"
    if head[:1] == b"P" and head[1:2] in b"123456" and (head[2:3].isspace() or head[2:3] == b"#"):
        return "PNM"
    raise PhotoError(f"not a photo in a known format ({', '.join(_NAMES)})")


def _of_brands(head: bytes) -> str:
    """Return the format of a file of boxes, of which the first one lists brands."""
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIC_BRANDS or (not brands & {b"isom", b"qt  "} and brands & {b"mif1", b"msf1"}):
        return "HEIC"
    brand = head[8:12].decode("ascii", "replace").strip()
    raise PhotoError(f"not a photo, but a file of boxes of the brand {brand!r}; for videos, use kdlib video")
