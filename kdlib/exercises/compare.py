"""Comparing what a reader's function returns with what is expected, and saying how they differ."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kdlib.checks import brief
from kdlib.exercises.registry import Wrong


def same(
    found: Any,
    expected: Any,
    what: str = "the result",
    *,
    mistakes: Mapping[str, Any] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-6,
) -> None:
    """Refuse a value unless it equals the expected one within tolerances.

    Args:
        found: what a reader's function returned.
        expected: a tensor, an array, a number, or a list, tuple or dictionary of these; any other value must be equal.
        what: subject of the sentence, such as "soften(logits, 4)".
        mistakes: values to which usual mistakes lead, by what is said of them, such as "lacks the factor T²".
        rtol, atol: largest difference, relative to ``expected`` and absolute; for numbers, tensors and arrays.

    Raises:
        Wrong: they differ in kind, shape, dtype, sign, by a factor, or in a place, which is named with both values.
    """
    try:
        _compare(found, expected, what, rtol, atol)
    except Wrong:
        for sentence, value in (mistakes or {}).items():
            if _agrees(found, value, rtol, atol):
                raise Wrong(f"{what} {sentence}") from None
        raise


def _agrees(found: Any, value: Any, rtol: float, atol: float) -> bool:
    try:
        _compare(found, value, "", rtol, atol)
    except Wrong:
        return False
    return True


def _compare(found: Any, expected: Any, what: str, rtol: float, atol: float) -> None:
    if hasattr(expected, "shape") and hasattr(expected, "dtype"):
        _same_arrays(found, expected, what, rtol, atol)
    elif isinstance(expected, Mapping):
        _require_kind(isinstance(found, Mapping), found, "a dictionary", what)
        if found.keys() != expected.keys():
            raise Wrong(f"{what} has the keys {_listed(found)}, expected {_listed(expected)}")
        for key, value in expected.items():
            _compare(found[key], value, f"entry {key!r} of {what}", rtol, atol)
    elif isinstance(expected, list | tuple):
        _require_kind(isinstance(found, list | tuple), found, f"a {type(expected).__name__}", what)
        if len(found) != len(expected):
            raise Wrong(f"{what} has {len(found)} elements, expected {len(expected)}")
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            _compare(one, other, f"element {place} of {what}", rtol, atol)
    elif isinstance(expected, int | float) and not isinstance(expected, bool):
        found = found.item() if hasattr(found, "item") and getattr(found, "shape", None) == () else found
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        _require_kind(is_number, found, "a number", what)
        if not math.isclose(found, expected, rel_tol=rtol, abs_tol=atol):
            sign = ", with the wrong sign" if expected and math.isclose(found, -expected, rel_tol=rtol) else ""
            raise Wrong(f"{what} is {found:.4g}{sign}, expected {expected:.4g}")
    elif found != expected:
        raise Wrong(f"{what} is {brief(found)}, expected {brief(expected)}")


def close_to(
    guess: float,
    truth: float,
    within: float,
    what: str = "the prediction",
    mistakes: Mapping[float, str] | None = None,
) -> None:
    """Refuse a prediction that is too far from the truth, which is not given away.

    Args:
        within: largest difference that passes.
        mistakes: what to consider, by the guess that forgets it; guesses within 2% of it count as the same.

    Raises:
        Wrong: the guess is too low or too high.
    """
    if not abs(guess - truth) <= within:
        said = f"{what} {guess:g} is {'not a number' if math.isnan(guess) else _side(guess, truth)}"
        for mistake, hint in (mistakes or {}).items():
            if math.isclose(guess, mistake, rel_tol=0.02):
                said += f": {hint}"
        raise Wrong(said)


def _side(guess: float, truth: float) -> str:
    return "too low" if guess < truth else "too high"


def _same_arrays(found: Any, expected: Any, what: str, rtol: float, atol: float) -> None:
    kind = "an array" if isinstance(expected, np.ndarray | np.generic) else "a tensor"
    is_array = isinstance(found, np.ndarray | np.generic) if kind == "an array" else hasattr(found, "detach")
    _require_kind(is_array, found, kind, what)
    if tuple(found.shape) != tuple(expected.shape):
        raise Wrong(f"{what} has the shape {_shape(found)}, expected {_shape(expected)}")
    if found.dtype != expected.dtype:
        names = (str(value.dtype).removeprefix("torch.") for value in (found, expected))
        raise Wrong("{} has the dtype {}, expected {}".format(what, *names))
    one, other = (_plain(value) for value in (found, expected))
    wrong = ~np.isclose(one, other, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    at = f" at [{', '.join(map(str, place))}]" if place else ""
    values = f"{one[place]:.4g}{at}, expected {other[place]:.4g}"
    if np.isnan(one[place]):
        raise Wrong(f"{what} is not a number (NaN){at}, expected {other[place]:.4g}")
    if np.allclose(one, -other, rtol=rtol, atol=atol):
        raise Wrong(f"{what} has the wrong sign: it is {values}")
    counted = np.abs(other) > atol
    if counted.sum() > 1 and np.isfinite(one).all():
        factor = one[counted][0] / other[counted][0]
        if factor and np.allclose(one, factor * other, rtol=rtol, atol=atol):
            raise Wrong(f"{what} is {factor:.4g} times what is expected everywhere, such as {values}")
    raise Wrong(f"{what} is {values}")


def _plain(value: Any) -> np.ndarray:
    array = value.detach().cpu().double().numpy() if hasattr(value, "detach") else np.asarray(value, dtype=np.float64)
    return np.asarray(array)


def _require_kind(fits: bool, found: Any, expected: str, what: str) -> None:
    if not fits:
        name = type(found).__name__
        article = "an" if name[0].lower() in "aeiou" else "a"
        raise Wrong(f"{what} is {'None' if found is None else f'{article} {name}'}, expected {expected}")


def _shape(value: Any) -> str:
    return "×".join(map(str, value.shape)) or "() (a single value)"


def _listed(keys: Mapping[Any, Any]) -> str:
    return ", ".join(map(repr, keys)) or "none"
