"""Finding photos on disk, and reporting why one cannot be read."""

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".ppm", ".pgm"})


class PhotoError(ValueError):
    """A file is not a readable photo; the message names the file and the reason."""


# Errors that decoders raise on damaged files; hardly any decoder checks everything that it reads.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, RuntimeError, ArithmeticError, LookupError, TypeError, AssertionError),
    *(EOFError, struct.error, zlib.error),
)


@contextmanager
def photo_errors(path: Path) -> Iterator[None]:
    """Turn any error while ``path`` is decoded into a :class:`PhotoError` whose message begins with the path.

    A PhotoError raised in the block contains only the reason.
    """
    try:
        if path.is_dir():
            raise PhotoError("this is a folder, not a photo")
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
        raise PhotoError(f"{path}: too large for the free memory") from None
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{path}: cannot be decoded because it is too large ({error})") from None
    except Exception as error:
        if not isinstance(error, _DAMAGE) and type(error).__module__ != "cv2":
            raise
        reason = "the file is truncated" if "truncated" in str(error).lower() else "the file is damaged"
        raise PhotoError(f"{path}: cannot be decoded because {reason} ({error})") from None


def photos_in(folder: Path, *, recursive: bool = True) -> Iterator[Path]:
    """Yield the photos of a folder, recognised by extension and sorted, without hidden files and folders."""
    for path in sorted(folder.rglob("*") if recursive else folder.glob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in PHOTO_SUFFIXES and not hidden and path.is_file():
            yield path


def list_photos(folder: str | Path) -> list[Path]:
    """Return all photos in a folder and its subfolders, sorted, without hidden files.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: it is a file.
        ValueError: it contains no photos.
    """
    folder = Path(os.path.expanduser(folder))  # Path.expanduser fails for unknown users
    if not folder.exists():
        raise FileNotFoundError(f"the folder {folder} does not exist")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give the folder that contains the photos")
    photos = list(photos_in(folder))
    if not photos:
        raise ValueError(f"no photos in {folder} (looked for {', '.join(sorted(PHOTO_SUFFIXES))}, in subfolders too)")
    return photos
