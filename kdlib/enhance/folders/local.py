"""Enhancing photos on disk: choosing inputs and targets, and using all cores."""

import glob
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from queue import SimpleQueue
from typing import NamedTuple, Self, TypeVar

import numpy as np

from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.folders.memory import MEMORY, LocalMemory
from kdlib.enhance.folders.others import nothing_found, passed_over
from kdlib.enhance.photos.convert import converted
from kdlib.enhance.photos.formats.jpeg_pixels import PixelMemory
from kdlib.enhance.photos.kinds import (
    FORMATS,
    SUFFIXES,
    WRITABLE,
    changed_format,
    format_of,
    readable_suffixes,
    result_suffix,
)
from kdlib.enhance.photos.paths import PhotoError, photos_in, real_path
from kdlib.enhance.photos.photo_file import decode_photo, encode_photo, resized
from kdlib.files import MadeMeanwhileError, replacing
from kdlib.noise import TOP

AnyPath = TypeVar("AnyPath", bound=PurePath)
DARK = 0.3
"""Mean of the samples in [0, 1] below which a result counts as dark; see :func:`is_dark`.

The bound describes photos, not a model, so it is the same for every model. Good results lie above it even where the
scene was dark, such as those of ``glance-650`` on the 15 pairs of the standard test.
"""


@dataclass(frozen=True)
class Job:
    """One photo to enhance.

    Attributes:
        source: the photo.
        target: its result.
        output: the folder of results that the target belongs to, or None if it lies beside its photo or has been given
            a name of its own.
        suffix: what the target's name has in addition to the photo's.
    """

    source: Path
    target: Path
    output: Path | None = None
    suffix: str = ""


@dataclass
class Summary:
    """The outcome of a run. Only photos with a failure or a note are named, so a summary of millions stays small.

    Attributes:
        done: number of results written.
        kept: number of results of an earlier run that were left as they are.
        failed: photos without a result, each with the reason.
        notes: results that lack something their photo has, each with a description.
        dark: number of results that are still dark, see :func:`is_dark`.
    """

    done: int = 0
    kept: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    dark: int = 0

    @property
    def photos(self) -> int:
        """The number of all photos processed."""
        return self.done + self.kept + len(self.failed)

    def add(self, other: Self) -> None:
        """Add the outcome of another part of the photos."""
        self.done, self.kept, self.dark = self.done + other.done, self.kept + other.kept, self.dark + other.dark
        self.failed += other.failed
        self.notes += other.notes

    def write_report(self, path: Path) -> None:
        """Write ``failed`` and ``notes`` as JSON lines, each an object with ``photo`` and ``failed`` or ``note``."""
        with replacing(path) as partial:
            partial.write_bytes(self._lines())

    def append_report(self, path: Path) -> None:
        """Add the lines of :meth:`write_report` to a file, which is made if there is none."""
        with path.open("ab") as file:
            file.write(self._lines())

    def _lines(self) -> bytes:
        lines = [{"photo": photo, "failed": reason} for photo, reason in self.failed]
        lines += [{"photo": photo, "note": note} for photo, note in self.notes]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        return text.encode("utf-8", "surrogateescape")  # names that are not valid UTF-8, as their original bytes


class Result(NamedTuple):
    """What is known of a photo that has been enhanced and written.

    Attributes:
        notes: what the result lacks.
        dark: whether the photo was to be brightened and is still dark.
    """

    notes: tuple[str, ...]
    dark: bool


def is_dark(pixels: np.ndarray) -> bool:
    """Whether the mean of a photo's samples, without alpha, is below :data:`DARK`; one pixel of 64 is looked at."""
    samples = pixels[::8, ::8]
    if samples.ndim == 3 and samples.shape[2] in {2, 4}:
        samples = samples[..., :-1]
    return bool(samples.mean() < DARK * TOP[pixels.dtype.name])


