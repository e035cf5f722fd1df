"""Enhancing photos as they arrive in a folder, each once, also over several runs."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.folders.local import Job, Summary, enhance_files, renamed, told_by
from kdlib.enhance.folders.memory import LocalMemory
from kdlib.enhance.photos.kinds import readable_suffixes

JOURNAL = ".kdlib-watch.sqlite3"
"""Name of the file in the output folder that lists the photos that have been enhanced."""
SETTLED = 2.0
"""Seconds for which a photo must not change before it counts as complete."""
_PENDING = 1000  # most photos that are waited for at once; further ones take their turn
_BATCH = 32  # photos between two entries in the journal
# What the journal tells of a photo: enhanced; failed; or changed since its result was made, which stands.
_DONE, _FAILED, _CHANGED = 0, 1, 2


class State(NamedTuple):
    """What distinguishes a photo from a later one under its name: size in bytes, and time of change in nanoseconds."""

    size: int
    changed: int


@dataclass
class Look:
    """The outcome of one look at the folder.

    Attributes:
        done: photos that were enhanced, each with its result.
        summary: failures and notes.
    """

    done: list[tuple[Path, Path]] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)


class Watch:
    """A folder whose new photos are enhanced. Call :meth:`look` again and again.

    A photo is enhanced when it has not changed for :data:`SETTLED` seconds. A file in the output folder lists what has
    been enhanced, so that a run that begins anew, even after it was killed, makes no result twice, and none again that
    has been taken away. Photos that failed are tried once in each run, and again when they change. The memory that is
    needed does not grow with the number of photos.

    Args:
        folder: the folder to watch.
        output: the folder of the results, in which subfolders are mirrored.
        enhancer: makes an Enhancer for a number of threads; None stands for all.
        recursive: whether to include subfolders.
        suffix: added to every file name, before the extension.
        overwrite: whether to replace the results of photos that have changed, and results that are there already.
        workers: number of photos processed at a time.
        max_pixels: as for :func:`kdlib.enhance.folders.local.enhance_files`.
        clock: seconds that never run backwards.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: it is a file, or the output is one.
        ValueError: results would be taken for new photos; the output folder has results of other settings; or its list
            of enhanced photos is damaged.
        OSError: the output folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        output: Path,
        enhancer: Callable[[int | None], Enhancer],
        *,
        recursive: bool = False,
        suffix: str = "",
        overwrite: bool = False,
        workers: int = 1,
        max_pixels: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not folder.exists():
            raise FileNotFoundError(f"{folder}: no such folder")
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder; --watch takes the folder in which photos arrive")
        if os.path.lexists(output) and not output.is_dir():
            raise NotADirectoryError(f"{output} is not a folder; give a folder or an unused name")
        if os.path.realpath(folder) == os.path.realpath(output):
            raise ValueError(f"the results in {output} would be taken for new photos; choose another --output")
        self._folder, self._output, self._enhancer = folder, output, cache(enhancer)
        self._recursive, self._suffix, self._overwrite = recursive, suffix, overwrite
        self._workers, self._max_pixels, self._clock = workers, max_pixels, clock
        self._pending: dict[Path, tuple[State, float]] = {}  # and since when
        settings = self._enhancer(1 if workers > 1 else None).settings
        LocalMemory(output, suffix, settings, keeps=not overwrite).check()
        output.mkdir(parents=True, exist_ok=True)
        self._path = output / JOURNAL
        with self._journal() as journal:
            journal.execute(
                "CREATE TABLE IF NOT EXISTS photos (suffix TEXT, photo BLOB, size INTEGER, changed INTEGER, "
                "failed INTEGER, PRIMARY KEY (suffix, photo)) WITHOUT ROWID"
            )
            journal.execute("DELETE FROM photos WHERE failed = ? AND suffix = ?", (_FAILED, suffix))
            # No photo has this size, so that it is told of, or replaced, by this run as well.
            journal.execute("UPDATE photos SET size = -1 WHERE failed = ? AND suffix = ?", (_CHANGED, suffix))

    def look(self) -> Look:
        """Enhance what has arrived completely since the last look.

        Raises:
            OSError: the folder cannot be read, for example because its disk has been removed; look again later.
            ValueError: as for the class.
        """
        look, now = Look(), self._clock()
        pending, ready = self._pending, list[tuple[Path, State, bool]]()
        self._pending = {}
        with self._journal() as journal:
            for photo, state in self._photos():
                known = self._known(journal, photo)
                if known == state:
                    continue
                before, since = pending.get(photo, (None, now))
                if before != state:
                    since = now
                if now - since >= SETTLED:
                    ready.append((photo, state, known is not None))
                    if len(ready) == _PENDING:
                        break
                elif len(self._pending) < _PENDING:
                    self._pending[photo] = state, since
        for first in range(0, len(ready), _BATCH):
            self._enhance(ready[first : first + _BATCH], look)
        return look

    def _enhance(self, photos: list[tuple[Path, State, bool]], look: Look) -> None:
        jobs, summary = list[Job](), Summary()
        targets = self._targets(photos)
        for (photo, _, known), target in zip(photos, targets, strict=True):
            if self._overwrite or not os.path.lexists(target):
                jobs.append(Job(photo, target, self._output, self._suffix))
            elif known:
                summary.failed.append((str(photo), f"has changed since {target} was made; --overwrite replaces it"))
            else:
                summary.kept += 1
        if jobs:
            made = enhance_files(
                jobs,
                self._enhancer,
                workers=self._workers,
                overwrite=self._overwrite,
                resume=not self._overwrite,
                max_pixels=self._max_pixels,
            )
            summary.add(made)
        failed = {photo for photo, _ in summary.failed}
        look.done += [(job.source, job.target) for job in jobs if str(job.source) not in failed]
        look.summary.add(summary)
        with self._journal() as journal:
            for photo, state, known in photos:
                how = (_CHANGED if known else _FAILED) if str(photo) in failed else _DONE
                row = (self._suffix, self._name(photo), *state, how)
                journal.execute("INSERT OR REPLACE INTO photos VALUES (?, ?, ?, ?, ?)", row)

    def _targets(self, photos: list[tuple[Path, State, bool]]) -> list[Path]:
        """Return the results of photos; those of a raw photo and of the TIFF file beside it have different names."""
        targets = list[Path]()
        with self._journal() as journal:
            for photo, _, known in photos:
                plain, apart = self._result(photo), self._result(photo, told_by(photo))
                if known:  # so its result has one of the two names
                    taken = os.path.lexists(apart)
                else:
                    beside = self._done_beside(journal, photo)
                    taken = plain in targets or any(self._result(other) == plain for other in beside)
                targets.append(apart if taken else plain)
        return targets

    def _result(self, photo: Path, told: str = "") -> Path:
        return self._output / renamed(photo, told + self._suffix).relative_to(self._folder)

    def _done_beside(self, journal: sqlite3.Connection, photo: Path) -> Iterator[Path]:
        """Yield the photos in the journal whose names differ in the extension alone."""
        stem = os.fsencode(photo.with_suffix("").relative_to(self._folder))
        asked = "SELECT photo FROM photos WHERE suffix = ? AND photo >= ? AND photo < ?"
        for (name,) in journal.execute(asked, (self._suffix, stem + b".", stem + b"/")):  # "/" follows "."
            yield self._folder / os.fsdecode(name)

    def _photos(self) -> Iterator[tuple[Path, State]]:
        """Yield the photos in the folder one by one, without a list of all of them."""
        place, suffixes = os.path.realpath(self._output), readable_suffixes()

        def below(folder: Path) -> Iterator[tuple[Path, State]]:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = folder / entry.name
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            if self._recursive and os.path.realpath(path) != place:
                                yield from below(path)
                        elif path.suffix.lower() in suffixes and entry.is_file():
                            found = path.stat()  # what Windows tells of the entry is old while the file is written
                            if found.st_size:
                                yield path, State(found.st_size, found.st_mtime_ns)
                    except FileNotFoundError:  # removed meanwhile
                        continue

        return below(self._folder)

    def _name(self, photo: Path) -> bytes:
        return os.fsencode(photo.relative_to(self._folder))

    def _known(self, journal: sqlite3.Connection, photo: Path) -> State | None:
        asked = "SELECT size, changed FROM photos WHERE suffix = ? AND photo = ?"
        row = journal.execute(asked, (self._suffix, self._name(photo))).fetchone()
        return State(*row) if row else None

    def _journal(self) -> "_Journal":
        return _Journal(self._path)


class _Journal:
    """The list of enhanced photos while a block reads or writes it; what the block wrote is kept if it succeeds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._open = closing(sqlite3.connect(self._path))
            self._connection = self._open.__enter__()
            self._connection.execute("PRAGMA schema_version")
        except sqlite3.Error as error:
            raise self._damaged(error) from None
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._connection.commit()
        except sqlite3.Error as late:
            raise self._damaged(late) from None
        finally:
            self._open.__exit__(None, None, None)
        if isinstance(error, sqlite3.Error):
            raise self._damaged(error) from None

    def _damaged(self, error: sqlite3.Error) -> Exception:
        if isinstance(error, sqlite3.OperationalError):  # a full disk, no permission, another process
            return OSError(f"{self._path} cannot be read or written ({error})")
        return ValueError(
            f"{self._path} is damaged ({error}); it lists the photos that have been enhanced: delete it, and photos "
            "whose results are in the folder are still left alone"
        )
