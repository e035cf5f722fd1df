"""Damaged photos, videos and weights through what `kdlib enhance`, `kdlib video` and `kdlib.load_model` do.

``python -m tests.reliability.mutations --seconds 300 --out results/mutations.json``
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.reliability.mutate import mutated

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
MAX_PIXELS = 4_000_000
# As docs/limits.md states it: so many bytes for each pixel of the largest photo allowed, beyond what the program has.
BYTES_PER_PIXEL, BYTES_BESIDE = 32, 250_000_000
MEMORY = MAX_PIXELS * BYTES_PER_PIXEL + BYTES_BESIDE
TIMEOUT = 5.0
_START = 120.0  # seconds until a worker has imported and compiled what it needs
_SHARES = {"photo": 0.78, "weights": 0.2, "video": 0.02}
_SUFFIXES = {".pth": "weights", ".safetensors": "weights", ".onnx": "weights", ".mp4": "video", ".mkv": "video"}


def soak(
    seconds: float, folder: Path, seed: int = 0, *, most: int | None = None, workers: int | list[Worker] = 2
) -> dict[str, Any]:
    """Put damaged files through the program, in processes that are watched.

    Args:
        seconds: how long.
        folder: where files may lie meanwhile; those that have shown a defect stay there, under ``defects``.
        seed: decides which files; the first ``n`` are the same, however many follow.
        most: inputs, if they come before the time is up.
        workers: processes at one time, or those that there are; they are stopped in the end.

    Returns:
        ``inputs``, by kind under ``kinds``; ``enhanced``; ``refused``, with ``reasons``; ``crashes``, ``hangs``,
        ``over_memory``, ``outputs_of_failed_inputs`` and ``unreadable_results``, each a list of what was seen; all of
        these are empty if all is well.
    """
    corpus: dict[str, dict[str, bytes]] = {}
    for path in sorted(CORPUS.iterdir()):
        corpus.setdefault(_SUFFIXES.get(path.suffix, "photo"), {})[path.name] = path.read_bytes()
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    defects: dict[str, list[str]] = {name: [] for name in DEFECTS}
    lock, end = threading.Lock(), time.monotonic() + seconds
    numbers = iter(range(sys.maxsize if most is None else most))

    def work(worker: Worker) -> None:
        try:
            while time.monotonic() < end:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                kind, name, data = _input(corpus, f"{seed} {number}")
                outcome, detail = worker.run(kind, Path(name).suffix, data)
                with lock:
                    counts[outcome] += 1
                    kinds[Path(name).suffix] += 1
                    if outcome == "refused":
                        reasons[f"{kind}: {detail}"] += 1
                    elif outcome in defects:
                        defects[outcome].append(f"{seed} {number} {name}: {detail}")
                        (folder / "defects").mkdir(exist_ok=True)
                        (folder / "defects" / f"{outcome}-{seed}-{number}-{name}").write_bytes(data)
        finally:
            worker.stop()

    if isinstance(workers, int):
        folders = [folder / f"worker {n}" for n in range(workers)]
        for own in folders:
            own.mkdir(parents=True, exist_ok=True)
        workers = [Worker(own) for own in folders]
    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "inputs": counts.total(),
        "kinds": dict(sorted(kinds.items())),
        "enhanced": counts["enhanced"],
        "refused": counts["refused"],
        "reasons": dict(reasons.most_common()),
        **defects,
    }


DEFECTS = ("crashes", "hangs", "over_memory", "outputs_of_failed_inputs", "unreadable_results")


def _input(corpus: dict[str, dict[str, bytes]], seed: str) -> tuple[str, str, bytes]:
    rng = random.Random(seed)
    kind = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
    name = rng.choice(list(corpus[kind]))
    suffix = Path(name).suffix
    others = [data for other, data in corpus[kind].items() if Path(other).suffix == suffix]
    return kind, name, mutated(corpus[kind][name], suffix, others, rng)


class Worker:
    """A process that is watched; a new one after each that has died, hung or grown.

    Args:
        folder: of its own, for its files.
        idle: without what enhancing needs.
        timeout: seconds of processor time for a file.
    """

    def __init__(self, folder: Path, *, idle: bool = False, timeout: float = TIMEOUT) -> None:
        self._folder, self._idle, self._timeout = folder, idle, timeout
        self._process: Any = None

    def run(self, kind: str, suffix: str, data: bytes) -> tuple[str, str]:
        """What becomes of a file, and details."""
        if self._process is None:
            self._start()
        source = self._folder / f"input{suffix}"
        source.write_bytes(data)
        self._link.send((kind, suffix))
        if not self._answers():
            self.stop()
            return "hangs", f"more than {self._timeout} s"
        try:
            outcome, detail = self._link.recv()
        except EOFError:
            self._process.join()
            detail = f"exit code {self._process.exitcode}"
            self.stop()
            return "crashes", detail
        if outcome == "over_memory":
            self.stop()
        return outcome, detail

    def _answers(self) -> bool:
        """Whether an answer comes within the timeout, in seconds of the worker's processor time.

        On a busy machine the worker may have to wait for a processor; it gets six times as long by the clock.
        """
        began, latest = self._processor_time(), time.monotonic() + 6 * self._timeout
        while not self._link.poll(self._timeout):
            if self._processor_time() - began >= self._timeout or time.monotonic() >= latest:
                return False
        return True

    def _processor_time(self) -> float:
        """Seconds that the worker has computed; where the kernel does not say so, the time of the clock."""
        if sys.platform != "linux":
            return time.monotonic()
        # Fields 14 and 15, counted from behind the program's name, which may contain spaces.
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._link, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._folder, self._idle), daemon=True)
        self._process.start()
        theirs.close()
        if not self._link.poll(_START):
            self.stop()
            raise RuntimeError(f"a worker has not started within {_START} s")
        assert self._link.recv() == "ready"

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _peak(*, anew: bool = False) -> int:
    """The most memory that this process has had at a time: since it began; ``anew``, since now, where Linux is."""
    if anew and sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
    if sys.platform == "linux":
        return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _serve(link: Connection, folder: Path, idle: bool) -> None:
    """A worker's life."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries print what they think of damaged files
    bright = None if idle else _warmed_up(folder)
    link.send("ready")
    while True:
        kind, suffix = link.recv()
        before = _peak(anew=True)
        outcome, detail = _try(kind, suffix, folder, bright)
        if (grown := _peak() - before) > MEMORY or "memory" in detail:
            outcome, detail = "over_memory", f"{grown:,} bytes more than before; {detail}"
        link.send((outcome, detail))


