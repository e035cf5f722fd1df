"""Every exercise by its number, and where its check is kept."""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from kdlib.checks import nearest
from kdlib.extras import needed_by

FOLDER = Path(__file__).resolve().parent
"""Holds ``lesson_NN.py`` for each lesson that has exercises."""


class Wrong(Exception):
    """An answer does not pass; the message is a sentence that says what is wrong and what is expected."""


@dataclass(frozen=True)
class Exercise:
    """An exercise with its check.

    Attributes:
        number: lesson and place in it, such as "04.2".
        title: what the lesson calls it.
        check: takes the answer, and raises Wrong unless it passes.
        solution: with what the lesson goes on if the answer does not pass: a function, or the value of a prediction.
        in_place: whether the answer may change its arguments, and return nothing.
    """

    number: str
    title: str
    check: Callable[[Any], None]
    solution: Any
    in_place: bool = False


_EXERCISES: dict[str, Exercise] = {}


def exercise(
    number: str, title: str, *, solution: Any, in_place: bool = False
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Return a decorator that registers a function as the check of an exercise.

    Number and title are written as plain strings, because :func:`titles` reads them without importing the module.

    Args:
        number, title, solution, in_place: see :class:`Exercise`.

    Raises:
        ValueError: another check has this number.
    """

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        found = _EXERCISES.get(number)
        # A module that is imported again, as IPython's autoreload does, replaces its own checks.
        if found and (found.check.__module__, found.check.__qualname__) != (function.__module__, function.__qualname__):
            raise ValueError(f"exercise {number} has two checks, {found.check.__name__} and {function.__name__}")
        _EXERCISES[number] = Exercise(number, title, function, solution, in_place)
        return function

    return register


def find(number: str) -> Exercise:
    """Return an exercise, after importing its lesson's checks.

    Raises:
        ValueError: no lesson has it; the message names the nearest number, and those of the lesson.
        MissingExtraError: the lesson's checks need a module that is not installed.
    """
    if number not in _EXERCISES and number in titles():
        with needed_by(f"exercise {number}"):
            import_module(f"{__package__}.lesson_{lesson_of(number).lower()}")
    if number in _EXERCISES:
        return _EXERCISES[number]
    known = sorted({*titles(), *_EXERCISES})
    beside = [other for other in known if lesson_of(other) == lesson_of(str(number))]
    there = f"lesson {lesson_of(str(number))} has {', '.join(beside)}" if beside else "no lesson has such a number"
    raise ValueError(f"there is no exercise {number!r}: {nearest(number, known)}{there}")


def lesson_of(number: str) -> str:
    """Return the lesson of an exercise: "04" of "04.2"."""
    return number.partition(".")[0]


def titles() -> dict[str, str]:
    """Return the title of every exercise of the lessons, by number and in order.

    The modules are read and not imported: what they import takes seconds, and may not be installed.
    """
    found = {}
    for path in FOLDER.glob("lesson_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "exercise":
                number, title = (ast.literal_eval(argument) for argument in node.args)
                found[number] = title
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(number: str) -> tuple[str, int, str]:
    lesson, _, place = number.partition(".")
    return lesson, int(place) if place.isdigit() else 0, place
