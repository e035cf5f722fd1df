"""Folders and videos that the page has ordered, one after another, each with its progress."""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdlib.app.photos import Settings
from kdlib.enhance.folders.local import enhance_files, plan
from kdlib.enhance.folders.others import in_words
from kdlib.enhance.folders.videos import plan_videos, result_of
from kdlib.enhance.photos.kinds import is_video, readable_suffixes
from kdlib.enhance.photos.paths import files_in, photos_in
from kdlib.enhance.video.enhance import enhance_video
from kdlib.threads import available_threads

_LISTED = 5  # most failures that are shown


class _StoppedError(Exception):
    """The user does not want the job any more."""


@dataclass
class Job:
    """One folder or video.

    Attributes:
        name: for the user.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``stopped``.
        done, total: photos or frames; the total is 0 while it is unknown.
        message: lines for the user.
        result: a video to download, if it was uploaded.
    """

    name: str
    state: str = "waiting"
    done: int = 0
    total: int = 0
    message: list[str] = field(default_factory=list)
    result: Path | None = None
    stopping: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self.state not in {"waiting", "running"}

    def advance(self, done: int, total: int) -> None:
        """Note the progress; raises where the job is to stop."""
        self.state, self.done, self.total = "running", done, total
        if self.stopping:
            raise _StoppedError


class Jobs:
    """All of them, by their keys."""

    def __init__(self) -> None:
        self._jobs, self._numbers = dict[str, Job](), itertools.count()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="job")
        self._lock = threading.Lock()

    def __getitem__(self, key: str) -> Job:
        """Return a job; KeyError for none."""
        return self._jobs[key]

    def as_json(self) -> list[dict[str, Any]]:
        """Return all jobs, the newest first."""
        with self._lock:
            jobs = list(self._jobs.items())
        return [
            {
                "id": key, "name": job.name, "state": job.state, "done": job.done, "total": job.total,
                "message": job.message, "result": job.result is not None,
            }
            for key, job in reversed(jobs)
        ]  # fmt: skip

    def start(
        self,
        path: str,
        settings: Settings,
        *,
        recursive: bool = False,
        side_by_side: bool = False,
        overwrite: bool = False,
    ) -> str:
        """Order a folder, a photo or a video on this computer; results go beside it, as ``_enhanced``.

        The photos of a folder are one job, and each of its videos is one.

        Returns:
            The key of the first job.

        Raises:
            FileNotFoundError, ValueError: there is no such thing, or the settings are wrong.
        """
        source = Path(os.path.expanduser(path))  # leaves the name of an unknown user as it is
        if not source.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        settings.enhancer()  # raises before anything is ordered
        videos = [(source, result_of(source, "_enhanced", None))] if source.is_file() and is_video(source) else []
        if source.is_dir() and any(map(is_video, files_in(source, recursive=recursive))):
            videos = [(job.source, job.target) for job in plan_videos(source, None, recursive=recursive).jobs]
        keys = []
        if not videos or (
            source.is_dir() and any(photos_in(source, recursive=recursive, suffixes=readable_suffixes()))
        ):
            others = Counter[str]()
            jobs = plan([source], None, recursive=recursive, others=others)
            keys.append(self._order(str(source), lambda job: _photos(job, jobs, settings, others, overwrite)))
        for video, target in videos:

            def work(job: Job, video: Path = video, target: Path = target) -> None:
                target.parent.mkdir(parents=True, exist_ok=True)
                _video(job, video, target, settings, side_by_side, overwrite)
                job.message[0] += f" Written to {target}."

            keys.append(self._order(video.name, work))
        return keys[0]

    def start_video(self, upload: Path, name: str, settings: Settings, *, side_by_side: bool = False) -> str:
        """Order an uploaded video, whose result is to be downloaded; the upload is deleted when the job ends."""

        def work(job: Job) -> None:
            target = result_of(Path(name), "_enhanced", None)
            result = upload.with_name(f"{upload.name}{target.suffix}")
            _video(job, upload, result, settings, side_by_side)
            job.name, job.result = target.name, result

        return self._order(name, work, upload)

    def stop(self, key: str) -> None:
        """Stop a job; what is complete stays."""
        self[key].stopping = True

    def remove(self, key: str) -> None:
        """Forget a job that has ended, and delete the result that was to be downloaded.

        Raises:
            ValueError: the job has not ended.
        """
        with self._lock:
            job = self[key]
            if not job.ended:
                raise ValueError(f"{job.name} is not finished; stop it before")
            del self._jobs[key]
        if job.result is not None:
            job.result.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop all jobs and wait until the running one has."""
        with self._lock:
            for job in self._jobs.values():
                job.stopping = True
        self._pool.shutdown(cancel_futures=True)

    def _order(self, name: str, work: Callable[[Job], None], upload: Path | None = None) -> str:
        job = Job(name)

        def run() -> None:
            state = "done"
            try:
                job.advance(0, 0)
                work(job)
            except _StoppedError:
                state, job.message = "stopped", ["Stopped."]
            except FileExistsError as error:
                told = str(error).partition("; ")[0]  # what follows names options of the command line
                state, job.message = "failed", [f"{told}. Choose “Replace existing results” to replace them."]
            except (OSError, ValueError, MemoryError) as error:
                state, job.message = "failed", [str(error) or type(error).__name__]
            except Exception as error:
                state, job.message = "failed", [f"{type(error).__name__}: {error}"]
            if upload is not None:
                upload.unlink(missing_ok=True)
            job.state = state  # last, so that all else is there when the job is seen to have ended

        with self._lock:
            key = str(next(self._numbers))
            self._jobs[key] = job
        self._pool.submit(run)
        return key


def _video(
    job: Job, source: Path, target: Path, settings: Settings, side_by_side: bool, overwrite: bool = False
) -> None:
    report = enhance_video(
        source,
        target,
        settings.enhancer(),
        side_by_side=side_by_side,
        overwrite=overwrite,
        progress=job.advance,
    )
    job.message = [f"{report.frames} frames in {report.elapsed:.1f} s.", *report.notes]
    if report.damages:
        job.message.append(f"{len(report.damages)} damaged frames were patched or replaced.")


def _photos(job: Job, jobs: list[Any], settings: Settings, others: Counter[str], overwrite: bool) -> None:
    finished = itertools.count(1)
    job.advance(0, len(jobs))
    summary = enhance_files(
        jobs,
        settings.enhancer,
        workers=available_threads(),
        overwrite=overwrite,
        progress=lambda _: job.advance(next(finished), len(jobs)),
    )
    place = jobs[0].output or jobs[0].target
    lines = [f"{photo}: {what}" for photo, what in (*summary.failed, *summary.notes)]
    written = f" Written to {place}." if summary.done else ""
    job.message = [f"{summary.done} of {summary.photos} photos brightened.{written}", *lines[:_LISTED]]
    if len(lines) > _LISTED:
        job.message.append(f"… and {len(lines) - _LISTED} more; `kdlib enhance --report` lists them all.")
    if passed_over := Counter({kind: count for kind, count in others.items() if not kind.startswith("video")}):
        job.message.append(f"{in_words(passed_over)}.")
