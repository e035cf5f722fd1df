"""Finding photos on disk, and reporting why one cannot be read."""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from kdlib.enhance.photos import kinds
from kdlib.extras import MissingExtraError

PHOTO_SUFFIXES = frozenset(
    suffix for found in kinds.FORMATS.values() if not found.extra for suffix in found.suffixes
)  # fmt: skip
"""Extensions of the photos that the core package reads."""
_UNSUPPORTED = re.compile("unsupported|not supported|cannot handle|not implemented", re.IGNORECASE)


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
    except MissingExtraError as error:
        raise PhotoError(f"{path}: {error}") from None
    except MemoryError:
        raise PhotoError(f"{path}: too large for the free memory") from None
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{path}: cannot be decoded because it is too large ({error})") from None
    except Exception as error:
        if not isinstance(error, _DAMAGE) and type(error).__module__ != "cv2":
            raise
        if _UNSUPPORTED.search(str(error)):
            raise PhotoError(
                f"{path}: this kind of photo is not supported ({error}); convert it to PNG first"
            ) from None
        reason = "the file is truncated" if "truncated" in str(error).lower() else "the file is damaged"
        raise PhotoError(f"{path}: cannot be decoded because {reason} ({error})") from None


def files_in(folder: Path, *, recursive: bool = True, results: Path | None = None) -> Iterator[Path]:
    """Yield the files of a folder, sorted, without hidden files and folders.

    Args:
        folder: the folder.
        recursive: whether to include subfolders.
        results: a folder whose files are left out, unless it is the folder itself.
    """
    place = None if results is None or real_path(results) == real_path(folder) else real_path(results)
    for path in sorted(folder.rglob("*") if recursive else folder.glob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and (place is None or not real_path(path).is_relative_to(place)):
            yield path


def real_path(path: Path) -> Path:
    """Return the absolute path without links."""
    return Path(os.path.realpath(path))


def photos_in(
    folder: Path,
    *,
    recursive: bool = True,
    suffixes: frozenset[str] = PHOTO_SUFFIXES,
    results: Path | None = None,
) -> Iterator[Path]:
    """Yield the photos of a folder, which are recognised by their extension; see :func:`files_in`."""
    return (path for path in files_in(folder, recursive=recursive, results=results) if path.suffix.lower() in suffixes)


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