def plan(
    inputs: Sequence[str | Path],
    output: Path | None,
    *,
    recursive: bool = False,
    suffix: str = "",
    wanted: str | None = None,
    others: Counter[str] | None = None,
) -> list[Job]:
    """Choose a target for every photo.

    Args:
        inputs: files, folders and glob patterns. In a folder, photos are recognised by their extension; a file given
            by name is always tried.
        output: a folder in which the inputs' folders are mirrored, created if needed; for a single file also a file
            name. With None, results go beside each file, or for a folder into a new folder beside it; the name of
            the result or the folder gets ``_enhanced`` added.
        recursive: whether to include subfolders.
        suffix: added to every file name, before the extension.
        wanted: format of the results, one of :data:`kdlib.enhance.photos.kinds.WRITABLE`; None for that of each photo.
        others: gets the number of files passed over in folders, by kind.

    Raises:
        FileNotFoundError: an input does not exist.
        NotADirectoryError: ``output`` exists and is not a folder.
        ValueError: there is nothing to do, two photos have the same target, a target is an input, or ``output`` asks
            for another format.
    """
    files = [path for pattern in inputs for path in expand(pattern)]
    folders = [path for path in files if path.is_dir()]
    if output is not None and _names_a_file(output):
        if len(files) != 1 or folders:
            raise ValueError(f"{output} names one file, but there are several results to write; give a folder")
        _check_name(files[0], output, wanted)
        jobs = [Job(files[0], output)]
    elif output is not None and os.path.lexists(output) and not output.is_dir():
        raise NotADirectoryError(f"{output} is not a folder; give a folder or an unused name")
    else:
        jobs = []
        for path in files:
            if path.is_dir():
                root = output if output is not None else real_path(path).with_name(f"{real_path(path).name}_enhanced")
                if output is not None and len(folders) > 1:
                    root = output / real_path(path).name
                jobs += [
                    Job(photo, root / renamed(photo, suffix, wanted).relative_to(path), output or root, suffix)
                    for photo in photos_in(path, recursive=recursive, suffixes=readable_suffixes(), results=root)
                ]
            elif output is None:
                jobs.append(Job(path, renamed(path, suffix or "_enhanced", wanted), suffix=suffix or "_enhanced"))
            else:
                jobs.append(Job(path, output / renamed(path, suffix, wanted).name, output, suffix))
    own = {job.source: job.suffix for job in jobs}
    apart = told_apart(
        [(job.source, job.target) for job in jobs], lambda photo, told: renamed(photo, told + own[photo], wanted)
    )
    jobs = [replace(job, target=target) for job, (_, target) in zip(jobs, apart, strict=True)]
    found = passed_over(folders, output, recursive=recursive)
    if others is not None:
        others.update(found)
    if not (jobs := checked(jobs, "another --output")):
        raise ValueError(nothing_found("photos", found))
    return jobs


def expand(pattern: str | Path) -> list[Path]:
    """Return a file or folder, or the files that match a glob pattern.

    Raises:
        FileNotFoundError: nothing matches.
    """
    # os.path instead of Path, which fails on impossible names, circular links, and home folders of unknown users.
    path = str(pattern) if os.path.exists(pattern) else os.path.expanduser(pattern)
    if os.path.exists(path):
        return [Path(path)]
    matches: dict[Path, Path] = {}
    for match in sorted(map(Path, glob.glob(path, recursive=True))):
        matches.setdefault(real_path(match.parent) / match.name, match)  # "**" follows circular links repeatedly
    if not matches:
        raise FileNotFoundError(f"{pattern}: no such file or folder")
    # If a pattern matches files, the folders that "**" also matches are only the folders of those files.
    return [match for match in matches.values() if match.is_file()] or list(matches.values())


def _names_a_file(output: Path) -> bool:
    return output.suffix.lower() in SUFFIXES and not output.is_dir()


def _check_name(source: Path, output: Path, wanted: str | None) -> None:
    """Raise ValueError if the name of a result is one of another format than the result will have."""
    becomes = format_of(output)
    if wanted is not None and becomes != wanted:
        raise ValueError(f"{output.name} is not the name of a {wanted} file; name it {output.stem}{_usual(wanted)}")
    if becomes not in WRITABLE:
        raise ValueError(
            f"{output.name} is the name of a raw file, which only cameras write; name it {output.stem}.tif"
        )
    # Of the formats that not every program opens, the name alone says enough.
    if wanted is None and becomes != format_of(source) and format_of(source) not in ("HEIC", "RAW"):
        kind = (_usual(format_of(source)) or source.suffix.lower()).removeprefix(".")
        raise ValueError(
            f"{source.name} stays a {kind} file; name the result {output.stem}{source.suffix}, or add --format "
            f"{becomes.lower()}"
        )


def _usual(name: str | None) -> str:
    return FORMATS[name].suffixes[0] if name else ""


def renamed(path: AnyPath, suffix: str, wanted: str | None = None) -> AnyPath:
    """Return the path of a photo with the suffix added to its stem, and the extension of the result's format."""
    return path.with_name(f"{path.stem}{suffix}{result_suffix(path, wanted)}")


