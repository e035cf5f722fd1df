"""What runs on a cluster: enhancing a part of the photos, and remembering where a worker died."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

from kdlib.enhance.folders.local import Summary, enhance_photo, outcome
from kdlib.enhance.folders.stores import Place, Task, as_file, partial_place, published

DEATHS = 2
"""A photo over which so many workers died one after the other is given up."""


@dataclass(frozen=True)
class Settings:
    """What every worker has to know; travels to other machines.

    Attributes:
        options: of the Enhancer, but for model and threads.
        model: a shipped name, or the extension of a weights file.
        weights: the file's content; it need not lie on the worker's machine.
        max_pixels: see :func:`kdlib.enhance.photos.photo_file.decode_photo`.
        stores: where photos come from and go to; tasks name them by their number.
    """

    options: Mapping[str, Any]
    model: str
    weights: bytes | None
    max_pixels: int | None
    stores: Sequence[AbstractFileSystem]

    def packed(self, tasks: Sequence[Task]) -> str:
        """Tasks as JSON."""
        store = self.stores.index
        return json.dumps(
            [(store(t.source.store), t.source.path, store(t.target.store), t.target.path, t.kept) for t in tasks]
        )

    def unpacked(self, packed: str) -> list[Task]:
        """The tasks of :meth:`packed`."""
        rows = json.loads(packed)
        return [Task(Place(self.stores[a], b), Place(self.stores[c], d), kept) for a, b, c, d, kept in rows]


class Ledger:
    """Remembers, outside the workers, which part of the photos each is at. One for a whole run.

    A part that is begun a second time killed its worker. Its photos are then announced one by one, so that one which
    kills workers again and again (a file that unpacks to more than the memory, a fault in a decoder) is found.
    """

    def __init__(self) -> None:
        self._at: dict[str, str] = {}
        self._deaths: Counter[str] = Counter()

    def begin(self, part: str) -> bool:
        """A worker starts on a part: whether another has died over it."""
        again = part in self._at
        if again and self._at[part]:
            self._deaths[self._at[part]] += 1
        self._at[part] = ""
        return again

    def announce(self, part: str, photo: str) -> int:
        """A worker starts on a photo: how many have died over it."""
        self._at[part] = photo
        return self._deaths[photo]

    def end(self, part: str) -> None:
        """A part is done."""
        self._at.pop(part, None)


class PhotoWorker:
    """One Enhancer on one core; called by Ray Data with parts of the photos."""

    def __init__(self, settings: Settings, ledger: Any) -> None:
        from kdlib.enhance.enhancer import Enhancer

        self._settings, self._ledger = settings, ledger
        if settings.weights is None:
            self._enhance = Enhancer(settings.model, threads=1, **settings.options)
            return
        with tempfile.TemporaryDirectory(prefix="kdlib-") as folder:
            weights = Path(folder, f"model{settings.model}")
            weights.write_bytes(settings.weights)
            self._enhance = Enhancer(weights, threads=1, **settings.options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Enhance the photos of each row of ``tasks``: a row of ``summary`` for each."""
        return {"summary": [self._enhance_part(self._settings.unpacked(packed)) for packed in batch["tasks"]]}

    def _enhance_part(self, tasks: Sequence[Task]) -> str:
        import ray

        part = str(tasks[0].target)
        careful = ray.get(self._ledger.begin.remote(part))
        summary = Summary()
        for task in tasks:
            if task.kept:
                summary.kept += 1
                continue
            source, target = str(task.source), str(task.target)
            deaths = ray.get(self._ledger.announce.remote(part, target)) if careful else 0
            if deaths >= DEATHS:
                with suppress(OSError):
                    partial_place(task.target).store.rm_file(partial_place(task.target).path)
                summary.failed.append((source, f"{deaths} workers died over it, one after the other; out of memory?"))
                continue
            summary.add(outcome(partial(self._enhance_one, task), source, target))
        self._ledger.end.remote(part)
        return json.dumps(asdict(summary))

    def _enhance_one(self, task: Task) -> tuple[str, ...]:
        with as_file(task.source) as read, published(task.target) as written:
            return enhance_photo(read, written, self._enhance, self._settings.max_pixels)
