"""The PNG format with 8 or 16 bits per channel; all chunks that remain valid are copied byte for byte."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import PngImagePlugin

from kdlib.enhance.photos.formats.animation import frames_of
from kdlib.enhance.photos.formats.exif import with_size, without_thumbnail
from kdlib.enhance.photos.formats.shared import (
    CheckSize,
    Decoded,
    Metadata,
    Timing,
    decode_with_opencv,
    pixels_of,
    plain,
    require_pixels,
)
from kdlib.enhance.photos.paths import PhotoError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that the pixels depend on. Decoders get no others, so that none applies a gamma or fails on a text chunk.
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
# The fourth letter of a chunk's name is in lower case if the chunk may be copied when pixels change. The chunks below
# may be copied too, because brightening does not change the colour space; signatures, animations and additions to a
# palette may not.
_KEPT = frozenset({b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tIME"})
_XMP = b"XML:com.adobe.xmp\0\0\0\0\0"
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
    """What a PNG file contains besides its pixels: the other chunks, before and after the pixels.

    ``still`` says that the first picture is not part of the animation, but stands for it where none is shown.
    """

    before: tuple[Chunk, ...]
    after: tuple[Chunk, ...]
    still: bool = False


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a PNG file; of an animation, every frame is decoded, with 8 bits per channel."""
    data = path.read_bytes()
    bare = [memoryview(data)[:8]]  # views, because slices would copy the photo's compressed data once more
    before: list[Chunk] = []
    after: list[Chunk] = []
    kept = before
    frames, still = 0, False
    transparency = b""
    for name, start, end in _chunks(data):
        if name == b"IHDR":
            width, height, depth = struct.unpack_from(">IIB", data, start)
            check_size(width, height)
        elif name == b"IDAT":
            # In an animation, the picture is either the first frame or separate from the animation.
            still = still or (kept is before and not frames)
            kept = after
        elif name == b"fcTL":
            frames += 1
        elif name == b"tRNS":
            transparency = data[start:end]
        if name in _PIXELS and not (name == b"tRNS" and depth == 16):
            bare.append(memoryview(data)[start - 8 : end + 4])
        elif name == b"eXIf":
            kept.append(Chunk(name, without_thumbnail(data[start:end])))
        elif name in _KEPT or (name not in _PIXELS and name[3:].islower()):
            kept.append(Chunk(name, data[start:end]))
    container = PngContainer(tuple(before), tuple(after), still=still and frames > 0)
    if frames + container.still > 1:
        notes: tuple[str, ...] = ("16 bits per channel became 8",) if depth == 16 else ()
        (first, *further), timing = frames_of(PngImagePlugin.PngImageFile(io.BytesIO(data)), check_size)
        return Decoded(first, container, notes, tuple(further), timing)
    file = b"".join(bare)
    del data, bare
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

    return replace(container, before=updated(container.before), after=updated(container.after))


def metadata(container: PngContainer) -> Metadata:
    """Return the metadata that other formats have, too."""
    of = {name: data for name, data in (*container.after, *container.before) if name != b"iTXt"}
    texts = [data for name, data in (*container.before, *container.after) if name == b"iTXt"]
    xmp = next((data for data in texts if data.startswith(_XMP)), b"").removeprefix(_XMP)
    # A damaged profile is none.
    packed = of.get(b"iCCP", b"").partition(b"\0")[2][1:]
    unpacked = zlib.decompressobj()
    try:
        icc = unpacked.decompress(packed, 2**24)
    except zlib.error:
        icc = b""
    return Metadata(of.get(b"eXIf", b""), icc if unpacked.eof else b"", xmp)


def container_of(found: Metadata, quality: int | None) -> tuple[PngContainer, tuple[str, ...]]:
    """Return the container for a photo of another format, and notes."""
    chunks = []
    if found.icc:
        chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(found.icc)))
    if found.xmp:
        chunks.append(Chunk(b"iTXt", _XMP + found.xmp))
    if found.exif:
        chunks.append(Chunk(b"eXIf", found.exif))
    return PngContainer(tuple(chunks), ()), ()


def encode(pixels: np.ndarray, container: PngContainer, file: Path) -> None:
    encode_frames([pixels], container, None, file)


def encode_frames(frames: Sequence[np.ndarray], container: PngContainer, timing: Timing | None, file: Path) -> None:
    """Write a photo, or an animation of whole frames."""
    pixels = frames[0]
    require_pixels(pixels, "PNG", (1, 2, 3, 4), (np.uint8, np.uint16))
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    depth = 8 * pixels.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPES[channels], 0, 0, 0)
    with file.open("wb") as stream:
        stream.write(_SIGNATURE + Chunk(b"IHDR", header).tobytes())
        if timing is not None:
            animated = len(frames) - container.still
            stream.write(
                Chunk(b"acTL", struct.pack(">II", animated, 1 if timing.loop is None else timing.loop)).tobytes()
            )
        stream.writelines(chunk.tobytes() for chunk in container.before)
        sequence = itertools.count()
        for number, frame in enumerate(frames):
            if timing is not None and not (container.still and number == 0):
                delay = timing.durations[number]
                delay = delay.limit_denominator(int(65535 / max(1.0, float(delay))) or 1)  # both are 16-bit numbers
                control = struct.pack(">5I2H2B", next(sequence), width, height, 0, 0, *delay.as_integer_ratio(), 0, 0)
                stream.write(Chunk(b"fcTL", control).tobytes())
            for part in _filtered_and_compressed(frame, channels * pixels.itemsize):
                chunk = (
                    Chunk(b"IDAT", part) if number == 0 else Chunk(b"fdAT", struct.pack(">I", next(sequence)) + part)
                )
                stream.write(chunk.tobytes())
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
    """Yield the pixels as the contents of IDAT chunks.

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
            yield data
    yield compressor.flush()
