"""Links from the pages to the rest of the repository, valid on a code host and in the built site.

A page of ``docs/`` links to ``../notebooks/04_distill.ipynb`` as it lies in the repository. In the site, ``docs/`` is
the root: every file of the repository that a page links to is added under its own path, and links are rewritten to it.
A link that leads nowhere stays as it is, so that ``mkdocs build --strict`` reports it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
_TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|#)[^)#\s]+")


def _place(path: Path) -> str:
    """Where a file of the repository is in the site."""
    inside = path.relative_to(ROOT).as_posix()
    return "index.md" if inside == "README.md" else inside.removeprefix("docs/")


def _with_targets(markdown: str, folder: Path, change: Callable[[Path], str]) -> str:
    """The Markdown of a page in ``folder``, with what ``change`` gives for each file that it links to."""

    def changed(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(folder / match[0]))
        return change(path) if path.is_file() and path.is_relative_to(ROOT) else match[0]

    return _TARGET.sub(changed, markdown)


@event_priority(100)  # before plugins that turn files, such as notebooks, into pages
def on_files(files: Any, config: Any) -> Any:
    """Add the files that pages link to, and those that added pages link to."""
    pages = [file for file in files if file.is_documentation_page()]

    def add(path: Path) -> str:
        place = _place(path)
        if files.get_file_from_path(place) is None:
            files.append(file := File.generated(config, place, abs_src_path=str(path)))
            if file.is_documentation_page():
                pages.append(file)
        return place

    for page in pages:  # grows meanwhile
        source = Path(page.abs_src_path)
        _with_targets(source.read_text(encoding="utf-8"), source.parent, add)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Rewrite links to where their targets are in the site."""
    source = Path(page.file.abs_src_path)
    here = os.path.dirname(_place(source))
    return _with_targets(markdown, source.parent, lambda path: Path(os.path.relpath(_place(path), here)).as_posix())
