"""The WebP format; lossless files stay lossless, and EXIF, XMP and the ICC profile are kept."""

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import WebPImagePlugin

from kdlib.enhance.photos.formats import xmp
from kdlib.enhance.photos.formats.animation import frames_of, with_frames
from kdlib.enhance.photos.formats.exif import with_size, without_thumbnail
from kdlib.enhance.photos.formats.shared import (
    CheckSize,
    Decoded,
    Metadata,
    Timing,
    decode_with_opencv,
    image_of,
)
from kdlib.enhance.photos.paths import PhotoError

# A WebP file does not record its quality. At 95, photos of quality 75 to 90 lose 0.5 to 1 dB against the uncompressed
# original, and their files grow by a fifth (from 90) to four fifths (from 75); at 90 they lose a further 0.1 dB.
_QUALITY = 95


@dataclass(frozen=True)
class WebPContainer:
    """What a WebP file contains besides its pixels; ``icc``, ``exif`` and ``xmp`` as in the file, empty if absent.

    An animation of both lossless and lossy frames counts as lossy; ``quality`` is from 0 to 100.
    """

    lossless: bool
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    quality: int = _QUALITY


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a WebP file to RGB or RGBA; the format does not support grey. Of an animation, every frame is decoded."""
    data = path.read_bytes()
    parts: dict[bytes, bytes] = {}
    lossless = []  # for each frame
    for name, start, end in _chunks(data):
        if name == b"ANMF":
            lossless.append(b"VP8L" in _names(data, start + 16, end))
        elif name in (b"VP8 ", b"VP8L", b"VP8X"):
            parts.setdefault(name, data[start : min(end, start + 10)])
        elif name in (b"ICCP", b"EXIF", b"XMP "):
            parts.setdefault(name, data[start:end])
    check_size(*_size(parts), max(1, len(lossless)))
    exif = without_thumbnail(parts.get(b"EXIF", b""))
    is_lossless = all(lossless) if lossless else b"VP8L" in parts
    kept_xmp = xmp.of_picture_alone(parts.get(b"XMP ", b"")).data
    container = WebPContainer(is_lossless, parts.get(b"ICCP", b""), exif, kept_xmp)
    if not lossless:
        return Decoded(decode_with_opencv(data), container)
    (first, *further), timing = frames_of(WebPImagePlugin.WebPImageFile(io.BytesIO(data)), check_size)
    return Decoded(first, container, (), tuple(further), timing if further else None)


def resized(container: WebPContainer, width: int, height: int) -> WebPContainer:
    return replace(container, exif=with_size(container.exif, width, height))


def metadata(container: WebPContainer) -> Metadata:
    """Return the metadata that other formats have, too."""
    return Metadata(container.exif.removeprefix(b"Exif\0\0"), container.icc, container.xmp)


def container_of(found: Metadata, quality: int | None) -> tuple[WebPContainer, tuple[str, ...]]:
    """Return the container for a photo of another format, and notes."""
    container = WebPContainer(False, found.icc, found.exif, found.xmp)
    return container if quality is None else with_quality(container, quality), ()


def with_quality(container: WebPContainer, quality: int) -> WebPContainer:
    """Return the container for a photo that is written with another quality, and no longer without loss."""
    return replace(container, lossless=False, quality=quality)


def encode(pixels: np.ndarray, container: WebPContainer, file: Path) -> None:
    encode_frames([pixels], container, Timing((), None), file)


def encode_frames(frames: Sequence[np.ndarray], container: WebPContainer, timing: Timing, file: Path) -> None:
    """Write an animation. Frames that are equal become one, which is shown for their time together."""
    images = [image_of(frame, "WebP", (3, 4)) for frame in frames]
    # For lossless files, "quality" is effort; more makes files a few percent smaller and takes several times as long.
    effort = {"lossless": True, "exact": True, "quality": 20, "method": 1}
    fidelity = {"quality": container.quality, "method": 4}
    images[0].save(
        file,
        "WEBP",
        icc_profile=container.icc,
        exif=container.exif,
        xmp=container.xmp,
        **(effort if container.lossless else fidelity),
        **(with_frames(images, timing) if len(images) > 1 else {}),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the names of the chunks with the start and end positions of their content."""
    whole = 8 + struct.unpack_from("<I", data, 4)[0]
    if whole > len(data):
        raise PhotoError(f"the file is truncated; it has {len(data):,} of {whole:,} bytes")
    position = 12
    while position + 8 <= whole:
        name, size = struct.unpack_from("<4sI", data, position)
        if position + 8 + size > len(data):
            raise PhotoError("the file is damaged; a chunk extends beyond its end")
        yield name, position + 8, position + 8 + size
        position += 8 + size + size % 2


def _names(data: bytes, position: int, end: int) -> Iterator[bytes]:
    """Yield the names of the chunks within a frame."""
    while position + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, position)
        yield name
        position += 8 + size + size % 2


def _size(parts: dict[bytes, bytes]) -> tuple[int, int]:
    if head := parts.get(b"VP8X"):
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if head := parts.get(b"VP8L"):
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head := parts.get(b"VP8 "):
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    raise PhotoError("the file is damaged; it contains no picture")
