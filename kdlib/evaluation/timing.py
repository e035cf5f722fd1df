"""Taking the time of several methods in one process, so that all of them meet the machine in the same mood."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import cv2
import numpy as np
import torch

from kdlib.evaluation.classical import InPlace

SIZES = {"640×480": (640, 480), "1080p": (1920, 1080), "4K": (3840, 2160), "12 MP": (4000, 3000)}  # width, height
_BLOCKS = 3
_PAUSE = 0.05  # seconds

Run = Callable[[], object]


def measure(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Seconds of each repetition of each method, in blocks that take turns.

    A block starts with a pause, in which the threads of the method before go to sleep, and with one run that is not
    counted, which brings the method's own data back.
    """
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


def milliseconds_1080p(methods: Mapping[str, InPlace], *, threads: int, repeats: int = 15) -> dict[str, float]:
    """Median milliseconds of each method at 1920×1080, 8 bits in and out, whole path; the methods take turns.

    Args:
        methods: by name, each called as ``method(photo, out)``, both H×W×3 uint8; an Enhancer, for example.
        threads: for OpenCV and PyTorch; an Enhancer has its own setting.
        repeats: measured runs of each.

    Raises:
        ValueError: fewer than one repetition or thread.
    """
    if repeats < 1 or threads < 1:
        raise ValueError(f"repeats and threads are at least 1, not {repeats} and {threads}")
    width, height = SIZES["1080p"]
    photo = np.random.default_rng(0).integers(0, 64, (height, width, 3), dtype=np.uint8)
    out = np.empty_like(photo)
    with use_threads(threads):
        seconds = measure({name: partial(method, photo, out) for name, method in methods.items()}, repeats)
    return {name: round(statistics.median(times) * 1e3, 4) for name, times in seconds.items()}


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """The same number of threads for PyTorch and OpenCV, and as before afterwards."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
