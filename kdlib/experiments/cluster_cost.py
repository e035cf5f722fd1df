"""Compare the engines of ``kdlib enhance``: start-up time, speed, and the number of photos that makes a cluster pay."""

import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdlib.checks import check_number
from kdlib.evaluation.benchmark import parse_size
from kdlib.experiments.folder_speed import STOPS, write_photos
from kdlib.weights.catalogue import DEFAULT_MODEL

LOCAL, RAY = "local", "ray"
SIZES_OF_PHOTOS = ("640×480", "12 MP")
WORKERS = (1, 2)
MACHINES = (1, 2, 10, 100)
_CORES, _PHOTOS, _PROJECTED = 16, 100_000_000, "12 MP"  # of the projection: cores of a machine, photos, their size


def measure_engines(
    folder: Path,
    sizes: Sequence[str] = SIZES_OF_PHOTOS,
    *,
    photos: int = 60,
    repeats: int = 3,
    model: str = DEFAULT_MODEL,
    price: float = 0.05,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Time the whole command ``kdlib enhance`` on three folders of different lengths, with the engines taking turns.

    Args:
        folder: folder for photos and results, which are removed afterwards.
        sizes: sizes of the photos, as names or ``WIDTHxHEIGHT``. The photos are the embedded ones, darkened, as JPEG.
        photos: number of photos in the longest folder, for 12 MP. For smaller photos it grows with the inverse of their
            number of pixels, to the power of 3/4. The other folders have a half and a quarter as many.
        repeats: runs of each command, of which the median is reported.
        model: name or path of the model.
        price: assumed price of a core-hour, used only in the projection.
        progress: called with a description of the next measurement.

    Returns:
        ``rows``: ``seconds`` by size, engine, workers and photos. ``fits``: by size, engine and workers, ``start`` and
        ``each`` such that seconds = start + photos × each. ``pays``: by size and number of machines, the number of
        photos above which Ray is faster than the local engine on one machine, or None if it never is; all machines are
        like this one and use the largest number of workers. ``projection``: time and cost of 100 million photos of
        12 MP, or None if that size was not measured.

    Raises:
        ValueError: a size is unknown, or there are too few photos or repeats.
        RuntimeError: a command failed.
    """
    check_number("photos", photos, 4)
    check_number("repeats", repeats, 1)
    shapes = {size: parse_size(size) for size in sizes}
    rows, bytes_each = [], {}
    for size, (width, height) in shapes.items():
        # The start-up time varies by a second, so that the work itself has to take several.
        most = round(photos * (12e6 / (width * height)) ** 0.75)
        progress(f"{size}: writing photos")
        write_photos(folder / "in", width, height, most)
        counts = [most // 4, most // 2, most]
        runs: dict[tuple[str, int, int], list[float]] = {}
        for repeat in range(repeats):
            for count in counts:
                for engine in (LOCAL, RAY):
                    for workers in WORKERS:
                        progress(f"{size}: {engine}, {workers} at work, {count} photos, run {repeat + 1} of {repeats}")
                        seconds, written = _time(folder, count, engine, workers, model)
                        runs.setdefault((engine, workers, count), []).append(seconds)
        read = sum(path.stat().st_size for path in (folder / "in").iterdir()) / most
        bytes_each[size] = {"read": round(read), "written": round(written / most)}
        for (engine, workers, count), seconds_of in runs.items():
            row = {"size": size, "engine": engine, "workers": workers, "photos": count}
            rows.append({**row, "seconds": round(statistics.median(seconds_of), 3)})
        shutil.rmtree(folder / "in")
    fits = fit(rows)
    settings = {"model": model, "photos": photos, "repeats": repeats, "stops": STOPS}
    result: dict[str, Any] = {**settings, "bytes": bytes_each, "rows": rows, "fits": fits}
    result["pays"] = {size: {str(machines): pays_from(fits, size, machines) for machines in MACHINES} for size in sizes}
    result["projection"] = project(fits, bytes_each[_PROJECTED], price) if _PROJECTED in shapes else None
    return result


def _time(folder: Path, count: int, engine: str, workers: int, model: str) -> tuple[float, int]:
    """Return the seconds that a whole command takes on the first ``count`` photos, and the bytes that it writes."""
    chosen, out = folder / "chosen", folder / "out"
    chosen.mkdir()
    for path in sorted((folder / "in").iterdir())[:count]:
        os.link(path, chosen / path.name)
    command = [sys.executable, "-m", "kdlib", "enhance", str(chosen), "-o", str(out), "--model", model]
    command += ["--engine", engine, "--workers", str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(workers)}
    environment.pop("RAY_ADDRESS", None)
    start = time.perf_counter()
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if run.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {(run.stderr or run.stdout).strip()}")
    written = sum(path.stat().st_size for path in out.glob("*.jpg"))
    shutil.rmtree(chosen)
    shutil.rmtree(out)
    return seconds, written


def fit(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Fit a straight line to the seconds over the number of photos, for each size, engine and number of workers."""
    lines = []
    for size, engine, workers in dict.fromkeys((row["size"], row["engine"], row["workers"]) for row in rows):
        ours = {"size": size, "engine": engine, "workers": workers}
        points = [(row["photos"], row["seconds"]) for row in rows if ours.items() <= row.items()]
        each, start = statistics.linear_regression(*zip(*points, strict=True))
        lines.append({**ours, "start": round(start, 3), "each": round(each, 6)})
    return lines


def _line(fits: Sequence[Mapping[str, Any]], size: str, engine: str, workers: int) -> tuple[float, float]:
    [line] = [f for f in fits if (f["size"], f["engine"], f["workers"]) == (size, engine, workers)]
    return line["start"], line["each"]


def pays_from(fits: Sequence[Mapping[str, Any]], size: str, machines: int) -> int | None:
    """Return the number of photos above which Ray on several machines is faster than the local engine on one, or None.

    The machines are assumed to share the work without loss, because the workers do not exchange data.
    """
    (start, each), (ray_start, ray_each) = (_line(fits, size, engine, max(WORKERS)) for engine in (LOCAL, RAY))
    gain = each - ray_each / machines
    return None if gain <= 0 else max(1, math.ceil((ray_start - start) / gain))


def project(fits: Sequence[Mapping[str, Any]], sizes: Mapping[str, int], price: float) -> dict[str, Any]:
    """Project the time and cost of 100 million photos of 12 MP on Ray from the time and the bytes of one photo.

    Each of sixteen workers on a machine is assumed to be as fast as each of two here; the store's speed is ignored.
    """
    each = _line(fits, _PROJECTED, RAY, max(WORKERS))[1] * max(WORKERS)
    core_hours = _PHOTOS * each / 3600
    days = {str(machines): round(core_hours / _CORES / machines / 24, 1) for machines in MACHINES if machines >= 10}
    return {
        "photos": _PHOTOS,
        "core_seconds_each": round(each, 4),
        "core_hours": round(core_hours),
        "machine_hours": round(core_hours / _CORES),
        "cores_of_a_machine": _CORES,
        "days": days,
        "terabytes": {way: round(_PHOTOS * size / 1e12, 1) for way, size in sizes.items()},
        "assumed_price_of_a_core_hour": price,
        "cost": round(core_hours * price),
    }


def engines_table(result: Mapping[str, Any]) -> str:
    """Format the result of :func:`measure_engines` as Markdown."""
    sizes = list(result["pays"])
    lines = ["| engine | " + " | ".join(sizes) + " |", "| --- |" + " --: |" * len(sizes)]
    for engine, title in ((LOCAL, "local engine"), (RAY, "Ray")):
        for workers in WORKERS:
            found = [_line(result["fits"], size, engine, workers) for size in sizes]
            cells = " | ".join(f"{start:.1f} s + {1 / each:,.1f} photos/s" for start, each in found)
            core = "core" if engine == LOCAL else "worker"
            lines.append(f"| {title}, {workers} {core}{'s' if workers > 1 else ''} | {cells} |")
    for machines in map(str, MACHINES):
        found_from = [result["pays"][size][machines] for size in sizes]
        cells = " | ".join("never" if n is None else f"{n:,} photos" for n in found_from)
        lines.append(f"| Ray on {machines} such machine{'s' if machines != '1' else ''} pays from | {cells} |")
    if (p := result["projection"]) is not None:
        days = ", ".join(f"{days:,} days on {machines}" for machines, days in p["days"].items())
        lines += [
            "",
            f"Projected, not run: {p['photos'] / 1e6:,.0f} million photos of {_PROJECTED} at "
            f"{p['core_seconds_each']:.2f} core-seconds each are {p['core_hours']:,} core-hours, or "
            f"{p['machine_hours']:,} hours of a machine with {p['cores_of_a_machine']} cores: {days} machines. "
            f"{p['terabytes']['read']:,} TB are read and {p['terabytes']['written']:,} TB written. The cost is "
            f"core-hours × the price of one: {p['cost']:,} at an assumed {p['assumed_price_of_a_core_hour']:g}, plus "
            "what the store charges.",
        ]
    return "\n".join(lines)
