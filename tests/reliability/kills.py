"""Kill trainings at random moments, let each go on until it is complete, and compare with one that was left alone."""

from __future__ import annotations

import csv
import io
import itertools
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

import torch

from kdlib.data import sample_crops
from kdlib.files import replacing
from kdlib.models import create_model
from kdlib.training import Run, distill, distill_super_resolution, pretrain, train_pairs
from kdlib.training.initialise import fresh_model

# Each child is forked from a process that has imported PyTorch and done nothing with it: no threads, no time lost.
CONTEXT = get_context("forkserver" if os.name == "posix" else "spawn")
if os.name == "posix":
    CONTEXT.set_forkserver_preload(["kdlib.training.super_resolution"])

LONG_ENOUGH = 120.0  # seconds after which a child that says nothing hangs
QUICK: dict[str, Any] = {"batch_size": 8, "progress": False, "device": "cpu", "resume": True, "preview_every": 2}
OFTEN = 1e-9  # minutes: a checkpoint after every batch


def pretraining(folder: Path, **more: Any) -> Run:
    """A moving average, one cycle of the learning rate, random exposures; checkpoints within the epochs."""
    return pretrain(
        "nano-161", photos=sample_crops(36, 24, seed=1), output_dir=folder, epochs=3, ema_decay=0.9, averaged=True,
        checkpoint_minutes=OFTEN, **{**QUICK, **more},
    )  # fmt: skip


def distilling(folder: Path, **more: Any) -> Run:
    """Two stages, features, the contrastive term, and a schedule that waits for a plateau."""
    photos = sample_crops(30, 24, seed=2)
    torch.manual_seed(5)
    teacher = fresh_model("zero-dce++", photos)
    return distill(
        "student-565", teacher, photos=photos, output_dir=folder, recipe="two-stage", pretrain_epochs=1, epochs=3,
        schedule="plateau", augmentation="darken", checkpoint_minutes=0.002, **{**QUICK, **more},
    )  # fmt: skip


def super_resolution(folder: Path, **more: Any) -> Run:
    """Stochastic depth, new patches in every epoch, a cosine; checkpoints within the epochs."""
    torch.manual_seed(3)
    student = create_model("msafn", width=4, blocks=2, drop=0.5, residual=True)
    return distill_super_resolution(
        student, None, output_dir=folder, patch=24, repeats=3, noise=0.02, epochs=2, schedule="cosine",
        checkpoint_minutes=OFTEN, **{**QUICK, **more},
    )  # fmt: skip


def pairs(folder: Path, **more: Any) -> Run:
    """Two parts, one after the other, of which the second trains a part of the network; checkpoints after epochs."""
    return train_pairs(
        "glance-650", None, folder, limit=20, size=32, epochs=2, smoothing_epochs=2, checkpoint_minutes=0,
        **{**QUICK, **more},
    )  # fmt: skip


KINDS: dict[str, Callable[..., Run]] = {
    kind.__name__: kind for kind in (pretraining, distilling, super_resolution, pairs)
}


@dataclass(frozen=True)
class Stop:
    """Where a training is killed.

    Attributes:
        where: ``moment``: ``amount`` seconds after it has begun; ``write``: in the middle of writing its ``count``-th
            checkpoint, ``amount`` of whose bytes are there; ``before`` or ``after`` its ``count``-th file, whole under
            its temporary name, takes its place.
    """

    where: str
    count: int = 1
    amount: float = 0.0


def _train(kind: str, folder: Path, stop: Stop | None, pipe: connection.Connection) -> None:
    """In a child: train, and stand still where it is to be killed."""
    torch.set_num_threads(1)
    if stop and stop.where == "write":
        _stand_in_write(stop, pipe)
    elif stop and stop.where in ("before", "after"):
        _stand_beside_write(stop, pipe)
    pipe.send("begins")
    run = KINDS[kind](folder)
    outcome = {"weights": run.model.state_dict(), "history": run.history, "best_epoch": run.best_epoch}
    with replacing(folder / "outcome.pt") as partial:
        torch.save({**outcome, "best_score": run.best_score, "skipped": run.skipped_batches}, partial)


def _stand(pipe: connection.Connection) -> None:
    pipe.send("stands")
    pipe.recv()  # until it is killed


def _stand_in_write(stop: Stop, pipe: connection.Connection) -> None:
    real, written = torch.save, 0

    def save(content: Any, path: Path) -> None:
        nonlocal written
        written += 1
        if written < stop.count:
            real(content, path)
            return
        whole = io.BytesIO()
        real(content, whole)
        with open(path, "wb", buffering=0) as file:
            file.write(whole.getvalue()[: int(stop.amount * len(whole.getvalue()))])
            _stand(pipe)

    torch.save = save


