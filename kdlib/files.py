"""Writing files so that none is ever left incomplete, and locking folders against concurrent runs."""

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
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


# Seconds for which child processes may outlive a killed process and keep its locks; PyTorch's data loaders check every
# five seconds whether their parent is alive.
ORPHANS_LIFE = 10.0


class MadeMeanwhileError(FileExistsError):
    """Another run has written a file while this run was preparing it."""


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; if the block succeeds, that file replaces ``path`` atomically.

    If the block fails, an existing file stays as it was and nothing is left behind. A temporary file that a killed
    process has left is reused.

    Args:
        path: file to write; its folder is created.
        overwrite: whether to replace a file that exists when the block has succeeded.

    Raises:
        MadeMeanwhileError: the file exists and must not be replaced.
        OSError: another process is writing the file, or it cannot be written.
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
    """Lock a folder against other runs until the block or this process ends.

    The lock is on the folder itself and leaves no file. On Windows, and on disks without locks, there is no locking.

    Args:
        folder: folder to lock, which is created.
        patience: seconds to wait for another run to end.

    Raises:
        OSError: another run still uses the folder, or it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        raise PermissionError(f"no permission to write to {folder}") from None
    if fcntl is None:
        yield
        return
    end = time.monotonic() + patience
    claim = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while not _locked(claim):
            if time.monotonic() > end:
                raise OSError(f"another run is using {folder}; wait for it, or choose another folder")
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
    """Return the name of a file, in its folder, until it is complete."""
    # A name of 255 bytes, the usual maximum, leaves no room for additions.
    short = name if len(os.fsencode(name)) < 240 else hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{short}.part" if fcntl else f".{short[:200]}.{os.getpid()}.part"


def left_over(path: Path) -> Iterator[Path]:
    """Yield the incomplete files that killed processes have left for ``path``, whose name may be a pattern."""
    return path.parent.glob(f".{path.name}*.part")


def _claimed(partial: Path, path: Path) -> int | None:
    """Create an empty file, locked until the returned descriptor is closed; return None on systems without locks."""
    if fcntl is None:
        return None
    while True:
        try:
            # Never follow a link: in an untrusted folder, it may point to any file.
            claim = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            partial.unlink()
            continue
        if not stat.S_ISREG(os.fstat(claim).st_mode):  # nor write to a pipe
            os.close(claim)
            partial.unlink()
            continue
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(claim), os.stat(partial, follow_symlinks=False)):
                if os.fstat(claim).st_nlink == 1:
                    return claim
                # It is a hard link to another file, such as a result if a run was killed between the steps of _put.
                partial.unlink()
        except FileNotFoundError:
            pass  # another process has just finished
        except BlockingIOError:
            os.close(claim)
            raise OSError(f"{path} is being written by another run; wait for it, or choose another file") from None
        except OSError:
            return claim  # a disk without locks
        os.close(claim)


def _put(partial: Path, path: Path) -> None:
    """Move a file to ``path``, which must not exist.

    Raises:
        MadeMeanwhileError: it exists.
    """
    taken = MadeMeanwhileError(f"{path} was kept, because another run has written it in the meantime")
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
    """Parse JSON strictly, without NaN and without duplicate names, which readers treat differently.

    Raises:
        ValueError: the text is not valid JSON in this sense.
        RecursionError: the text is nested too deeply.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for name, value in pairs:
            if name in table:
                raise ValueError(f"the name {name!r} occurs twice")
            table[name] = value
        return table

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a valid JSON number")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def write_json(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Write a result with its provenance (versions, date and machine), replacing an existing file atomically."""
    from importlib.metadata import version

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
    """Describe the differences between the settings of existing results and the wanted ones; empty if none."""
    both = {name: (found.get(name), wanted.get(name)) for name in {**found, **wanted}}
    return ", ".join(f"{name} {old!r} → {new!r}" for name, (old, new) in both.items() if old != new)
