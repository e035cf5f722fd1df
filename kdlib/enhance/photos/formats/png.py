"""The PNG format with 8 or 16 bits per channel; all chunks that remain valid are copied byte for byte."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import PngImagePlugin

from kdlib.enhance.photos.formats.exif import with_size, without_thumbnail
from kdlib.enhance.photos.formats.shared import (
    CheckSize,
    Decoded,
    decode_with_opencv,
    pixels_of,
    plain,
    require_pixels,
    require_single,
)
from kdlib.enhance.photos.paths import PhotoError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that the pixels depend on. Decoders get no others, so that none applies a gamma or fails on a text chunk.
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
# The fourth letter of a chunk's name is in lower case if the chunk may be copied when pixels change. The chunks below
# may be copied too, because brightening does not change the colour space; signatures, animations and additions to a
# palette may not.
_KEPT = frozenset({b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tIME"})
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels


class Chunk(NamedTuple):
    """A chunk with its four-letter name."""

    name: bytes
    data: bytes

    def tobytes(self) -> bytes:
        crc = zlib.crc32(self.data, zlib.crc32(self.name))
        return struct.pack(">I4s", len(self.data), self.name) + self.data + struct.pack(">I", crc)


@dataclass(frozen=True)
class PngContainer:
    """What a PNG file contains besides its pixels: the other chunks, before and after the pixels."""

    before: tuple[Chunk, ...]
    after: tuple[Chunk, ...]


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a PNG file with a single picture."""
    data = path.read_bytes()
    bare = [memoryview(data)[:8]]  # views, because slices would copy the photo's compressed data once more
    before: list[Chunk] = []
    after: list[Chunk] = []
    kept = before
    pictures = 0
    transparency = b""
    for name, start, end in _chunks(data):
        if name == b"IHDR":
            width, height, depth = struct.unpack_from(">IIB", data, start)
            check_size(width, height)
        elif name == b"IDAT":
            # In an animation, the picture is either the first frame or separate from the animation.
            pictures += pictures == 0
            kept = after
        elif name == b"fcTL":
            pictures += 1
        elif name == b"tRNS":
            transparency = data[start:end]
        if name in _PIXELS and not (name == b"tRNS" and depth == 16):
            bare.append(memoryview(data)[start - 8 : end + 4])
        elif name == b"eXIf":
            kept.append(Chunk(name, without_thumbnail(data[start:end])))
        elif name in _KEPT or (name not in _PIXELS and name[3:].islower()):
            kept.append(Chunk(name, data[start:end]))
    require_single(pictures)
    file = b"".join(bare)
    del data, bare
    container = PngContainer(tuple(before), tuple(after))
    if depth == 16:
        return Decoded(_transparent(_grey_alpha(decode_with_opencv(file), file), transparency), container)
    stream = io.BytesIO(file)
    del file
    image = PngImagePlugin.PngImageFile(stream)
    image.load()
    stream.close()  # the file's bytes are not needed while the pixels are copied
    converted, _, notes = plain(image, None)
    del image
    return Decoded(pixels_of(converted), container, notes)


def resized(container: PngContainer, width: int, height: int) -> PngContainer:

    def updated(chunks: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
        return tuple(
            Chunk(name, with_size(data, width, height)) if name == b"eXIf" else Chunk(name, data)
            for name, data in chunks
        )

    return PngContainer(updated(container.before), updated(container.after))


def encode(pixels: np.ndarray, container: PngContainer, file: Path) -> None:
    require_pixels(pixels, "PNG", (1, 2, 3, 4), (np.uint8, np.uint16))
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    depth = 8 * pixels.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPES[channels], 0, 0, 0)
    with file.open("wb") as stream:
        stream.write(_SIGNATURE + Chunk(b"IHDR", header).tobytes())
        stream.writelines(chunk.tobytes() for chunk in container.before)
        stream.writelines(_filtered_and_compressed(pixels, channels * pixels.itemsize))
        stream.writelines(chunk.tobytes() for chunk in container.after)
        stream.write(Chunk(b"IEND", b"").tobytes())


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the names of the chunks with the start and end positions of their content."""
    position = 8
    name = b""
    while name != b"IEND":
        if position + 12 > len(data):
            raise PhotoError("the file is truncated; it ends before the last chunk of a PNG file")
        size, name = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + size
        if not (name.isalpha() and name.isascii()) or (position == 8 and (name, size) != (b"IHDR", 13)):
            raise PhotoError(f"the file is damaged at byte {position:,}; {name!r} is not a PNG chunk")
        if end + 4 > len(data):
            raise PhotoError(f"the file is truncated within its {name.decode()} chunk")
        if zlib.crc32(memoryview(data)[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise PhotoError(f"the file is damaged; the {name.decode()} chunk at byte {position:,} has a bad checksum")
        yield name, start, end
        position = end + 4


def _grey_alpha(pixels: np.ndarray, file: bytes) -> np.ndarray:
    """Undo OpenCV's expansion of grey with alpha to four channels."""
    if file[25] == _COLOUR_TYPES[2]:
        return np.ascontiguousarray(pixels[..., 2:])
    return pixels


def _transparent(pixels: np.ndarray, transparency: bytes) -> np.ndarray:
    """Convert a single transparent colour to an alpha channel, because enhancing changes that colour."""
    if not transparency:
        return pixels
    colour = np.frombuffer(transparency, dtype=">u2")
    levels = pixels.reshape(*pixels.shape[:2], -1)
    if len(colour) != levels.shape[2]:
        return pixels
    alpha = np.where((levels == colour).all(axis=-1, keepdims=True), 0, 65535).astype(np.uint16)
    return np.concatenate([levels, alpha], axis=-1)


def _filtered_and_compressed(pixels: np.ndarray, pixel_bytes: int) -> Iterator[bytes]:
    """Yield the pixels as IDAT chunks.

    Filtered photos contain hardly any repeated patterns. One filter for all rows without a search for patterns (RLE)
    gives files about as small as Pillow's in a tenth of the time, and Pillow cannot write 16-bit colour anyway.
    """
    compressor = zlib.compressobj(1, strategy=zlib.Z_RLE)
    above: np.ndarray | None = None
    for top in range(0, len(pixels), 64):
        levels = pixels[top : top + 64].astype(pixels.dtype.newbyteorder(">"))
        rows = levels.view(np.uint8).reshape(len(levels), -1)
        left, up = np.zeros_like(rows), np.zeros_like(rows)
        left[:, pixel_bytes:] = rows[:, :-pixel_bytes]
        up[1:] = rows[:-1]
        if above is not None:
            up[0] = above
        above = rows[-1]
        filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), dtype=np.uint8)
        filtered[:, 0] = 3  # "Average": difference from the mean of the pixels to the left and above, rounded down
        np.subtract(rows, (left & up) + ((left ^ up) >> 1), out=filtered[:, 1:])
        if data := compressor.compress(filtered.data):
            yield Chunk(b"IDAT", data).tobytes()
    yield Chunk(b"IDAT", compressor.flush()).tobytes()
