"""Time several methods in one process, so that all of them run under the same conditions."""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import cv2
import numpy as np
import torch

from kdlib.checks import check_number
from kdlib.evaluation.classical import InPlace

SIZES = {"640×480": (640, 480), "1080p": (1920, 1080), "4K": (3840, 2160), "12 MP": (4000, 3000)}  # width, height
_BLOCKS = 3
_PAUSE = 0.05  # seconds

Run = Callable[[], object]


def measure(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each run of each method, measured in alternating blocks.

    Each block begins with a pause, during which the threads of the previous method become idle, and an untimed run,
    which brings the method's data back into the caches.

    Raises:
        ValueError: ``repeats`` is below 1.
    """
    check_number("repeats", repeats, 1)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for block in range(_BLOCKS):
        for name, run in runs.items():
            time.sleep(_PAUSE)
            run()
            for _ in range(repeats * (block + 1) // _BLOCKS - repeats * block // _BLOCKS):
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    return seconds


def time_spent(run: Run) -> tuple[float, float]:
    """Return the seconds that a run takes, by wall clock and as CPU time of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def load_average() -> float:
    """Return the machine's load average over the last minute, to one decimal."""
    return round(os.getloadavg()[0], 1)


def milliseconds_1080p(methods: Mapping[str, InPlace], *, threads: int, repeats: int = 15) -> dict[str, float]:
    """Return the median milliseconds of each method at 1920×1080, end to end with 8 bits in and out.

    The methods are timed in alternating blocks.

    Args:
        methods: by name, each called as ``method(photo, out)`` with two H×W×3 uint8 arrays; for example an Enhancer.
        threads: number of threads of OpenCV and PyTorch; an Enhancer has its own setting.
        repeats: timed runs of each method.

    Raises:
        ValueError: ``repeats`` or ``threads`` is below 1.
    """
    width, height = SIZES["1080p"]
    photo = np.random.default_rng(0).integers(0, 64, (height, width, 3), dtype=np.uint8)
    out = np.empty_like(photo)
    with use_threads(threads):
        seconds = measure({name: partial(method, photo, out) for name, method in methods.items()}, repeats)
    return {name: round(statistics.median(times) * 1e3, 4) for name, times in seconds.items()}


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Set the number of threads of PyTorch and OpenCV, at least 1, for the duration of the context."""
    check_number("threads", count, 1)
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
