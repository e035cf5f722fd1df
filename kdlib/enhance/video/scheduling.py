"""Keep an encoder from starving the machine."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextlib.contextmanager
def same_scheduling() -> Iterator[None]:
    """Around the opening of an encoder: undo what it does to the scheduling of threads.

    When root opens SVT-AV1, as in most containers, it puts the calling thread and its own into the real-time class at
    the highest priority. There they are served before all other processes, for as long as the process lives, and the
    processes that it starts inherit this.
    """
    if not (hasattr(os, "sched_getscheduler") and _THREADS.is_dir()):  # not Linux
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in map(int, os.listdir(_THREADS)):
            with contextlib.suppress(OSError):  # the thread has ended, or nothing may be changed
                if os.sched_getscheduler(thread) == os.SCHED_FIFO:
                    os.sched_setscheduler(thread, policy, parameters)
