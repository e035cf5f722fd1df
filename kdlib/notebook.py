"""What every notebook of the course needs: parameters checked, paths that work from anywhere, versions shown."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from IPython.display import Markdown

from kdlib.names import unknown_name

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


def parameters_of(notebook: Path) -> dict[str, Any]:
    """What papermill knows of a notebook's parameters, by name.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no notebook.
    """
    import papermill  # type: ignore[import-untyped]

    if not notebook.is_file():
        raise FileNotFoundError(f"no notebook at {notebook}")
    try:
        # The whole path: papermill takes a name that begins with a dash for the standard input.
        return dict(papermill.inspect_notebook(str(notebook.absolute())))
    except Exception as error:  # nbformat raises its own kinds for what is no notebook
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ValueError(f"{notebook} cannot be read as a notebook ({reason})") from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as papermill reads it: dates stay words.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: it is not YAML, or gives a name twice, of which papermill would take the last; the message says
            where.
    """
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for name in names:
                if names.count(name) > 1:
                    raise yaml.MarkedYAMLError(problem=f"{name!r} stands there twice", problem_mark=node.start_mark)
            return node

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML that can be used: {' '.join(str(error).split())}") from None


def value_of(word: str) -> Any:
    """The value that papermill takes from a word on the command line: True, False, None, a number, or the word."""
    if word in (named := {"True": True, "False": False, "None": None}):
        return named[word]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(word)
    return word


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
