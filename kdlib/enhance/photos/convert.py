"""Making a file of another format, or of another quality, of a decoded photo."""

from dataclasses import replace
from importlib import import_module

import numpy as np

from kdlib.enhance.photos.formats.gif import GifContainer
from kdlib.enhance.photos.formats.pnm import PnmContainer
from kdlib.enhance.photos.formats.shared import Metadata, Timing
from kdlib.enhance.photos.kinds import WRITABLE
from kdlib.enhance.photos.photo_file import CODECS, PhotoFile
from kdlib.extras import needed_by
from kdlib.noise import TOP

# For each format: numbers of channels, and the most bits per channel.
_CHANNELS = {
    "JPEG": (1, 3), "PNG": (1, 2, 3, 4), "WEBP": (3, 4), "BMP": (1, 3, 4), "TIFF": (1, 2, 3, 4), "AVIF": (1, 3, 4),
    "GIF": (1, 3, 4), "PNM": (1, 3), "HEIC": (1, 3, 4),
}  # fmt: skip
_DTYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("PNG", "PNM", "HEIC"), (np.uint8, np.uint16)),
    "TIFF": (np.uint8, np.uint16, np.float32),
}
_ANIMATED = ("PNG", "WEBP", "AVIF", "GIF")
_PAGED = ("TIFF",)


def converted(photo: PhotoFile, wanted: str | None = None, quality: int | None = None) -> PhotoFile:
    """Return a photo that :func:`~kdlib.enhance.photos.photo_file.encode_photo` writes in another format or quality.

    EXIF and XMP data and the colour profile go along where the format has a place for them. Notes say what is lost.

    Args:
        photo: the photo, already enhanced.
        wanted: one of :data:`kdlib.enhance.photos.kinds.WRITABLE`; None for the photo's own.
        quality: from 1 to 100, for JPEG, WebP, AVIF and HEIC; other formats have none. None keeps that of a JPEG
            photo, and is a high one otherwise.

    Raises:
        ValueError: the format is unknown.
        MissingExtraError: it needs an extra that is not installed.
    """
    if wanted is not None and wanted not in WRITABLE:
        raise ValueError(f"photos cannot be written as {wanted}; choose one of {', '.join(WRITABLE)}")
    if wanted in (None, photo.format):
        codec = import_module(CODECS[photo.format])
        if photo.pixels.dtype not in (dtypes := _DTYPES.get(photo.format, (np.uint8,))):  # a JPEG of 12 bits
            lost = f"{photo.container.bits} bits per channel became 8"
            photo = replace(photo, pixels=with_depth(photo.pixels, dtypes), notes=(*photo.notes, lost))
        if quality is None or not hasattr(codec, "with_quality"):
            return photo
        return replace(photo, container=codec.with_quality(photo.container, quality))
    assert wanted is not None
    with needed_by("a HEIC photo"):
        target = import_module(CODECS[wanted])
    found = metadata_of(photo)
    notes: tuple[str, ...]
    if wanted in ("GIF", "PNM"):
        container = GifContainer() if wanted == "GIF" else PnmContainer()
        notes = (f"{wanted} files have no metadata, so they are left out",) if any(found) else ()
    else:
        container, notes = target.container_of(found, quality)
    frames, timing = [photo.pixels, *photo.pages], photo.timing
    if getattr(photo.container, "still", False):  # it is shown only where the animation is not
        frames, timing = frames[1:], timing and Timing(timing.durations[1:], timing.loop)
    if len(frames) > 1 and not (wanted in _PAGED or (timing and wanted in _ANIMATED)):
        notes += (f"of {len(frames)} pictures, only the first one is kept in this format",)
        frames, timing = frames[:1], None
    elif timing and wanted not in _ANIMATED:
        notes, timing = (*notes, "the times of the frames are left out"), None
    if wanted == "GIF":
        notes += ("a GIF has at most 256 colours a frame",)
    channels, dtypes = _CHANNELS[wanted], _DTYPES.get(wanted, (np.uint8,))
    fitted = [with_depth(_with_channels(frame, channels), dtypes) for frame in frames]
    if frames[0].ndim == 3 and frames[0].shape[2] in (2, 4) and not (fitted[0].ndim == 3 and fitted[0].shape[2] == 4):
        notes += ("transparent parts became white",) if fitted[0].shape != frames[0].shape else ()
    if fitted[0].dtype != frames[0].dtype:
        bits = "floating point" if frames[0].dtype == np.float32 else f"{8 * frames[0].itemsize} bits"
        notes += (f"{bits} per channel became {8 * fitted[0].itemsize}",)
    if wanted == "HEIC" and fitted[0].dtype == np.uint16:
        notes += ("16 bits per channel became 10",)
    return replace(
        photo,
        pixels=fitted[0],
        format=wanted,
        container=container,
        notes=tuple(dict.fromkeys(photo.notes + notes)),
        pages=tuple(fitted[1:]),
        timing=timing,
    )


def metadata_of(photo: PhotoFile) -> Metadata:
    """Return the metadata of a photo that other formats have, too."""
    codec = import_module(CODECS[photo.format])
    found: Metadata = codec.metadata(photo.container) if hasattr(codec, "metadata") else Metadata()
    return found


def _with_channels(pixels: np.ndarray, allowed: tuple[int, ...]) -> np.ndarray:
    """Return pixels with a number of channels that a format can hold; without alpha, they are laid over white."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if channels in allowed:
        return pixels
    if channels == 1:
        return np.repeat(pixels[..., None], 3, axis=2)
    if channels == 2 and 4 in allowed:
        return pixels[..., [0, 0, 0, 1]]
    top = TOP[pixels.dtype.name]
    laid = np.empty((*pixels.shape[:2], channels - 1), pixels.dtype)
    for start in range(0, len(pixels), 64):  # in strips, because of the wide copies
        strip = pixels[start : start + 64].astype(np.float32) / top
        alpha = strip[..., -1:]
        over = (strip[..., :-1] * alpha + 1 - alpha) * top
        laid[start : start + 64] = over if pixels.dtype == np.float32 else np.rint(over)
    return _with_channels(laid[..., 0] if channels == 2 else laid, allowed)


def with_depth(pixels: np.ndarray, dtypes: tuple[type, ...]) -> np.ndarray:
    """Return pixels of one of several types: their own, else the last one."""
    if pixels.dtype in dtypes:
        return pixels
    target = np.dtype(dtypes[-1])
    top, most = TOP[pixels.dtype.name], TOP[target.name]
    result = np.empty(pixels.shape, target)
    for start in range(0, len(pixels), 64):
        result[start : start + 64] = np.rint(pixels[start : start + 64] * np.float64(most / top))
    return result
