"""BMP: pixels and resolution."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import BmpImagePlugin

from kdlib.enhance.photos.formats.shared import CheckSize, Decoded, image_of, pixels_of, plain


@dataclass(frozen=True)
class BmpContainer:
    """What a BMP file holds besides its pixels: its resolution in dots per inch, (0, 0) if it has none."""

    dpi: tuple[float, float]


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a BMP file; palettes become RGB, and 16-bit packed pixels too."""
    with path.open("rb") as stream:
        image = BmpImagePlugin.BmpImageFile(stream)
        check_size(*image.size)
        image.load()
    converted, _, notes = plain(image, None)
    return Decoded(pixels_of(converted), BmpContainer(image.info.get("dpi", (0.0, 0.0))), notes)


def resized(container: BmpContainer, width: int, height: int) -> BmpContainer:
    """The container for a photo of another size: the same."""
    return container


def encode(pixels: np.ndarray, container: BmpContainer, file: Path) -> None:
    """Write a BMP file."""
    image = image_of(pixels, "BMP", (1, 3, 4))
    image.save(file, "BMP", dpi=container.dpi)
    if image.mode != "RGBA":
        return
    # Pillow writes four bytes a pixel below a header that has no word for alpha. The fourth version of that header has.
    encoded = file.read_bytes()
    masks = struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")  # "sRGB" as a little-endian number
    header = struct.pack("<I", 108) + encoded[18:30] + struct.pack("<I", 3) + encoded[34:54] + masks + bytes(48)
    with file.open("wb") as stream:
        stream.write(struct.pack("<2sIII", b"BM", 14 + 108 + len(encoded) - 54, 0, 14 + 108))
        stream.write(header)
        stream.write(memoryview(encoded)[54:])
