"""The BMP format, which holds pixels and resolution."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import BmpImagePlugin

from kdlib.enhance.photos.formats.shared import CheckSize, Decoded, image_of, pixels_of, plain


@dataclass(frozen=True)
class BmpContainer:
    """What a BMP file contains besides its pixels: the resolution in dots per inch, (0, 0) if absent."""

    dpi: tuple[float, float]


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a BMP file; palettes and packed 16-bit pixels become RGB."""
    with path.open("rb") as stream:
        image = BmpImagePlugin.BmpImageFile(stream)
        check_size(*image.size)
        image.load()
    converted, _, notes = plain(image, None)
    return Decoded(pixels_of(converted), BmpContainer(image.info.get("dpi", (0.0, 0.0))), notes)


def resized(container: BmpContainer, width: int, height: int) -> BmpContainer:
    return container


def encode(pixels: np.ndarray, container: BmpContainer, file: Path) -> None:
    image = image_of(pixels, "BMP", (1, 3, 4))
    # In memory: writing to a file, Pillow does not notice when the system has written a part only.
    memory = io.BytesIO()
    image.save(memory, "BMP", dpi=container.dpi)
    encoded = memory.getvalue()
    if image.mode != "RGBA":
        file.write_bytes(encoded)
        return
    # Pillow writes four bytes per pixel under a header version that cannot declare alpha. Version 4 of the header can.
    masks = struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")  # "sRGB" as a little-endian number
    header = struct.pack("<I", 108) + encoded[18:30] + struct.pack("<I", 3) + encoded[34:54] + masks + bytes(48)
    with file.open("wb") as stream:
        stream.write(struct.pack("<2sIII", b"BM", 14 + 108 + len(encoded) - 54, 0, 14 + 108))
        stream.write(header)
        stream.write(memoryview(encoded)[54:])
