"""Pixels between JPEG files and arrays without a copy.

Pillow's RGB images have four bytes a pixel, the last of which is unused. Here such an image lies in the memory of an
array: libjpeg-turbo decodes into the array that kernels read and write, and encodes from it. Pixels are then the first
three of its four channels.
"""

import math

import numpy as np
from PIL import Image, JpegImagePlugin

from kdlib.enhance.array_kinds import padded

_MOST_KEPT = 256_000_000  # bytes, 64 megapixels
_MODES = {"L": "L", "RGB": "RGBX"}


class PixelMemory:
    """Memory for the pixels of one photo at a time, which is kept for the next one, up to 256 MB.

    To get new memory from the system takes a third of the time of decoding. A worker has one of its own.
    """

    def __init__(self) -> None:
        self._kept = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of this shape, uint8, valid until the next one."""
        size = math.prod(shape)
        memory = self._kept if len(self._kept) >= size else np.empty(size, np.uint8)
        self._kept = memory if size <= _MOST_KEPT else np.empty(0, np.uint8)
        return memory[:size].reshape(shape)


def decoded_in_place(
    image: JpegImagePlugin.JpegImageFile, data: bytes, memory: PixelMemory | None = None
) -> np.ndarray | None:
    """Decode the file of which the header has been read.

    Args:
        image: the opened file.
        data: its content.
        memory: for the pixels; new if absent.

    Returns:
        H×W (grey), or H×W×3 as the first three of four channels in memory. None for other modes, and for files that are
        damaged, of which Pillow's own reading says how.
    """
    if image.mode not in _MODES:
        return None
    shape = (image.height, image.width, 4)[: 2 if image.mode == "L" else 3]
    pixels = (memory or PixelMemory()).array(shape)
    target = _image_in(pixels, _MODES[image.mode])
    target.readonly = 0  # it is to be written to
    try:
        target.frombytes(data, "jpeg", image.mode, "")
    except ValueError:
        return None
    return pixels if pixels.ndim == 2 else pixels[..., :3]


def image_of_padded(pixels: np.ndarray) -> Image.Image | None:
    """Return grey or padded pixels as an image in the same memory; None for pixels of another kind or layout."""
    if pixels.dtype != np.uint8 or not pixels.size:
        return None
    if pixels.ndim == 2 and pixels.flags.c_contiguous:
        return _image_in(pixels, "L")
    whole = padded(pixels)
    return None if whole is None else _image_in(whole, "RGBX")


def _image_in(pixels: np.ndarray, mode: str) -> Image.Image:
    return Image.frombuffer(mode, pixels.shape[1::-1], pixels, "raw", mode, 0, 1)