def _stand_beside_write(stop: Stop, pipe: connection.Connection) -> None:
    real, placed = os.replace, 0

    def replace(source: Any, target: Any) -> None:
        nonlocal placed
        placed += 1
        if placed == stop.count and stop.where == "before":
            _stand(pipe)
        real(source, target)
        if placed == stop.count:
            _stand(pipe)

    os.replace = replace


def run_child(kind: str, folder: Path, stop: Stop | None = None) -> tuple[bool, float]:
    """Start or continue a training in a process of its own, and kill it if it gets to where it is to be killed.

    Returns:
        Whether it was killed, and the seconds from its beginning to its end.

    Raises:
        RuntimeError: it failed or hangs.
    """
    ours, theirs = CONTEXT.Pipe()
    child = CONTEXT.Process(target=_train, args=(kind, folder, stop, theirs), daemon=True)
    child.start()
    theirs.close()

    def heard(patience: float) -> str:
        if not ours.poll(patience):
            return "nothing"
        try:
            return str(ours.recv())
        except EOFError:
            return "its end"

    word, began = heard(LONG_ENOUGH), time.monotonic()
    moment = stop is not None and stop.where == "moment"
    if word == "begins":
        word = heard(stop.amount if stop and moment else LONG_ENOUGH)
    if word != "its end":
        child.kill()
    child.join()
    ours.close()
    if word == "nothing" and not moment:
        raise RuntimeError(f"{kind} in {folder} said nothing for {LONG_ENOUGH:.0f} s")
    if child.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{kind} in {folder} failed with exit code {child.exitcode}")
    return child.exitcode != 0, time.monotonic() - began


def draw_stop(draw: random.Random, seconds: float) -> Stop:
    """Somewhere in a training that takes so many seconds: half of the time in or beside a write."""
    where = draw.choice(("moment", "moment", "write", draw.choice(("before", "after"))))
    if where == "moment":
        return Stop(where, amount=draw.uniform(0, seconds))
    return Stop(where, draw.randint(1, 6), draw.random())


def contents(folder: Path) -> dict[str, Any]:
    """All that a run has left behind, by file, without the times that it took."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".ckpt", ".pt"):
            found[name] = _timeless(torch.load(path, weights_only=True))
        elif path.suffix == ".csv":
            with open(path, newline="", encoding="utf-8") as file:
                found[name] = _timeless(list(csv.DictReader(file)))
        else:
            found[name] = path.read_bytes()
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if key != "seconds"}
    return [_timeless(part) for part in value] if isinstance(value, list | tuple) else value


def same(one: Any, other: Any) -> bool:
    """Whether two trees of values are equal, to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


class Ordeal:
    """Trainings that are killed and go on, beside ones that were left alone.

    Attributes:
        kills, kills_during_a_write: so far; the latter in the middle of a checkpoint's write, or just before or after
            a file takes its place.
        runs: that are complete. identical: of these, that have left exactly what an undisturbed one leaves.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.kills = self.kills_during_a_write = self.runs = self.identical = 0
        self.undisturbed: dict[str, tuple[dict[str, Any], float]] = {}

    def reference(self, kind: str) -> tuple[dict[str, Any], float]:
        """What an undisturbed run leaves behind, and the seconds that it takes."""
        if kind not in self.undisturbed:
            place = self.folder / f"{kind}-undisturbed"
            _, seconds = run_child(kind, place)
            self.undisturbed[kind] = contents(place), seconds
        return self.undisturbed[kind]

    def run(self, kind: str, most_kills: int) -> None:
        """One training of a kind, killed up to so many times."""
        wanted, seconds = self.reference(kind)
        place = self.folder / f"{kind}-{self.runs}"
        for _ in range(most_kills):
            stop = draw_stop(self.draw, seconds)
            killed, _ = run_child(kind, place, stop)
            self.kills += killed
            self.kills_during_a_write += killed and stop.where != "moment"
            if not killed:
                break
        else:
            run_child(kind, place)
        self.runs += 1
        if same(contents(place), wanted):
            self.identical += 1
            shutil.rmtree(place)  # what differs stays, to be looked at


def soak(seconds: float, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Kill trainings of every kind, in turns, for so many seconds.

    Args:
        folder: keeps the undisturbed runs, and those that came to something else.

    Returns:
        ``kills``, ``kills_during_a_write``, ``runs``, ``identical`` (runs that left, but for their times, what an
        undisturbed one leaves: weights, history, best epoch, checkpoints, previews) and ``seconds``.

    Raises:
        RuntimeError: a training failed or hangs.
    """
    began, ordeal = time.monotonic(), Ordeal(folder, seed)
    for kind in itertools.cycle(KINDS):
        if time.monotonic() - began >= seconds:
            break
        ordeal.run(kind, ordeal.draw.randint(1, 6))
    counted = {name: getattr(ordeal, name) for name in ("kills", "kills_during_a_write", "runs", "identical")}
    return {**counted, "seconds": round(time.monotonic() - began, 1)}
