"""What a sweep is: read from a YAML file and checked before anything runs."""

import ast
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdlib.checks import check_number, unknown_name
from kdlib.notebook import parameters_of, project_path, read_yaml

_TOP = ("notebook", "output_dir", "metric", "direction", "parameters", "space", "where", "trials", "jobs", "storage")
_KEYS = (*_TOP, "sampler", "seed")
_RANGE = ("low", "high", "log", "step")
# Of ``where``: comparisons of sums and products, joined by and, or, not.
_LOGIC = (ast.Expression, ast.Compare, ast.cmpop, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.Not, ast.USub)
_WHERE = (*_LOGIC, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Name, ast.Load, ast.Constant)


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones if both are whole.

    Attributes:
        log: drawn evenly on a logarithmic scale.
        step: only ``low``, ``low + step``, …
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole ones."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))


@dataclass(frozen=True)
class Sweep:
    """One notebook, and the parameters to run it with.

    Attributes:
        name: of the study in the database: the output folder's.
        notebook: its parameters cell has ``output_dir``, where it writes ``metrics.json``.
        output: a folder; each trial has its own in it.
        metric: key in ``metrics.json``; of nested ones, the keys joined by dots.
        direction: ``maximize`` or ``minimize``.
        fixed: parameters that all trials share.
        space: values or a range for each parameter that is swept. Values alone make a grid.
        where: a comparison that points of the grid have to meet, such as ``alpha + beta <= 1``; empty for all.
        trials: how many; of a grid, its points.
        jobs: trials at one time in one process; 0: one for each core.
        storage: database; the file ``sweep.db`` in the output folder by default.
        sampler: ``tpe`` or ``random``, for ranges.
        seed: of the sampler.
        resumable: whether the notebook has a parameter ``resume``, with which an interrupted trial goes on.
    """

    name: str
    notebook: Path
    output: Path
    metric: str
    direction: str
    fixed: Mapping[str, Any]
    space: Mapping[str, tuple[Any, ...] | Range]
    where: str = ""
    trials: int = 0
    jobs: int = 0
    storage: str = ""
    sampler: str = "tpe"
    seed: int = 0
    resumable: bool = field(default=False)

    @property
    def grid(self) -> list[dict[str, Any]]:
        """The points in their order; none, if a parameter has a range."""
        lists = [values for values in self.space.values() if not isinstance(values, Range)]
        if len(lists) < len(self.space):
            return []
        points = [dict(zip(self.space, values, strict=True)) for values in itertools.product(*lists)]
        return [point for point in points if not self.where or _holds(self.where, point)]

    def definition(self) -> dict[str, Any]:
        """What the trials depend on: it is kept with them, and compared before more are added."""
        space = {name: vars(v) if isinstance(v, Range) else list(v) for name, v in self.space.items()}
        own = {"notebook": self.notebook.name, "metric": self.metric, "direction": self.direction, "seed": self.seed}
        return {**own, "sampler": self.sampler, "where": self.where, "space": space, "parameters": dict(self.fixed)}


