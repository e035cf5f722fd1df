"""Catalogues of trained weights: files and their digests. One ships with the project; a second may be your own."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlib.checks import nearest
from kdlib.files import strict_json
from kdlib.models.registry import ARCHITECTURES

DEFAULT_MODEL = "grid-960"
"""The shipped weights that enhance photos and videos unless others are asked for."""
_PACKAGE = Path(__file__).resolve().parents[1]
# An installed wheel carries the weights inside the package; a checkout keeps them in its top-level folder.
_FOLDERS = (_PACKAGE / "_weights", _PACKAGE.parent / "weights")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,98}[A-Za-z0-9+])?")
_SUFFIXES = (".safetensors", ".pth", ".pt")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)  # on Windows
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CatalogueEntry:
    """One weights file of a catalogue.

    Attributes:
        name: the model's name.
        path: the file.
        sha256: expected digest.
        licence: terms of use, which follow from the training data.
        made: one line on how it was trained; the card beside the file says more.
        category: the kind of training data: ``zero-reference``, ``self-made pairs``, ``exposures``, ``real pairs`` or,
            for super-resolution, ``sharp photos``; may be empty.
        url: https address of the file; empty if it cannot be downloaded.
        use: a few words on what it is for, shown by the help of ``--model``; may be empty.
        in_repository: whether the file is too large for the wheel, and lies in the project's repository alone.
    """

    name: str
    path: Path
    sha256: str
    licence: str
    made: str
    category: str = ""
    url: str = ""
    use: str = ""
    in_repository: bool = False


def catalogue() -> dict[str, CatalogueEntry]:
    """Return the weights that ship with the project, by model name."""
    return {name: entry for name, entry in _shipped().items() if _is_here(entry)}


def _shipped() -> dict[str, CatalogueEntry]:
    listings = (folder / "catalogue.json" for folder in _FOLDERS)
    return next((_read(listing) for listing in listings if listing.is_file()), {})


def _is_here(entry: CatalogueEntry) -> bool:
    """False for a file that the wheel leaves out."""
    return entry.path.parent != _FOLDERS[0] or not entry.in_repository


def own_catalogue(listing: str | Path | None = None) -> dict[str, CatalogueEntry]:
    """Return the weights of your own catalogue, by model name; the files lie beside the catalogue.

    The entries have the form of those in the project's ``weights/catalogue.json``; ``file`` and ``sha256`` are
    required.

    Args:
        listing: the catalogue; by default the file that the environment variable ``KDLIB_CATALOGUE`` names, if any.

    Raises:
        OSError: the catalogue cannot be read.
        ValueError: it is not a catalogue, a file name could lead out of its folder, or a name is that of shipped
            weights.
    """
    listing = listing or os.environ.get("KDLIB_CATALOGUE")
    if not listing:
        return {}
    try:
        entries = _read(Path(os.path.expanduser(listing)))
    except OSError as error:
        raise type(error)(
            f"the catalogue {listing}, which --catalogue or KDLIB_CATALOGUE names, cannot be read ({error.strerror})"
        ) from None
    if taken := sorted(entries.keys() & catalogue().keys()):
        raise ValueError(f"{listing}: {taken[0]!r} is the name of weights that ship with kdlib; choose another")
    return entries


def _read(listing: Path) -> dict[str, CatalogueEntry]:
    """Return the entries of a catalogue, none of whose names can be trusted."""
    try:
        table = strict_json(listing.read_bytes())
        if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
            raise ValueError("it is not a table of models")
        entries = {name: _entry(name, entry, listing.parent) for name, entry in table.items()}
        if len({entry.path.name.casefold() for entry in entries.values()}) < len(entries):
            raise ValueError("two models name the same file")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{listing} is not a catalogue of weights: {error}") from None
    return entries


def _entry(name: str, entry: dict[str, Any], folder: Path) -> CatalogueEntry:
    texts = {key: entry.get(key, "") for key in ("file", "sha256", "licence", "made", "use", "category", "url")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"{name!r} has an entry that is not a text")
    if _NAME.fullmatch(name) is None or Path(name).suffix in _SUFFIXES:
        raise ValueError(f"{name!r} is not a model name: use letters and digits, with . _ + - between them")
    file, sha256 = texts.pop("file"), texts.pop("sha256")
    # A name that means a device, a folder or a path on one operating system is refused on all.
    if _NAME.fullmatch(file) is None or Path(file).suffix not in _SUFFIXES or _DEVICE.match(file):
        raise ValueError(
            f"{file!r} does not name a weights file: give no folder, and .safetensors, .pth or .pt at its end"
        )
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"{name!r} has no SHA-256 digest of 64 hexadecimal digits")
    if texts["url"] and not texts["url"].startswith("https://"):
        raise ValueError(f"{name!r} has an address that does not begin with https://")
    return CatalogueEntry(name, folder / file, sha256, **texts, in_repository=entry.get("in_repository") is True)


def sha256_of(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(entry: CatalogueEntry) -> None:
    """Check a file against its catalogue.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: its digest differs from the catalogue's, or it is a link out of its folder.
    """
    if not entry.path.is_file():
        how = f"`kdlib weights fetch {entry.name}`" if entry.url else f"`git checkout -- {entry.path.name}`"
        how = f"restore it with {how}" if entry.url or entry.name in catalogue() else "put it there, or give its url"
        raise FileNotFoundError(f"{entry.path} is missing; {how}")
    folder = os.path.dirname(os.path.realpath(entry.path))
    if folder != os.path.realpath(entry.path.parent) and entry.name not in catalogue():
        raise ValueError(f"{entry.path} is a link to a file elsewhere; put the file itself there")
    actual = sha256_of(entry.path)
    if actual != entry.sha256:
        raise ValueError(
            f"{entry.path} has changed: sha256 {actual[:12]}…, the catalogue says {entry.sha256[:12]}…; "
            "restore the file, or load your own weights by their path"
        )


def find_weights(name_or_path: str | Path) -> Path:
    """Return the file behind a name in one of the catalogues, checked against its digest, or the given path.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the name is in no catalogue, or the file of a catalogue has changed.
    """
    entries = catalogue()
    if str(name_or_path) not in entries:
        entries |= own_catalogue()
    if (entry := entries.get(str(name_or_path))) is not None:
        verify(entry)
        return entry.path
    if str(name_or_path) in _shipped():
        raise FileNotFoundError(
            f"{name_or_path} is too large for the installed package; its weights file lies in the project's "
            "repository, in the folder weights: give the path of that file"
        )
    path = Path(name_or_path)
    if not path.suffix:
        name = str(name_or_path)
        known = f"choose from {', '.join(entries)}, or give the path of a .safetensors or .pth file"
        if name in ARCHITECTURES:
            raise ValueError(f"{name!r} is an architecture without shipped weights; {known}")
        raise ValueError(f"no shipped weights named {name!r}; {nearest(name, entries)}{known}")
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    return path
