"""Measurements of many runs that can be stopped at any time and go on where they were: one JSON file, a row a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdlib.files import changed_settings, write_json


class Measurement:
    """The settings of a measurement, and the rows that it has so far.

    The file is written after each row, at once, so that it never holds half of one. Rows of other settings are not
    mixed with these.

    Args:
        path: a JSON file: new, or of a measurement with the same settings.
        settings: what every row depends on; plain values.
        further: more that the file holds, as it is when the file is new.

    Attributes:
        content: what the file holds: ``settings``, what was given as ``further``, and ``rows``.

    Raises:
        ValueError: the file holds results with other settings; the message says which.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any], **further: Any) -> None:
        self.path = Path(path)
        wanted = json.loads(json.dumps(settings))  # as the file would give it back
        self.content: dict[str, Any] = {"settings": wanted, **further, "rows": []}
        if not self.path.is_file():
            return
        found = json.loads(self.path.read_text(encoding="utf-8"))
        if changes := changed_settings(found["settings"], wanted):
            raise ValueError(f"{self.path.name} holds results with other settings ({changes}); use another file")
        self.content = found

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One for each run, in the order in which they were measured."""
        rows: list[dict[str, Any]] = self.content["rows"]
        return rows

    def done(self, *names: str) -> set[tuple[Any, ...]]:
        """What has been measured: of each row, the values that tell it from the others."""
        return {tuple(row[name] for name in names) for row in self.rows}

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row, in the file too."""
        self.rows.append(dict(row))
        self.write()

    def write(self) -> None:
        """Write the file; only what changed ``content`` itself has to ask for it."""
        write_json(self.path, self.content)
