"""Notebooks as pages of the site: nbconvert writes them as Markdown, with the outputs that they store.

MkDocs then treats a lesson like any other page: its links are checked, its headings are in the table of contents,
and its text is in the search. Nothing is executed.
"""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit

import latex2mathml.converter
import nbformat
from nbconvert import MarkdownExporter

_TEMPLATE = Path(__file__).with_name("lesson.md.j2")
_MATHS = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def fenced(text: str, language: str, *classes: str) -> str:
    """Return text as a code block whose fence is longer than any that the text contains."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    attributes = " ".join(f".{name}" for name in (language, *classes))
    return f"{fence} {{ {attributes} }}\n{text.rstrip()}\n{fence}"


def figure(name: str, heading: str) -> str:
    """Return a picture that a lesson has drawn, described by the heading above it."""
    return f"![Figure: {heading}]({quote(name)}){{ .figure loading=lazy }}"


@cache
def _exporter() -> MarkdownExporter:
    """Return what writes lessons as Markdown; compiling its templates takes longer than using them once."""
    exporter = MarkdownExporter(raw_template=_TEMPLATE.read_text(encoding="utf-8"))
    exporter.environment.globals.update(fenced=fenced, figure=figure)
    return exporter


def as_page(path: Path, repository: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by name.

    Args:
        path: the notebook.
        repository: address of the repository for the launch buttons; empty for none.
    """
    notebook = nbformat.read(path, as_version=4)
    heading = path.stem
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            found = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
            heading = re.sub(r"[\[\]*`]", "", found[-1]) if found else heading
            if number and "```" not in cell.source:  # the table of contents of a page has one title
                cell.source = re.sub(r"^# ", "## ", cell.source, flags=re.MULTILINE)
            # Markdown inside HTML is read as such on a code host, and in the site where it is asked for.
            cell.source = cell.source.replace("<details>", '<details markdown="1">')
        elif cell.cell_type == "code":
            cell.metadata["heading"] = heading
    markdown, resources = _exporter().from_notebook_node(
        notebook, {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    )
    title, _, rest = markdown.lstrip().partition("\n")
    # Solutions repeat the words of their lessons, which the search is to show first.
    meta = "---\nsearch: { boost: 0.3 }\n---\n\n" if path.parent.name == "solutions" else ""
    return f"{meta}{title}\n\n{_buttons(path, repository)}\n{rest}", resources["outputs"]


def _buttons(path: Path, repository: str) -> str:
    """Return links that download a notebook, and that open it where the repository's host is supported."""
    links = [f'<a href="{path.name}" download>Download the notebook</a>']
    if (solutions := path.parent / "solutions" / path.name).is_file():
        links += [f"[Solutions](solutions/{solutions.name})"]
    elif path.parent.name == "solutions":
        links += [f"[Lesson](../{path.name})"]
    site, name = urlsplit(repository), urlsplit(repository).path.strip("/").removesuffix(".git")
    root = Path(__file__).resolve().parents[2]
    place = quote(path.relative_to(root).as_posix())
    if site.hostname == "github.com":
        links += [f"[Open in Colab](https://colab.research.google.com/github/{name}/blob/HEAD/{place})"]
    if (host := {"github.com": "gh", "gitlab.com": "gl"}.get(site.hostname or "")) is not None:
        spelt = name if host == "gh" else quote(name, safe="")
        links += [f"[Open in Binder](https://mybinder.org/v2/{host}/{spelt}/HEAD?urlpath=lab/tree/{place})"]
    shown = " · ".join(links)
    if site.hostname == "github.com":
        folder = name.rsplit("/", 1)[-1]
        setup = fenced(f"!git clone {repository} && pip install './{folder}[course]'\n%cd {folder}/notebooks", "text")
        shown += f'\n\n<details markdown="1"><summary>First cell in Colab</summary>\n\n{setup}\n\n</details>'
    return f'<div class="launch" markdown="1">\n\n{shown}\n\n</div>\n'


def with_maths(content: str) -> str:
    """Return a page's HTML with its formulas as MathML, which browsers show without a script or a font."""

    def formula(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        return latex2mathml.converter.convert(html.unescape(match[2]).strip(), display=display)

    return _MATHS.sub(formula, content)
