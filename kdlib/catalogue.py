"""The catalogue of trained weights that ship with the project: files and digests, no tensors.

Apart from :mod:`kdlib.weights`, so that the command line finds a file without importing PyTorch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# An installed wheel carries the weights inside the package; a checkout keeps them in its top-level folder.
_FOLDERS = (_PACKAGE / "_weights", _PACKAGE.parent / "weights")


@dataclass(frozen=True)
class CatalogueEntry:
    """One weights file that ships with the project.

    Attributes:
        name: the model's name.
        path: the file.
        sha256: its expected digest.
        licence: terms of use, which follow from the training data.
        made: one line on how it was trained; the card beside the file says more.
        category: what it learned from: ``zero-reference``, ``self-made pairs`` or ``real pairs``; may be empty.
    """

    name: str
    path: Path
    sha256: str
    licence: str
    made: str
    category: str = ""


def catalogue() -> dict[str, CatalogueEntry]:
    """The weights that ship with the project, by model name."""
    for folder in _FOLDERS:
        listing = folder / "catalogue.json"
        if listing.is_file():
            entries = json.loads(listing.read_text(encoding="utf-8"))
            return {
                name: CatalogueEntry(
                    name,
                    folder / entry["file"],
                    entry["sha256"],
                    entry["licence"],
                    entry["made"],
                    entry.get("category", ""),
                )
                for name, entry in entries.items()
            }
    return {}


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(entry: CatalogueEntry) -> None:
    """Check a shipped file against the catalogue.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: its content is not what the catalogue describes.
    """
    if not entry.path.is_file():
        raise FileNotFoundError(f"{entry.path} is missing; restore it with `git checkout -- {entry.path.name}`")
    actual = sha256_of(entry.path)
    if actual != entry.sha256:
        raise ValueError(
            f"{entry.path} has changed: sha256 {actual[:12]}…, the catalogue says {entry.sha256[:12]}…; "
            "restore the file, or load your own weights by their path"
        )


def find_weights(name_or_path: str | Path) -> Path:
    """The file of shipped weights, checked against the catalogue, or the given path.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a name that is not in the catalogue, or a shipped file that has changed.
    """
    entries = catalogue()
    if (entry := entries.get(str(name_or_path))) is not None:
        verify(entry)
        return entry.path
    path = Path(name_or_path)
    if not path.suffix:
        raise ValueError(
            f"no shipped weights named {str(name_or_path)!r}; choose from {', '.join(entries)}, "
            "or give the path of a .safetensors or .pth file"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    return path
