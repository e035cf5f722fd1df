"""The BMP format, which holds pixels, resolution and colour space."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import BmpImagePlugin

from kdlib.enhance.photos.formats.shared import CheckSize, Decoded, Metadata, image_of, pixels_of, plain
from kdlib.enhance.photos.paths import PhotoError

_MASKS, _MASKS_WITH_ALPHA = 3, 6  # compressions: colours at any bits of a pixel
_UNSUPPORTED = {4: "a JPEG file", 5: "a PNG file"}
_CALIBRATED, _EMBEDDED, _LINKED = 0, b"DEBM", b"KNIL"  # colour spaces, as little-endian numbers of four letters
_SRGB = b"BGRs"


@dataclass(frozen=True)
class BmpContainer:
    """What a BMP file contains besides its pixels.

    Attributes:
        dpi: resolution in dots per inch, (0, 0) if absent.
        colours: the description of the colour space in headers of versions 4 and 5, 52 bytes, or 56 with the rendering
            intent; empty if absent.
        icc: embedded profile, empty if absent.
    """

    dpi: tuple[float, float] = (0.0, 0.0)
    colours: bytes = b""
    icc: bytes = b""


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a BMP file; palettes and packed pixels become RGB."""
    data = path.read_bytes()
    if len(data) < 30:
        raise PhotoError("the file is truncated; it ends within its header")
    compression = struct.unpack_from("<I", data, 30)[0] if len(data) >= 34 and data[14] >= 40 else 0
    if compression in _UNSUPPORTED:
        raise PhotoError(f"a BMP file that contains {_UNSUPPORTED[compression]} is not supported; convert it to PNG")
    colours, icc, notes = _colours(data)
    if compression in (_MASKS, _MASKS_WITH_ALPHA):
        pixels, dpi = _packed(data, check_size)
    else:
        image = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
        check_size(*image.size)
        image.load()
        pixels, dpi = pixels_of(plain(image, None)[0]), image.info.get("dpi", (0.0, 0.0))
    return Decoded(pixels, BmpContainer(dpi, colours, icc), notes)


def resized(container: BmpContainer, width: int, height: int) -> BmpContainer:
    return container


def metadata(container: BmpContainer) -> Metadata:
    """Return the metadata that other formats have, too."""
    return Metadata(icc=container.icc)


def container_of(found: Metadata, quality: int | None) -> tuple[BmpContainer, tuple[str, ...]]:
    """Return the container for a photo of another format, and notes."""
    notes = ("a BMP file has no EXIF and XMP data, so they are left out",) if found.exif or found.xmp else ()
    return BmpContainer(colours=_EMBEDDED + bytes(52) if found.icc else b"", icc=found.icc), notes


def encode(pixels: np.ndarray, container: BmpContainer, file: Path) -> None:
    image = image_of(pixels, "BMP", (1, 3, 4))
    # In memory: writing to a file, Pillow does not notice when the system has written a part only.
    memory = io.BytesIO()
    image.save(memory, "BMP", dpi=container.dpi)
    encoded = memory.getvalue()
    if image.mode != "RGBA" and not container.colours:
        file.write_bytes(encoded)
        return
    # Pillow writes a header of version 3, which declares neither alpha nor colour spaces. Versions 4 and 5 do.
    alpha = image.mode == "RGBA"
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) if alpha else bytes(16)
    colours = container.colours or _SRGB + bytes(48)
    size = 108 if len(colours) < 56 else 124
    behind = len(encoded) - 54  # the palette and the pixels
    header = struct.pack("<I", size) + encoded[18:30] + struct.pack("<I", _MASKS if alpha else 0) + encoded[34:54]
    header += masks + colours
    if size == 124:
        header += struct.pack("<3I", size + behind if container.icc else 0, len(container.icc), 0)
    start = struct.unpack_from("<I", encoded, 10)[0] - 54 + 14 + size
    with file.open("wb") as stream:
        stream.write(struct.pack("<2sIII", b"BM", 14 + size + behind + len(container.icc), 0, start))
        stream.write(header)
        stream.write(memoryview(encoded)[54:])
        stream.write(container.icc)


def _colours(data: bytes) -> tuple[bytes, bytes, tuple[str, ...]]:
    """Return the description of the colour space, the embedded profile, and notes."""
    (size,) = struct.unpack_from("<I", data, 14)
    if size not in (108, 124) or len(data) < 14 + size:
        return b"", b"", ()
    colours = data[70 : 122 if size == 108 else 126]
    kind = colours[:4]
    if size == 124 and kind in (_EMBEDDED, _LINKED):
        start, length = struct.unpack_from("<2I", data, 126)
        profile = data[14 + start : 14 + start + length]
        if kind == _EMBEDDED and length and len(profile) == length:
            return colours, profile, ()
        why = "is in another file" if kind == _LINKED else "is damaged"
        return b"", b"", (f"the colour profile is left out, because it {why}",)
    return (b"" if kind == _SRGB else colours), b"", ()


def _packed(data: bytes, check_size: CheckSize) -> tuple[np.ndarray, tuple[float, float]]:
    """Decode pixels of 16 or 32 bits, of which masks say where the colours are, as RGB or RGBA."""
    header_size, width, height, _, bits, compression, _, across, down = struct.unpack_from("<IiiHHIIii", data, 14)
    top_down, height = height < 0, abs(height)
    check_size(width, height)
    has_alpha = compression == _MASKS_WITH_ALPHA or header_size >= 56
    masks = struct.unpack_from("<4I", data, 54)[: 4 if has_alpha else 3]
    (start,) = struct.unpack_from("<I", data, 10)
    stride = (width * bits // 8 + 3) // 4 * 4
    if not any(masks):
        masks = (0x7C00, 0x3E0, 0x1F) if bits == 16 else (0xFF0000, 0xFF00, 0xFF)
    if bits not in (16, 32) or not all(masks[:3]):
        raise PhotoError(f"the file is damaged; its header describes pixels of {bits} bits with the masks {masks}")
    if start + stride * height > len(data):
        raise PhotoError(f"the file is truncated, it has {len(data):,} of {start + stride * height:,} bytes")
    rows = np.frombuffer(data, np.uint8, stride * height, start).reshape(height, stride)
    channels = [mask for mask in masks if mask]
    pixels = np.empty((height, width, len(channels)), np.uint8)
    for row in range(height):
        source = rows[row if top_down else height - 1 - row]
        levels = source[: width * bits // 8].view("<u2" if bits == 16 else "<u4").astype(np.uint32)
        for channel, mask in enumerate(channels):
            shift = (mask & -mask).bit_length() - 1
            most = mask >> shift
            pixels[row, :, channel] = (((levels & mask) >> shift).astype(np.uint64) * 255 + most // 2) // most
    inch = 39.3701
    return pixels, (max(across, 0) / inch, max(down, 0) / inch)
