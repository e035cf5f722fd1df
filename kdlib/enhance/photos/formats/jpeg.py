"""The JPEG format; metadata are kept byte for byte, and the quantisation and chroma subsampling are the source's."""

import errno
import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import JpegImagePlugin

from kdlib.enhance.photos.formats import photoshop, xmp
from kdlib.enhance.photos.formats.exif import with_size, without_thumbnail
from kdlib.enhance.photos.formats.jpeg_pixels import PixelMemory, decoded_in_place, image_of_padded
from kdlib.enhance.photos.formats.shared import (
    GAIN_MAP_NOTE,
    VIDEO_NOTE,
    CheckSize,
    Decoded,
    Metadata,
    image_of,
    pixels_of,
    plain,
)
from kdlib.enhance.photos.paths import PhotoError

_SOI, _SOS, _DHT, _COM = 0xD8, 0xDA, 0xC4, 0xFE
_APP0, _APP1, _APP2, _APP11, _APP13, _APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE
_EXIF, _ICC, _JFIF, _ADOBE = b"Exif\0\0", b"ICC_PROFILE\0", b"JFIF\0", b"Adobe"
_XMP, _PHOTOSHOP = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
_MOST = 65_533  # bytes in a segment
_DEFAULT_QUALITY = 95
_DEEP = 12  # bits per channel, the other number besides 8 that the standard has
_PROGRESSIVE = 0xC2