def told_apart(
    pairs: Sequence[tuple[AnyPath, AnyPath]], rename: Callable[[AnyPath, str], AnyPath]
) -> list[tuple[AnyPath, AnyPath]]:
    """Give results of the same name different ones, as of a raw photo beside its JPEG when all become JPEGs.

    A photo that keeps its format keeps its name; the others get the extension of the photo before that of the result,
    such as ``IMG_1_dng.jpg``.

    Args:
        pairs: photos, or videos, with their results.
        rename: returns a path whose name is that of the result for a photo and something to add to its stem.

    Returns:
        the pairs. Names that differ only in upper and lower case count as the same, as they do on many disks.
    """
    shared = Counter(str(target).casefold() for _, target in pairs)

    def named(source: AnyPath, target: AnyPath) -> AnyPath:
        if shared[str(target).casefold()] == 1 or source.suffix.lower() == target.suffix.lower():
            return target
        return target.with_name(rename(source, told_by(source)).name)

    return [(source, named(source, target)) for source, target in pairs]


def told_by(source: PurePath) -> str:
    """Return what the stem of a result gets to tell it from another one: ``_dng`` for a photo ``IMG_1.DNG``."""
    return f"_{source.suffix.removeprefix('.').lower()}"


def checked(jobs: Sequence[Job], other: str) -> list[Job]:
    """Return the jobs whose inputs are not the results of others, as a second run with a suffix finds them.

    Args:
        jobs: to check.
        other: what to choose otherwise, such as "another folder", if an input would be overwritten by its own result.

    Raises:
        ValueError: an input would be overwritten by its own result, or two have the same result.
    """
    results = {real_path(job.target) for job in jobs if real_path(job.target) != real_path(job.source)}
    jobs = [job for job in jobs if real_path(job.source) not in results]
    targets: dict[Path, Path] = {}
    for job in jobs:
        target = real_path(job.target)
        if target == real_path(job.source):
            raise ValueError(f"{job.source} would be overwritten by its result; choose {other} or a --suffix")
        if (first := targets.get(target)) is not None:
            raise ValueError(f"{first} and {job.source} would both be written to {job.target}; run them separately")
        targets[target] = job.source
    return jobs


def with_results(jobs: Sequence[Job], *, allowed: bool) -> list[Job]:
    """Return the jobs whose results exist.

    Raises:
        FileExistsError: there are some, which is not allowed.
    """
    existing = [job for job in jobs if os.path.lexists(job.target)]
    if existing and not allowed:
        raise FileExistsError(
            f"{len(existing)} of {len(jobs)} results exist, such as {existing[0].target}; "
            "--overwrite replaces them, --resume keeps them"
        )
    return existing


def enhance_files(
    jobs: Sequence[Job],
    enhancer: Callable[[int | None], Enhancer],
    *,
    workers: int,
    overwrite: bool = False,
    resume: bool = False,
    max_pixels: int | None = None,
    wanted: str | None = None,
    quality: int | None = None,
    progress: Callable[[Path], object] = lambda _: None,
) -> Summary:
    """Enhance files in parallel, so that one worker decodes while another enhances and a third encodes.

    A photo that cannot be read or written is recorded with the reason, and the run continues. A result appears under
    its name only when it is complete, so a run may be stopped at any time.

    Args:
        jobs: from :func:`plan`.
        enhancer: makes an Enhancer for a number of threads; None stands for all.
        workers: number of photos processed at a time.
        overwrite: whether to replace existing results.
        resume: whether to keep existing results, which must have been made with the same settings; see
            :mod:`kdlib.enhance.folders.memory`.
        max_pixels: photos are refused if they or, in super-resolution, their results are larger, because a small file
            may decode to fill all memory; None keeps the default.
        wanted: format of the results, whose names :func:`plan` has chosen; None for what each name says.
        quality: see :func:`kdlib.enhance.photos.convert.converted`.
        progress: called with each finished source.

    Raises:
        FileExistsError: results exist, and neither ``overwrite`` nor ``resume`` was given; nothing has been written.
        ValueError: ``resume`` was given, and the results in a folder were made with other settings, or nothing is known
            of what made them; or the file that remembers it is damaged. Nothing has been written.
    """
    summary, whole = Summary(), jobs
    existing = with_results(jobs, allowed=overwrite or resume)
    if resume and not overwrite:
        summary.kept = len(existing)
        kept = {job.target for job in existing}
        jobs = [job for job in jobs if job.target not in kept]
    workers = max(1, min(workers, len(jobs)))
    # With many photos, one core for each keeps all cores busy. A single photo gets all cores.
    enhance = enhancer(1 if workers > 1 else None)
    memories = _memories(whole, settings_of(enhance, quality), keeps=resume and not overwrite)
    for memory in memories:
        memory.check()
    try:
        for memory in memories:
            memory.begin()
    except OSError as error:  # nor could a result be written
        summary.failed = sorted((str(job.source), str(error)) for job in jobs)
        return summary

    free: SimpleQueue[PixelMemory] = SimpleQueue()
    for _ in range(workers):
        free.put(PixelMemory())

    def run(job: Job) -> Result:
        becomes = wanted or changed_format(job.source, job.target)
        memory = free.get()
        try:
            return enhance_photo(
                job.source,
                job.target,
                enhance,
                max_pixels,
                overwrite=overwrite,
                wanted=becomes,
                quality=quality,
                memory=memory,
            )
        finally:
            free.put(memory)

    waiting = iter(jobs)
    running: dict[Future[Result], Job] = {}
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
    for memory, photos in memories.items():
        memory.end(photos if overwrite and not summary.failed else 0)
    summary.failed.sort()
    return summary


