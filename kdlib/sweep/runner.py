"""Running a sweep: a process for each trial, several at one time, and a table of what came of them."""

import csv
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlib.checks import nearest
from kdlib.files import replacing, write_json
from kdlib.sweep.queue import Claim, Queue, finished, folder_of
from kdlib.sweep.settings import Sweep
from kdlib.sweep.trial import FAILED, METRICS, PARAMETERS
from kdlib.threads import available_threads

_GLANCE = 0.1  # seconds between two looks at the processes
_TRIAL = "import sys; from kdlib.sweep.trial import main; sys.exit(main(*sys.argv[1:]))"
_PATIENCE = 2.0  # seconds between two looks at the database


@dataclass
class _Running:
    claim: Claim
    process: subprocess.Popen[bytes]
    folder: Path
    start: float


def run_sweep(
    sweep: Sweep,
    *,
    jobs: int = 0,
    retry: bool = False,
    progress: Callable[[Mapping[str, Any]], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """Run the trials that are left, and wait for those that other processes run.

    It may be started again at any time, and several times at once, on one machine or on several with one database: no
    point is run twice. A trial that was interrupted goes on, where the notebook has a parameter ``resume``.

    Args:
        jobs: trials at one time; 0: as the sweep says, else one for each core.
        retry: run the points again that failed.
        progress: called with the row of each trial that has ended here.

    Returns:
        A row for each point (see :meth:`kdlib.sweep.queue.Queue.rows`), as ``results.csv`` and ``results.json`` in the
        output folder have them.

    Raises:
        MissingExtraError, ValueError: see :class:`kdlib.sweep.queue.Queue`.
        OSError: the database has failed, or a file could not be written.
    """
    jobs = jobs or sweep.jobs or available_threads()
    running: list[_Running] = []
    with Queue(sweep, retry=retry) as queue:
        looked = -math.inf
        try:
            while True:
                if time.monotonic() - looked > _PATIENCE:
                    looked = time.monotonic()
                    queue.refill()
                    for lost in [one for one in running if not queue.is_ours(one.claim)]:
                        _stop(lost)
                        running.remove(lost)
                    while len(running) < jobs and (claim := queue.claim()):
                        try:
                            running.append(_start(sweep, claim, jobs))
                        except BaseException:  # such as a full disk: elsewhere, or later, it may run
                            queue.release(claim)
                            raise
                    if not running and finished(queue.rows()):
                        break
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    value, reason = _result(one, sweep.metric)
                    queue.finish(one.claim, time.monotonic() - one.start, value, reason)
                    rows = queue.rows()
                    write_table(sweep, rows)
                    progress(rows[one.claim.point])
                    looked = -math.inf
                time.sleep(_GLANCE)
        finally:
            for one in running:
                _stop(one)
            for one in running:
                queue.release(one.claim)
        rows = queue.rows()
        write_table(sweep, rows)
    return rows


def _start(sweep: Sweep, claim: Claim, jobs: int) -> _Running:
    folder = folder_of(sweep.output, claim.point)
    folder.mkdir(parents=True, exist_ok=True)
    resume = {"resume": True} if sweep.resumable else {}
    parameters = {**sweep.fixed, **claim.parameters, **resume, "output_dir": str(folder)}
    with replacing(folder / PARAMETERS) as partial:
        partial.write_text(json.dumps(parameters, indent=2), encoding="utf-8")
    # More threads than cores wait for each other.
    threads = str(max(1, available_threads() // jobs))
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _TRIAL, str(sweep.notebook.absolute()), str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": threads, **os.environ},
            start_new_session=True,  # Ctrl-C is for the sweep, which then ends its trials
        )
    return _Running(claim, process, folder, time.monotonic())


def _stop(one: _Running) -> None:
    one.process.kill()
    one.process.wait()


def _result(one: _Running, metric: str) -> tuple[float | None, str]:
    """The metric of a trial, or why there is none."""
    if one.process.returncode:
        try:
            return None, (one.folder / FAILED).read_text(encoding="utf-8")
        except OSError:
            return None, f"its process ended with {one.process.returncode}; see {one.folder.name}/log.txt"
    try:
        value: Any = json.loads((one.folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, f"the notebook has written no {METRICS} in its output_dir"
    for key in metric.split("."):
        if not isinstance(value, dict) or key not in value:
            names = list(value) if isinstance(value, dict) else []
            there = ", ".join(names) if isinstance(value, dict) else "a single value"
            return None, f"{METRICS} has no {metric}: {nearest(key, names)}where {key} should be, there is {there}"
        value = value[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None, f"{metric} is {value!r} and no number that could be compared"
    return float(value), ""


def write_table(sweep: Sweep, rows: list[dict[str, Any]]) -> None:
    """Write ``results.csv`` and ``results.json``; of several processes, one at a time."""
    from filelock import FileLock

    with FileLock(sweep.output / ".table.lock"):
        with (
            replacing(sweep.output / "results.csv") as partial,
            open(partial, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        write_json(sweep.output / "results.json", {"settings": sweep.definition(), "rows": rows})
