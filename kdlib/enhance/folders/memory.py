"""What made the results in a folder: a small file there remembers it, so that no run continues with another look."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path, PurePath
from typing import Any

from kdlib.enhance.photos.kinds import SUFFIXES
from kdlib.files import changed_settings, held, replacing, strict_json

MEMORY = ".kdlib.json"
"""Name of the file, which is hidden like everything that is no photo of the user's."""
_MOST_BYTES = 2**20
_ABOUT = "What made the results in this folder. kdlib with --resume keeps them only if it would make the same."
_Made = Mapping[str, Any]


class Memory(ABC):
    """The memory of one folder of results, and of one suffix of their names, as other suffixes are other files.

    It lists the settings of every run that may have left results there. Before its first result, a run adds its own,
    so that nothing is unknown after an interruption. A photo that was there before any settings were remembered, for
    example by an earlier version, counts as the result of unknown settings.

    Args:
        folder: the folder as messages name it.
        suffix: what the run adds to file names.
        settings: of the run; see :attr:`kdlib.Enhancer.settings`.
        keeps: whether the run keeps the results that are there, so that they must be its own.
    """

    _name, _what, _suffixes = MEMORY, "photos", SUFFIXES

    def __init__(self, folder: str, suffix: str, settings: _Made, *, keeps: bool) -> None:
        self._folder, self._mine, self._keeps = folder, {"suffix": suffix, **settings}, keeps
        self._older: list[_Made] = []

    def check(self) -> None:
        """Find out whether the run may begin, without writing anything.

        Raises:
            ValueError: the run keeps results, and others than its own are there; or the file is damaged.
        """
        self._found_and_wanted()

    def begin(self) -> None:
        """Add the run's settings, which is to happen before its first result.

        Raises:
            ValueError: as for :meth:`check`.
            OSError: the file cannot be written.
        """
        found, wanted = self._found_and_wanted()
        if wanted != found:
            with self._locked():
                found, wanted = self._found_and_wanted()
                self._write(wanted)
        self._older = [made for made in self._own(wanted) if not _same(made, self._mine)]

    def end(self, replaced: int = 0) -> None:
        """Forget older settings if the run has replaced all that they made.

        Where the file cannot be read or written, it goes on listing them: that is safe, and costs the run nothing.

        Args:
            replaced: number of photos in the folder that the run has written; 0 if it was to replace none, or failed
                at any.
        """
        with suppress(OSError, ValueError):
            # Another run that found no results as yet may have taken these settings for outdated.
            if not self._lists_mine(self._read()) or (replaced and self._older):
                self._rewrite(replaced)

    def _rewrite(self, replaced: int) -> None:
        with self._locked():
            found = self._read()
            if replaced and sum(1 for _ in self._results(found)) <= replaced:
                found = [made for made in found if made not in self._older]
            self._write(found if self._lists_mine(found) else [*found, self._mine])

    def _found_and_wanted(self) -> tuple[list[_Made], list[_Made]]:
        """Return what the file lists, and what it has to list when the run begins.

        Raises:
            ValueError: see :meth:`check`.
        """
        found = self._read()
        there = next(self._results(found), None) is not None
        if there:  # perhaps of a run that has begun meanwhile, and wrote its settings before its first result
            found = self._read()
        own = self._own(found)
        wanted = [*found]
        if there and not own:
            own = [{"suffix": self._mine["suffix"]}]
            wanted += own
        if self._keeps:
            for made in own:
                self._require_mine(made)
        elif not there:  # all results have been removed
            wanted = [made for made in found if made not in own]
        return found, wanted if self._lists_mine(wanted) else [*wanted, self._mine]

    def _own(self, listed: list[_Made]) -> list[_Made]:
        return [made for made in listed if made["suffix"] == self._mine["suffix"]]

    def _lists_mine(self, listed: list[_Made]) -> bool:
        return any(_same(made, self._mine) for made in listed)

    def _require_mine(self, made: _Made) -> None:
        if _same(made, self._mine):
            return
        escape = "choose another output folder, or replace what is there with --overwrite instead"
        if made.keys() == {"suffix"}:
            raise ValueError(
                f"{self._folder} holds {self._what} of which {self._name} does not say what made them, as of earlier "
                f"versions of kdlib: --resume might mix two looks; {escape}"
            )
        changes = _changes(made, self._mine)
        raise ValueError(
            f"{self._folder} is the output of a run with other options ({changes}): --resume would mix two looks; "
            f"give the options of that run, {escape}"
        )

    def _results(self, found: list[_Made]) -> Iterator[PurePath]:
        """Yield the photos in the folder that have the run's suffix, and no longer one that the file lists."""
        suffix = self._mine["suffix"]
        longer = tuple(made["suffix"] for made in found if len(made["suffix"]) > len(suffix))
        for path in self._files():
            hidden = any(part.startswith(".") for part in path.parts)
            ours = path.stem.endswith(suffix) and not path.stem.endswith(longer)
            if path.suffix.lower() in self._suffixes and ours and not hidden:
                yield path

    def _read(self) -> list[_Made]:
        """Return the settings that the file lists, in the order in which the runs began.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            content = self._content()
            return [] if content is None else _parsed(content)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{self.path} is damaged ({error}); it says what made the results in its folder: delete it and "
                "replace the results with --overwrite, or choose another output folder"
            ) from None

    def _write(self, made: list[_Made]) -> None:
        text = json.dumps({"about": _ABOUT, "results": made}, indent=2)  # in ASCII, as names may be no valid text
        self._store(f"{text}\n".encode())

    @property
    @abstractmethod
    def path(self) -> str:
        """The file, as messages name it."""

    @abstractmethod
    def _files(self) -> Iterator[PurePath]:
        """Yield the paths of the files in the folder, relative to it, as far as results may lie there."""

    @abstractmethod
    def _content(self) -> bytes | None:
        """Return the content of the file, or None if there is none."""

    @abstractmethod
    def _store(self, content: bytes) -> None:
        """Write the file, so that it is never incomplete."""

    def _locked(self) -> AbstractContextManager[None]:
        """Keep others from writing the file, where that is possible."""
        return nullcontext()


class LocalMemory(Memory):
    """The memory of a folder on this machine.

    Args:
        folder: the folder, which need not exist.
        nested: whether its subfolders hold results, too.
        others: as for :class:`Memory`.
    """

    def __init__(self, folder: Path, suffix: str, settings: _Made, *, keeps: bool, nested: bool = True) -> None:
        super().__init__(str(folder), suffix, settings, keeps=keeps)
        self._place, self._nested = folder, nested

    @property
    def path(self) -> str:
        """The file."""
        return str(self._place / self._name)

    def _files(self) -> Iterator[PurePath]:
        for folder, folders, names in os.walk(self._place):
            # Hidden folders hold no results, and may be large.
            folders[:] = [name for name in folders if self._nested and not name.startswith(".")]
            yield from (PurePath(folder, name).relative_to(self._place) for name in names)

    def _content(self) -> bytes | None:
        path = self._place / self._name
        if not os.path.lexists(path):
            return None
        if not path.is_file():
            raise ValueError("it is not a file")
        with path.open("rb") as file:
            return file.read(_MOST_BYTES + 1)

    def _store(self, content: bytes) -> None:
        with replacing(self._place / self._name) as partial:
            partial.write_bytes(content)

    def _locked(self) -> AbstractContextManager[None]:
        return held(self._place)


def _parsed(content: bytes) -> list[_Made]:
    if len(content) > _MOST_BYTES:
        raise ValueError("it is too large")
    table = strict_json(content)
    listed = table.get("results") if isinstance(table, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it has no list of results")
    for made in listed:
        if not isinstance(made, dict) or not isinstance(made.get("suffix"), str):
            raise ValueError("its list of results has an entry without suffix")
        if made.keys() != {"suffix"} and not all(isinstance(made.get(key), str) for key in ("model", "weights")):
            raise ValueError("its list of results has an entry without model and weights")
    return listed


def _changes(made: _Made, wanted: _Made) -> str:
    """Describe how two settings differ; the digest of the weights only where they have the same name."""
    names, digests = ({one.get(key) for one in (made, wanted)} for key in ("model", "weights"))
    told = {"weights"} if len(names) > 1 else set()  # by the names
    told |= {"model"} if len(digests) == 1 else set()  # one file under two names
    kept, asked = (
        {key: f"{value[:12]}…" if key == "weights" else value for key, value in one.items() if key not in told}
        for one in (made, wanted)
    )
    return changed_settings(kept, asked)


def _same(made: _Made, wanted: _Made) -> bool:
    """Whether the results are the same; one file may have two names."""
    return {**made, "model": ""} == {**wanted, "model": ""}
