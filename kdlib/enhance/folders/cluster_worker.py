"""The parts that run on a cluster: workers that enhance photos, and a ledger of the photos on which they died."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

from kdlib.enhance.folders.local import Result, Summary, enhance_photo, outcome
from kdlib.enhance.folders.stores import Place, Task, as_file, partial_place, published
from kdlib.enhance.photos.kinds import changed_format

DEATHS = 2
"""A photo is given up when this many workers in succession died on it."""


@dataclass(frozen=True)
class Settings:
    """The settings that every worker receives; they are sent to other machines.

    Attributes:
        options: options of the Enhancer except for model and threads.
        model: name of a shipped model, or the extension of a weights file.
        weights: content of the weights file, which need not exist on the worker's machine; None for a shipped model.
        max_pixels: see :func:`kdlib.enhance.photos.photo_file.decode_photo`.
        stores: the stores of inputs and results; packed tasks refer to them by index.
        wanted, quality: see :func:`kdlib.enhance.photos.convert.converted`.
    """

    options: Mapping[str, Any]
    model: str
    weights: bytes | None
    max_pixels: int | None
    stores: Sequence[AbstractFileSystem]
    wanted: str | None = None
    quality: int | None = None

    def packed(self, tasks: Sequence[Task]) -> str:
        """Return tasks as JSON."""
        store = self.stores.index
        return json.dumps(
            [(store(t.source.store), t.source.path, store(t.target.store), t.target.path, t.kept) for t in tasks]
        )

    def unpacked(self, packed: str) -> list[Task]:
        """Return the tasks that :meth:`packed` wrote."""
        rows = json.loads(packed)
        return [Task(Place(self.stores[a], b), Place(self.stores[c], d), kept) for a, b, c, d, kept in rows]


class Ledger:
    """A record, kept outside the workers, of the part that each worker is processing. A run has one ledger.

    If a part begins a second time, its worker died. Its photos are then announced one by one, which identifies a photo
    that repeatedly kills workers, such as one that decodes to more than the memory or crashes a decoder.
    """

    def __init__(self) -> None:
        self._at: dict[str, str] = {}
        self._deaths: Counter[str] = Counter()

    def begin(self, part: str) -> bool:
        """Record that a worker starts a part; return whether an earlier worker died on it."""
        again = part in self._at
        if again and self._at[part]:
            self._deaths[self._at[part]] += 1
        self._at[part] = ""
        return again

    def announce(self, part: str, photo: str) -> int:
        """Record that a worker starts a photo; return how many workers have died on it."""
        self._at[part] = photo
        return self._deaths[photo]

    def end(self, part: str) -> None:
        """Record that a part is done."""
        self._at.pop(part, None)


class PhotoWorker:
    """One Enhancer on one core, which Ray Data calls with parts of the photos."""

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
        """Enhance the photos of each row of ``tasks``; return one row of ``summary`` per row."""
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
                summary.failed.append((source, f"{deaths} workers died on it in succession, perhaps out of memory"))
                continue
            summary.add(outcome(partial(self._enhance_one, task), source, target))
        self._ledger.end.remote(part)
        return json.dumps(asdict(summary))

    def _enhance_one(self, task: Task) -> Result:
        with as_file(task.source) as read, published(task.target) as written:
            names = PurePosixPath(task.source.path), PurePosixPath(task.target.path)
            wanted = self._settings.wanted or changed_format(*names)
            return enhance_photo(
                *(read, written, self._enhance, self._settings.max_pixels),
                wanted=wanted,
                quality=self._settings.quality,
            )
