"""The files of a training run: its checkpoints and its history."""

import csv
import inspect
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from kdlib.files import changed_settings, held, left_over, replacing
from kdlib.training.processes import rank

# The parts of a checkpoint from which a run can continue.
_PARTS = {
    *("config", "model", "optimiser", "schedule", "average", "scaler"),
    *("best_model", "bad_in_a_row", "within", "run"),
}
_WRITTEN = ("last.ckpt", "best.ckpt", "history.csv", "previews/epoch_*.png")
_ours: ContextVar[frozenset[str]] = ContextVar("folders into which this thread trains", default=frozenset())

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def alone_in_its_folder(train: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Keep other processes from training into ``output_dir``, an argument of ``train``, until it returns.

    Two runs would mix their checkpoints. The decorated function raises OSError if another process trains there. The
    functions that ``train`` itself calls may train into the same folder.
    """

    @wraps(train)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        given = inspect.signature(train).bind(*args, **kwargs).arguments.get("output_dir")
        folder = None if given is None or rank() else os.path.realpath(given)
        if folder is None or folder in _ours.get():
            return train(*args, **kwargs)
        with held(Path(folder)):
            before = _ours.set(_ours.get() | {folder})
            try:
                return train(*args, **kwargs)
            finally:
                _ours.reset(before)

    return guarded


def open_folder(folder: Path, wanted: Mapping[str, Any], *, resume: bool) -> dict[str, Any] | None:
    """The checkpoint from which a run continues, if ``resume`` is set and there is one.

    A run can have been killed at any moment. Partially written files are removed, and ``best.ckpt`` and
    ``history.csv``, which follow from the checkpoint, are written again if they are missing or of another moment.

    Raises:
        ValueError: the checkpoint is damaged or belongs to a run with other settings.
        OSError: as :func:`save_checkpoint`.
    """
    for name in _WRITTEN:
        for partial in left_over(folder / name):
            partial.unlink(missing_ok=True)
    if not resume or not (folder / "last.ckpt").is_file():
        return None
    saved = load_checkpoint(folder / "last.ckpt", wanted)
    if saved["best_model"] and not _is_best(folder / "best.ckpt", saved):
        save_best(folder, saved["best_model"], saved["run"]["best_epoch"])
    if history := saved["run"]["history"]:
        write_history(folder / "history.csv", history)
    return saved


def save_best(folder: Path, weights: Mapping[str, Tensor], epoch: int) -> None:
    """Write ``best.ckpt``. Raises as :func:`save_checkpoint`."""
    save_checkpoint({"model": weights, "epoch": epoch}, folder / "best.ckpt")


def _is_best(path: Path, saved: Mapping[str, Any]) -> bool:
    try:
        there = torch.load(path, map_location="cpu", weights_only=True)
        return there["epoch"] == saved["run"]["best_epoch"] and all(
            torch.equal(there["model"][name], value) for name, value in saved["best_model"].items()
        )
    except Exception:  # missing or damaged; torch raises half a dozen types
        return False


def load_checkpoint(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``last.ckpt``, tensors and plain values only.

    Raises:
        ValueError: it is damaged or not a checkpoint, or it belongs to a run with other settings; the message names
            them.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch does not verify the checksums that it writes
            damaged = archive.testzip()
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise ValueError(f"{path} is damaged ({type(error).__name__}); start afresh with resume=False") from None
    if damaged:
        raise ValueError(f"{path} is damaged (its checksum is wrong); start afresh with resume=False")
    if not isinstance(saved, dict) or not saved.keys() >= _PARTS:
        raise ValueError(f"{path} is not a checkpoint from which a run could continue; start afresh with resume=False")
    found = {name: saved["config"].get(name) for name in wanted}
    if changes := changed_settings(found, wanted):
        raise ValueError(
            f"{path} belongs to a run with other settings ({changes}); "
            "continue with the same ones, use another folder, or start afresh with resume=False"
        )
    return saved


@contextmanager
def _kept_unless_written(path: Path) -> Iterator[Path]:
    """:func:`~kdlib.files.replacing`, with an error that says how the run can continue."""
    try:
        with replacing(path) as partial:
            yield partial
            # Otherwise a power cut could leave the new name without content.
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # PyTorch raises the latter when the disk is full
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
        raise OSError(
            f"{path} could not be written ({reason}). What was there before is untouched: make room on the disk, "
            "then continue with resume=True"
        ) from error


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain values; an existing file is replaced at once.

    Raises:
        OSError: it cannot be written, for example because the disk is full; an existing file is unchanged.
    """
    with _kept_unless_written(path) as partial:
        torch.save(content, partial)


def write_history(path: Path, history: Iterable[Mapping[str, float]]) -> None:
    """Write the history as CSV, a row for each epoch; an existing file is replaced at once. Raises as
    :func:`save_checkpoint`."""
    rows = list(history)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with _kept_unless_written(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
