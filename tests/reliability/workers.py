"""Photos on Ray while workers are killed: nothing lost, nothing twice, and every file as the local engine writes it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdlib.enhance import Enhancer
from kdlib.enhance.folders.cluster import cluster, require_ray
from kdlib.enhance.folders.local import Summary, enhance_files, plan
from kdlib.enhance.folders.memory import MEMORY
from kdlib.scale import enhance_dataset

FORMATS = ("jpg", "png", "webp", "bmp", "tif")
WORKERS = 2


def make_photos(folder: Path, count: int, seed: int = 0) -> Path:
    """Small dark photos of five formats, in the folder and ten below it."""
    random = np.random.default_rng(seed)
    for k in range(count):
        path = folder / (f"{k % 10}" if k % 3 else "") / f"{k:05}.{FORMATS[k % 5]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 60, (20 + k % 5, 24 + k % 7, 3), dtype=np.uint8)).save(path)
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, but for the memory of what made them."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MEMORY)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def by_the_local_engine(
    photos: Path, out: Path, wanted: str | None = None, quality: int | None = None
) -> dict[str, bytes]:
    """What the local engine makes of them."""
    jobs = plan([photos], out, recursive=True, wanted=wanted)
    enhance_files(jobs, lambda _: Enhancer(threads=1), workers=1, wanted=wanted, quality=quality)
    return files_in(out)


def photo_workers() -> list[int]:
    """The processes below this one that hold a PhotoWorker: Ray writes that into their command lines. Linux only."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if b"ray::" in command and b"PhotoWorker" in command:
            found.append(int(folder.name))
    return [pid for pid in found if os.getpid() in _ancestors(pid, parents)]


def _ancestors(pid: int, parents: dict[int, int]) -> list[int]:
    line = []
    while pid := parents.get(pid, 0):
        line.append(pid)
    return line


def enhance_and_kill(photos: Path, out: Path, **options: Any) -> tuple[Summary, int]:
    """Enhance on Ray with two workers, and kill one when the first results are there: what became of the photos, and
    how many results stood when it was killed. The options are those of ``enhance_dataset``."""
    standing: list[int] = []
    ending = photo_workers()  # of a run before

    def kill(_: int) -> None:
        if not standing:
            victims = [worker for worker in photo_workers() if worker not in ending]
            os.kill(victims[0], signal.SIGKILL)
            standing.append(len(files_in(out)))

    summary = enhance_dataset([photos], out, workers=WORKERS, recursive=True, progress=kill, **options)
    return summary, standing[0]


def soak(seconds: float, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Rounds of 500 photos on one cluster, a worker killed in each, until the time is over; at least one."""
    start, rounds = time.monotonic(), 0
    found: dict[str, Any] = {"photos": 0, "workers": WORKERS, "workers_killed": 0, "outputs": 0}
    found |= {"identical_to_local": True, "lost": 0, "repeated": 0}
    require_ray()
    with cluster(None, WORKERS):
        while not rounds or (time.monotonic() - start) * (rounds + 1) / rounds < seconds:
            place = folder / f"{rounds}"
            photos = make_photos(place / "in", 500, seed + rounds)
            summary, _ = enhance_and_kill(photos, place / "out")
            outputs, expected = files_in(place / "out"), by_the_local_engine(photos, place / "expected")
            rounds += 1
            found["photos"] += 500
            found["workers_killed"] += 1
            found["outputs"] += len(outputs)
            found["identical_to_local"] &= outputs == expected
            found["lost"] += len(expected.keys() - outputs.keys())
            found["repeated"] += len(outputs.keys() - expected.keys()) + abs(summary.done - len(expected))
    return {**found, "seconds": round(time.monotonic() - start, 1)}
