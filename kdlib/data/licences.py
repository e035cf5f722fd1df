"""Licences of training photos: a folder lists one for each file, and the weights' terms follow from those used."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kdlib.checks import check_choice

LISTING = "LICENCES.tsv"
# Licences that put no condition on works made with the photo, apart from naming its author.
_FREE = re.compile(r"(CC0|public-domain|CC-BY(-\d| \(|$)|BSD|Apache)")
LICENCE_FILTERS = ("any", "free")


@dataclass(frozen=True)
class LicenceRow:
    """One file of a listing.

    Attributes:
        file: path relative to the folder.
        kind: what the file shows, for example ``hdr indoor`` or ``photo low-key``.
        author: as the source states it.
        licence: its short name, for example ``CC-BY-4.0``.
        second_hand: whether a collector or redistributor states the licence, instead of the author.
    """

    file: str
    kind: str
    author: str
    licence: str
    second_hand: bool

    @property
    def free(self) -> bool:
        """Whether weights trained on the file may be used for anything: CC0, public domain, CC BY, BSD or Apache."""
        return bool(_FREE.match(self.licence)) and not self.second_hand


def read_licences(folder: str | Path, allowed: str = "any") -> list[LicenceRow]:
    """Return the rows of a folder's ``LICENCES.tsv``.

    Args:
        folder: contains the listing, a table with the columns file, kind, author, licence and note.
        allowed: ``free`` for rows whose licence puts no condition on weights; ``any`` for all rows.

    Raises:
        FileNotFoundError: there is no listing.
        ValueError: ``allowed`` is unknown, a column is missing, or no row is left.
    """
    check_choice("licences", allowed, LICENCE_FILTERS)
    path = Path(folder) / LISTING
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it lists the licence of every file in the folder")
    with path.open(encoding="utf-8", newline="") as listing:
        table = csv.DictReader(listing, delimiter="\t", quoting=csv.QUOTE_NONE)
        if missing := {"file", "kind", "author", "licence", "note"} - set(table.fieldnames or ()):
            raise ValueError(f"{path} lacks the columns {', '.join(sorted(missing))}")
        rows = [
            LicenceRow(
                file=row["file"],
                kind=row["kind"],
                author=row["author"],
                licence=row["licence"],
                second_hand=(row["note"] or "").startswith("second-hand"),
            )
            for row in table
        ]
    rows = [row for row in rows if allowed == "any" or row.free]
    if not rows:
        raise ValueError(f"{path} has no row with a {allowed} licence")
    return rows


def summarise(rows: Iterable[LicenceRow]) -> str:
    """Return how many files have which licence, the most frequent first: ``71 CC0-1.0, 11 BSD-3-Clause``."""
    return ", ".join(f"{count} {licence}" for licence, count in Counter(row.licence for row in rows).most_common())
