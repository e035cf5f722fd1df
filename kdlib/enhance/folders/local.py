"""Enhancing photos on disk: choosing inputs and targets, and using all cores."""

import glob
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from queue import SimpleQueue
from typing import NamedTuple, Self, TypeVar

import numpy as np

from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.folders.memory import MEMORY, LocalMemory
from kdlib.enhance.photos.formats.jpeg_pixels import PixelMemory
from kdlib.enhance.photos.paths import PHOTO_SUFFIXES, PhotoError, photos_in
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
        lines = [{"photo": photo, "failed": reason} for photo, reason in self.failed]
        lines += [{"photo": photo, "note": note} for photo, note in self.notes]
        with replacing(path) as partial:
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            # Names that are not valid UTF-8 are written as their original bytes.
            partial.write_text(text, encoding="utf-8", errors="surrogateescape")


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


def plan(inputs: Sequence[str | Path], output: Path | None, *, recursive: bool = False, suffix: str = "") -> list[Job]:
    """Choose a target for every photo.

    Args:
        inputs: files, folders and glob patterns. In a folder, photos are recognised by their extension; a file given
            by name is always tried.
        output: a folder in which the inputs' folders are mirrored, created if needed; for a single file also a file
            name. With None, results go beside each file, or for a folder into a new folder beside it; the name of
            the result or the folder gets ``_enhanced`` added.
        recursive: whether to include subfolders.
        suffix: added to every file name, before the extension.

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
        if _kind(files[0]) != _kind(output):
            raise ValueError(
                f"{files[0].name} stays a {_kind(files[0])} file; name the result {output.stem}{files[0].suffix}"
            )
        jobs = [Job(files[0], output)]
    elif output is not None and os.path.lexists(output) and not output.is_dir():
        raise NotADirectoryError(f"{output} is not a folder; give a folder or an unused name")
    else:
        jobs = []
        for path in files:
            if path.is_dir():
                root = output if output is not None else _real(path).with_name(f"{_real(path).name}_enhanced")
                if output is not None and len(folders) > 1:
                    root = output / _real(path).name
                jobs += [
                    Job(photo, root / renamed(photo, suffix).relative_to(path), output or root, suffix)
                    for photo in _photos_of(path, recursive, root)
                ]
            elif output is None:
                jobs.append(Job(path, renamed(path, suffix or "_enhanced"), suffix=suffix or "_enhanced"))
            else:
                jobs.append(Job(path, output / renamed(path, suffix).name, output, suffix))
    return _checked(jobs)


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
        matches.setdefault(_real(match.parent) / match.name, match)  # "**" follows circular links repeatedly
    if not matches:
        raise FileNotFoundError(f"{pattern}: no such file or folder")
    # If a pattern matches files, the folders that "**" also matches are only the folders of those files.
    return [match for match in matches.values() if match.is_file()] or list(matches.values())


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _names_a_file(output: Path) -> bool:
    return output.suffix.lower() in PHOTO_SUFFIXES and not output.is_dir()


def _kind(path: Path) -> str:
    extension = path.suffix.lower().removeprefix(".")
    return {"jpeg": "jpg", "tiff": "tif"}.get(extension, extension)


def renamed(path: AnyPath, suffix: str) -> AnyPath:
    """Return the path of a photo with the suffix added to its stem."""
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def _photos_of(folder: Path, recursive: bool, output: Path) -> Iterator[Path]:
    """Yield the photos of a folder, without those in an output folder below it."""
    nested = _real(output) != _real(folder)
    for path in photos_in(folder, recursive=recursive):
        if not (nested and _real(path).is_relative_to(_real(output))):
            yield path


def _checked(jobs: list[Job]) -> list[Job]:
    targets: dict[Path, Path] = {}
    # A second run with a suffix in the photos' own folder finds the results of the first, which are not inputs.
    results = {_real(job.target) for job in jobs if _real(job.target) != _real(job.source)}
    jobs = [job for job in jobs if _real(job.source) not in results]
    for job in jobs:
        target = _real(job.target)
        if target == _real(job.source):
            raise ValueError(f"{job.source} would be overwritten by its result; choose another --output or a --suffix")
        if target in targets:
            raise ValueError(
                f"{targets[target]} and {job.source} would both be written to {job.target}; run them separately"
            )
        targets[target] = job.source
    if not jobs:
        raise ValueError("no photos found; --recursive also searches subfolders")
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
        progress: called with each finished source.

    Raises:
        FileExistsError: results exist, and neither ``overwrite`` nor ``resume`` was given; nothing has been written.
        ValueError: ``resume`` was given, and the results in a folder were made with other settings, or nothing is known
            of what made them; or the file that remembers it is damaged. Nothing has been written.
    """
    summary, whole = Summary(), jobs
    existing = [job for job in jobs if os.path.lexists(job.target)]
    if existing and not (overwrite or resume):
        raise FileExistsError(
            f"{len(existing)} of {len(jobs)} results exist, such as {existing[0].target}; "
            "--overwrite replaces them, --resume keeps them"
        )
    if resume and not overwrite:
        summary.kept = len(existing)
        kept = {job.target for job in existing}
        jobs = [job for job in jobs if job.target not in kept]
    workers = max(1, min(workers, len(jobs)))
    # With many photos, one core for each keeps all cores busy. A single photo gets all cores.
    enhance = enhancer(1 if workers > 1 else None)
    memories = _memories(whole, enhance, keeps=resume and not overwrite)
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
        memory = free.get()
        try:
            return enhance_photo(job.source, job.target, enhance, max_pixels, overwrite=overwrite, memory=memory)
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


def _memories(jobs: Sequence[Job], enhance: Enhancer, *, keeps: bool) -> dict[LocalMemory, int]:
    """Return the memories of all folders of results, each with the number of photos that the jobs write there."""
    targets: dict[tuple[Path | None, Path, str], list[Path]] = {}
    for job in jobs:
        place = (job.output, job.output or job.target.parent, job.suffix)
        targets.setdefault(place, []).append(job.target)
    found, settings = {}, enhance.settings
    for (output, folder, suffix), paths in targets.items():
        # A single result that is no part of a folder of results leaves nothing beside itself but what is there anyway.
        if output or len(jobs) > 1 or os.path.lexists(folder / MEMORY):
            memory = LocalMemory(folder, suffix, settings, keeps=keeps, nested=output is not None)
            found[memory] = sum(path.suffix.lower() in PHOTO_SUFFIXES for path in paths)
    return found


def enhance_photo(
    source: Path,
    target: Path,
    enhance: Enhancer,
    max_pixels: int | None = None,
    *,
    overwrite: bool = True,
    memory: PixelMemory | None = None,
) -> Result:
    """Decode, enhance and encode one photo, in memory that may have served another one before.

    Raises:
        PhotoError: as ``decode_photo``, but without the name of the file.
        OSError, ValueError, MemoryError: as ``encode_photo`` and the Enhancer.
    """
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    try:
        photo = decode_photo(source, **limit, upscale=enhance.upscale, memory=memory)
    except PhotoError as error:
        raise PhotoError(str(error).removeprefix(f"{source}: ")) from None
    if enhance.upscale > 1:
        photo = resized(photo, enhance(photo.pixels))
    else:
        enhance(photo.pixels, out=photo.pixels)
    encode_photo(photo, target, overwrite=overwrite)
    return Result(photo.notes, enhance.upscale == 1 and enhance.strength > 0 and is_dark(photo.pixels))


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
