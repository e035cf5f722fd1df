"""TIFF, up to 64 bits per channel and any number of pages: tags that do not describe the storage of pixels are kept."""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin, TiffImagePlugin

from kdlib.enhance.photos.formats import photoshop, tiff_samples, xmp
from kdlib.enhance.photos.formats.exif import EXIF_DIRECTORY, EXIF_SIZE_TAGS
from kdlib.enhance.photos.formats.ifd import DAMAGED_TAGS, LONG, SHORT, Directory, Tag, TiffReader, directory_bytes, tag
from kdlib.enhance.photos.formats.libtiff import silence
from kdlib.enhance.photos.formats.shared import (
    CheckSize,
    Decoded,
    Metadata,
    Timing,
    divide_by_alpha,
    pixels_of,
    plain,
    require_pixels,
)
from kdlib.enhance.photos.paths import PhotoError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, SAMPLES = 256, 257, 258, 259, 262, 273, 277
STRIP_ROWS, BYTE_COUNTS, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT = 278, 279, 284, 317, 322, 323
TILE_OFFSETS, TILE_BYTE_COUNTS, EXTRA_SAMPLES, FORMAT, ICC = 324, 325, 338, 339, 34675
SUBFILE_TYPE, DNG_VERSION, XMP, PHOTOSHOP, SUB_DIRECTORIES = 254, 50706, 700, 34377, 330
JPEG_START, JPEG_BYTES, GPS_DIRECTORY, COPYRIGHT = 513, 514, 34853, 33432

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
_OLD_JPEG = 6
# Tags of the first directory that EXIF blocks of other formats have, too: descriptions, resolution and directories.
_OF_EXIF = frozenset({270, 271, 272, 274, 282, 283, 296, 305, 306, 315, COPYRIGHT, EXIF_DIRECTORY, GPS_DIRECTORY})
_COMPRESSIONS = {34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000", 50002: "JPEG XL", 34887: "LERC"}
_COMPRESSIONS |= {34661: "JBIG", 34676: "SGI LogLuv", 34677: "SGI LogLuv", 34892: "lossy DNG"}
# Compressions that know only bytes and no pixels, so that a photo can be read as a grey one with more columns.
_OF_BYTES = frozenset({_NONE, 5, _DEFLATE, 32773, 32946, 34925, 50000})


@dataclass(frozen=True)
class TiffContainer:
    """What a TIFF file holds besides its pixels.

    Attributes:
        tags: all that do not describe the storage of the pixels, EXIF and GPS directories included.
        compressed: the pixels are compressed, in whatever way; they will be by deflate, without loss.
        extra: the meaning of a channel after grey or RGB, None without one: 0 for unknown, 2 for alpha.
        samples: how samples are stored that are neither of 8 nor of 16 bits, else None.
        pages: of the further pages.
    """

    tags: Directory
    compressed: bool
    extra: int | None
    samples: tiff_samples.Samples | None = None
    pages: tuple["TiffContainer", ...] = ()


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a TIFF file as stored: not turned by its orientation tag. Pages may differ in size and depth."""
    data = path.read_bytes()
    reader = TiffReader(data)
    pages = _pages(reader)
    if reader.missing & _STORAGE:
        raise PhotoError(DAMAGED_TAGS)
    for number, tags in enumerate(pages):
        pages[number] = tags | {single: _first(tags[single]) for single in _SINGLE & tags.keys()}
    areas = [_number(tags, WIDTH) * _number(tags, HEIGHT) for tags in pages]
    for tags, area in zip(pages, areas, strict=True):
        check_size(_number(tags, WIDTH), _number(tags, HEIGHT), -(-sum(areas) // max(1, area)))
        require_data(tags, len(data))
    held, order = [data], reader.order
    del data, reader
    decoded = [_decoded(order, held, tags, last=tags is pages[-1]) for tags in pages]
    (first, container, notes, *_), further = decoded[0], decoded[1:]
    container = replace(container, pages=tuple(page.container for page in further))
    notes = tuple(dict.fromkeys([*notes, *(note for page in further for note in page.notes)]))
    return Decoded(first, container, notes, tuple(page.pixels for page in further))


def _decoded(order: str, held: list[bytes], tags: Directory, *, last: bool) -> Decoded:
    """Decode a page; the file's bytes, the only item of ``held``, are let go with the last one."""
    width, height = _number(tags, WIDTH), _number(tags, HEIGHT)
    bits = set(tags[BITS].integers) if BITS in tags else {1}
    kinds = set(tags[FORMAT].integers) & set(range(1, 7)) if FORMAT in tags else {1}  # 4 is "undefined"
    if len(bits) > 1 or len(kinds) > 1:
        raise PhotoError("samples that differ from channel to channel are not supported; convert it to plain RGB")
    depth, kind = max(bits, default=1), 1 if kinds <= {4} else max(kinds)
    kept = {number: value for number, value in tags.items() if number not in _STORAGE | _DROPPED}
    if XMP in kept:
        kept[XMP] = kept[XMP]._replace(data=xmp.of_picture_alone(kept[XMP].data).data)
    if PHOTOSHOP in kept:
        kept[PHOTOSHOP] = kept[PHOTOSHOP]._replace(data=photoshop.without_thumbnail(kept[PHOTOSHOP].data))
    compression = _number(tags, COMPRESSION, _NONE)
    notes: tuple[str, ...] = ()
    colours = {_GREY_INVERTED: 1, _GREY: 1, _RGB: 3}.get(_number(tags, PHOTOMETRIC, _GREY), 0)
    extra: int | None = None
    samples: tiff_samples.Samples | None = None
    ordinary = kind == tiff_samples.UNSIGNED and depth in (8, 16)
    if colours and compression in _OF_BYTES and (ordinary or kind != tiff_samples.UNSIGNED or depth > 8):
        channels = _number(tags, SAMPLES, 1)
        if channels not in (colours, colours + 1):
            raise PhotoError(f"{channels} channels are not supported; save it with at most one besides its colours")
        if not ordinary:
            tiff_samples.require_supported(depth, kind, _number(tags, PREDICTOR, 1))
        planes = _planes(order, held[0], tags, channels, depth if ordinary else 8, depth)
        if last:
            held.clear()
        inverted = not ordinary and _number(tags, PHOTOMETRIC, _GREY) == _GREY_INVERTED
        if not ordinary:
            planes = _in_samples(planes, order, tags, channels, depth, kind)
            tags = tags | {PREDICTOR: tag(SHORT, 1), PHOTOMETRIC: tag(SHORT, _GREY)}
            if depth <= 16 and kind == tiff_samples.UNSIGNED:
                notes += (f"{depth} bits per channel are written as 16",)
        pixels = _joined(planes, tags, (height, width, channels))
        if pixels.dtype not in (np.uint8, np.uint16):
            pixels, samples, notes = tiff_samples.normalised(pixels)
        if inverted:
            top = 65535 if pixels.dtype == np.uint16 else 1
            colour = pixels if channels == 1 else pixels[..., 0]
            np.subtract(top, colour, out=colour)
        if channels > colours:
            extra = _number(tags, EXTRA_SAMPLES, _STRAIGHT)
            if extra >= 2**16:  # it is a SHORT; a damaged type makes more of its bytes
                raise PhotoError(DAMAGED_TAGS)
            if extra == _PREMULTIPLIED and samples is None:
                divide_by_alpha(pixels)
                extra, notes = _STRAIGHT, (*notes, "colours are stored without their alpha multiplied into them")
    else:
        if depth > 16 or kind != tiff_samples.UNSIGNED or (depth > 8 and depth != 16):
            raise PhotoError(f"{depth}-bit samples of this kind are not supported; convert it to plain RGB of 16 bits")
        pixels, icc, notes = _by_pillow(order, held, tags, compression, last=last)
        if depth == 16:
            notes += ("16 bits per channel became 8",)
        if icc is not None:
            kept.pop(ICC, None)
            if icc:
                kept[ICC] = Tag(7, icc)
        extra = _STRAIGHT if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else None
    return Decoded(pixels, TiffContainer(kept, compression != _NONE, extra, samples), notes)


def _by_pillow(
    order: str, held: list[bytes], tags: Directory, compression: int, *, last: bool
) -> tuple[np.ndarray, bytes | None, tuple[str, ...]]:
    """Decode a page whose pixels Pillow has to interpret.

    Returns:
        pixels, the new ICC profile (empty for none, and None for that of the file), and notes.
    """
    silence()
    data = held[0]
    if last:
        held.clear()
    profile = tags[ICC].data if ICC in tags else None
    if compression == _OLD_JPEG and JPEG_START in tags and JPEG_BYTES in tags:
        # The strips are parts of a JPEG file.
        start = _number(tags, JPEG_START)
        stream = io.BytesIO(data[start : start + _number(tags, JPEG_BYTES)])
        try:
            image: Image.Image = JpegImagePlugin.JpegImageFile(stream)
        except SyntaxError:
            raise PhotoError("this kind of old-style JPEG in TIFF is not supported; convert it to PNG first") from None
        if image.size != (_number(tags, WIDTH), _number(tags, HEIGHT)):
            raise PhotoError("the file is damaged; the photo within has another size than its header")
        image.load()
    else:
        if compression not in TiffImagePlugin.COMPRESSION_INFO or compression in _COMPRESSIONS:
            name = _COMPRESSIONS.get(compression, f"the compression {compression}")
            raise PhotoError(f"{name} in TIFF is not supported; convert it to PNG, or save it with LZW or ZIP")
        stream = _bare(order, data, {number: value for number, value in tags.items() if number in _STORAGE})
        del data
        try:
            image = _opened(stream)
        except OSError:
            if compression == _OLD_JPEG:
                raise PhotoError("this kind of old-style JPEG in TIFF is not supported; convert it to PNG") from None
            raise
    converted, icc, notes = plain(image, profile)
    return pixels_of(converted), (icc or b"") if image.mode in ("CMYK", "LAB") else None, notes


def _in_samples(
    planes: Iterator[np.ndarray], order: str, tags: Directory, channels: int, depth: int, kind: int
) -> Iterator[np.ndarray]:
    """Yield planes of bytes as planes of samples, without their predictor."""
    width = _number(tags, WIDTH)
    together = 1 if _number(tags, PLANAR, 1) == 2 else channels
    predictor, step = _number(tags, PREDICTOR, 1), _number(tags, TILE_WIDTH, width)
    for plane in planes:
        layout = tiff_samples.Layout(order, depth, kind, together, predictor, step)
        yield tiff_samples.unpacked(plane, width, layout)


def resized(container: TiffContainer, width: int, height: int) -> TiffContainer:
    """The container for a photo of another size, which its EXIF data then tell."""
    if container.samples is not None:
        container = replace(container, samples=replace(container.samples, above=None))
    exif = container.tags.get(EXIF_DIRECTORY)
    if exif is None or exif.directory is None:
        return container
    size = {"width": width, "height": height}
    told = {number: tag(LONG, size[side]) for number, side in EXIF_SIZE_TAGS.items() if number in exif.directory}
    tags = container.tags | {EXIF_DIRECTORY: exif._replace(directory=exif.directory | told)}
    return replace(container, tags=tags)


def metadata(container: TiffContainer) -> Metadata:
    """Return the metadata that other formats have, too."""
    exif = {number: value for number, value in container.tags.items() if number in _OF_EXIF}
    block = struct.pack("<2sHI", b"II", 42, 8) + directory_bytes(exif, 8) if exif else b""
    icc, found = (container.tags[number].data if number in container.tags else b"" for number in (ICC, XMP))
    return Metadata(block, icc, found)


def container_of(found: Metadata, quality: int | None) -> tuple[TiffContainer, tuple[str, ...]]:
    """Return the container for a photo of another format, and notes."""
    tags: Directory = {}
    notes: tuple[str, ...] = ()
    if found.exif:
        try:
            reader = TiffReader(found.exif)
            tags = {number: value for number, value in reader.read(reader.first)[0].items() if number in _OF_EXIF}
        except PhotoError:
            notes = ("EXIF data are left out, because they are damaged",)
    for number, data in ((ICC, found.icc), (XMP, found.xmp)):
        if data:
            tags[number] = Tag(7 if number == ICC else 1, data)
    return TiffContainer(tags, True, None), notes


def encode(pixels: np.ndarray, container: TiffContainer, file: Path) -> None:
    """Write a TIFF file with a single page."""
    encode_frames([pixels], container, None, file)


def encode_frames(pages: Sequence[np.ndarray], container: TiffContainer, timing: Timing | None, file: Path) -> None:
    """Write a TIFF file, each page in strips that follow each other; the times of an animation are lost."""
    containers = (container, *container.pages) if container.pages else (container,) * len(pages)
    with file.open("wb") as stream:
        stream.write(struct.pack("<2sHI", b"II", 42, 0))
        pointer = 4
        for pixels, of_page in zip(pages, containers, strict=True):
            directory = _write_page(stream, pixels, of_page)
            position = stream.tell()
            stream.write(directory_bytes(directory, position))
            stream.seek(pointer)
            stream.write(struct.pack("<I", position))
            stream.seek(0, io.SEEK_END)
            pointer = position + 2 + 12 * len(directory)


def _write_page(stream: BinaryIO, pixels: np.ndarray, container: TiffContainer) -> Directory:
    """Write the pixels of a page, and return its directory, which is to follow."""
    require_pixels(pixels, "TIFF", (1, 2, 3, 4), (np.uint8, np.uint16, np.float32))
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    kind = tiff_samples.UNSIGNED
    if pixels.dtype == np.float32:
        pixels = (container.samples or tiff_samples.Samples(np.dtype(np.float32))).stored(pixels)
        kind = tiff_samples.kind_of(pixels.dtype)
    rows = max(1, 2**18 // (width * channels * pixels.itemsize))
    predicted = container.compressed and pixels.dtype in (np.uint8, np.uint16)
    offsets, sizes = [], []
    for strip in _strips(pixels.reshape(height, width, channels), rows, container.compressed, predicted):
        offsets.append(stream.tell())
        sizes.append(stream.write(strip))
    stream.write(bytes(stream.tell() % 2))
    if stream.tell() > 2**32 - 2**24:
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
    if predicted:
        storage[PREDICTOR] = tag(SHORT, 2)
    if kind != tiff_samples.UNSIGNED:
        storage[FORMAT] = tag(SHORT, *[kind] * channels)
    if channels in (2, 4):
        storage[EXTRA_SAMPLES] = tag(SHORT, _STRAIGHT if container.extra is None else container.extra)
    return container.tags | storage


def _strips(pixels: np.ndarray, rows: int, compressed: bool, predicted: bool) -> Iterator[bytes]:
    for top in range(0, len(pixels), rows):
        levels = pixels[top : top + rows].astype(pixels.dtype.newbyteorder("<"))
        if not compressed:
            yield levels.tobytes()
            continue
        if predicted:  # each pixel as its difference from the one to its left
            levels[:, 1:] -= levels[:, :-1].copy()
        # Such differences hold hardly any repeated patterns; without the search for these (RLE), files come out
        # slightly smaller in a fraction of the time.
        compressor = zlib.compressobj(1, strategy=zlib.Z_RLE)
        yield compressor.compress(levels.data) + compressor.flush()


def _pages(reader: TiffReader) -> list[Directory]:
    """The tags of each page; thumbnails and other masks, which are marked as such, are left out."""
    pages: list[Directory] = []
    seen: set[int] = set()
    position = reader.first
    while position and position not in seen:
        seen.add(position)
        directory, position = reader.read(position)
        if DNG_VERSION in directory:
            raise PhotoError("a raw file of a camera (DNG); give it the extension .dng")
        pages.append(directory)
    full = [page for page in pages if not _number(page, SUBFILE_TYPE, 0) & 5]
    if not full:
        raise PhotoError("holds only a thumbnail, like raw files of cameras; develop it to JPEG, PNG or TIFF first")
    return full


def _number(tags: Directory, number: int, default: int | None = None) -> int:
    """The first value of a tag, which may be absent if there is a default."""
    values = tags[number].integers if number in tags else ()
    if not values and default is None:
        raise PhotoError(DAMAGED_TAGS)
    return values[0] if values else default or 0


def _first(value: Tag) -> Tag:
    return value._replace(data=value.data[: len(value.data) // max(1, len(value.integers))])


def require_data(tags: Directory, file_size: int) -> None:
    """Raise PhotoError if the pixels that a directory describes reach beyond the end of the file."""
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
    silence()
    try:
        image = TiffImagePlugin.TiffImageFile(stream)
    except SyntaxError as error:
        raise PhotoError(f"this kind of TIFF is not supported ({error}); convert it to plain RGB") from None
    # Memory that is there already is not measured against Pillow's own limit of pixels.
    image.im = Image.new(image.mode, image.size).im
    image.load()
    stream.close()  # the file's bytes are not needed while the pixels are copied
    return image


def _planes(order: str, data: bytes, tags: Directory, channels: int, unit: int, bits: int) -> Iterator[np.ndarray]:
    """Each plane as H×(W·C) samples, with the predictor still on them; as bytes if the unit of 8 bits is no sample.

    Reading all samples as those of one wide grey photo gives them at their full depth and untouched. Pillow would cut
    16 bits to 8 for colours.
    """
    separate = _number(tags, PLANAR, 1) == 2 and channels > 1
    wide = 1 if separate else channels
    storage = {number: value for number, value in tags.items() if number in _STORAGE}
    for number in (PREDICTOR, EXTRA_SAMPLES, FORMAT, PLANAR):
        storage.pop(number, None)
    storage |= {
        WIDTH: tag(LONG, -(-_number(tags, WIDTH) * wide * bits // unit)),
        BITS: tag(SHORT, unit),
        SAMPLES: tag(SHORT, 1),
        PHOTOMETRIC: tag(SHORT, _GREY),
    }
    if TILE_WIDTH in tags:
        storage[TILE_WIDTH] = tag(LONG, _number(tags, TILE_WIDTH) * wide * bits // unit)
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
