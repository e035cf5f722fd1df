"""The AVIF format; metadata, chroma subsampling and colour description are kept."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import features

from kdlib.enhance.photos.formats import xmp
from kdlib.enhance.photos.formats.animation import frames_of, with_frames
from kdlib.enhance.photos.formats.exif import with_size, without_thumbnail
from kdlib.enhance.photos.formats.shared import (
    GAIN_MAP_NOTE,
    CheckSize,
    Decoded,
    Metadata,
    Timing,
    image_of,
    pixels_of,
    plain,
)
from kdlib.enhance.photos.paths import PhotoError

# An AVIF file does not record its quality. At 90, photos of quality 60 to 75 lose 0.7 to 1 dB against the uncompressed
# original; 95 would cost 30 % more bytes and gain 0.05 dB.
_QUALITY = 90
_SPEED = 8  # of 10; 6 makes files 2 % smaller but takes twice as long
_NCLX = b"colrnclx"
_MOST_SIDE, _MOST_PIXELS = 32_768, 16_384**2  # what libavif decodes


@dataclass(frozen=True)
class AvifContainer:
    """What an AVIF file contains besides its pixels.

    Attributes:
        sampling: chroma subsampling, "4:4:4", "4:2:2", "4:2:0" or "4:0:0".
        colour: primaries and transfer function as stored in the file, 2 bytes each; empty if absent.
        icc, exif, xmp: as in the file, empty if absent; the orientation of the picture is part of ``exif``.
        quality: from 0 to 100.
    """

    sampling: str
    colour: bytes = b""
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    quality: int = _QUALITY


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode an AVIF file as stored, without applying its orientation; of an animation, every frame."""
    if not features.check("avif"):
        raise PhotoError("AVIF is not supported by this version of Pillow; update it to 11.3 or later")
    from PIL import AvifImagePlugin  # missing from older versions of Pillow

    data = path.read_bytes()
    sampling, depth = _coding(data)
    colour = data[at + 8 : at + 12] if (at := data.find(_NCLX)) >= 0 else b""
    _require_decodable(data, check_size)
    image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    attached = has_gain_map(data)
    del data
    check_size(*image.size, image.n_frames)
    exif, found = without_thumbnail(image.info.get("exif", b"")), xmp.of_picture_alone(image.info.get("xmp", b""))
    notes: tuple[str, ...] = (f"{depth} bits per channel became 8",) if depth > 8 else ()
    if attached or found.gain_map:
        notes += (GAIN_MAP_NOTE,)
    container = AvifContainer(sampling, colour, image.info.get("icc_profile") or b"", exif, found.data)
    if image.n_frames > 1:
        (first, *further), timing = frames_of(image, check_size)
        return Decoded(first, container, notes, tuple(further), timing)
    image.load()
    converted, icc, further_notes = plain(image, image.info.get("icc_profile"))
    del image
    return Decoded(pixels_of(converted), replace(container, icc=icc or b""), further_notes + notes)


def has_gain_map(data: bytes) -> bool:
    """Whether an AVIF file has an item of the type of gain maps, which libavif leaves out."""
    items = data.find(b"infe")
    return items >= 0 and data.find(b"tmap", items, data.find(b"mdat")) >= 0


def _require_decodable(data: bytes, check_size: CheckSize) -> None:
    """Refuse a photo by the sizes in its header if it is too large for libavif, which would call it damaged."""
    at = data.find(b"ispe")
    while 0 <= at <= len(data) - 16:
        width, height = struct.unpack_from(">II", data, at + 8)
        if max(width, height) > _MOST_SIDE or width * height > _MOST_PIXELS:
            check_size(width, height)
            raise PhotoError(
                f"{width:,} × {height:,} pixels are too many for an AVIF decoder, which takes {_MOST_SIDE:,} on a side "
                f"and {_MOST_PIXELS:,} together; cut the photo into parts"
            )
        at = data.find(b"ispe", at + 4, data.find(b"mdat"))


def resized(container: AvifContainer, width: int, height: int) -> AvifContainer:
    return replace(container, exif=with_size(container.exif, width, height))


def metadata(container: AvifContainer) -> Metadata:
    """Return the metadata that other formats have, too."""
    return Metadata(container.exif.removeprefix(b"Exif\0\0"), container.icc, container.xmp)


def container_of(found: Metadata, quality: int | None) -> tuple[AvifContainer, tuple[str, ...]]:
    """Return the container for a photo of another format, and notes."""
    container = AvifContainer("4:4:4", icc=found.icc, exif=found.exif, xmp=found.xmp)
    return container if quality is None else with_quality(container, quality), ()


def with_quality(container: AvifContainer, quality: int) -> AvifContainer:
    """Return the container for a photo that is written with another quality."""
    return replace(container, quality=quality)


def encode(pixels: np.ndarray, container: AvifContainer, file: Path) -> None:
    encode_frames([pixels], container, Timing((), None), file)


def encode_frames(frames: Sequence[np.ndarray], container: AvifContainer, timing: Timing, file: Path) -> None:
    """Write an animation, which players repeat as they like."""
    images = [image_of(frame, "AVIF", (1, 3, 4)) for frame in frames]
    images[0].save(
        file,
        "AVIF",
        quality=container.quality,
        speed=_SPEED,
        subsampling=container.sampling,
        icc_profile=container.icc or None,
        exif=container.exif,
        xmp=container.xmp,
        **(with_frames(images, timing) if len(images) > 1 else {}),
    )
    # Pillow tags all files as sRGB, but the pixels still have the primaries and transfer function of the source.
    if container.colour and not container.icc:
        encoded = file.read_bytes()
        if (at := encoded.find(_NCLX)) >= 0:
            file.write_bytes(encoded[: at + 8] + container.colour + encoded[at + 12 :])


def _coding(data: bytes) -> tuple[str, int]:
    """Return chroma subsampling and bits per channel from the configuration record of the picture."""
    found = []
    at = data.find(b"av1C")
    while 0 <= at < len(data) - 6:
        bits = data[at + 6]
        depth = 12 if bits & 0x20 else 10 if bits & 0x40 else 8
        sampling = "4:0:0" if bits & 0x10 else {0: "4:4:4", 8: "4:2:2", 12: "4:2:0"}.get(bits & 12, "4:4:4")
        found.append((sampling, depth))
        at = data.find(b"av1C", at + 4)
    # An alpha plane has its own record, which describes a grey picture.
    return next((record for record in found if record[0] != "4:0:0"), found[0] if found else ("4:2:0", 8))
