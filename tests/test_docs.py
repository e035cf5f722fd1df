"""What the pages quote exists: files, headings, commands with their options, parameters of notebooks, names of the API.

Numbers are held against ``results/`` in ``test_project.py``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from runpy import run_path
from typing import Any
from urllib.parse import unquote

import nbformat
import numpy as np
import pytest
import torch
import typer

from kdlib import Enhancer
from kdlib.cli import app
from kdlib.export import export_onnx
from kdlib.models import ARCHITECTURES, FAMILIES, create_model, register
from kdlib.notebook import parameters_of, read_yaml
from kdlib.weights.catalogue import catalogue
from tests.test_web import chromium  # noqa: F401, which is a fixture
from tests.web.browser import served

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md"]
PAGES += sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "weights").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def prose(path: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def blocks(path: Path, *languages: str) -> list[str]:
    """The code blocks in these languages."""
    return [code for language, code in FENCE.findall(path.read_text(encoding="utf-8")) if language in languages]


def inline(path: Path) -> list[str]:
    """What stands between backticks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(path))]


def commands(path: Path) -> list[list[str]]:
    """The words of each command that a page quotes, in a block or in a sentence."""
    lines = [line for block in blocks(path, "sh", "bat") for line in block.replace("\\\n", " ").splitlines()]
    lines += [part for code in inline(path) for part in code.split(" && ")]
    found = [shlex.split(line.replace("\\", "/"), comments=True) for line in lines if line.count("'") % 2 == 0]
    return [[word for word in words if word != "…"] for words in found if words]


def after(words: list[str], program: str) -> list[str] | None:
    """The arguments of a program, also of one that another one starts; None if it is not called here."""
    for at, word in enumerate(words):
        if word == program or word.endswith(f"/bin/{program}"):
            return words[at + 1 :]
    return None


def headings(path: Path) -> list[str]:
    return [re.sub(r"[`*]|\]\([^)]*\)|\[", "", line) for line in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)]


