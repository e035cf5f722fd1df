"""The AVIF format; metadata, chroma subsampling and colour description are kept."""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import features

from kdlib.enhance.photos.formats.exif import with_size, without_thumbnail
from kdlib.enhance.photos.formats.shared import CheckSize, Decoded, image_of, pixels_of, plain, require_single
from kdlib.enhance.photos.paths import PhotoError

# An AVIF file does not record its quality. At 90, photos of quality 60 to 75 lose 0.7 to 1 dB against the uncompressed
# original; 95 would cost 30 % more bytes and gain 0.05 dB.
_QUALITY = 90
_SPEED = 8  # of 10; 6 makes files 2 % smaller but takes twice as long
_NCLX = b"colrnclx"


@dataclass(frozen=True)
class AvifContainer:
    """What an AVIF file contains besides its pixels.

    Attributes:
        sampling: chroma subsampling, "4:4:4", "4:2:2", "4:2:0" or "4:0:0".
        colour: primaries and transfer function as stored in the file, 2 bytes each; empty if absent.
        icc, exif, xmp: as in the file, empty if absent; the orientation of the picture is part of ``exif``.
    """

    sampling: str
    colour: bytes = b""
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode an AVIF file with a single picture as stored, without applying its orientation."""
    if not features.check("avif"):
        raise PhotoError("AVIF is not supported by this version of Pillow; update it to 11.3 or later")
    from PIL import AvifImagePlugin  # missing from older versions of Pillow

    data = path.read_bytes()
    sampling, depth = _coding(data)
    colour = data[at + 8 : at + 12] if (at := data.find(_NCLX)) >= 0 else b""
    image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    del data
    require_single(image.n_frames)
    check_size(*image.size)
    image.load()
    converted, icc, notes = plain(image, image.info.get("icc_profile"))
    exif = without_thumbnail(image.info.get("exif", b""))
    container = AvifContainer(sampling, colour, icc or b"", exif, image.info.get("xmp", b""))
    del image
    if depth > 8:
        notes += (f"{depth} bits per channel became 8",)
    return Decoded(pixels_of(converted), container, notes)


def resized(container: AvifContainer, width: int, height: int) -> AvifContainer:
    return replace(container, exif=with_size(container.exif, width, height))


def encode(pixels: np.ndarray, container: AvifContainer, file: Path) -> None:
    image = image_of(pixels, "AVIF", (1, 3, 4))
    image.save(
        file,
        "AVIF",
        quality=_QUALITY,
        speed=_SPEED,
        subsampling=container.sampling,
        icc_profile=container.icc or None,
        exif=container.exif,
        xmp=container.xmp,
    )
    # Pillow tags all files as sRGB, but the pixels still have the primaries and transfer function of the source.
    if container.colour and not container.icc:
        encoded = file.read_bytes()
        if (at := encoded.find(_NCLX)) >= 0:
            file.write_bytes(encoded[: at + 8] + container.colour + encoded[at + 12 :])


def _coding(data: bytes) -> tuple[str, int]:
    """Return chroma subsampling and bits per channel from the configuration record of the picture."""
    found = []
    at = data.find(b"av1C")
    while 0 <= at < len(data) - 6:
        bits = data[at + 6]
        depth = 12 if bits & 0x20 else 10 if bits & 0x40 else 8
        sampling = "4:0:0" if bits & 0x10 else {0: "4:4:4", 8: "4:2:2", 12: "4:2:0"}.get(bits & 12, "4:4:4")
        found.append((sampling, depth))
        at = data.find(b"av1C", at + 4)
    # An alpha plane has its own record, which describes a grey picture.
    return next((record for record in found if record[0] != "4:0:0"), found[0] if found else ("4:2:0", 8))
