"""Writing files so that none is ever half-written."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which takes its place at once when the block succeeds.

    If the block fails, an existing file stays as it was and nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def strict_json(text: str | bytes) -> Any:
    """Read JSON as the standard has it: no NaN, and no name twice, of which readers would take one or the other.

    Raises:
        ValueError: it is no such JSON.
        RecursionError: nested deeper than anyone needs.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in table if names.count(name) > 1)!r} stands there twice")
        return table

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    return json.loads(text, object_pairs_hook=once, parse_constant=refuse)


def write_json(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Write a result with what is needed to trust it (versions, date, machine); an existing file is replaced at
    once."""
    path = Path(path)
    stamp = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    text = json.dumps({**content, "made": stamp}, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(f"{text}\n", encoding="utf-8")
    return path


def changed_settings(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs between the settings of results and those that are wanted now, in words; empty if nothing does."""
    both = {name: (found.get(name), wanted.get(name)) for name in {**found, **wanted}}
    return ", ".join(f"{name} {old!r} → {new!r}" for name, (old, new) in both.items() if old != new)