def read_sweep(path: str | Path) -> Sweep:
    """Read a sweep from YAML.

    Raises:
        FileNotFoundError: no such file, or no such notebook.
        ValueError: it is not YAML, a key is unknown or missing, a value cannot be meant, or the notebook has no such
            parameter; the message names the file and the key.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no sweep at {path}")
    given = read_yaml(path)
    try:
        return _checked(given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _checked(given: Any) -> Sweep:
    if not isinstance(given, dict):
        raise ValueError("a sweep is a list of keys and values, with notebook, output_dir, metric and space")
    for key in given:
        if key not in _KEYS:
            raise ValueError(unknown_name("key", key, _KEYS))
    for key in ("notebook", "output_dir", "metric", "space"):
        if not given.get(key):
            raise ValueError(f"{key} is missing")
    for key in ("notebook", "output_dir", "metric", "where", "storage"):
        if not isinstance(given.get(key) or "", str):
            raise ValueError(f"{key} is a text, not {given[key]!r}")
    notebook, output = project_path(given["notebook"]), project_path(given["output_dir"]).absolute()
    if not output.name or set("%?{}") & set(str(output)):
        raise ValueError(f"output_dir has a name without % ? {{ }}, which mean something else to databases: {output}")
    fixed, space = given.get("parameters") or {}, given["space"]
    for key, value in (("parameters", fixed), ("space", space)):
        if not isinstance(value, dict):
            raise ValueError(f"{key} is a list of names and values, not {value!r}")
    known = parameters_of(notebook)
    for name in (*fixed, *space):
        if name not in known:
            raise ValueError(unknown_name("parameter", name, known, f"{notebook.name} takes"))
    if both := fixed.keys() & space.keys():
        raise ValueError(f"{sorted(both)[0]} stands in parameters and in space; choose one")
    if "output_dir" not in known or "output_dir" in {**fixed, **space}:
        raise ValueError(
            "the sweep gives each trial an output_dir of its own; the notebook takes it, the YAML has none"
        )
    options = {key: given[key] for key in ("trials", "jobs", "seed") if key in given}
    for key, value in options.items():
        check_number(key, value, 1 if key == "trials" else 0, whole=True)
    for key, choices in (("direction", ("maximize", "minimize")), ("sampler", ("tpe", "random"))):
        if given.get(key, choices[0]) not in choices:
            raise ValueError(f"{key} is {' or '.join(choices)}, not {given[key]!r}")
    resumable = "resume" in known.keys() - fixed.keys() - space.keys()
    for name, value in fixed.items():  # YAML knows NaN and infinity; JSON, which hands them on, does not
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError(f"{name} takes a number, word, truth value or list, not {value!r}") from None
    sweep = Sweep(
        name=output.name, notebook=notebook, output=output, metric=given["metric"],
        direction=given.get("direction", "maximize"), fixed=fixed, where=given.get("where") or "",
        space={name: _values(name, values) for name, values in space.items()},
        storage=given.get("storage") or f"sqlite:///{(output / 'sweep.db').as_posix()}",
        sampler=given.get("sampler", "tpe"), resumable=resumable, **options,
    )  # fmt: skip
    return _with_trials(sweep)


def _with_trials(sweep: Sweep) -> Sweep:
    """Count the points of a grid; a search says itself how many trials it has."""
    ranges = [name for name, values in sweep.space.items() if isinstance(values, Range)]
    if sweep.where:
        _holds(sweep.where, dict.fromkeys(sweep.space, 1))
    if ranges and (sweep.where or not sweep.trials):
        raise ValueError(f"{ranges[0]} has a range: say how many trials, and leave where to grids")
    if not ranges and (sweep.trials or not sweep.grid):
        raise ValueError("a grid runs each of its points once: leave trials out, and a point for where to let through")
    return Sweep(**{**vars(sweep), "trials": sweep.trials or len(sweep.grid)})


def _values(name: str, given: Any) -> tuple[Any, ...] | Range:
    if isinstance(given, list):
        plain = all(value is None or isinstance(value, bool | str) or _is_number(value) for value in given)
        if not given or not plain or len(set(given)) < len(given):  # 1 is 1.0 and true
            raise ValueError(f"{name} takes a list of different numbers, words or truth values, not {given!r}")
        return tuple(given)
    if not isinstance(given, dict) or not {"low", "high"} <= given.keys() <= set(_RANGE):
        raise ValueError(f"{name} takes a list of values, or low and high (and log, step), not {given!r}")
    numbers = [given[key] for key in ("low", "high", "step") if key in given]
    if not all(map(_is_number, numbers)):
        raise ValueError(f"{name}: low, high and step are numbers, not {numbers!r} (in YAML write 1.0e-4, not 1e-4)")
    chosen = Range(**given)
    if not isinstance(chosen.log, bool):
        raise ValueError(f"{name}: log is true or false, not {chosen.log!r}")
    if chosen.low >= chosen.high or (chosen.log and (chosen.low <= 0 or chosen.step is not None)):
        raise ValueError(f"{name}: low is below high, and above 0 with log: true, which takes no step")
    if chosen.step is not None and not 0 < chosen.step <= chosen.high - chosen.low:
        raise ValueError(f"{name}: step is above 0, and at most high less low, not {chosen.step!r}")
    return chosen


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _holds(where: str, point: Mapping[str, Any]) -> bool:
    try:
        tree = ast.parse(where, mode="eval")
        if not all(isinstance(node, _WHERE) for node in ast.walk(tree)):
            raise ValueError("it holds more than comparisons, sums and products")
        return bool(eval(compile(tree, "where", "eval"), {"__builtins__": {}}, dict(point)))
    except (SyntaxError, NameError, TypeError, ValueError, ArithmeticError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(f"where: {where!r} cannot be used ({reason})") from None
