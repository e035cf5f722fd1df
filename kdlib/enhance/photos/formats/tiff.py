"""TIFF, 8 and 16 bits per channel: every tag that does not describe the storage of the pixels is kept."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from kdlib.enhance.photos.formats.exif import EXIF_DIRECTORY, EXIF_SIZE_TAGS
from kdlib.enhance.photos.formats.ifd import DAMAGED_TAGS, LONG, SHORT, Directory, Tag, TiffReader, directory_bytes, tag
from kdlib.enhance.photos.formats.shared import CheckSize, Decoded, pixels_of, plain, require_pixels, require_single
from kdlib.enhance.photos.paths import PhotoError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, SAMPLES = 256, 257, 258, 259, 262, 273, 277
STRIP_ROWS, BYTE_COUNTS, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT = 278, 279, 284, 317, 322, 323
TILE_OFFSETS, TILE_BYTE_COUNTS, EXTRA_SAMPLES, FORMAT, ICC = 324, 325, 338, 339, 34675
SUBFILE_TYPE, DNG_VERSION = 254, 50706

# Tags about how the pixels are stored: decoders get these alone, and the result has its own.
_STORAGE = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, 266, OFFSETS, SAMPLES, STRIP_ROWS, BYTE_COUNTS, PLANAR, 292, 293}
    | {PREDICTOR, 320, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTE_COUNTS, 332, 333, 334, 336, EXTRA_SAMPLES}
    | {FORMAT, 347, 529, 530, 531, 532}
)
# Of these, the ones with one value; more are a sign of damage, and Pillow would print warnings.
_SINGLE = frozenset(
    {WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, 266, SAMPLES, STRIP_ROWS, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT}
)
# Thumbnails and layers, which would go on showing the dark photo, and values that only fit the old pixels.
_DROPPED = frozenset({SUBFILE_TYPE, 255, 263, 264, 265, 280, 281, 288, 289, 290, 291, 330, 340, 341, 513, 514, 37724})

_NONE, _DEFLATE = 1, 8
_GREY_INVERTED, _GREY, _RGB = 0, 1, 2
_PREMULTIPLIED, _STRAIGHT = 1, 2
# Compressions that know only bytes and no pixels, so that a photo can be read as a grey one with more columns.
_OF_BYTES = frozenset({_NONE, 5, _DEFLATE, 32773, 32946, 34925, 50000})


@dataclass(frozen=True)
class TiffContainer:
    """What a TIFF file holds besides its pixels.

    Attributes:
        tags: all that do not describe the storage of the pixels, EXIF and GPS directories included.
        compressed: the pixels are compressed, in whatever way; they will be by deflate, without loss.
        extra: the meaning of a channel after grey or RGB, None without one: 0 for unknown, 2 for alpha.
    """

    tags: Directory
    compressed: bool
    extra: int | None


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a TIFF file with a single page, as stored: not turned by its orientation tag."""
    data = path.read_bytes()
    reader = TiffReader(data)
    tags = _page(reader)
    if reader.missing & _STORAGE:
        raise PhotoError(DAMAGED_TAGS)
    tags |= {number: _first(tags[number]) for number in _SINGLE & tags.keys()}
    width, height = _number(tags, WIDTH), _number(tags, HEIGHT)
    check_size(width, height)
    _require_data(tags, len(data))
    bits = set(tags[BITS].integers) if BITS in tags else {1}
    if not bits <= {1, 2, 4, 8, 16}:
        raise PhotoError(f"{max(bits)}-bit samples are not supported; convert it to 8 or 16 bits per channel")
    if FORMAT in tags and set(tags[FORMAT].integers) != {1}:
        raise PhotoError("only unsigned samples are supported; convert it to plain 8 or 16 bits per channel")
    kept = {number: value for number, value in tags.items() if number not in _STORAGE | _DROPPED}
    compressed = _number(tags, COMPRESSION, _NONE) != _NONE
    notes: tuple[str, ...] = ()
    colours = {_GREY_INVERTED: 1, _GREY: 1, _RGB: 3}.get(_number(tags, PHOTOMETRIC, _GREY), 0)
    extra: int | None = None
    if colours and bits <= {8, 16} and len(bits) == 1 and _number(tags, COMPRESSION, _NONE) in _OF_BYTES:
        channels = _number(tags, SAMPLES, 1)
        if channels not in (colours, colours + 1):
            raise PhotoError(f"{channels} channels are not supported; save it with at most one besides its colours")
        planes = _planes(reader.order, data, tags, channels, max(bits))
        del reader, data
        pixels = _joined(planes, tags, (height, width, channels))
        if channels > colours:
            extra = _number(tags, EXTRA_SAMPLES, _STRAIGHT)
            if extra >= 2**16:  # it is a SHORT; a damaged type makes more of its bytes
                raise PhotoError(DAMAGED_TAGS)
            if extra == _PREMULTIPLIED:
                _divide_by_alpha(pixels)
                extra, notes = _STRAIGHT, ("colours are stored without their alpha multiplied into them",)
    else:
        storage = {number: value for number, value in tags.items() if number in _STORAGE}
        stream = _bare(reader.order, data, storage)
        del reader, data
        image = _opened(stream)
        converted, icc, notes = plain(image, tags[ICC].data if ICC in tags else None)
        if max(bits) == 16:
            notes += ("16 bits per channel became 8",)
        if image.mode in ("CMYK", "LAB"):
            kept.pop(ICC, None)
            if icc is not None:
                kept[ICC] = Tag(7, icc)
        del image
        pixels = pixels_of(converted)
        extra = _STRAIGHT if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else None
    return Decoded(pixels, TiffContainer(kept, compressed, extra), notes)


