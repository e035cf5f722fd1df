"""The portable formats PPM, PGM and PBM, as text or as bytes, with up to 16 bits per channel."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdlib.enhance.photos.formats.shared import CheckSize, Decoded, require_pixels
from kdlib.enhance.photos.paths import PhotoError

_FIELD = rb"(?:\s|#[^\n]*\n)+(\d{1,10})"
_BITS = re.compile(rb"P([14])" + 2 * _FIELD + rb"\s")
_LEVELS = re.compile(rb"P([2356])" + 3 * _FIELD + rb"\s")


@dataclass(frozen=True)
class PnmContainer:
    """What a portable file contains besides its pixels: the level of white. Its pixels become bytes, not text."""

    white: int = 0


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a PPM, PGM or PBM file; levels are scaled so that white is 255, or 65535 if it was above 255."""
    data = path.read_bytes()
    if (head := _BITS.match(data) or _LEVELS.match(data)) is None:
        raise PhotoError("the file is truncated, or its header is damaged")
    kind, width, height, *rest = map(int, head.groups())
    white = rest[0] if rest else 1
    check_size(width, height)
    if not 1 <= white <= 65535:
        raise PhotoError(f"the file is damaged; its header gives {white} as the level of white")
    levels: np.ndarray
    shape = (height, width, 3) if kind in (3, 6) else (height, width)
    if kind == 4:
        packed = _bytes(data, head.end(), height * ((width + 7) // 8)).reshape(height, -1)
        levels = 1 - np.unpackbits(packed, axis=1, count=width)
    elif kind >= 5:
        count = int(np.prod(shape)) * (1 if white < 256 else 2)
        levels = _bytes(data, head.end(), count).view(np.uint8 if white < 256 else ">u2").reshape(shape)
    else:
        levels = _text(data[head.end() :], int(np.prod(shape)), kind).reshape(shape)
    if (levels > white).any():
        raise PhotoError(f"the file is damaged; it has levels above the {white} of white")
    top = 255 if white < 256 else 65535
    if white != top:
        levels = (levels.astype(np.uint32) * top + white // 2) // white
    return Decoded(np.array(levels, dtype=np.uint8 if top == 255 else np.uint16), PnmContainer(white if rest else 255))


def resized(container: PnmContainer, width: int, height: int) -> PnmContainer:
    return container


def encode(pixels: np.ndarray, container: PnmContainer, file: Path) -> None:
    require_pixels(pixels, "PPM", (1, 3), (np.uint8, np.uint16))
    top = np.iinfo(pixels.dtype).max
    white = container.white if 255 < container.white <= top else top  # such as 4095, of a camera with 12 bits
    levels = pixels if white == top else (pixels.astype(np.uint32) * white + top // 2) // top
    height, width = pixels.shape[:2]
    kind = 5 if pixels.ndim == 2 else 6
    with file.open("wb") as stream:
        stream.write(b"P%d\n%d %d\n%d\n" % (kind, width, height, white))
        stream.write(np.ascontiguousarray(levels, dtype=np.uint8 if white < 256 else ">u2").data)


def _bytes(data: bytes, start: int, count: int) -> np.ndarray:
    if start + count > len(data):
        raise PhotoError(f"the file is truncated, it has {len(data):,} of {start + count:,} bytes")
    return np.frombuffer(data, np.uint8, count, start)


def _text(data: bytes, count: int, kind: int) -> np.ndarray:
    data = re.sub(rb"#[^\n]*", b"", data)
    words = [data[i : i + 1] for i in range(len(data)) if data[i] in b"01"] if kind == 1 else data.split()
    if len(words) < count:
        raise PhotoError(f"the file is truncated, it has {len(words):,} of {count:,} levels")
    if not all(word.isdigit() and len(word) <= 5 for word in words[:count]):
        raise PhotoError("the file is damaged; a level is no number")
    levels = np.array(words[:count], dtype=np.uint32)
    return 1 - levels if kind == 1 else levels
