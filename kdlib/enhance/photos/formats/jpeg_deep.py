"""JPEG with 12 bits per channel, which Pillow's libjpeg does not decode, but FFmpeg does."""

import av
import cv2
import numpy as np

from kdlib.enhance.photos.paths import PhotoError

_TOP, _SHIFT = 4095, 4  # FFmpeg gives 12 bits in the upper bits of 16
_MIDDLE = 2048  # of the colour differences
# BT.601, as in JFIF: what red, green and blue take of Cb and Cr.
_OF_CB, _OF_CR = np.array([[0.0, -0.344136, 1.772], [1.402, -0.714136, 0.0]], np.float32)


def decode(data: bytes) -> np.ndarray:
    """Decode a JPEG file with 12 bits per channel.

    Args:
        data: the file.

    Returns:
        H×W (grey) or H×W×3 (RGB), uint16, with white at 65535.

    Raises:
        PhotoError: the file is truncated, or of a kind that FFmpeg does not decode, such as with four inks.
    """
    if data.rfind(b"\xff\xd9") < 0:
        raise PhotoError("the file is truncated; it ends within its picture")
    unsupported = PhotoError("12-bit JPEG of this kind is not supported; convert the photo to PNG or TIFF first")
    try:
        frames = av.CodecContext.create("mjpeg", "r").decode(av.Packet(data))
    except av.FFmpegError:
        raise unsupported from None
    if not frames or not isinstance(frame := frames[0], av.VideoFrame):
        raise unsupported
    name = frame.format.name
    if not name.endswith("p16le") and name != "gray16le":
        raise unsupported
    planes = [
        np.frombuffer(bytes(plane), np.uint16).reshape(plane.height, -1)[:, : plane.width] >> _SHIFT
        for plane in frame.planes
    ]
    if name == "gray16le":
        return _widened(planes[0])
    if name.startswith("gbr"):
        return _widened(np.stack([planes[i] for i in (2, 0, 1)], axis=2))
    return _rgb(*planes)


def _rgb(luma: np.ndarray, *differences: np.ndarray) -> np.ndarray:
    """Return luma and colour differences, which may be smaller, as RGB."""
    height, width = luma.shape
    blue, red = (
        cv2.resize(plane.astype(np.float32) - _MIDDLE, (width, height), interpolation=cv2.INTER_LINEAR)
        for plane in differences
    )
    pixels = np.empty((height, width, 3), np.uint16)
    for top in range(0, height, 64):  # in strips, because of the wide copies
        rows = slice(top, top + 64)
        strip = luma[rows, :, None] + blue[rows, :, None] * _OF_CB + red[rows, :, None] * _OF_CR
        pixels[rows] = _widened(np.rint(strip.clip(0, _TOP)))
    return pixels


def _widened(values: np.ndarray) -> np.ndarray:
    return np.rint(values * np.float64(65535 / _TOP)).astype(np.uint16)
