"""The WebP format; lossless files stay lossless, and EXIF, XMP and the ICC profile are kept."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kdlib.enhance.photos.formats.exif import with_size, without_thumbnail
from kdlib.enhance.photos.formats.shared import CheckSize, Decoded, decode_with_opencv, image_of, require_single
from kdlib.enhance.photos.paths import PhotoError

# A WebP file does not record its quality. At 95, photos of quality 75 to 90 lose 0.5 to 1 dB against the uncompressed
# original, and their files grow by a fifth (from 90) to four fifths (from 75); at 90 they lose a further 0.1 dB.
_QUALITY = 95


@dataclass(frozen=True)
class WebPContainer:
    """What a WebP file contains besides its pixels; ``icc``, ``exif`` and ``xmp`` as in the file, empty if absent."""

    lossless: bool
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a WebP file with a single picture to RGB or RGBA; the format does not support grey."""
    data = path.read_bytes()
    parts: dict[bytes, bytes] = {}
    frames = 0
    for name, start, end in _chunks(data):
        if name == b"ANMF":
            frames += 1
        elif name in (b"VP8 ", b"VP8L", b"VP8X"):
            parts.setdefault(name, data[start : min(end, start + 10)])
        elif name in (b"ICCP", b"EXIF", b"XMP "):
            parts.setdefault(name, data[start:end])
    require_single(frames)
    check_size(*_size(parts))
    pixels = decode_with_opencv(data)
    exif = without_thumbnail(parts.get(b"EXIF", b""))
    container = WebPContainer(b"VP8L" in parts, parts.get(b"ICCP", b""), exif, parts.get(b"XMP ", b""))
    return Decoded(pixels, container)


def resized(container: WebPContainer, width: int, height: int) -> WebPContainer:
    return replace(container, exif=with_size(container.exif, width, height))


def encode(pixels: np.ndarray, container: WebPContainer, file: Path) -> None:
    image = image_of(pixels, "WebP", (3, 4))
    # For lossless files, "quality" is effort; more makes files a few percent smaller and takes several times as long.
    effort = {"lossless": True, "exact": True, "quality": 20, "method": 1}
    fidelity = {"quality": _QUALITY, "method": 4}
    image.save(
        file,
        "WEBP",
        icc_profile=container.icc,
        exif=container.exif,
        xmp=container.xmp,
        **(effort if container.lossless else fidelity),
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
