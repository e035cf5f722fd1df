"""Measurements of many runs that can be stopped and continued at any time: one JSON file, one row per run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdlib.files import changed_settings, write_json


@dataclass(frozen=True)
class Compared:
    """A variant in a measurement.

    Attributes:
        name, group: its name in figures, and the question that it belongs to.
        against: the variant to compare it with, which differs in one part.
    """

    name: str
    group: str
    against: str = field(kw_only=True)


class Measurement:
    """The settings of a measurement, and its rows so far.

    The file is replaced as a whole after each row, so that it never holds half of one. Rows of other settings are not
    mixed with these.

    Args:
        path: a JSON file: new, or of a measurement with the same settings.
        settings: the values on which every row depends; plain values.
        further: further content of a new file.

    Attributes:
        content: of the file: ``settings``, the names in ``further``, and ``rows``.

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
        """One per run, in the order of measurement."""
        rows: list[dict[str, Any]] = self.content["rows"]
        return rows

    def done(self, *names: str) -> set[tuple[Any, ...]]:
        """The values of some columns in every row, by which a run is recognised as measured."""
        return {tuple(row[name] for name in names) for row in self.rows}

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, and write the file."""
        self.rows.append(dict(row))
        self.write()

    def write(self) -> None:
        """Write the file; needed only after a direct change of ``content``."""
        write_json(self.path, self.content)
