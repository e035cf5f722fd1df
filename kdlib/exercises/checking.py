"""Checking an answer: one printed line, and with what the lesson goes on."""

import functools
import inspect
import os
import random
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdlib.checks import brief
from kdlib.exercises import progress
from kdlib.exercises.registry import Exercise, Wrong, find

_GOES_ON = "the lesson goes on with kdlib's version"
# Code that no reader has written: this package, Python's library and installed packages.
_INSTALLED = {str(Path(__file__).parents[1]), *map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))}
_NOT_READERS = ("<frozen", *(f"{folder}{os.sep}" for folder in _INSTALLED))


class _Unsolved(Exception):
    """The exercise is as the lesson has it."""


def check(number: str, answer: Any) -> Any:
    """Check the answer to an exercise, print the result in one line, and return with what the lesson goes on.

    An answer that does not pass raises nothing, so that a lesson runs to its end with exercises unsolved. What passes
    is remembered for ``kdlib progress``. The states of random generators are left as they were.

    Args:
        number: of the exercise, such as "04.2".
        answer: a function, or the value of a prediction; None, or a function that raises NotImplementedError, is not
            solved yet.

    Returns:
        The answer if it passed, otherwise kdlib's solution.

    Raises:
        ValueError: no exercise has this number.
        MissingExtraError: its check needs a module that is not installed.
    """
    exercise = find(number)
    try:
        _examine(exercise, answer)
    except _Unsolved:
        print(f"{number} not solved yet; {_GOES_ON}.")
    except Wrong as wrong:
        sentence = str(wrong).rstrip(".")
        end = "" if sentence.endswith("?") else "."
        print(f"{number} not passed: {sentence}{end} {_GOES_ON[0].upper()}{_GOES_ON[1:]}.")
    else:
        print(f"{number} passed: {exercise.title}{progress.remember(number)}")
        return answer
    return exercise.solution


def _examine(exercise: Exercise, answer: Any) -> None:
    """Check an answer.

    Raises:
        _Unsolved: it is not solved yet.
        Wrong: it does not pass.
    """
    if answer is None:
        raise _Unsolved
    answer = _of_the_expected_kind(answer, exercise.solution)
    with _state_kept():
        try:
            exercise.check(_guarded(answer, exercise) if inspect.isroutine(answer) else answer)
        except Exception as error:  # the answer may be a class, or return something that the check cannot use
            raise _described(error, getattr(answer, "__name__", "your answer")) from None


def _of_the_expected_kind(answer: Any, solution: Any) -> Any:
    """Return an answer, a number as a plain one, if it is of the solution's kind: function, number, text or other."""
    if callable(solution):
        if not callable(answer):
            name = getattr(solution, "__name__", "the function")
            raise Wrong(
                f"a function is expected, not {brief(answer)}: hand over the function itself, such as {name}, without "
                "calling it"
            )
    elif callable(answer):
        raise Wrong(f"a value is expected, not the function {getattr(answer, '__name__', brief(answer))}")
    elif isinstance(solution, str):
        in_case = str.upper if solution.isupper() else str.lower
        if not isinstance(answer, str):
            raise Wrong(f"a text in quotes is expected, such as {in_case('a')!r}, not {brief(answer)}")
        return in_case(answer.strip(" ()."))  # the pages write (a)
    elif isinstance(solution, int | float) and not isinstance(solution, bool):
        if hasattr(answer, "item") and getattr(answer, "shape", None) in ((), (1,)):
            answer = answer.item()  # of NumPy or PyTorch
        if isinstance(answer, str):
            raise Wrong(f"a number is expected: write it without quotes, not {brief(answer)}")
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            raise Wrong(f"a number is expected, not {brief(answer)}")
    elif isinstance(solution, bool) and not isinstance(answer, bool):
        raise Wrong(f"True or False is expected, not {brief(answer)}")
    return answer


def _guarded(function: Callable[..., Any], exercise: Exercise) -> Callable[..., Any]:
    """Return a function that says in a sentence what a reader's function does wrong, whatever its task is."""
    name = getattr(function, "__name__", "your function")

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        try:
            signature = inspect.signature(function)
        except ValueError:  # some functions that are written in C have none
            pass
        else:
            _require_call(name, signature, args, kwargs)
        before = [_copied(value) for value in given]
        try:
            found = function(*args, **kwargs)
        except Exception as error:
            raise _described(error, name) from None
        if exercise.in_place:
            return found
        if not all(map(_unchanged, given, before)):
            raise Wrong(f"{name} changes its input, which its caller still needs: work on a copy, or make new values")
        if found is None:
            raise Wrong(f"{name} returns None: its last line must return the result")
        return found

    return guarded


def _require_call(name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        given = f"{len(args)} argument{'s' * (len(args) != 1)}"
        given += "".join(f" and {keyword}=…" for keyword in kwargs)
        raise Wrong(f"{name}{signature} cannot be called with {given}: {error}") from None


def _described(error: Exception, name: str) -> Exception:
    """Return what an exception says of the answer: its type, its message and the line of the reader's code."""
    if isinstance(error, Wrong | _Unsolved):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_NOT_READERS)]
    if isinstance(error, NotImplementedError) and own and own[-1] is frames[-1]:  # and not PyTorch's
        return _Unsolved()
    said = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    if not own:
        return Wrong(f"what {name} returns cannot be checked ({said})")
    code = own[-1].line
    return Wrong(f"line {own[-1].lineno}{f' ({code})' * bool(code)} of {name} raises {said}")


def _copied(value: Any) -> Any:
    """Return a copy of tensors, arrays, lists and dictionaries; of all other values, the value."""
    if hasattr(value, "detach") and hasattr(value, "clone"):
        return value.detach().clone()
    if hasattr(value, "__array_interface__"):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value


def _unchanged(value: Any, before: Any) -> bool:
    if hasattr(before, "shape") and hasattr(before, "dtype"):
        if value.shape != before.shape:
            return False
        value = value.detach() if hasattr(value, "detach") else value
        # NaN differs from itself.
        return bool(((value == before) | ((value != value) & (before != before))).all())
    if isinstance(before, dict):
        return list(value) == list(before) and all(_unchanged(value[key], item) for key, item in before.items())
    if isinstance(before, list) and isinstance(value, list | tuple):
        return len(value) == len(before) and all(map(_unchanged, value, before))
    return True


@contextmanager
def _state_kept() -> Iterator[None]:
    """Check with gradients and from fixed seeds, and leave random generators as they were.

    A lesson's numbers are therefore the same whether its exercises are solved or not.
    """
    own = random.getstate()
    numpy, torch = (sys.modules.get(name) for name in ("numpy", "torch"))  # what is not imported has no state
    arrays = numpy and numpy.random.get_state()
    try:
        random.seed(0)
        if numpy:
            numpy.random.seed(0)
        if torch is None:
            yield
            return
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(0)
            yield
    finally:
        random.setstate(own)
        if numpy:
            numpy.random.set_state(arrays)
