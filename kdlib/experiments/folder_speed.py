"""Compare the pace of ``kdlib enhance`` on a folder with decoding and encoding the same photos, and time its start."""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from kdlib.checks import check_number
from kdlib.data.samples import sample_pairs
from kdlib.enhance import Enhancer
from kdlib.enhance.folders.local import enhance_files, plan
from kdlib.enhance.photos.paths import photos_in
from kdlib.enhance.photos.rgb import to_array
from kdlib.evaluation.benchmark import parse_size
from kdlib.evaluation.timing import load_average, time_spent, use_threads

FLOOR = "decode and encode"
IMPORTS, START = "import numpy, numba and OpenCV", "kdlib enhance, one small photo"
STOPS = 3.0
"""Exposure reduction of the photos that are made, in stops."""
_QUALITY = 95
_BLOCKS, _STARTS = 10, 5


def measure_folder(
    folder: Path,
    models: Sequence[str],
    *,
    data: Path | None = None,
    size: str = "12 MP",
    photos: int = 100,
    threads: int = 2,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Time the floor and ``kdlib enhance`` with each model on the same JPEG photos, block by block in turn.

    The floor decodes and encodes with Pillow in ``threads`` threads. Both sides write the photos' own quantisation
    tables, subsampling, kind of coding, and metadata. What ``kdlib enhance`` runs after its start is timed in this
    process, and its start by the command on one small photo, beside a process that imports three packages.

    Args:
        folder: for photos and results, which are removed afterwards.
        models: names or paths.
        data: folder with JPEG photos of one's own; None for photos made from the embedded ones, darkened.
        size: of the photos that are made; see :func:`kdlib.evaluation.benchmark.parse_size`.
        photos: number of photos that are made, or the most that are taken from ``data``.
        threads: threads of each side, and photos at a time.
        progress: called with a description of the next measurement.

    Returns:
        ``rows``: for each method ``photos_per_second``, the CPU seconds of a photo as ``cpu_each``, and for a model
        ``pace`` and ``cpu_pace``, the medians over the blocks of its speed as a fraction of the floor's, by wall clock
        and by CPU time. ``starts``: wall and CPU seconds by process, and ``start_ratio``, by CPU time. ``load``: the
        machine's load average before and after.

    Raises:
        ValueError: ``data`` has no JPEG photos, or ``photos`` or ``threads`` are too few.
        RuntimeError: a photo or a command failed.
    """
    check_number("photos", photos, 1)
    check_number("threads", threads, 1)
    progress("writing photos")
    if data is None:
        paths = write_photos(folder / "in", *parse_size(size), photos, metadata=True)
    elif not (paths := [path for path in photos_in(data) if path.suffix.lower() in {".jpg", ".jpeg"}][:photos]):
        raise ValueError(f"no JPEG photos in {data} or its subfolders; give a folder with some")
    load = [load_average()]
    ways: dict[str, Callable[[Sequence[Path]], None]] = {
        FLOOR: partial(_decode_and_encode, out=folder / "floor", threads=threads)
    }
    for model in models:
        enhancer = Enhancer(model, device="cpu", threads=1)
        ways[model] = partial(_enhance, out=folder / "out", enhancer=enhancer, threads=threads)
    blocks = [part.tolist() for part in np.array_split(np.array(paths, object), min(_BLOCKS, len(paths)))]
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with use_threads(1):
        for name, way in ways.items():
            progress(f"{name}: warming up")
            way(blocks[0][:threads])
        for number, block in enumerate(blocks):
            for name, way in ways.items():
                progress(f"{name}: block {number + 1} of {len(blocks)}")
                with _emptied(folder / "floor"), _emptied(folder / "out"):
                    spent[name].append(time_spent(partial(way, block)))
    rows = []
    for name, seconds in spent.items():
        wall, cpu = np.array(seconds).sum(0)
        row = {"method": name, "photos_per_second": round(len(paths) / wall, 2), "cpu_each": round(cpu / len(paths), 4)}
        if name != FLOOR:
            row["pace"], row["cpu_pace"] = (round(float(p), 3) for p in _paces(spent[FLOOR], seconds))
        rows.append(row)
    starts = _starts(folder, models[-1], progress)
    return {
        "photos": len(paths),
        "size": size if data is None else "own",
        "bytes_each": round(sum(path.stat().st_size for path in paths) / len(paths)),
        "threads": threads,
        "rows": rows,
        "starts": starts,
        "start_ratio": round(starts[START]["cpu"] / starts[IMPORTS]["cpu"], 2),
        "load": [*load, load_average()],
    }


def _paces(floor: Sequence[tuple[float, float]], seconds: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the medians over the blocks of the floor's seconds divided by a method's, wall and CPU."""
    return np.median(np.array(floor) / np.array(seconds), axis=0)


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    yield
    shutil.rmtree(folder, ignore_errors=True)


def write_photos(folder: Path, width: int, height: int, count: int, *, metadata: bool = False) -> list[Path]:
    """Write JPEG copies of the embedded photos, darkened, upsampled until they cover a size and cropped to it.

    Args:
        folder: is created.
        width, height: in pixels.
        count: number of files; there are as many different photos as embedded ones.
        metadata: whether the photos have EXIF data and a colour profile.
    """
    folder.mkdir(parents=True)
    more: dict[str, Any] = {}
    if metadata:
        exif = Image.Exif()
        exif.update({0x010F: "kdlib", 0x0110: "embedded photo", 0x0112: 1, 0x0132: "2026:01:01 00:00:00"})
        more = {"exif": exif, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    first: list[Path] = []
    paths = [folder / f"{k:06}.jpg" for k in range(count)]
    pairs = list(sample_pairs(STOPS).values())
    for k, path in enumerate(paths):
        if k >= len(pairs):
            shutil.copyfile(first[k % len(pairs)], path)
            continue
        photo = Image.fromarray(to_array(pairs[k][0]))
        scale = max(width / photo.width, height / photo.height)
        large = photo.resize((max(width, round(photo.width * scale)), max(height, round(photo.height * scale))))
        large.crop((0, 0, width, height)).save(path, quality=_QUALITY, subsampling=2, **more)
        first.append(path)
    return paths


def _decode_and_encode(paths: Sequence[Path], out: Path, threads: int) -> None:
    out.mkdir(parents=True, exist_ok=True)

    def run(path: Path) -> None:
        with Image.open(path) as image:
            info = image.info
            kept = {key: info[key] for key in ("exif", "icc_profile", "xmp", "comment") if key in info}
            image.save(out / path.name, "JPEG", quality="keep", progressive="progressive" in info, **kept)

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(run, path) for path in paths]:
            done.result()


def _enhance(paths: Sequence[Path], out: Path, enhancer: Enhancer, threads: int) -> None:
    summary = enhance_files(plan(paths, out), lambda _: enhancer, workers=threads, overwrite=True)
    if summary.failed:
        raise RuntimeError("{} could not be enhanced: {}".format(*summary.failed[0]))


def _starts(folder: Path, model: str, progress: Callable[[str], object]) -> dict[str, dict[str, float]]:
    """Return the median wall and CPU seconds of the command on one small photo, and of the imports, in turn."""
    [small] = write_photos(folder / "small", 64, 48, 1)
    command = [sys.executable, "-m", "kdlib", "enhance", str(small), "-o", str(folder / "start.jpg"), "--overwrite"]
    commands = {
        IMPORTS: [sys.executable, "-c", "import numpy, numba, cv2"],
        START: [*command, "--model", model, "--device", "cpu"],
    }
    # Bytecode is kept, as usual, even if the environment of this process forbids it.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for repeat in range(_STARTS + 1):  # the first one compiles
        for name, words in commands.items():
            progress(f"{name}, start {repeat} of {_STARTS}")
            before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            run = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
            wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
            if run.returncode:
                raise RuntimeError(f"{' '.join(words[1:])} failed: {(run.stderr or run.stdout).strip()}")
            if repeat:
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                spent[name].append((wall, cpu))
    return {
        name: {"wall": round(statistics.median(w for w, _ in seconds), 3),
               "cpu": round(statistics.median(c for _, c in seconds), 3)}
        for name, seconds in spent.items()
    }  # fmt: skip


def folder_table(result: Mapping[str, Any]) -> str:
    """Format the result of :func:`measure_folder` as Markdown."""
    lines = ["| method | photos/s | CPU ms a photo | pace | by CPU time |", "| --- | --: | --: | --: | --: |"]
    for row in result["rows"]:
        paces = " | ".join(f"{row[key]:.2f}" if key in row else "1" for key in ("pace", "cpu_pace"))
        lines.append(f"| {row['method']} | {row['photos_per_second']:.1f} | {1e3 * row['cpu_each']:.0f} | {paces} |")
    lines += ["", "| start | wall, s | CPU, s |", "| --- | --: | --: |"]
    lines += [
        f"| {name} | {seconds['wall']:.2f} | {seconds['cpu']:.2f} |" for name, seconds in result["starts"].items()
    ]
    return "\n".join(lines)
