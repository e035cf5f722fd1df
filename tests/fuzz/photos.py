"""Coverage-guided fuzzing of decode → enhance → encode: ``python -m tests.fuzz.photos --seconds 600``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kdlib.enhance.photos"]):
    from kdlib.enhance.photos.convert import converted
    from kdlib.enhance.photos.photo_file import PhotoError, decode_photo, encode_photo
from kdlib.enhance import Enhancer
from kdlib.enhance.photos.formats import webp  # noqa: F401 - imported when first used
from tests.fuzz.run import run
from tests.reliability.mutations import MAX_PIXELS

ENHANCE = Enhancer("student-565", threads=1)
FOLDER = Path(tempfile.mkdtemp())


def photo(data: bytes) -> None:
    """One input. An exception other than PhotoError is a defect."""
    source, target = FOLDER / "photo", FOLDER / "result"
    source.write_bytes(data)
    try:
        decoded = decode_photo(source, max_pixels=MAX_PIXELS)
    except PhotoError:
        return
    ENHANCE(decoded.pixels, out=decoded.pixels)
    decode_photo(encode_photo(converted(decoded), target), max_pixels=MAX_PIXELS)


if __name__ == "__main__":
    run(photo, FOLDER, {".jpg", ".png", ".webp", ".bmp", ".tif", ".avif"})
