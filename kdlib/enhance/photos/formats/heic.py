"""The HEIC format, by pillow-heif: metadata, bit depth and chroma subsampling are kept, and photos come out upright."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif

from kdlib.enhance.photos.formats import xmp
from kdlib.enhance.photos.formats.exif import with_size, without_thumbnail
from kdlib.enhance.photos.formats.shared import (
    GAIN_MAP_NOTE,
    CheckSize,
    Decoded,
    Metadata,
    divide_by_alpha,
    require_pixels,
)
from kdlib.enhance.photos.paths import PhotoError

# A HEIC file does not record its quality.
_QUALITY = 90
# Properties of HDR photos that pillow-heif reads and writes.
_OF_HDR = (
    *("content_light_level", "mastering_display_colour_volume", "ambient_viewing_environment"),
    *("nominal_diffuse_white_luminance", "pixel_aspect_ratio"),
)
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, eq=False)
class HeicContainer:
    """What a HEIC file contains besides its pixels.

    Attributes:
        depth: bits per channel, 8, 10 or 12.
        chroma: subsampling, 420, 422 or 444.
        colour: what pillow-heif gives and takes to describe colours: the primaries, and the brightness of HDR photos.
        icc, exif, xmp: as in the file, empty if absent; the orientation in ``exif`` is upright.
        quality: from 0 to 100.
    """

    depth: int = 8
    chroma: int = 420
    colour: Mapping[str, Any] = field(default_factory=dict)
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    quality: int = _QUALITY


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode the main picture of a HEIC file, turned upright; 10 and 12 bits per channel become 16."""
    try:
        file = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    except ValueError as error:
        cut = "; the file is truncated" if "outside of file" in str(error) or "nd of file" in str(error) else ""
        raise PhotoError(f"this HEIC file holds no photo that libheif can read ({str(error).strip()}){cut}") from None
    image = file[file.primary_index]
    check_size(*image.size)
    info: dict[str, Any] = image.info
    pillow_heif.set_orientation(info)  # the pixels have been turned, so that EXIF data must not ask for it again
    notes: tuple[str, ...] = ()
    found = xmp.of_picture_alone(info.get("xmp") or b"")
    if found.gain_map or any("gainmap" in str(name).lower() for name in info.get("aux") or ()):
        notes += (GAIN_MAP_NOTE,)
    if info.get("depth_images"):
        notes += ("the depth map is left out",)
    if len(file) > 1:
        notes += ("further pictures in the file are left out",)
    depth, exif = int(info.get("bit_depth") or 8), info.get("exif") or b""
    pixels = np.array(image, order="C")
    if depth > 8:  # at the upper end of 16 bits
        pixels |= pixels >> depth
    if image.premultiplied_alpha:
        divide_by_alpha(pixels)
        notes += ("colours are stored without their alpha multiplied into them",)
    colour = {name: info[name] for name in ("nclx_profile", *_OF_HDR) if info.get(name) is not None}
    container = HeicContainer(
        *(depth, int(info.get("chroma") or 420), colour, info.get("icc_profile") or b""),
        *(without_thumbnail(exif), found.data),
    )
    return Decoded(pixels, container, notes)


def resized(container: HeicContainer, width: int, height: int) -> HeicContainer:
    return replace(container, exif=with_size(container.exif, width, height))


def metadata(container: HeicContainer) -> Metadata:
    """Return the metadata that other formats have, too."""
    return Metadata(container.exif.removeprefix(b"Exif\0\0"), container.icc, container.xmp)


def container_of(found: Metadata, quality: int | None) -> tuple[HeicContainer, tuple[str, ...]]:
    """Return the container for a photo of another format, and notes."""
    exif = b"Exif\0\0" + found.exif if found.exif else b""
    container = HeicContainer(10, 444, icc=found.icc, exif=exif, xmp=found.xmp)
    return container if quality is None else with_quality(container, quality), ()


def with_quality(container: HeicContainer, quality: int) -> HeicContainer:
    """Return the container for a photo that is written with another quality."""
    return replace(container, quality=quality)


def encode(pixels: np.ndarray, container: HeicContainer, file: Path) -> None:
    require_pixels(pixels, "HEIC", (1, 2, 3, 4), (np.uint8, np.uint16))
    height, width = pixels.shape[:2]
    mode = _MODES[pixels.shape[2] if pixels.ndim == 3 else 1]
    deep = pixels.dtype == np.uint16
    metadata = {"exif": container.exif, "xmp": container.xmp, "icc_profile": container.icc}
    pillow_heif.encode(
        f"{mode};16" if deep else mode,
        (width, height),
        pixels.tobytes(),
        file,
        quality=container.quality,
        chroma=container.chroma,
        bit_depth=max(container.depth, 10) if deep else 8,
        **{name: data for name, data in metadata.items() if data},
        **container.colour,
    )
