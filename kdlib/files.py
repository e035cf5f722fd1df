"""Writing files so that none is ever half-written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


# Seconds for which what a killed process had forked may outlive it, and hold what it held: PyTorch's loaders look every
# five whether they are orphans.
ORPHANS_LIFE = 10.0


class MadeMeanwhileError(FileExistsError):
    """While a file was being made, another run has put one in its place."""


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which takes its place at once when the block succeeds.

    If the block fails, an existing file stays as it was and nothing is left behind. What a killed process has left is
    used again.

    Args:
        path: the file; its folder is made.
        overwrite: whether to replace a file that is there when the block has succeeded.

    Raises:
        MadeMeanwhileError: it is there, and is not to be replaced.
        OSError: another process is writing it, or it cannot be written.
    """
    partial = path.with_name(partial_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        claim = _claimed(partial, path)
    except PermissionError:
        raise PermissionError(f"no permission to write to {path.parent}") from None
    try:
        yield partial
        if overwrite:
            os.replace(partial, path)
        else:
            _put(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        if claim is not None:
            os.close(claim)


@contextmanager
def held(folder: Path, patience: float = ORPHANS_LIFE) -> Iterator[None]:
    """Keep others from working in a folder, which is made, until the block ends, or this process does.

    It is a lock on the folder itself, which leaves no file; there is none on Windows, and on disks without locks.

    Args:
        folder: is made.
        patience: seconds to wait for another run to end.

    Raises:
        OSError: another run works in it still, or it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    end = time.monotonic() + patience
    claim = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while not _locked(claim):
            if time.monotonic() > end:
                raise OSError(f"another run works in {folder}; wait for it, or choose another folder")
            time.sleep(0.1)
        yield
    finally:
        os.close(claim)


def _locked(claim: int) -> bool:
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        pass
    return True


def partial_name(name: str) -> str:
    """The name under which a file stands, in its folder, until it is whole."""
    # A name of 255 bytes, the most that there is, leaves no room for more.
    short = name if len(os.fsencode(name)) < 240 else hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{short}.part" if fcntl else f".{short[:200]}.{os.getpid()}.part"


def left_over(path: Path) -> Iterator[Path]:
    """What killed processes have left of a file that was not whole yet; the name may be a pattern."""
    return path.parent.glob(f".{path.name}*.part")


def _claimed(partial: Path, path: Path) -> int | None:
    """Make an empty file and keep others from it, until the descriptor is closed; None where files have no locks."""
    if fcntl is None:
        return None
    while True:
        try:
            # Never through a link: in a stranger's folder, it may lead to any file.
            claim = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            partial.unlink()
            continue
        if not stat.S_ISREG(os.fstat(claim).st_mode):  # nor through a pipe
            os.close(claim)
            partial.unlink()
            continue
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(claim), os.stat(partial, follow_symlinks=False)):
                if os.fstat(claim).st_nlink == 1:
                    return claim
                # A second name of another file: of a result, if a run was killed between the two steps of _put.
                partial.unlink()
        except FileNotFoundError:
            pass  # the other process has just finished
        except BlockingIOError:
            os.close(claim)
            raise OSError(f"{path} is being written by another run; wait for it, or write elsewhere") from None
        except OSError:
            return claim  # a disk without locks
        os.close(claim)


def _put(partial: Path, path: Path) -> None:
    """Move a file to where none is."""
    taken = MadeMeanwhileError(f"{path} has been written by another run meanwhile, and was kept")
    try:
        os.link(partial, path, follow_symlinks=False)
    except FileExistsError:
        raise taken from None
    except (OSError, NotImplementedError):  # a disk without links
        if path.exists():
            raise taken from None
        os.replace(partial, path)
    else:
        partial.unlink(missing_ok=True)


def strict_json(text: str | bytes) -> Any:
    """Read JSON as the standard has it: no NaN, and no name twice, of which readers would take one or the other.

    Raises:
        ValueError: it is no such JSON.
        RecursionError: nested deeper than anyone needs.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for name, value in pairs:
            if name in table:
                raise ValueError(f"{name!r} stands there twice")
            table[name] = value
        return table

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    return json.loads(text, object_pairs_hook=once, parse_constant=refuse)


def write_json(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Write a result with what is needed to trust it (versions, date, machine); an existing file is replaced at
    once."""
    path = Path(path)
    stamp = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    text = json.dumps({**content, "made": stamp}, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(f"{text}\n", encoding="utf-8")
    return path


def changed_settings(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs between the settings of results and those that are wanted now, in words; empty if nothing does."""
    both = {name: (found.get(name), wanted.get(name)) for name in {**found, **wanted}}
    return ", ".join(f"{name} {old!r} → {new!r}" for name, (old, new) in both.items() if old != new)
