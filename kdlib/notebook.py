"""What every notebook of the course needs: parameters checked, paths that work from anywhere, versions shown."""

from __future__ import annotations

import difflib
import os
import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from IPython.display import Markdown

_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


def check_parameters(namespace: Mapping[str, Any], *, optional: Collection[str] = (), **expected: type) -> None:
    """Fail early, with a sentence that helps, on a parameter of a wrong name or type.

    papermill only warns about a name that the notebook does not know; a sweep over a misspelt parameter would repeat
    one run.

    Args:
        namespace: the notebook's ``globals()``, before it has defined any other plain value but CONSTANTS.
        optional: names of parameters that may also be None.
        expected: the type of each parameter; a whole number is a float too.

    Raises:
        NameError: an unknown parameter; the message suggests the nearest one.
        TypeError: a value of another type.
    """
    known = list(expected)
    for name, value in namespace.items():
        constant = name.isupper() and name.lower() not in known
        imported = name.startswith("_") or constant or name in {"In", "Out"}
        if imported or name in expected or not isinstance(value, _PLAIN):
            continue
        raise NameError(f"{unknown_name('parameter', name, known, 'This notebook takes')}.")
    for name, kind in expected.items():
        value = namespace[name]
        fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
        if (value is None and name in optional) or (fits and not (isinstance(value, bool) and kind is not bool)):
            continue
        hint = " In a YAML file write 1.0e-4, not 1e-4." if kind is float and isinstance(value, str) else ""
        raise TypeError(f"parameter {name!r} takes {kind.__name__}, got {type(value).__name__} {value!r}.{hint}")


def unknown_name(kind: str, name: object, known: Collection[str], takes: str = "there are") -> str:
    """A sentence about a name that nothing is known by: the nearest one that is, and all of them."""
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}: {hint}{takes} {', '.join(known)}"


def parameters_of(notebook: Path) -> dict[str, Any]:
    """What papermill knows of a notebook's parameters, by name.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no notebook.
    """
    import papermill  # type: ignore[import-untyped]

    if not notebook.is_file():
        raise FileNotFoundError(f"no notebook at {notebook}")
    try:
        return dict(papermill.inspect_notebook(str(notebook)))
    except Exception as error:  # nbformat raises its own kinds for what is no notebook
        raise ValueError(f"{notebook} cannot be read as a notebook ({type(error).__name__})") from None


def project_path(path: str | Path) -> Path:
    """A path that means the same from the notebooks' folder (Jupyter, nbval) and from the project's (papermill).

    Relative paths count from the working directory, or from its parent if that is the notebooks' folder. Paths below
    ``runs/`` go to the folder that the environment variable KDLIB_RUNS names, if it is set: the tests use that to leave
    a user's own runs alone.
    """
    path = Path(os.path.expanduser(path))
    if path.parts[:1] == ("runs",) and os.environ.get("KDLIB_RUNS"):
        return Path(os.environ["KDLIB_RUNS"], *path.parts[1:])
    here = Path.cwd()
    if not path.is_absolute() and here.name == "notebooks" and (here.parent / "kdlib").is_dir():
        return Path("..") / path
    return path


def shown_path(path: str | Path) -> str:
    """A path for printing: relative, with forward slashes, and without the machine's folders."""
    if os.environ.get("KDLIB_RUNS") and Path(path).is_relative_to(os.environ["KDLIB_RUNS"]):
        path = Path("runs") / Path(path).relative_to(os.environ["KDLIB_RUNS"])
    text = Path(path).as_posix()
    return text.removeprefix("../") if not Path(path).is_absolute() else f"…/{Path(path).name}"


def versions(*packages: str) -> str:
    """Python's version and those of some packages, on one line."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def table(rows: str) -> Markdown:
    """Show a Markdown table as one."""
    return Markdown(rows)
