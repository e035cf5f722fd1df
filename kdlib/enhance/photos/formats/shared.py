"""Helpers that the formats share: checks of size, conversion of colour modes, and conversion from Pillow to NumPy."""

import io
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from kdlib.enhance.photos.paths import PhotoError


class CheckSize(Protocol):
    """Called as soon as the header is read; raises PhotoError if the photo is too large."""

    def __call__(self, width: int, height: int, pictures: int = 1, /) -> None:
        """Check a photo, or an animation or document of several pictures of this size."""


class Timing(NamedTuple):
    """When the frames of an animation are shown.

    Attributes:
        durations: seconds for which each frame is shown.
        loop: how often the animation is shown, 0 for endlessly; None if the file does not say, which means once.
    """

    durations: tuple[Fraction, ...]
    loop: int | None


class Decoded(NamedTuple):
    """A decoded file.

    Attributes:
        pixels: of the picture, or of the first one.
        container: what is needed to write it again.
        notes: what is lost.
        pages: pixels of the further pages or frames.
        timing: of the frames of an animation; None for a photo and for a document.
    """

    pixels: np.ndarray
    container: Any
    notes: tuple[str, ...] = ()
    pages: tuple[np.ndarray, ...] = ()
    timing: Timing | None = None


class Metadata(NamedTuple):
    """What photos of different formats have in common besides pixels; each empty if absent.

    Attributes:
        exif: an EXIF block, which begins with the byte order.
        icc: an ICC profile.
        xmp: XMP data.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""


GAIN_MAP_NOTE = "the gain map for HDR displays is left out, because it fits the original brightness only"
VIDEO_NOTE = "the short video attached to the photo is left out"


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


def divide_by_alpha(pixels: np.ndarray) -> None:
    """Take the alpha in the last channel out of colours that were multiplied by it, in place."""
    most = np.iinfo(pixels.dtype).max
    for top in range(0, len(pixels), 64):
        strip = pixels[top : top + 64].astype(np.uint32)
        alpha = np.maximum(strip[..., -1:], 1)
        pixels[top : top + 64, :, :-1] = np.minimum((strip[..., :-1] * most + alpha // 2) // alpha, most)


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