def resized(container: TiffContainer, width: int, height: int) -> TiffContainer:
    """The container for a photo of another size, which its EXIF data then tell."""
    exif = container.tags.get(EXIF_DIRECTORY)
    if exif is None or exif.directory is None:
        return container
    size = {"width": width, "height": height}
    told = {number: tag(LONG, size[side]) for number, side in EXIF_SIZE_TAGS.items() if number in exif.directory}
    tags = container.tags | {EXIF_DIRECTORY: exif._replace(directory=exif.directory | told)}
    return replace(container, tags=tags)


def encode(pixels: np.ndarray, container: TiffContainer, file: Path) -> None:
    """Write a TIFF file, in strips that follow each other."""
    require_pixels(pixels, "TIFF", (1, 2, 3, 4), (np.uint8, np.uint16))
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    rows = max(1, 2**18 // (width * channels * pixels.itemsize))
    offsets, sizes = [], []
    with file.open("wb") as stream:
        stream.write(bytes(8))
        for strip in _strips(pixels.reshape(height, width, channels), rows, container.compressed):
            offsets.append(stream.tell())
            sizes.append(stream.write(strip))
        stream.write(bytes(stream.tell() % 2))
        position = stream.tell()
        if position > 2**32 - 2**24:
            raise ValueError("a TIFF file cannot be larger than 4 GB")
        storage: Directory = {
            WIDTH: tag(LONG, width),
            HEIGHT: tag(LONG, height),
            BITS: tag(SHORT, *[8 * pixels.itemsize] * channels),
            COMPRESSION: tag(SHORT, _DEFLATE if container.compressed else _NONE),
            PHOTOMETRIC: tag(SHORT, _GREY if channels < 3 else _RGB),
            OFFSETS: tag(LONG, *offsets),
            SAMPLES: tag(SHORT, channels),
            STRIP_ROWS: tag(LONG, min(rows, height)),
            BYTE_COUNTS: tag(LONG, *sizes),
            PLANAR: tag(SHORT, 1),
        }
        if container.compressed:
            storage[PREDICTOR] = tag(SHORT, 2)
        if channels in (2, 4):
            storage[EXTRA_SAMPLES] = tag(SHORT, _STRAIGHT if container.extra is None else container.extra)
        stream.write(directory_bytes(container.tags | storage, position))
        stream.seek(0)
        stream.write(struct.pack("<2sHI", b"II", 42, position))


def _strips(pixels: np.ndarray, rows: int, compressed: bool) -> Iterator[bytes]:
    for top in range(0, len(pixels), rows):
        levels = pixels[top : top + rows].astype(pixels.dtype.newbyteorder("<"))
        if not compressed:
            yield levels.tobytes()
            continue
        # The predictor: each pixel as its difference from the one to its left.
        levels[:, 1:] -= levels[:, :-1].copy()
        # Such differences hold hardly any repeated patterns; without the search for these (RLE), files come out
        # slightly smaller in a fraction of the time.
        compressor = zlib.compressobj(1, strategy=zlib.Z_RLE)
        yield compressor.compress(levels.data) + compressor.flush()


def _page(reader: TiffReader) -> Directory:
    """The tags of the only page; thumbnails, which are marked as such, are not counted."""
    pages: list[Directory] = []
    seen: set[int] = set()
    position = reader.first
    while position and position not in seen:
        seen.add(position)
        directory, position = reader.read(position)
        if DNG_VERSION in directory:
            raise PhotoError("a raw file of a camera (DNG); develop it to JPEG, PNG or TIFF first")
        pages.append(directory)
    full = [page for page in pages if not _number(page, SUBFILE_TYPE, 0) & 1]
    if not full:
        raise PhotoError("holds only a thumbnail, like raw files of cameras; develop it to JPEG, PNG or TIFF first")
    require_single(len(full))
    return full[0]


def _number(tags: Directory, number: int, default: int | None = None) -> int:
    """The first value of a tag, which may be absent if there is a default."""
    values = tags[number].integers if number in tags else ()
    if not values and default is None:
        raise PhotoError(DAMAGED_TAGS)
    return values[0] if values else default or 0


def _first(value: Tag) -> Tag:
    return value._replace(data=value.data[: len(value.data) // max(1, len(value.integers))])


def _require_data(tags: Directory, file_size: int) -> None:
    for offsets, counts in ((OFFSETS, BYTE_COUNTS), (TILE_OFFSETS, TILE_BYTE_COUNTS)):
        if offsets in tags and counts in tags:
            end = max(map(sum, zip(tags[offsets].integers, tags[counts].integers, strict=False)), default=0)
            if end > file_size:
                raise PhotoError(f"the file is truncated, it has {file_size:,} of at least {end:,} bytes")


def _bare(order: str, data: bytes, storage: Directory) -> io.BytesIO:
    """The file with another list of tags behind its end.

    Without an orientation Pillow turns nothing, and without EXIF data it cannot stumble over them.
    """
    magic = b"II*\0" if order == "<" else b"MM\0*"
    position = len(data) + len(data) % 2
    head = magic + struct.pack(f"{order}I", position)
    tail = bytes(len(data) % 2) + directory_bytes(storage, position, order)
    return io.BytesIO(b"".join([head, memoryview(data)[8:], tail]))


def _opened(stream: io.BytesIO) -> Image.Image:
    try:
        image = TiffImagePlugin.TiffImageFile(stream)
    except SyntaxError as error:
        raise PhotoError(f"this kind of TIFF is not supported ({error}); convert it to plain RGB") from None
    # Memory that is there already is not measured against Pillow's own limit of pixels.
    image.im = Image.new(image.mode, image.size).im
    image.load()
    stream.close()  # the file's bytes are not needed while the pixels are copied
    return image


def _planes(order: str, data: bytes, tags: Directory, channels: int, bits: int) -> Iterator[np.ndarray]:
    """Each plane as H×(W·C) samples, with the predictor still on them.

    Reading all samples as those of one wide grey photo gives them at their full depth and untouched. Pillow would cut
    16 bits to 8 for colours.
    """
    separate = _number(tags, PLANAR, 1) == 2 and channels > 1
    wide = 1 if separate else channels
    storage = {number: value for number, value in tags.items() if number in _STORAGE}
    for number in (PREDICTOR, EXTRA_SAMPLES, FORMAT, PLANAR):
        storage.pop(number, None)
    storage |= {
        WIDTH: tag(LONG, _number(tags, WIDTH) * wide),
        BITS: tag(SHORT, bits),
        SAMPLES: tag(SHORT, 1),
        PHOTOMETRIC: tag(SHORT, _GREY),
    }
    if TILE_WIDTH in tags:
        storage[TILE_WIDTH] = tag(LONG, _number(tags, TILE_WIDTH) * wide)
    count = channels if separate else 1
    for plane in range(count):
        for number in (OFFSETS, BYTE_COUNTS, TILE_OFFSETS, TILE_BYTE_COUNTS):
            if separate and number in tags:
                values = tags[number].integers
                share = len(values) // channels
                storage[number] = tag(LONG, *values[plane * share : (plane + 1) * share])
        stream = _bare(order, data, storage)
        if plane + 1 == count:
            del data
        yield pixels_of(_opened(stream))


def _joined(planes: Iterator[np.ndarray], tags: Directory, shape: tuple[int, int, int]) -> np.ndarray:
    """Planes to H×W×C, with the predictor undone and inverted grey put right; H×W for one channel."""
    height, width, channels = shape
    separate = _number(tags, PLANAR, 1) == 2 and channels > 1
    pixels = np.empty((0, 0, 0))
    for index, plane in enumerate(planes):
        part = plane.reshape(height, width, -1)
        if _number(tags, PREDICTOR, 1) == 2:
            step = _number(tags, TILE_WIDTH, width)
            for left in range(0, width, step):
                column = part[:, left : left + step]
                np.add.accumulate(column, axis=1, dtype=column.dtype, out=column)
        if not separate:
            pixels = part
        elif index == 0:
            pixels = np.empty(shape, dtype=part.dtype)
        if separate:
            pixels[..., index] = part[..., 0]
    if _number(tags, PHOTOMETRIC, _GREY) == _GREY_INVERTED:
        np.invert(pixels[..., :1], out=pixels[..., :1])
    return pixels[..., 0] if channels == 1 else pixels


def _divide_by_alpha(pixels: np.ndarray) -> None:
    most = np.iinfo(pixels.dtype).max
    for top in range(0, len(pixels), 64):
        strip = pixels[top : top + 64].astype(np.uint32)
        alpha = np.maximum(strip[..., -1:], 1)
        pixels[top : top + 64, :, :-1] = np.minimum((strip[..., :-1] * most + alpha // 2) // alpha, most)
