"""What a training run keeps on disk: its checkpoints and its history."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
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


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain values; an existing file is replaced at once."""
    with replacing(path) as partial:
        torch.save(content, partial)


def write_history(path: Path, history: Iterable[Mapping[str, float]]) -> None:
    """Write the history as CSV, a row for each epoch; an existing file is replaced at once."""
    rows = list(history)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
