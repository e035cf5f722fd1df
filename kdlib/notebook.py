"""Helpers for the notebooks: parameter checks, paths that work from any folder, and version listings."""

from __future__ import annotations

import ast
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Union, get_args, get_origin

from kdlib.checks import unknown_name
from kdlib.files import write_json

if TYPE_CHECKING:
    from IPython.display import Markdown

    from kdlib.training.state import Run

_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


def check_parameters(namespace: Mapping[str, Any]) -> None:
    """Fail early and with a helpful message if a parameter has the wrong name or type.

    papermill only warns about unknown parameters, so a sweep over a misspelt name would repeat the same run. The types
    are the annotations of the parameters' cell: ``size: int = 64``. ``alpha: Optional[float] = None`` may also be None;
    papermill does not read ``float | None``. An int is accepted as a float.

    Args:
        namespace: the notebook's ``globals()``, before any plain value other than parameters and CONSTANTS is defined.

    Raises:
        NameError: a parameter is unknown; the message suggests the nearest known name.
        TypeError: a value has the wrong type, or no parameter has an annotation.
        ValueError: ``output_dir`` is empty, which would be the working directory.
    """
    expected = {name: kind for name, kind in _annotations(namespace).items() if name in namespace}
    if not (known := list(expected)):
        raise TypeError("no parameter has a type: write name: type = value, one a line, in the cell of the parameters")
    for name, value in namespace.items():
        constant = name.isupper() and name.lower() not in known
        imported = name.startswith("_") or constant or name in {"In", "Out"}
        if imported or name in expected or not isinstance(value, _PLAIN):
            continue
        raise NameError(f"{unknown_name('parameter', name, known, 'This notebook takes')}.")
    for name, annotation in expected.items():
        value = namespace[name]
        kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
        fits = isinstance(value, kinds) or (float in kinds and isinstance(value, int))
        if fits and not (isinstance(value, bool) and bool not in kinds):
            continue
        takes = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        hint = " In a YAML file write 1.0e-4, not 1e-4." if float in kinds and isinstance(value, str) else ""
        raise TypeError(f"parameter {name!r} takes {takes}, got {type(value).__name__} {value!r}.{hint}")
    if "output_dir" in expected and not str(namespace["output_dir"]).strip():
        raise ValueError("parameter 'output_dir' is empty: name the folder for what the notebook writes.")


def _annotations(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations of a notebook's variables, by name."""
    found = dict(namespace.get("__annotations__", {}))
    if annotate := namespace.get("__annotate__"):
        # From Python 3.14 on, a function returns the annotations of the code that was compiled last, and IPython
        # compiles each statement by itself: those of all the others are read from the cells.
        for cell in namespace.get("In", []):
            with suppress(SyntaxError):
                for node in ast.parse(cell).body:
                    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                        found[node.target.id] = eval(ast.unparse(node.annotation), dict(namespace))
        found |= annotate(1)  # 1: values, neither strings nor references
    return found


def write_metrics(
    path: str | Path, namespace: Mapping[str, Any], run: Run, more: Mapping[str, Any] | None = None, **scores: Any
) -> Path:
    """Write the ``metrics.json`` of a notebook's training: its parameters, its scores, and how it ran.

    Folders are named without their place on this machine. What does not decide the result (``device``, ``precision``
    and ``resume``) is left out of the parameters.

    Args:
        namespace: the notebook's ``globals()``.
        run: the training that the notebook is about.
        more: what belongs to the parameters too, or replaces them.
        scores: any JSON values.
    """
    left_out = {"data_dir", "eval_dir", "eval_dirs", "output_dir", "device", "precision", "resume"}
    parameters: dict[str, Any] = {"data": Path(namespace["data_dir"] or "embedded").name}
    for name in _annotations(namespace):
        if name in namespace and name not in left_out:
            value = namespace[name]
            parameters[name] = Path(value).name if isinstance(value, str) else value
    parameters |= more or {}
    ran = {name: getattr(run, name) for name in ("best_epoch", "skipped_batches", "seconds", "device", "precision")}
    ran["seconds"] = round(run.seconds, 1)
    return write_json(path, {"parameters": parameters, **scores, **ran})


def parameters_of(notebook: Path) -> dict[str, Any]:
    """Return papermill's description of a notebook's parameters, by name.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a notebook.
    """
    import papermill  # type: ignore[import-untyped]

    if not notebook.is_file():
        raise FileNotFoundError(f"no notebook at {notebook}")
    try:
        # The absolute path is needed because papermill reads a name that begins with a dash as standard input.
        return dict(papermill.inspect_notebook(str(notebook.absolute())))
    except Exception as error:  # for an invalid notebook, nbformat raises exceptions of its own
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ValueError(f"{notebook} cannot be read as a notebook ({reason})") from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file as papermill does, with dates as strings, but refuse duplicate keys.

    papermill would silently use the last of several equal keys.

    Raises:
        OSError: the file does not exist or is not readable.
        ValueError: the file is not valid YAML or has a duplicate key; the message gives the place.
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
                    raise yaml.MarkedYAMLError(problem=f"{name!r} appears twice", problem_mark=node.start_mark)
            return node

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


def value_of(word: str) -> Any:
    """Return what papermill takes from a word on the command line: True, False, None, a number, or the word."""
    if word in (named := {"True": True, "False": False, "None": None}):
        return named[word]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(word)
    return word


def project_path(path: str | Path) -> Path:
    """Resolve a path identically from the notebooks' folders (Jupyter, nbval) and the project's folder (papermill).

    Relative paths start at the working directory, or at the project's folder if the working directory is ``notebooks/``
    or ``notebooks/solutions/``.
    If the environment variable KDLIB_RUNS is set, paths below ``runs/`` are redirected to the folder it names; the
    tests use this to leave a user's own runs untouched.
    """
    path = Path(os.path.expanduser(path))
    if path.parts[:1] == ("runs",) and os.environ.get("KDLIB_RUNS"):
        return Path(os.environ["KDLIB_RUNS"], *path.parts[1:])
    here = Path.cwd()
    for up, inside in (("..", ("notebooks",)), ("../..", ("notebooks", "solutions"))):
        if not path.is_absolute() and here.parts[-len(inside) :] == inside and (here / up / "kdlib").is_dir():
            return Path(up) / path
    return path


def shown_path(path: str | Path) -> str:
    """Format a path for printing: relative, with forward slashes, and without folders of this machine."""
    if os.environ.get("KDLIB_RUNS") and Path(path).is_relative_to(os.environ["KDLIB_RUNS"]):
        path = Path("runs") / Path(path).relative_to(os.environ["KDLIB_RUNS"])
    text = Path(path).as_posix()
    return text.removeprefix("../").removeprefix("../") if not Path(path).is_absolute() else f"…/{Path(path).name}"


def versions(*packages: str) -> str:
    """Return the versions of Python and of the given packages on one line."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def table(rows: str) -> Markdown:
    """Display a Markdown table as a formatted table."""
    # Imported here: what else is in this module is also needed where there is no IPython, and it takes half a second.
    from IPython.display import Markdown

    return Markdown(rows)
