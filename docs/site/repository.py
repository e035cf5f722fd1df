"""The repository as a site: lessons become pages, and links are valid on a code host and in the built site.

A page of ``docs/`` links to ``../notebooks/04_distill.ipynb`` as it lies in the repository. In the site, ``docs/`` is
the root: every file of the repository that a page links to is added under its own path, and links are rewritten to it.
A notebook is added twice, as a page and as a file to download. A link that leads nowhere stays as it is, so that
``mkdocs build --strict`` reports it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lessons import as_page, with_maths
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File
from mkdocs.structure.nav import Link

ROOT = Path(__file__).resolve().parents[2]
LESSONS, WEB = ROOT / "notebooks", ROOT / "web"
_TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|#)[^)#\s]+")
_sources: dict[str, Path] = {}  # of the pages that are made from notebooks


def _place(path: Path) -> str:
    """Where a file of the repository is in the site."""
    inside = path.relative_to(ROOT)
    inside = inside.with_suffix(".md") if inside.suffix == ".ipynb" else inside
    return (
        "index.md"
        if inside.name == "README.md" and inside.parent == Path()
        else inside.as_posix().removeprefix("docs/")
    )


def _with_targets(markdown: str, folder: Path, change: Callable[[Path], str]) -> str:
    """The Markdown of a page in ``folder``, with what ``change`` gives for each file that it links to."""

    def changed(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(folder / match[0]))
        return change(path) if path.is_file() and path.is_relative_to(ROOT) else match[0]

    return _TARGET.sub(changed, markdown)


def on_config(config: Any) -> Any:
    """Link to the repository below each page, if its address is known."""
    if repository := config.extra["repository"]:
        config.extra["social"] = [{"icon": "fontawesome/brands/git-alt", "link": repository, "name": "Repository"}]
    return config


@event_priority(100)  # before plugins that look at all files
def on_files(files: Any, config: Any) -> Any:
    """Add the files that pages link to, those that added pages link to, and the page that enhances in a browser."""
    pages = [file for file in files if file.is_documentation_page()]

    def add(path: Path) -> str:
        place = _place(path)
        if files.get_file_from_path(place) is None:
            if path.suffix == ".ipynb":
                markdown, pictures = as_page(path, config.extra["repository"])
                file = File.generated(config, place, content=markdown)
                folder = Path(place).parent
                for name, content in pictures.items():
                    files.append(File.generated(config, (folder / name).as_posix(), content=content))
                files.append(File.generated(config, (folder / path.name).as_posix(), abs_src_path=str(path)))
                _sources[place] = path
            else:
                file = File.generated(config, place, abs_src_path=str(path))
            files.append(file)
            if file.is_documentation_page():
                pages.append(file)
        return place

    for path in [*LESSONS.rglob("*.ipynb"), *WEB.rglob("*")]:
        hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        if path.is_file() and path.suffix != ".md" and not hidden:
            add(path)
    for page in pages:  # grows meanwhile
        _with_targets(page.content_string, _source(page).parent, add)
    return files


def _source(file: Any) -> Path:
    return _sources.get(file.src_uri) or Path(file.abs_src_path)


def on_nav(nav: Any, **_: Any) -> Any:
    """Add the page that enhances in a browser to the navigation, if the repository has it."""
    if (WEB / "index.html").is_file():
        nav.items.insert(1, Link("Try it", "web/index.html"))
    return nav


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Rewrite links to where their targets are in the site."""
    here = os.path.dirname(page.file.src_uri)
    source = _source(page.file)
    return _with_targets(markdown, source.parent, lambda path: Path(os.path.relpath(_place(path), here)).as_posix())


def on_post_page(output: str, **_: Any) -> str:
    """Give the theme's dialog for the search a name, which readers of screens say."""
    return output.replace('role="dialog">', 'role="dialog" aria-label="Search">')


def on_page_content(content: str, **_: Any) -> str:
    """Set formulas."""
    return with_maths(content)
