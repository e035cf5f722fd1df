"""Raw files of cameras, developed by LibRaw to 16 bits; a result is a TIFF file, or one of another format."""

import io
import struct
from pathlib import Path

import numpy as np
import rawpy
from PIL import ImageCms

from kdlib.enhance.photos.formats import tiff
from kdlib.enhance.photos.formats.ifd import SHORT, TiffReader, tag
from kdlib.enhance.photos.formats.shared import CheckSize, Decoded, Metadata
from kdlib.enhance.photos.paths import PhotoError

# The curve of sRGB. It spreads the shadows, of which 16 bits then keep every step that a sensor of 14 bits has.
_SRGB_CURVE = (2.4, 12.92)
_ORIENTATION, _MAKER_NOTE = 274, 37500


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Develop a raw file upright, with the camera's white balance, and as dark as it was taken.

    LibRaw's own brightening is off: the enhancement sees 16 bits of the sensor in the curve of sRGB, and finds in the
    shadows what 8 bits would have rounded away.
    """
    data = path.read_bytes()
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            check_size(raw.sizes.width, raw.sizes.height)
            _require_all(data)
            pixels = raw.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                output_bps=16,
                gamma=_SRGB_CURVE,
                output_color=rawpy.ColorSpace.sRGB,
            )
            preview = _preview(raw)
    except rawpy.LibRawFileUnsupportedError:
        if data[:4] in (b"II*\0", b"MM\0*"):  # a plain TIFF file under this name
            return tiff.decode(path, check_size)
        raise PhotoError("LibRaw does not know this kind of raw file; convert it to DNG or TIFF first") from None
    except (rawpy.LibRawNonFatalError, rawpy.LibRawFatalError) as error:
        reason = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else error
        raise PhotoError(f"cannot be developed because the file is truncated or damaged ({reason})") from None
    exif, notes = _exif(data, preview)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    container, more = tiff.container_of(Metadata(exif, profile), None)
    container.tags[_ORIENTATION] = tag(SHORT, 1)
    if (details := container.tags.get(tiff.EXIF_DIRECTORY)) is not None and details.directory is not None:
        details.directory.pop(
            _MAKER_NOTE, None
        )  # it describes the raw pixels, and may be larger than a JPEG file allows
    return Decoded(np.ascontiguousarray(pixels), container, notes + more)


def _require_all(data: bytes) -> None:
    """Refuse a file that ends before its pixels do, for which LibRaw would make up the missing ones."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return
    reader = TiffReader(data)
    waiting, seen = [reader.first], set[int]()
    while waiting:
        position = waiting.pop()
        if not position or position in seen or len(seen) > 100:
            continue
        seen.add(position)
        try:
            tags, following = reader.read(position)
        except PhotoError:
            continue
        tiff.require_data(tags, len(data))
        waiting += [following, *(tags[tiff.SUB_DIRECTORIES].integers if tiff.SUB_DIRECTORIES in tags else ())]


def _preview(raw: rawpy.RawPy) -> bytes:
    """Return the JPEG file that a camera puts into its raw files, or nothing."""
    try:
        found = raw.extract_thumb()
    except (rawpy.LibRawNonFatalError, rawpy.LibRawFatalError):
        return b""
    return bytes(found.data) if found.format == rawpy.ThumbFormat.JPEG else b""


def _exif(data: bytes, preview: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the EXIF block of a raw file, or of the photo embedded in it, and notes."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        try:
            reader = TiffReader(data)
            tags = reader.read(reader.first)[0]
        except PhotoError:
            tags = {}
        if tiff.EXIF_DIRECTORY in tags:
            return tiff.metadata(tiff.TiffContainer(tags, True, None)).exif, ()
    at = preview.find(b"Exif\0\0", 0, 64)
    if at >= 4:
        (size,) = struct.unpack_from(">H", preview, at - 2)
        return preview[at + 6 : at - 2 + size], ()
    return b"", ("the file has no EXIF data that could be read",)