def settings_of(enhance: Enhancer, quality: int | None) -> dict[str, str | float]:
    """Return what decides how results look; the quality only if it was asked for."""
    return enhance.settings if quality is None else {**enhance.settings, "quality": quality}


def _memories(jobs: Sequence[Job], settings: dict[str, str | float], *, keeps: bool) -> dict[LocalMemory, int]:
    """Return the memories of all folders of results, each with the number of photos that the jobs write there."""
    targets: dict[tuple[Path | None, Path, str], list[Path]] = {}
    for job in jobs:
        place = (job.output, job.output or job.target.parent, job.suffix)
        targets.setdefault(place, []).append(job.target)
    found = {}
    for (output, folder, suffix), paths in targets.items():
        # A single result that is no part of a folder of results leaves nothing beside itself but what is there anyway.
        if output or len(jobs) > 1 or os.path.lexists(folder / MEMORY):
            memory = LocalMemory(folder, suffix, settings, keeps=keeps, nested=output is not None)
            found[memory] = sum(path.suffix.lower() in SUFFIXES for path in paths)
    return found


def enhance_photo(
    source: Path,
    target: Path,
    enhance: Enhancer,
    max_pixels: int | None = None,
    *,
    overwrite: bool = True,
    wanted: str | None = None,
    quality: int | None = None,
    memory: PixelMemory | None = None,
) -> Result:
    """Decode, enhance and encode one photo, and give the result the photo's date of modification.

    With a strength of 0 the result is the photo's file, byte for byte, unless another format or quality is wanted.

    Args:
        source: the photo.
        target: its result.
        enhance: what is done to it.
        max_pixels, overwrite: see :func:`enhance_files`.
        wanted, quality: see :func:`kdlib.enhance.photos.convert.converted`.
        memory: where the photo is decoded to, which may have served another one before.

    Raises:
        PhotoError: as ``decode_photo``, but without the name of the file.
        OSError, ValueError, MemoryError: as ``encode_photo`` and the Enhancer.
    """
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    try:
        photo = decode_photo(source, **limit, upscale=enhance.upscale, memory=memory)
    except PhotoError as error:
        raise PhotoError(str(error).removeprefix(f"{source}: ")) from None
    notes: tuple[str, ...] = ()
    if enhance.changes_nothing and wanted is None and quality is None:
        with replacing(target, overwrite=overwrite) as partial:
            shutil.copyfile(source, partial)
    else:
        if photo.pages:
            from kdlib.enhance.folders.frames import enhanced  # which imports what videos need

            photo = enhanced(photo, enhance)
        elif enhance.upscale > 1:
            photo = resized(photo, enhance(photo.pixels))
        else:
            enhance(photo.pixels, out=photo.pixels)
        photo = converted(photo, wanted, quality)
        notes = photo.notes
        encode_photo(photo, target, overwrite=overwrite)
    with suppress(OSError):  # such as on a disk that takes no dates
        dates = os.stat(source)
        os.utime(target, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    return Result(notes, enhance.upscale == 1 and enhance.strength > 0 and is_dark(photo.pixels))


def outcome(work: Callable[[], Result], source: str, target: str, *, resume: bool = False) -> Summary:
    """Run the work on one photo and return its outcome as a summary.

    Errors that point to a defect in the program rather than a bad photo are raised. With ``resume``, a result that
    another run has written in the meantime is kept.
    """
    try:
        result = work()
        return Summary(done=1, notes=[(target, note) for note in result.notes], dark=int(result.dark))
    except MadeMeanwhileError as error:
        return Summary(kept=1) if resume else Summary(failed=[(source, str(error))])
    except (OSError, ValueError, MemoryError) as error:
        return Summary(failed=[(source, str(error) or type(error).__name__)])