def on_a_code_host(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def in_the_site(heading: str) -> str:
    """As Python-Markdown's ``toc`` names it."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def test_the_readme_can_be_read_in_a_few_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1100


def check_links(text: str, path: Path) -> None:
    """Links of a page or notebook lead to files, and to headings of pages."""
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{path.name} links to {link}, which does not exist"
        if anchor:
            assert anchor in map(on_a_code_host, headings(target)), f"{path.name}: no heading for {link}"
            assert anchor in map(in_the_site, headings(target)), f"{path.name}: the site names {link} otherwise"


@each_page
def test_links_lead_to_files_and_headings(path):
    check_links(prose(path), path)


@pytest.mark.parametrize("path", [*NOTEBOOKS, *SOLUTIONS], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_links_of_notebooks_lead_to_files_headings_and_terms(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            check_links(cell.source, path)


def test_the_glossary_has_each_term_once_and_in_order():
    terms = [heading.lower() for heading in headings(ROOT / "docs" / "glossary.md")[1:]]
    assert len(terms) > 50
    assert terms == sorted(set(terms))


def test_every_page_can_be_reached():
    start = ROOT / "docs" / "index.md"
    for first in (ROOT / "README.md", start):
        seen, ahead = set(), [first]
        while ahead:
            page = ahead.pop()
            if page not in seen and page.suffix == ".md":
                seen.add(page)
                links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", prose(page))]
                ahead += [Path(os.path.normpath(page.parent / link)) for link in links if "://" not in link]
        assert set(PAGES) - seen <= {ROOT / "README.md", start}


def parse(words: list[str], *, mention: bool) -> None:
    """Let the command line read the words without running anything."""
    command: Any = typer.main.get_command(app)
    if words in (["--install-completion"], ["--show-completion"]):  # reading them would do it
        assert any(words[0] in parameter.opts for parameter in command.params)
        return
    words, context = list(words), None
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in command.commands, f"kdlib has no command {name!r}"
        command = command.commands[name]
    if mention and not words:
        return
    try:
        context = command.make_context(command.name, words)
    except Exception as error:
        if type(error).__name__ != "Exit":  # --help
            raise AssertionError(f"kdlib {command.name}: {getattr(error, 'message', error)}") from None
    model = context.params.get("model") if context else None
    if isinstance(model, str) and not model.endswith((".safetensors", ".pth")):
        assert model in catalogue(), f"no weights named {model!r} ship"


@cache
def parameters(notebook: Path) -> set[str]:
    return set(parameters_of(notebook))


def check_parameters(words: list[str]) -> None:
    """Those given with -p and -f belong to the notebook that is named."""
    notebooks = [ROOT / word for word in words if word.startswith("notebooks/")]
    files = [ROOT / words[at + 1] for at, word in enumerate(words) if word == "-f"]
    names = {words[at + 1] for at, word in enumerate(words) if word == "-p"}
    names |= {name for file in files for name in read_yaml(file)}
    for notebook in notebooks:
        assert names <= parameters(notebook), f"{notebook.name}: {names - parameters(notebook)}"


@pytest.mark.slow
@each_page
def test_commands_are_those_of_the_programs(path):
    quoted = inline(path)
    for words in commands(path):
        line = " ".join(words)
        if (given := after(words, "kdlib")) is not None and words[0] not in {"conda", "cd"}:
            parse(given, mention=line in quoted)
            check_parameters(given)
        if (given := after(words, "papermill")) is not None:
            check_parameters(given)
        if words[0].startswith("python") and words[1:2] == ["-m"] and words[2].startswith("tests."):
            module = ROOT / words[2].replace(".", "/")
            source = (module / "__main__.py" if module.is_dir() else module.with_suffix(".py")).read_text("utf-8")
            assert all(f'"{word}"' in source for word in words if word.startswith("--")), line


@pytest.mark.slow
@each_page
def test_options_and_parameters_named_in_sentences_exist(path):
    every = [typer.main.get_command(app)]
    for command in every:  # grows meanwhile
        every += getattr(command, "commands", {}).values()
    of_commands = [parameter for command in every for parameter in command.params]
    options = {option for parameter in of_commands for option in (*parameter.opts, *parameter.secondary_opts)}
    known = set().union(*map(parameters, NOTEBOOKS))
    for code in inline(path):
        first, *rest = code.split()
        if first.startswith("--"):
            assert first in options, f"no command has {first}"
        if first in {"-p", "-f"}:
            assert first == "-f" or rest[0] in known, f"no notebook has a parameter {rest[0]}"


@each_page
def test_paths_of_the_repository_exist(path):
    given_by_users = {"data/", "weights/*.pth", "notebooks/NAME.ipynb"}
    text = "\n".join([*inline(path), *blocks(path, "sh", "bat", "yaml")])
    folders = "kdlib|notebooks|results|configs|weights|tests|docs|data"
    for name in re.findall(rf"(?<![\w/.:-])(?:{folders})/[\w./*+-]*", text):
        if not any(name.startswith(users) for users in given_by_users):
            assert list(ROOT.glob(name.rstrip("/"))), f"{path.name} names {name}, which does not exist"


def named(dotted: str) -> Any:
    """The object behind a dotted name of the package."""
    words, found = dotted.split("."), importlib.import_module("kdlib")
    for at, word in enumerate(words[1:], 2):
        found = getattr(found, word, None) or importlib.import_module(".".join(words[:at]))
    return found


@each_page
def test_names_of_the_package_exist(path):
    for code in [*inline(path), *blocks(path, "python")]:
        for dotted in re.findall(r"(?<![\w./-])kdlib(?:\.[A-Za-z_]\w*)+", code):
            assert named(dotted) is not None
    for block in blocks(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("kdlib."):
                takes = inspect.signature(named(ast.unparse(node.func))).parameters
                open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
                assert open_ended or {keyword.arg for keyword in node.keywords} <= takes.keys(), ast.unparse(node)


def test_the_example_of_a_family_runs(tmp_path, monkeypatch):
    for block in blocks(ROOT / "docs" / "models.md", "python"):
        name = block.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    register(importlib.import_module("record").FAMILY)
    try:
        photo = torch.full((1, 3, 5, 7), 0.5)
        torch.testing.assert_close(create_model("gain-3")(photo)[0], 1.5 * photo)
    finally:
        del FAMILIES["gain"], ARCHITECTURES["gain-3"], sys.modules["record"], sys.modules["networks"]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "name"), [("with_curve", "student-565"), ("with_grid", "grid-960")])
def test_the_full_size_pass_as_the_page_has_it_is_that_of_the_enhancer(function, name, tmp_path):
    page: dict[str, Any] = {}
    [code] = [block for block in blocks(ROOT / "docs" / "export.md", "python") if "def with_grid" in block]
    exec(code, page)
    export_onnx(name, tmp_path / "network.onnx", flavour="network")
    draws = np.random.default_rng(0)
    for shape, brightest in (((57, 83, 3), 0.4), ((300, 410, 3), 1.0), ((40, 36, 3), 1.6), ((5, 3, 3), 0.3)):
        light = np.linspace(0.02, brightest, shape[1])[None, :, None] * draws.uniform(0.8, 1.0, shape)
        photo = light.clip(0, 1).astype(np.float32)
        expected = Enhancer(name, denoise=0)(photo)
        np.testing.assert_allclose(page[function](photo.astype(float), tmp_path / "network.onnx"), expected, atol=2e-5)


def test_the_readmes_map_is_the_package():
    [tree] = [block for block in blocks(ROOT / "README.md", "") if block.startswith("kdlib/")]
    folders = {path.parent.name for path in (ROOT / "kdlib").glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/", tree, re.MULTILINE)) == folders
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for folder in folders:
        assert f"`kdlib/{folder}/`" in architecture


def test_the_course_page_has_the_map_of_lesson_01():
    """Both name, for each lesson, those that it needs."""
    lesson = nbformat.read(ROOT / "notebooks" / "01_architecture.ipynb", as_version=4)
    drawn = re.findall(r"^\| \[?(\d\d)\b.* \| ([^|]+) \|$", lesson.cells[0].source, re.MULTILINE)
    course = (ROOT / "docs" / "course.md").read_text("utf-8")
    listed = re.findall(r"^\| \[(\d\d)_.* \| ([^|]+) \| \d+ \| \d+ \| [^|]+ \|$", course, re.MULTILINE)
    assert len(listed) == len([path for path in NOTEBOOKS if path.stem[0].isdigit()])
    assert drawn == listed


@pytest.mark.parametrize(
    ("repository", "colab", "binder"),
    [
        ("", None, None),
        ("https://example.org/owner/name", None, None),
        ("https://github.com/owner/name.git", "owner/name", "gh/owner/name"),
        ("https://gitlab.com/group/owner/name", None, "gl/group%2Fowner%2Fname"),
    ],
)
def test_launch_buttons_follow_the_address_of_the_repository(repository, colab, binder):
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")
    # By its file, as the tests have a folder of the same name.
    page, pictures = run_path(str(ROOT / "docs" / "site" / "lessons.py"))["as_page"](NOTEBOOKS[0], repository)
    place = "notebooks/00_distillation.ipynb"
    found = re.findall(r"https://colab[^)]+|https://mybinder[^)]+", page)
    wanted = [f"https://colab.research.google.com/github/{colab}/blob/HEAD/{place}"] if colab else []
    wanted += [f"https://mybinder.org/v2/{binder}/HEAD?urlpath=lab/tree/{place}"] if binder else []
    assert found == wanted
    assert ("git clone" in page) == (colab is not None)
    assert pictures
    assert all(name in page and content for name, content in pictures.items())


class Rendered(HTMLParser):
    """What a page of the built site points to, which ids it has, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids |= {value for name in ("id", "name") if (value := given.get(name))}
        self.targets += [value for name in ("href", "src") if (value := given.get(name))]
        if tag in {"link", "script", "img", "iframe"} and given.get("rel") != "canonical":
            self.loaded += [given.get("href") or given.get("src") or ""]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: its folder, and each of its pages."""
    for module in ("mkdocs", "material", "mkdocstrings", "htmlproofer", "latex2mathml"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    folder = tmp_path_factory.mktemp("built") / "site"
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        check=True,
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            "KDLIB_REPOSITORY": "https://github.com/owner/name",
            "KDLIB_SITE": "https://owner.example/name/",
            "KDLIB_CHECK_LINKS": "false",  # takes a third of the time, and a test below follows every link
        },
    )
    return folder, {page.relative_to(folder).as_posix(): Rendered(page) for page in folder.rglob("*.html")}


@pytest.mark.slow  # builds the site, once for this and the following tests
def test_the_site_fetches_nothing_from_elsewhere(site):
    _, pages = site
    assert len(pages) > len(PAGES) + len(NOTEBOOKS) + len(SOLUTIONS)
    for name, page in pages.items():
        assert not [link for link in page.loaded if re.match(r"(?:https?:)?//", link)], name


@pytest.mark.slow
def test_the_first_lesson_and_the_page_that_enhances_are_one_click_away(site):
    folder, pages = site
    assert "notebooks/00_distillation.html" in pages["index.html"].targets
    there = (ROOT / "web" / "index.html").is_file()
    assert (folder / "web" / "index.html").is_file() == there
    assert ("web/index.html" in pages["index.html"].targets) == there
    assert ("../web/index.html" in pages["notebooks/00_distillation.html"].targets) == there
    assert pages["index.html"].targets.count("web/index.html") > pages["page.html"].targets.count("web/index.html")


@pytest.mark.slow
def test_links_of_the_site_lead_to_files_and_places(site):
    folder, pages = site
    for name, page in pages.items():
        if name == "404.html":  # which is shown at any depth
            assert all(link.startswith(("/name/", "https://")) for link in page.targets)
            continue
        for link in page.targets:
            if re.match(r"[a-z]+:|//", link):
                continue
            path, _, place = link.partition("#")
            target = os.path.normpath(os.path.join(os.path.dirname(name), unquote(path))) if path else name
            assert (folder / target).exists(), f"{name} links to {link}"
            if place and target in pages and not place.startswith("__"):
                assert unquote(place) in pages[target].ids, f"{name} links to {link}"


# Rules that elements break which the theme's scripts add to an open page: bars on code, and frames around wide tables.
OF_THE_THEME = {"landmark-unique", "scrollable-region-focusable"}


# Colours alone differ in the dark, so contrast is all that is looked at there. Axe takes seconds for a page.
ALL_RULES = {"resultTypes": ["violations"]}
CONTRAST = {**ALL_RULES, "runOnly": ["color-contrast"]}
LOOKED_AT = {
    "light": (ALL_RULES, ("index", "page", "notebooks/13_distil_your_own", "reference/losses")),
    "dark": (CONTRAST, ("index", "clusters", "notebooks/Param_check", "reference/losses")),
}


@pytest.mark.slow
@pytest.mark.parametrize("colours", LOOKED_AT)
def test_pages_of_the_site_are_accessible_and_fit_a_phone(site, chromium, colours):  # noqa: F811
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is missing: pip install axe-playwright-python"
    )
    options, names = LOOKED_AT[colours]
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme=colours)
    page = context.new_page()
    with served(site[0]) as address:
        for name in names:
            page.goto(f"{address}{name}.html")
            found = axe.Axe().run(page, options=options)
            broken = [rule["id"] for rule in found.response["violations"]]
            assert set(broken) <= OF_THE_THEME, found.generate_report()
            page.set_viewport_size({"width": 390, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
            page.set_viewport_size({"width": 1280, "height": 900})
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", [*NOTEBOOKS, *SOLUTIONS], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_lesson_of_the_site_has_its_outputs_figures_formulas_and_buttons(site, path):
    folder, pages = site
    inside = path.relative_to(ROOT)
    page, notebook = pages[inside.with_suffix(".html").as_posix()], nbformat.read(path, as_version=4)
    assert (folder / inside).read_bytes() == path.read_bytes()  # to download
    place = inside.as_posix()
    assert f"https://colab.research.google.com/github/owner/name/blob/HEAD/{place}" in page.targets
    assert f"https://mybinder.org/v2/gh/owner/name/HEAD?urlpath=lab/tree/{place}" in page.targets
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if {"image/png", "image/jpeg"} & output.get("data", {}).keys()]
    assert page.tags.count("img") == len(figures)
    shown = " ".join(page.text.split())
    for output in outputs:
        if text := output.get("text"):
            assert " ".join(text.split()) in shown
    # Nothing is left in the form in which it was written.
    assert "arithmatex" not in (folder / inside.with_suffix(".html")).read_text(encoding="utf-8")
    folded = sum(text.count("<details>") for text in markdown)
    assert page.tags.count("details") >= folded
