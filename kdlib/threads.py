"""Splitting work among the cores of the CPU."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def available_threads() -> int:
    """Return the number of cores that this process may use, at most the environment variable ``OMP_NUM_THREADS``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(wanted))) if wanted.isdigit() else cores


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="kdlib")


if hasattr(os, "register_at_fork"):
    # A forked child inherits the pool but not its threads, and would wait for them forever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def over_rows(work: Callable[[int, int], object], rows: int, threads: int) -> None:
    """Run ``work(first, last)`` for consecutive parts of ``range(rows)``, one per thread, and wait for all.

    Threads are enough, because the compiled kernels, Pillow, OpenCV and PyAV all release the interpreter lock.
    """
    parts = max(1, min(threads, rows))
    bounds = [rows * part // parts for part in range(parts + 1)]
    others = [_pool(threads).submit(work, *bounds[part : part + 2]) for part in range(1, parts)]
    try:
        work(*bounds[:2])
    finally:
        # Wait even after a failure, so that no thread writes to the caller's array after the return.
        failures = [error for error in (other.exception() for other in others) if error is not None]
    if failures:
        raise failures[0]
