"""The folder for uploads, which no end of the process leaves behind for good."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PREFIX = "kdlib-app-"
_LOCK = "lock"  # a file beside the uploads, locked for as long as the process runs that made the folder


@contextmanager
def uploads_folder() -> Iterator[Path]:
    """Yield a folder for uploads, which is removed when the block ends.

    A process that is killed cannot remove its folder; the next call does.
    """
    _remove_left_over()
    with TemporaryDirectory(prefix=_PREFIX) as folder, _locked(Path(folder)):
        uploads = Path(folder) / "uploads"
        uploads.mkdir()
        yield uploads


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # The file gets its name when it is locked, so that none with this name is free while its process runs. Windows
    # neither renames nor removes a file that is open.
    first = folder / (f"{_LOCK}.new" if fcntl else _LOCK)
    with first.open("xb") as file:
        if fcntl:
            with suppress(OSError):  # a disk without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            first.rename(folder / _LOCK)
        yield


def _remove_left_over() -> None:
    for folder in Path(gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            # A folder of another user, or a link that one has put there, stays.
            mine = not folder.is_symlink() and (fcntl is None or folder.stat().st_uid == os.getuid())
            if mine and _is_free(folder / _LOCK):
                shutil.rmtree(folder, ignore_errors=True)


def _is_free(lock: Path) -> bool:
    """Return whether the process that locked the file has ended; raises OSError where that cannot be told."""
    if fcntl is None:
        lock.unlink()
    else:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
