"""The exercises of the lessons: a check for each, and what has passed on this machine.

A lesson calls ``check("04.2", your_function)``. The checks are kept in one module for each lesson, ``lesson_04.py``,
which is imported when the first of its exercises is checked; docs/exercises.md says how to add one.
"""

from kdlib.exercises.checking import check
from kdlib.exercises.compare import close_to, same
from kdlib.exercises.registry import Wrong, exercise

__all__ = ["Wrong", "check", "close_to", "exercise", "same"]
