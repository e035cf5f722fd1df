"""The exercises of all lessons: stubs are recognised, solutions pass, wrong answers are told what is wrong.

``test_lesson_NN.py`` has the wrong answers of lesson NN: ``WRONG`` maps each number to at least two pairs
of an answer and a fragment of the sentence that must refuse it. ``ALSO_RIGHT``, where there is one, has right answers
that are not the solution.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from IPython.core.inputtransformer2 import TransformerManager

from kdlib.exercises import check
from kdlib.exercises.registry import FOLDER, find, lesson_of, titles
from tests.helpers import NOTEBOOKS

LESSONS = {path.stem.partition("_")[0].lower(): path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
EVERY = list(titles())

each_exercise = pytest.mark.parametrize("number", EVERY)
each_lesson = pytest.mark.parametrize("lesson", list(dict.fromkeys(map(lesson_of, EVERY))))


@cache
def code_of(path):
    cells = nbformat.read(path, as_version=4).cells
    return [TransformerManager().transform_cell(cell.source) for cell in cells if cell.cell_type == "code"]


def checks_in(source):
    """The calls ``check("04.2", answer)`` in a cell: number and expression of the answer."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and re.fullmatch(r"check\('\w+\.\d+', .+\)", ast.unparse(node), re.DOTALL):
            yield ast.literal_eval(node.args[0]), ast.unparse(node.args[1])


def numbers_in(path):
    return [number for source in code_of(path) for number, _ in checks_in(source)]


def imports_of(path):
    """What the top-level imports of a notebook define."""
    namespace: dict[str, Any] = {}
    for source in code_of(path):
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(ast.unparse(node), namespace)
    return namespace


def lesson(number):
    return LESSONS[lesson_of(number).lower()]


def wrong_answers(number):
    module = import_module(f".test_lesson_{lesson_of(number).lower()}", __package__)
    return module.WRONG.get(number, [])


def also_right():
    modules = [
        import_module(f".test_lesson_{name.lower()}", __package__) for name in dict.fromkeys(map(lesson_of, EVERY))
    ]
    found = [item for module in modules for item in getattr(module, "ALSO_RIGHT", {}).items()]
    return [(number, answer) for number, answers in found for answer in answers]


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_RUNS", str(tmp_path))


def test_each_module_of_checks_belongs_to_a_lesson():
    assert {path.stem.removeprefix("lesson_") for path in FOLDER.glob("lesson_*.py")} <= LESSONS.keys()


@pytest.mark.parametrize("path", LESSONS.values(), ids=lambda path: path.stem)
def test_a_lesson_checks_each_of_its_exercises_once(path):
    own = [number for number in EVERY if lesson(number) == path]
    for source in code_of(path):
        shown = isinstance((body := ast.parse(source).body or [ast.Pass()])[-1], ast.Expr)
        assert not (shown and list(checks_in(ast.unparse(body[-1])))), "a result of check that is not assigned is shown"
    assert sorted(numbers_in(path)) == sorted(own)
    for number in own:
        headings = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        assert any(f"### Exercise {number} · {find(number).title}" in text for text in headings), number


@each_exercise
def test_the_stub_of_a_lesson_is_not_solved_yet(number, capsys):
    cells = code_of(lesson(number))
    [(at, answer)] = [
        (at, answer) for at, source in enumerate(cells) for no, answer in checks_in(source) if no == number
    ]
    namespace = imports_of(lesson(number))
    exec(cells[at - 1], namespace)
    assert check(number, eval(answer, namespace)) is find(number).solution
    assert capsys.readouterr().out == f"{number} not solved yet; the lesson goes on with kdlib's version.\n"


@pytest.mark.slow
@each_lesson
def test_the_solutions_pass_and_print_what_is_stored(lesson, capsys, monkeypatch):
    """In this process, for a kernel of its own would take longer to start than most solutions take."""
    path = NOTEBOOKS / "solutions" / LESSONS[lesson.lower()].name
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    monkeypatch.chdir(path.parent)
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    namespace, said = {"__name__": "__main__"}, []
    with torch.enable_grad():
        for cell, source in zip(cells, code_of(path), strict=True):
            exec(compile(source, path.name, "exec"), namespace)
            printed = capsys.readouterr().out
            said += printed.splitlines()
            if "check(" in cell.source:
                assert printed == "".join(output.get("text", "") for output in cell.outputs)
    for number in (number for number in EVERY if lesson_of(number) == lesson):
        assert f"{number} passed: {titles()[number]}" in said


@each_exercise
def test_wrong_answers_are_told_what_is_wrong(number, capsys):
    assert len(wrong_answers(number)) >= 2, f"tests/exercises has too few wrong answers to {number}"
    for answer, fragment in wrong_answers(number):
        assert check(number, answer) is find(number).solution
        said = capsys.readouterr().out
        assert said.startswith(f"{number} not passed: ")
        assert fragment in said


@pytest.mark.parametrize(("number", "answer"), also_right())
def test_another_right_answer_passes(number, answer, capsys):
    assert check(number, answer) is answer
    assert capsys.readouterr().out.startswith(f"{number} passed")
