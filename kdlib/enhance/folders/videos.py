"""Enhancing the videos of a folder, one after the other, as one video keeps all cores busy."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.folders.local import (
    Job,
    Result,
    Summary,
    checked,
    outcome,
    renamed,
    told_apart,
    with_results,
)
from kdlib.enhance.folders.memory import LocalMemory
from kdlib.enhance.folders.others import nothing_found, passed_over
from kdlib.enhance.photos.kinds import is_video
from kdlib.enhance.photos.paths import files_in, real_path
from kdlib.enhance.video.enhance import VideoReport, enhance_video
from kdlib.enhance.video.files import FORMATS

_HOLDS_MOST = ".mkv"  # what a video is written as whose own format cannot be written


class VideoPlan(NamedTuple):
    """What is to be done with a folder.

    Attributes:
        jobs: the videos with their results.
        passed_over: the number of other files, by kind in words.
    """

    jobs: list[Job]
    passed_over: Counter[str]


class _VideoMemory(LocalMemory):
    """What made the videos in a folder, which may also hold photos that were made otherwise."""

    _name, _what, _suffixes = ".kdlib-videos.json", "videos", frozenset(FORMATS)


def plan_videos(
    folder: Path, output: Path | None, *, recursive: bool = False, suffix: str = "", container: str | None = None
) -> VideoPlan:
    """Choose a result for every video of a folder. Hidden files, and results below the folder, are no videos of it.

    Args:
        folder: the folder.
        output: folder in which it is mirrored; by default a new one beside it, named with ``_enhanced``.
        recursive: whether to include subfolders.
        suffix: added to every file name, before the extension.
        container: extension of all results; by default each video's own, or .mkv where it cannot be written.

    Raises:
        NotADirectoryError: ``output`` exists and is not a folder.
        ValueError: there are no videos, two have the same result, a result is an input, ``output`` names a video, or
            ``container`` is unknown.
    """
    real = real_path(folder)
    root = output if output is not None else real.with_name(f"{real.name}_enhanced")
    if os.path.lexists(root) and not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder; give a folder or an unused name")
    if output is not None and output.suffix.lower() in FORMATS and not output.is_dir():
        raise ValueError(f"{output} names one file, but {folder} is a folder of videos; give a folder")
    files = files_in(folder, recursive=recursive, results=root)
    videos = [path for path in files if is_video(path)]
    targets = [(path, root / result_of(path.relative_to(folder), suffix, container)) for path in videos]
    targets = told_apart(targets, lambda video, told: result_of(video, told + suffix, container))
    inputs = checked([Job(path, target, root, suffix) for path, target in targets], "another folder")
    others = passed_over([folder], root, recursive=recursive, videos=True)
    if not inputs:
        raise ValueError(nothing_found("videos", others))
    return VideoPlan(inputs, others)


def result_of(path: Path, suffix: str, container: str | None) -> Path:
    """Return the path of a video's result beside it.

    Args:
        path: the video.
        suffix: added to its name, before the extension.
        container: extension; by default the video's own, or .mkv where it cannot be written.

    Raises:
        ValueError: videos are not written with this extension.
    """
    if container is not None and container not in FORMATS:
        raise ValueError(f"videos are written as {', '.join(FORMATS)}, not as {container}")
    own = path.suffix if path.suffix.lower() in FORMATS else _HOLDS_MOST
    return renamed(path, suffix).with_suffix(container or own)


def enhance_videos(
    jobs: Sequence[Job],
    enhancer: Enhancer,
    *,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[Job, int, int], None] = lambda *_: None,
    finished: Callable[[Job, VideoReport], object] = lambda *_: None,
    **settings: Any,
) -> Summary:
    """Enhance videos one after the other.

    A video that cannot be read or written is recorded with the reason, and the run continues. A result appears under
    its name only when it is complete, so a run may be stopped at any time.

    Args:
        jobs: from :func:`plan_videos`.
        enhancer: brightens the frames.
        overwrite: whether to replace existing results.
        resume: whether to keep existing results, which must have been made with the same settings.
        progress: called after each frame with the job, the number of its frames and their approximate total.
        finished: called after each video with the job and its statistics.
        settings: further arguments of :func:`~kdlib.enhance.video.enhance.enhance_video`.

    Raises:
        FileExistsError: results exist, and neither ``overwrite`` nor ``resume`` was given; nothing has been written.
        ValueError: as for :func:`kdlib.enhance.folders.local.enhance_files`.
    """
    existing = with_results(jobs, allowed=overwrite or resume)
    keeps = resume and not overwrite
    summary = Summary(kept=len(existing) if keeps else 0)
    memory = _VideoMemory(_folder_of(jobs), jobs[0].suffix, {**enhancer.settings, **_told(settings)}, keeps=keeps)
    memory.check()
    memory.begin()
    for job in jobs:
        if keeps and job in existing:
            continue

        def work(job: Job = job) -> Result:
            report = enhance_video(
                job.source,
                job.target,
                enhancer,
                overwrite=overwrite,
                progress=lambda frames, total: progress(job, frames, total),
                **settings,
            )
            finished(job, report)
            damaged = [f"{len(report.damages)} damaged frames were patched or replaced"] if report.damages else []
            return Result((*report.notes, *damaged), dark=False)

        found = outcome(work, str(job.source), str(job.target), resume=resume)
        found.failed = [(video, reason.removeprefix(f"{video}: ")) for video, reason in found.failed]
        summary.add(found)
    memory.end(len(jobs) if overwrite and not summary.failed else 0)
    return summary


def _folder_of(jobs: Sequence[Job]) -> Path:
    folder = jobs[0].output
    assert folder is not None  # plan_videos gives all jobs one
    return folder


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that decide how its results look, without those that were not given."""
    return {name: value for name, value in settings.items() if value not in (None, {}) and name != "threads"}
