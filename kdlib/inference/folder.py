"""Photos on disk: which files to enhance, where to, and doing it on all cores."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from kdlib.data.photo_file import decode_photo, encode_photo, resized
from kdlib.data.photo_paths import PHOTO_SUFFIXES, PhotoError, photos_in
from kdlib.inference.enhancer import Enhancer


@dataclass(frozen=True)
class Job:
    """One photo to enhance: read ``source``, write ``target``."""

    source: Path
    target: Path


@dataclass
class Summary:
    """What became of a list of jobs.

    Attributes:
        done: results that were written.
        kept: results of an earlier run that were left as they are.
        failed: photos without a result, each with the reason.
        notes: results that lack something of their photo, each with what it is.
    """

    done: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[tuple[Path, str]] = field(default_factory=list)


def plan(inputs: Sequence[str | Path], output: Path | None, *, recursive: bool = False, suffix: str = "") -> list[Job]:
    """Choose a target for every photo.

    Args:
        inputs: files, folders and glob patterns. Of a folder its photos are taken, told by their extension; a file
            that is named is always tried.
        output: a folder, made when needed, in which the inputs' folders are mirrored; for a single file also a file
            name. None: beside each file, or for a folder a second one beside it, with ``_enhanced`` added to the name.
        recursive: subfolders too.
        suffix: added to every file name, before the extension.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: nothing to do, two photos for one target, a target that is an input, or another format asked for.
    """
    files = [path for pattern in inputs for path in _expand(pattern)]
    folders = [path for path in files if path.is_dir()]
    if output is not None and _names_a_file(output):
        if len(files) != 1 or folders:
            raise ValueError(f"{output} names one file, but there are several photos to write; give a folder")
        if _kind(files[0]) != _kind(output):
            raise ValueError(
                f"{files[0].name} stays a {_kind(files[0])} file; name the result {output.stem}{files[0].suffix}"
            )
        jobs = [Job(files[0], output)]
    else:
        jobs = []
        for path in files:
            if path.is_dir():
                root = output if output is not None else path.resolve().with_name(f"{path.resolve().name}_enhanced")
                if output is not None and len(folders) > 1:
                    root = output / path.resolve().name
                jobs += [
                    Job(photo, root / _renamed(photo, suffix).relative_to(path))
                    for photo in _photos_of(path, recursive, root)
                ]
            elif output is None:
                jobs.append(Job(path, _renamed(path, suffix or "_enhanced")))
            else:
                jobs.append(Job(path, output / _renamed(path, suffix).name))
    return _checked(jobs)


def _expand(pattern: str | Path) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.exists():
        return [path]
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not matches:
        raise FileNotFoundError(f"{pattern}: no such file or folder")
    # A pattern stands for its files; of "**" the folders are those files' own.
    return [match for match in matches if match.is_file()] or matches


def _names_a_file(output: Path) -> bool:
    return output.suffix.lower() in PHOTO_SUFFIXES and not output.is_dir()


def _kind(path: Path) -> str:
    extension = path.suffix.lower().removeprefix(".")
    return {"jpeg": "jpg", "tiff": "tif"}.get(extension, extension)


def _renamed(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def _photos_of(folder: Path, recursive: bool, output: Path) -> Iterator[Path]:
    """Photos of a folder, without those that lie in an output folder below it."""
    nested = output.resolve() != folder.resolve()
    for path in photos_in(folder, recursive=recursive):
        if not (nested and path.resolve().is_relative_to(output.resolve())):
            yield path


def _checked(jobs: list[Job]) -> list[Job]:
    targets: dict[Path, Path] = {}
    # A second run with a suffix in the photos' own folder meets the results of the first: they are no input.
    results = {job.target.resolve() for job in jobs if job.target.resolve() != job.source.resolve()}
    jobs = [job for job in jobs if job.source.resolve() not in results]
    for job in jobs:
        target = job.target.resolve()
        if target == job.source.resolve():
            raise ValueError(f"{job.source} would be overwritten by its result; choose another --output or a --suffix")
        if target in targets:
            raise ValueError(
                f"{targets[target]} and {job.source} would both be written to {job.target}; run them apart"
            )
        targets[target] = job.source
    if not jobs:
        raise ValueError("no photos there; subfolders are searched with --recursive")
    return jobs


def enhance_files(
    jobs: Sequence[Job],
    enhancer: Callable[[int | None], Enhancer],
    *,
    workers: int,
    overwrite: bool = False,
    resume: bool = False,
    max_pixels: int | None = None,
    progress: Callable[[Path], object] = lambda _: None,
) -> Summary:
    """Enhance files, several at once: one worker decodes while another enhances and a third encodes.

    A photo that cannot be read or written is noted with its reason and the rest goes on. Results appear under their
    names only when they are whole, so that a run may be stopped at any time.

    Args:
        jobs: from :func:`plan`.
        enhancer: makes an Enhancer for a number of threads, None for all.
        workers: photos in the works at one time.
        overwrite: replace results that exist.
        resume: keep results that exist.
        max_pixels: refuse larger photos (a small file may unpack to fill all memory), or those that an Enhancer which
            enlarges would make larger; None keeps the default.
        progress: called with each finished source.

    Raises:
        FileExistsError: results exist, and neither ``overwrite`` nor ``resume`` was given. Nothing has been done.
    """
    summary = Summary()
    existing = [job for job in jobs if job.target.exists()]
    if existing and not (overwrite or resume):
        raise FileExistsError(
            f"{len(existing)} of {len(jobs)} results exist, {existing[0].target} for one; "
            "--overwrite replaces them, --resume keeps them"
        )
    if resume and not overwrite:
        summary.kept = [job.target for job in existing]
        kept = {job.target for job in existing}
        jobs = [job for job in jobs if job.target not in kept]
    workers = max(1, min(workers, len(jobs)))
    # Many photos: one core each, which wastes nothing on waiting. One photo: all cores.
    enhance = enhancer(1 if workers > 1 else None)
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}

    def run(job: Job) -> tuple[str, ...]:
        photo = decode_photo(job.source, **limit, upscale=enhance.upscale)
        if enhance.upscale > 1:
            photo = resized(photo, enhance(photo.pixels))
        else:
            enhance(photo.pixels, out=photo.pixels)
        encode_photo(photo, job.target)
        return photo.notes

    waiting = iter(jobs)
    running: dict[Future[tuple[str, ...]], Job] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="photo") as pool:
        try:
            while True:
                while len(running) < 2 * workers and (job := next(waiting, None)) is not None:
                    running[pool.submit(run, job)] = job
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    _note(summary, job, future)
                    progress(job.source)
        finally:
            for future in running:
                future.cancel()
    summary.failed.sort()
    return summary


def _note(summary: Summary, job: Job, future: Future[tuple[str, ...]]) -> None:
    error = future.exception()
    if error is None:
        summary.done.append(job.target)
        summary.notes += [(job.target, note) for note in future.result()]
    elif isinstance(error, PhotoError):
        summary.failed.append((job.source, str(error).removeprefix(f"{job.source}: ")))
    elif isinstance(error, OSError | ValueError | MemoryError):
        summary.failed.append((job.source, str(error) or type(error).__name__))
    else:
        raise error
