"""Photos on disk: which files to enhance, where to, and doing it on all cores."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TypeVar

from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.photos.paths import PHOTO_SUFFIXES, PhotoError, photos_in
from kdlib.enhance.photos.photo_file import decode_photo, encode_photo, resized
from kdlib.files import MadeMeanwhileError, replacing

AnyPath = TypeVar("AnyPath", bound=PurePath)


@dataclass(frozen=True)
class Job:
    """One photo to enhance: read ``source``, write ``target``."""

    source: Path
    target: Path


@dataclass
class Summary:
    """What became of photos, a few or millions: names are held only of those that there is something to say of.

    Attributes:
        done: how many results were written.
        kept: how many of an earlier run were left as they are.
        failed: photos without a result, each with the reason.
        notes: results that lack something of their photo, each with what it is.
    """

    done: int = 0
    kept: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def photos(self) -> int:
        """All that were looked at."""
        return self.done + self.kept + len(self.failed)

    def add(self, other: Summary) -> None:
        """Count another part of the photos in."""
        self.done, self.kept = self.done + other.done, self.kept + other.kept
        self.failed += other.failed
        self.notes += other.notes

    def write_report(self, path: Path) -> None:
        """Write ``failed`` and ``notes`` as JSON, one object a line: ``photo``, and ``failed`` or ``note``."""
        lines = [{"photo": photo, "failed": reason} for photo, reason in self.failed]
        lines += [{"photo": photo, "note": note} for photo, note in self.notes]
        with replacing(path) as partial:
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            # Of names that are no UTF-8, the bytes as they are.
            partial.write_text(text, encoding="utf-8", errors="surrogateescape")


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
    files = [path for pattern in inputs for path in expand(pattern)]
    folders = [path for path in files if path.is_dir()]
    if output is not None and _names_a_file(output):
        if len(files) != 1 or folders:
            raise ValueError(f"{output} names one file, but there are several photos to write; give a folder")
        if _kind(files[0]) != _kind(output):
            raise ValueError(
                f"{files[0].name} stays a {_kind(files[0])} file; name the result {output.stem}{files[0].suffix}"
            )
        jobs = [Job(files[0], output)]
    elif output is not None and os.path.lexists(output) and not output.is_dir():
        raise NotADirectoryError(f"{output} is no folder; give one, or a name that is free")
    else:
        jobs = []
        for path in files:
            if path.is_dir():
                root = output if output is not None else _real(path).with_name(f"{_real(path).name}_enhanced")
                if output is not None and len(folders) > 1:
                    root = output / _real(path).name
                jobs += [
                    Job(photo, root / renamed(photo, suffix).relative_to(path))
                    for photo in _photos_of(path, recursive, root)
                ]
            elif output is None:
                jobs.append(Job(path, renamed(path, suffix or "_enhanced")))
            else:
                jobs.append(Job(path, output / renamed(path, suffix).name))
    return _checked(jobs)


def expand(pattern: str | Path) -> list[Path]:
    """A file or a folder, or the files of a glob pattern.

    Raises:
        FileNotFoundError: there is none.
    """
    # os.path, not Path: that stumbles over names that cannot be, links in circles, and homes of nobody.
    path = str(pattern) if os.path.exists(pattern) else os.path.expanduser(pattern)
    if os.path.exists(path):
        return [Path(path)]
    matches: dict[Path, Path] = {}
    for match in sorted(map(Path, glob.glob(path, recursive=True))):
        matches.setdefault(_real(match.parent) / match.name, match)  # "**" goes round links in circles many times
    if not matches:
        raise FileNotFoundError(f"{pattern}: no such file or folder")
    # A pattern stands for its files; of "**" the folders are those files' own.
    return [match for match in matches.values() if match.is_file()] or list(matches.values())


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _names_a_file(output: Path) -> bool:
    return output.suffix.lower() in PHOTO_SUFFIXES and not output.is_dir()


def _kind(path: Path) -> str:
    extension = path.suffix.lower().removeprefix(".")
    return {"jpeg": "jpg", "tiff": "tif"}.get(extension, extension)


def renamed(path: AnyPath, suffix: str) -> AnyPath:
    """The name of a photo's result."""
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def _photos_of(folder: Path, recursive: bool, output: Path) -> Iterator[Path]:
    """Photos of a folder, without those that lie in an output folder below it."""
    nested = _real(output) != _real(folder)
    for path in photos_in(folder, recursive=recursive):
        if not (nested and _real(path).is_relative_to(_real(output))):
            yield path


def _checked(jobs: list[Job]) -> list[Job]:
    targets: dict[Path, Path] = {}
    # A second run with a suffix in the photos' own folder meets the results of the first: they are no input.
    results = {_real(job.target) for job in jobs if _real(job.target) != _real(job.source)}
    jobs = [job for job in jobs if _real(job.source) not in results]
    for job in jobs:
        target = _real(job.target)
        if target == _real(job.source):
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
    existing = [job for job in jobs if os.path.lexists(job.target)]
    if existing and not (overwrite or resume):
        raise FileExistsError(
            f"{len(existing)} of {len(jobs)} results exist, {existing[0].target} for one; "
            "--overwrite replaces them, --resume keeps them"
        )
    if resume and not overwrite:
        summary.kept = len(existing)
        kept = {job.target for job in existing}
        jobs = [job for job in jobs if job.target not in kept]
    workers = max(1, min(workers, len(jobs)))
    # Many photos: one core each, which wastes nothing on waiting. One photo: all cores.
    enhance = enhancer(1 if workers > 1 else None)

    def run(job: Job) -> tuple[str, ...]:
        return enhance_photo(job.source, job.target, enhance, max_pixels, overwrite=overwrite)

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
                    summary.add(outcome(future.result, str(job.source), str(job.target), resume=resume))
                    progress(job.source)
        finally:
            for future in running:
                future.cancel()
    summary.failed.sort()
    return summary


def enhance_photo(
    source: Path, target: Path, enhance: Enhancer, max_pixels: int | None = None, *, overwrite: bool = True
) -> tuple[str, ...]:
    """Decode, enhance and encode one photo, and return what the result lacks of it. Raises as ``decode_photo``, but
    without the file's name, ``encode_photo`` and the Enhancer do."""
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    try:
        photo = decode_photo(source, **limit, upscale=enhance.upscale)
    except PhotoError as error:
        raise PhotoError(str(error).removeprefix(f"{source}: ")) from None
    if enhance.upscale > 1:
        photo = resized(photo, enhance(photo.pixels))
    else:
        enhance(photo.pixels, out=photo.pixels)
    encode_photo(photo, target, overwrite=overwrite)
    return photo.notes


def outcome(work: Callable[[], tuple[str, ...]], source: str, target: str, *, resume: bool = False) -> Summary:
    """Do the work on one photo, which returns what its result lacks: what became of it. A mistake in the program is
    raised, and not taken for a bad photo. With ``resume``, a result that another run has made meanwhile is kept."""
    try:
        return Summary(done=1, notes=[(target, note) for note in work()])
    except MadeMeanwhileError as error:
        return Summary(kept=1) if resume else Summary(failed=[(source, str(error))])
    except (OSError, ValueError, MemoryError) as error:
        return Summary(failed=[(source, str(error) or type(error).__name__)])