def _warmed_up(folder: Path) -> Any:
    """An Enhancer, when all that sound files need is imported and compiled."""
    import numba
    import torch

    from kdlib.enhance import Enhancer

    torch.set_num_threads(1)
    # Damage may make a network of a new kind, for which the compiler has to be there.
    numba.njit(lambda x: sum([k * x for k in range(3)]))(1.0)
    bright = Enhancer(threads=1)
    for path in CORPUS.iterdir():
        (folder / f"input{path.suffix}").write_bytes(path.read_bytes())
        _try(_SUFFIXES.get(path.suffix, "photo"), path.suffix, folder, bright)
    return bright


def _try(kind: str, suffix: str, folder: Path, bright: Any) -> tuple[str, str]:
    """One file, and what is left of it."""
    source, target = folder / f"input{suffix}", folder / "out" / f"result{suffix}"
    try:
        outcome, detail = _WAYS[kind](source, target, bright)
    except Exception:
        outcome, detail = "crashes", traceback.format_exc()
    left = sorted(path.name for path in target.parent.iterdir()) if target.parent.is_dir() else []
    for name in left:
        (target.parent / name).unlink()
    if outcome != "enhanced" and left:
        return "outputs_of_failed_inputs", f"{left} after {detail}"
    return outcome, detail


def _photo(source: Path, target: Path, bright: Any) -> tuple[str, str]:
    from kdlib.enhance.folders.local import Job, enhance_files
    from kdlib.enhance.photos.photo_file import PhotoError, decode_photo

    summary = enhance_files([Job(source, target)], lambda _: bright, workers=1, max_pixels=MAX_PIXELS)
    if summary.failed:
        return "refused", _brief(summary.failed[0][1])
    try:
        decode_photo(target)
    except PhotoError as error:
        return "unreadable_results", str(error)
    return "enhanced", ""


def _video(source: Path, target: Path, bright: Any) -> tuple[str, str]:
    from kdlib.enhance.video.enhance import enhance_video

    try:
        enhance_video(source, target, bright, threads=1)
    except (OSError, ValueError) as error:  # what the command line turns into a message
        return "refused", _brief(str(error).replace(str(source), "").replace(str(target), ""))
    return "enhanced", ""


def _weights(source: Path, target: Path, bright: Any) -> tuple[str, str]:
    import numpy as np

    from kdlib.enhance import Enhancer
    from kdlib.weights import load_model

    photo = np.full((16, 24, 3), 40, np.uint8)
    try:
        if source.suffix != ".onnx":
            load_model(source)
    except (OSError, ValueError) as error:
        loaded = _brief(str(error).replace(str(source), ""))
    else:
        loaded = ""
    try:
        Enhancer(source, threads=1)(photo)
    except (OSError, ValueError) as error:
        return "refused", _brief(str(error).replace(str(source), ""))
    if loaded:
        return "crashes", f"read without PyTorch only: {loaded}"
    return "enhanced", ""


def _planted(source: Path, target: Path, bright: Any) -> tuple[str, str]:
    """A program with every defect, to see that each is noticed; which one, the file says."""
    match source.read_text():
        case "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "wait":
            time.sleep(60)
        case "fail":
            raise KeyError("what")
        case "grow":
            bytes(bytearray(b"x") * (MEMORY + 10**8))
        case "leave":
            target.parent.mkdir(exist_ok=True)
            target.with_name(f".{target.name}.part").touch()
            return "refused", "something"
    return "enhanced", ""


_WAYS = {"photo": _photo, "video": _video, "weights": _weights, "planted": _planted}


def _brief(reason: str) -> str:
    """A reason without what differs from file to file."""
    return re.sub(r"[\d,.×]*\d[\d,.×]*", "…", re.split(r"['\"(\[]", reason.strip(" :"), maxsplit=1)[0]).strip(" :")[:70]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--found", type=Path, help="a folder for inputs that show a defect")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = soak(given.seconds, given.found or Path(scratch), given.seed, workers=given.workers)
    for name in DEFECTS:
        for line in result[name]:
            print(name, line)
    print({name: value if isinstance(value, int) else len(value) for name, value in result.items()})
    if given.out:
        from kdlib.files import write_json

        command = f"python -m tests.reliability.mutations --seconds {given.seconds:g} --seed {given.seed}"
        limits = {"seconds_allowed": TIMEOUT, "bytes_allowed": MEMORY, "max_pixels": MAX_PIXELS}
        write_json(given.out, {"command": command, **limits, **result})
    sys.exit(any(result[name] for name in DEFECTS))
