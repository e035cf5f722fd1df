"""Finding photos on disk, and saying why one cannot be read."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".ppm", ".pgm"})


class PhotoError(ValueError):
    """A file is no readable photo; the message names the file and the reason."""


# What decoders raise when they meet damage: hardly any of them checks all that it reads.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, RuntimeError, ArithmeticError, LookupError, TypeError, AssertionError),
    *(EOFError, struct.error, zlib.error),
)


@contextmanager
def photo_errors(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while ``path`` is decoded into a :class:`PhotoError` that begins with its name.

    A PhotoError raised inside gives the reason alone.
    """
    try:
        if path.is_dir():
            raise PhotoError("a folder, not a photo")
        if path.stat().st_size == 0:
            raise PhotoError("the file is empty")
        yield
    except PhotoError as error:
        raise PhotoError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise PhotoError(f"{path}: not an image in a known format") from None
    except FileNotFoundError:
        raise PhotoError(f"{path}: no such file") from None
    except PermissionError:
        raise PhotoError(f"{path}: no permission to read it") from None
    except MemoryError:
        raise PhotoError(f"{path}: too large for the memory that is free") from None
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{path}: cannot be decoded, it is too large ({error})") from None
    except Exception as error:
        if not isinstance(error, _DAMAGE) and type(error).__module__ != "cv2":
            raise
        reason = "the file is truncated" if "truncated" in str(error).lower() else "the file is damaged"
        raise PhotoError(f"{path}: cannot be decoded, {reason} ({error})") from None


def photos_in(folder: Path, *, recursive: bool = True) -> Iterator[Path]:
    """The photos of a folder, told by their extension, sorted, hidden files and folders left out."""
    for path in sorted(folder.rglob("*") if recursive else folder.glob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in PHOTO_SUFFIXES and not hidden and path.is_file():
            yield path


def list_photos(folder: str | Path) -> list[Path]:
    """All photos below a folder, sorted, hidden files left out.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: it is a file.
        ValueError: there is no photo in it.
    """
    folder = Path(os.path.expanduser(folder))  # Path's own fails for the home of nobody
    if not folder.exists():
        raise FileNotFoundError(f"the folder {folder} does not exist")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give the folder that holds the photos")
    photos = list(photos_in(folder))
    if not photos:
        raise ValueError(f"no photos in {folder} (looked for {', '.join(sorted(PHOTO_SUFFIXES))}, in subfolders too)")
    return photos
