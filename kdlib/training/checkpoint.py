"""What a training run keeps on disk: its checkpoints and its history."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kdlib.files import replacing


def load_checkpoint(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``last.ckpt``, tensors and plain values only.

    Raises:
        ValueError: it belongs to a run with other settings; the message names them.
    """
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise ValueError(f"{path} is damaged ({type(error).__name__}); start afresh with resume=False") from None
    differing = [f"{k} {saved['config'].get(k)!r} → {v!r}" for k, v in wanted.items() if saved["config"].get(k) != v]
    if differing:
        raise ValueError(
            f"{path} belongs to a run with other settings ({', '.join(differing)}); "
            "continue with the same ones, use another folder, or start afresh with resume=False"
        )
    return saved


@contextmanager
def _kept_unless_written(path: Path) -> Iterator[Path]:
    """:func:`~kdlib.files.replacing`, with an error that says what a run can go on from."""
    try:
        with replacing(path) as partial:
            yield partial
            # Or a power cut could leave the new name with nothing behind it.
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # the latter is what PyTorch raises when the disk is full
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
        raise OSError(
            f"{path} could not be written ({reason}). What was there before is untouched: make room on the disk, "
            "then continue with resume=True"
        ) from error


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain values; an existing file is replaced at once.

    Raises:
        OSError: it cannot be written, for example because the disk is full; an existing file is as it was.
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
