"""Helpers that the formats share: checks of size, conversion of colour modes, and conversion from Pillow to NumPy."""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kdlib.enhance.photos.paths import PhotoError

CheckSize = Callable[[int, int], None]
"""Called with width and height as soon as the header is read; raises PhotoError if they are too large."""


class Decoded(NamedTuple):
    """A decoded file: ``pixels``, the ``container`` needed to write it again, and ``notes`` on what is lost."""

    pixels: np.ndarray
    container: Any
    notes: tuple[str, ...] = ()


def require_single(pictures: int) -> None:
    """Raise PhotoError for animations and files with several pages."""
    if pictures > 1:
        raise PhotoError(
            f"contains {pictures} pictures (an animation or several pages), but only files with a single one can be "
            "enhanced; for videos, use kdlib video"
        )


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return the pixels of a decoded L, LA, RGB, RGBA or I;16 image, H×W or H×W×C.

    They are copied in strips, because ``np.asarray`` temporarily makes two further copies of the whole photo.
    """
    channels = len(image.getbands())
    shape = (image.height, image.width) if channels == 1 else (image.height, image.width, channels)
    pixels = np.empty(shape, dtype=np.uint16 if image.mode.startswith("I;16") else np.uint8)
    for top in range(0, image.height, 64):
        bottom = min(top + 64, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def image_of(pixels: np.ndarray, format_name: str, channels: tuple[int, ...]) -> Image.Image:
    """Return pixels as a Pillow image.

    Raises:
        ValueError: the format cannot hold that dtype or number of channels.
    """
    require_pixels(pixels, format_name, channels, (np.uint8,))
    return Image.fromarray(np.ascontiguousarray(pixels))


def require_pixels(pixels: np.ndarray, format_name: str, channels: tuple[int, ...], dtypes: tuple[type, ...]) -> None:
    """Raise ValueError if a format cannot hold pixels of that shape and dtype."""
    count = 1 if pixels.ndim == 2 else pixels.shape[2] if pixels.ndim == 3 else 0
    one_channel_axis = pixels.ndim == 3 and count == 1
    if count not in channels or one_channel_axis or pixels.dtype not in dtypes or not pixels.size:
        raise ValueError(f"{format_name} cannot hold pixels of shape {pixels.shape} and type {pixels.dtype}")


def plain(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None, tuple[str, ...]]:
    """Convert an image of any Pillow mode to L, LA, RGB or RGBA.

    Returns:
        the image, its new ICC profile, and notes.

    Raises:
        PhotoError: the pixels are wide integers or floating point.
    """
    transparent = "transparency" in image.info
    match image.mode:
        case "L" | "RGB" if not transparent:
            return image, icc, ()
        case "LA" | "RGBA":
            return image, icc, ()
        case "1" | "L" | "La":
            return image.convert("LA" if transparent or image.mode == "La" else "L"), icc, ()
        case "P" | "RGB" | "YCbCr" | "RGBX":
            return image.convert("RGBA" if transparent else "RGB"), icc, ()
        case "PA" | "RGBa":
            return image.convert("RGBA"), icc, ()
        case "CMYK" | "LAB":
            return _srgb(image, icc)
    raise PhotoError(f"pixels of type {image.mode} are not supported; convert the photo to 8 or 16 bits per channel")


def _srgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None, tuple[str, ...]]:
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    note = (f"{image.mode} colours became sRGB",)
    try:
        if image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif icc is None:
            # Pillow's formula does not model inks, so its result is in no particular colour space.
            return image.convert("RGB"), None, (f"{image.mode} colours became RGB without a profile",)
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(
            image,
            source,
            srgb,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB"), None, (f"{image.mode} colours became RGB without their profile, which is damaged",)
    assert converted is not None
    return converted, srgb.tobytes(), note


def swap_red_and_blue(pixels: np.ndarray) -> np.ndarray:
    """Convert OpenCV's BGR(A) to RGB(A) in place, without a second copy of the whole photo."""
    import cv2

    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        for top in range(0, len(pixels), 64):
            pixels[top : top + 64] = cv2.cvtColor(pixels[top : top + 64], code)
    return pixels


def decode_with_opencv(data: bytes) -> np.ndarray:
    """Decode to RGB(A) or grey at the file's own bit depth, without applying its EXIF orientation."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise PhotoError("cannot be decoded because the file is damaged")
    return swap_red_and_blue(pixels)