# Processes other than the two that decoders support, by the marker of the frame.
_PROCESSES = {
    **dict.fromkeys((0xC3, 0xCB), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
    0xF7: "JPEG-LS",
}
_FRAMES = frozenset({*_PROCESSES, 0xC0, 0xC1, 0xC2, 0xC9, 0xCA})

# Segments that describe the original pixels or further pictures in the file, which the result does not have: the index
# of a multi-picture file, gain maps, JFIF thumbnails, and boxes with residuals or signatures.
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_DROPPED = ((_APP2, b"MPF\0"), (_APP2, _ISO_GAIN_MAP), (_APP0, b"JFXX\0"), (_APP11, b"JP"))

# Luma samples per chroma sample, across and down → Pillow's number. Others are written at full chroma resolution.
_SAMPLINGS = {(1.0, 1.0): 0, (2.0, 1.0): 1, (2.0, 2.0): 2}


class Segment(NamedTuple):
    """A segment of the header: the second byte of its marker, and its content without marker and length."""

    marker: int
    payload: bytes

    def tobytes(self) -> bytes:
        return struct.pack(">BBH", 0xFF, self.marker, len(self.payload) + 2) + self.payload


@dataclass(frozen=True)
class JpegContainer:
    """What a JPEG file contains besides its pixels.

    Attributes:
        segments: application data and comments as in the file, such as EXIF, ICC profile, XMP, IPTC and resolution.
        tables: quantisation tables of the components, 64 numbers each; fewer tables if the last ones are equal.
        sampling: chroma subsampling by Pillow's number: 0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0.
        progressive: whether the file has several scans, from coarse to fine.
        optimised: whether the Huffman tables were computed for the photo.
        rgb: whether the components are red, green and blue instead of luma and chroma.
        quality: from 1 to 100, where there are no tables.
        bits: per channel, 8 or 12.
    """

    segments: tuple[Segment, ...]
    tables: tuple[tuple[int, ...], ...]
    sampling: int
    progressive: bool
    optimised: bool
    rgb: bool
    quality: int = _DEFAULT_QUALITY
    bits: int = 8


def decode(path: Path, check_size: CheckSize, memory: PixelMemory | None = None) -> Decoded:
    """Decode the first picture of a JPEG or MPO file."""
    data = path.read_bytes()
    segments: list[Segment] = []
    bare = [data[:2]]
    huffman_bytes, bits = 0, 8
    end = 2
    for marker, start, end in _segments(data):
        if marker == _SOS:
            end = start
            break
        segment = Segment(marker, data[start + 4 : end])
        if marker in _FRAMES:
            bits = _require_supported(segment)
        if _is_metadata(marker):
            segments.append(segment)
        if not _is_metadata(marker) or segment.payload.startswith((_ADOBE, _JFIF)):
            bare.append(data[start:end])
        if marker == _DHT:
            huffman_bytes += len(segment.payload)
    # Pillow gets only what the pixels depend on, because a photo with damaged EXIF data must not be refused.
    bare.append(data[end:])
    samsung_video = data.rfind(b"MotionPhoto_Data", max(end, len(data) - 2**26)) >= 0
    del data
    data = b"".join(bare)
    del bare
    if bits == _DEEP:
        return _decode_deep(data, segments, check_size)
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    check_size(*image.size)
    icc = _icc(segments)
    notes: tuple[str, ...] = ()
    pixels, new_icc = decoded_in_place(image, data, memory), icc
    if pixels is None:
        image.load()
        converted, new_icc, notes = plain(image, icc)
        pixels = pixels_of(converted)
        del converted
    del data
    container = JpegContainer(
        segments=_all_kept(segments),
        tables=_tables(image),
        sampling=0 if _is_rgb(image) else _sampling(image),  # RGB cannot be subsampled
        progressive=bool(image.info.get("progressive")),
        # The standard's tables have these sizes, for one and for three components.
        optimised=huffman_bytes not in (208, 416),
        rgb=_is_rgb(image),
    )
    if image.mode == "CMYK":
        container = replace(container, segments=_with_colours(container.segments, new_icc))
    return Decoded(pixels, container, notes + _left_out(segments, samsung_video))


def _decode_deep(data: bytes, segments: list[Segment], check_size: CheckSize) -> Decoded:
    """Decode a JPEG of 12 bits per channel, which is written with 8, if as a JPEG at all."""
    from kdlib.enhance.photos.formats.jpeg_deep import decode as decode_deep

    marker, start, _ = next(found for found in _segments(data) if found[0] in _FRAMES)
    height, width = struct.unpack_from(">HH", data, start + 5)
    check_size(width, height)
    sampling = 0 if data[start + 9] != 3 or data[start + 11] == 0x11 else 2
    container = JpegContainer(_all_kept(segments), (), sampling, marker == _PROGRESSIVE, False, False, bits=_DEEP)
    return Decoded(decode_deep(data), container, _left_out(segments, samsung_video=False))


def _all_kept(segments: list[Segment]) -> tuple[Segment, ...]:
    return _without_photoshop_thumbnail([kept for segment in segments if (kept := _kept(segment)) is not None])


def _left_out(segments: list[Segment], samsung_video: bool) -> tuple[str, ...]:
    """Return notes on what the segments announce, and the result does not have."""
    notes: tuple[str, ...] = ()
    announced = [xmp.of_picture_alone(segment.payload) for segment in segments if segment.payload.startswith(_XMP)]
    if samsung_video or any(found.video for found in announced):
        notes += (VIDEO_NOTE,)
    if any(found.gain_map for found in announced) or any(s.payload.startswith(_ISO_GAIN_MAP) for s in segments):
        notes += (GAIN_MAP_NOTE,)
    elif any(segment.payload.startswith(b"MPF\0") for segment in segments):
        notes += ("further pictures in the file (such as a preview, a depth map or a gain map) are left out",)
    return notes


def resized(container: JpegContainer, width: int, height: int) -> JpegContainer:
    segments = tuple(
        Segment(marker, with_size(payload, width, height))
        if marker == _APP1 and payload.startswith(_EXIF)
        else Segment(marker, payload)
        for marker, payload in container.segments
    )
    return replace(container, segments=segments)


def metadata(container: JpegContainer) -> Metadata:
    """Return the metadata that other formats have, too."""
    of = {
        start: b"".join(s.payload for s in container.segments if s.payload.startswith(start)) for start in (_EXIF, _XMP)
    }
    return Metadata(of[_EXIF].removeprefix(_EXIF), _icc(container.segments) or b"", of[_XMP].removeprefix(_XMP))


def container_of(found: Metadata, quality: int | None) -> tuple[JpegContainer, tuple[str, ...]]:
    """Return the container for a photo of another format, and notes."""
    notes: tuple[str, ...] = ()
    segments = [Segment(_APP0, _JFIF + struct.pack(">BBBHHBB", 1, 1, 0, 1, 1, 0, 0))]
    for name, start, content in (("EXIF", _EXIF, found.exif), ("XMP", _XMP, found.xmp)):
        if len(start + content) > _MOST:
            notes += (f"{name} data are left out, because a JPEG file holds at most 64 KiB of them",)
        elif content:
            segments.append(Segment(_APP1, start + content))
    container = JpegContainer(_with_colours(tuple(segments), found.icc or None), (), 0, False, False, False)
    return container if quality is None else with_quality(container, quality), notes


def with_quality(container: JpegContainer, quality: int) -> JpegContainer:
    """Return the container for a photo that is written with another quality."""
    return replace(container, tables=(), quality=quality)


def encode(pixels: np.ndarray, container: JpegContainer, file: Path) -> None:
    image = image_of_padded(pixels) or image_of(pixels, "JPEG", (1, 3))
    how = (
        {"qtables": [list(table) for table in container.tables]} if container.tables else {"quality": container.quality}
    )
    # Save to a file rather than to memory, because Pillow then releases the interpreter lock.
    image.save(
        file,
        "JPEG",
        subsampling=container.sampling,
        progressive=container.progressive,
        optimize=container.optimised,
        keep_rgb=container.rgb,
        **how,
    )
    encoded = file.read_bytes()
    if not encoded.endswith(b"\xff\xd9"):  # Pillow does not notice when the system has written a part only
        raise OSError(errno.ENOSPC, f"only {len(encoded):,} bytes of it could be written", str(file))
    # Replace the encoder's header with that of the source.
    first = next(start for marker, start, _ in _segments(encoded) if not _is_metadata(marker))
    with file.open("wb") as stream:
        stream.write(encoded[:2])
        stream.writelines(segment.tobytes() for segment in container.segments)
        stream.write(memoryview(encoded)[first:])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the markers of the header with the start and end positions of their segments."""
    position = 2
    while True:
        start = data.find(b"\xff", position)
        position = start + 1
        while start >= 0 and data[position : position + 1] == b"\xff":  # fill bytes
            start, position = position, position + 1
        if start < 0 or position + 3 > len(data):
            raise PhotoError("the file is truncated; it ends within its header")
        marker = data[position]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= _SOI:  # markers without content
            position += 1
            continue
        end = position + 1 + struct.unpack_from(">H", data, position + 1)[0]
        if end > len(data):
            raise PhotoError("the file is truncated; it ends within its header")
        yield marker, start, end
        position = end


def _is_metadata(marker: int) -> bool:
    return 0xE0 <= marker <= 0xEF or marker == _COM


def _kept(segment: Segment) -> Segment | None:
    marker, payload = segment
    if any(marker == dropped and payload.startswith(prefix) for dropped, prefix in _DROPPED):
        return None
    if marker == _APP1 and payload.startswith(_EXIF):
        return Segment(marker, without_thumbnail(payload))
    if marker == _APP0 and payload.startswith(_JFIF) and len(payload) > 14:
        return Segment(marker, payload[:12] + bytes(2))  # without its thumbnail
    if marker == _APP1 and payload.startswith(_XMP):
        return Segment(marker, xmp.of_picture_alone(payload).data)
    return segment


def _without_photoshop_thumbnail(segments: list[Segment]) -> tuple[Segment, ...]:
    """Remove the thumbnail from Photoshop's resources, which may be spread over several segments."""
    parts = [s for s in segments if s.marker == _APP13 and s.payload.startswith(_PHOTOSHOP)]
    whole = b"".join(part.payload.removeprefix(_PHOTOSHOP) for part in parts)
    if (kept := photoshop.without_thumbnail(whole)) == whole:
        return tuple(segments)
    room = _MOST - len(_PHOTOSHOP)
    new = [Segment(_APP13, _PHOTOSHOP + kept[at : at + room]) for at in range(0, len(kept), room)]
    first = segments.index(parts[0])
    return (*segments[:first], *new, *(segment for segment in segments[first:] if segment not in parts))


def _require_supported(frame: Segment) -> int:
    """Return the bits per channel, or raise PhotoError for a kind of JPEG that no decoder here supports."""
    if (process := _PROCESSES.get(frame.marker)) is not None:
        kind = process if process == "JPEG-LS" else f"{process} JPEG"
    elif len(frame.payload) < 6:
        raise PhotoError("the file is damaged; its header describes no picture")
    elif (bits := frame.payload[0]) in (8, _DEEP):
        return bits
    else:
        kind = f"{bits}-bit JPEG"
    raise PhotoError(f"{kind} is not supported; convert the photo to PNG or TIFF first")


def _icc(segments: Sequence[Segment]) -> bytes | None:
    """Return the ICC profile, which may be spread over several numbered segments."""
    parts = sorted(s.payload[12:] for s in segments if s.marker == _APP2 and s.payload.startswith(_ICC))
    return b"".join(part[2:] for part in parts) or None


def _with_colours(segments: tuple[Segment, ...], icc: bytes | None) -> tuple[Segment, ...]:
    """Return the segments for pixels converted to RGB, with another ICC profile and without the CMYK marker."""
    kept = tuple(
        segment
        for segment in segments
        if not (segment.marker == _APP2 and segment.payload.startswith(_ICC))
        and not (segment.marker == _APP14 and segment.payload.startswith(_ADOBE))
    )
    if icc is None:
        return kept
    room = _MOST - len(_ICC) - 2
    parts = [icc[at : at + room] for at in range(0, len(icc), room)]
    return (*kept, *(Segment(_APP2, _ICC + bytes([n, len(parts)]) + part) for n, part in enumerate(parts, 1)))


def _tables(image: JpegImagePlugin.JpegImageFile) -> tuple[tuple[int, ...], ...]:
    try:
        tables = [tuple(image.quantization[table]) for *_, table in image.layer[:3]]
    except KeyError:  # a table is defined between two scans
        return ()
    # Pillow uses the last table for all further components, and writes every table that it is given.
    while len(tables) > 1 and tables[-1] == tables[-2]:
        tables.pop()
    return tuple(tables)


def _sampling(image: JpegImagePlugin.JpegImageFile) -> int:
    if image.layers != 3:
        return 0
    (_, across, down, _), *chroma = image.layer
    ratios = {(across / horizontal, down / vertical) for _, horizontal, vertical, _ in chroma}
    return _SAMPLINGS.get(ratios.pop(), 0) if len(ratios) == 1 else 0


def _is_rgb(image: JpegImagePlugin.JpegImageFile) -> bool:
    if image.layers != 3 or "jfif" in image.info:
        return False
    if "adobe_transform" in image.info:
        return image.info["adobe_transform"] == 0
    return bytes(component for component, *_ in image.layer) == b"RGB"
