"""Checks of the names and numbers that a caller gives, with one form of message for each kind of mistake."""

import difflib
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from numbers import Real
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


def unknown_name(kind: str, name: object, known: Collection[str], takes: str = "there are") -> str:
    """Return an error message about an unknown name, which suggests the nearest known name and lists all of them."""
    return f"unknown {kind} {name!r}: {nearest(name, known)}{takes} {', '.join(known)}"


def nearest(name: object, known: Collection[str]) -> str:
    """Return "did you mean 'name'? " with the most similar known name, or an empty string if none is similar."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def check_names(kind: str, given: Iterable[str], known: Collection[str], takes: str) -> None:
    """Raise TypeError, which suggests the most similar known name, unless all names are known."""
    for name in given:
        if name not in known:
            raise TypeError(unknown_name(kind, name, known, takes))


def keywords_suggested(
    name: str,
) -> Callable[[Callable[Arguments, Returned]], Callable[Arguments, Returned]]:
    """Return a decorator that answers an unknown keyword argument with the most similar known one.

    Args:
        name: what the message calls the function.

    Raises:
        TypeError: (the decorated function) an unknown keyword argument.
    """

    def decorate(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
        known = [parameter for parameter in inspect.signature(function).parameters if parameter != "self"]

        @wraps(function)
        def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
            check_names("argument", kwargs, known, f"{name} takes")
            return function(*args, **kwargs)

        return checked

    return decorate


def check_choice(kind: str, value: object, choices: Iterable[str]) -> None:
    """Raise ValueError, which lists the choices, unless a value is one of them."""
    if value not in (known := list(choices)):
        raise ValueError(f"unknown {kind} {value!r}; choose from {', '.join(known)}")


def check_number(
    name: str,
    value: object,
    least: float = 0,
    most: float = math.inf,
    *,
    above: float | None = None,
    below: float = math.inf,
    whole: bool = False,
) -> None:
    """Raise ValueError unless a value is a finite number from ``least`` to ``most``; True and False are no numbers.

    Args:
        name: what the message calls the value.
        above, below: bounds that the value must not reach; ``above`` takes the place of ``least``.
        whole: accept integers only.
    """
    is_number = isinstance(value, int if whole else Real) and not isinstance(value, bool)
    number: Any = value if is_number else math.nan  # which no limit admits
    if (number >= least if above is None else number > above) and number <= most and number < below:
        return
    low = f"of at least {least:g}" if above is None else f"above {above:g}"
    high = f" and at most {most:g}" if most < math.inf else f" and below {below:g}" if below < math.inf else ""
    limits = f"from {least:g} to {most:g}" if above is None and most < math.inf else low + high
    raise ValueError(f"{name} must be a {'whole ' if whole else ''}number {limits}, not {brief(value)}")


def brief(value: object) -> str:
    """Return what a message shows of a value, at most 41 characters."""
    # Python refuses to print a number of more than 4300 digits.
    huge = isinstance(value, int) and value.bit_length() > 64
    text = f"a number of {value.bit_length()} bits" if huge else repr(value)  # type: ignore[attr-defined]
    return text if len(text) <= 40 else f"{text[:40]}…"


def require_shapes(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError, with up to three tensors that differ, unless names and shapes are those of an architecture."""
    wrong = []
    for name in sorted(found.keys() | wanted.keys()):
        if name not in wanted:
            wrong.append(f"{name[:60]} does not belong to it")
        elif name not in found:
            wrong.append(f"{name} is missing")
        elif tuple(found[name]) != tuple(wanted[name]):
            wrong.append(f"{name} has shape {_times(found[name])} instead of {_times(wanted[name])}")
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"its tensors are not those of the architecture: {'; '.join(wrong[:3])}{more}")


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "()"
