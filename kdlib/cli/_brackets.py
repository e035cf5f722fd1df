"""``kdlib evaluate --brackets``: every exposure of a scene against the fusion of all of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdlib.cli._output import console


def score_models(names: Mapping[str, str], folder: Path, *, together: str) -> list[dict[str, Any]]:
    """Return the rows of the classical rivals and of each model, or of all ``together`` as seeds of one method.

    Args:
        names: names or weights files of the models, by label.
        folder: a subfolder for each scene, see :func:`kdlib.data.brackets.read_brackets`.
        together: name of the method whose seeds the models are; empty for methods of their own.

    Raises:
        OSError, ValueError: no scenes, photos or weights that cannot be read, or models that do not brighten.
    """
    from kdlib.cli._super_resolution import all_super_resolution
    from kdlib.data.brackets import read_brackets
    from kdlib.evaluation.behaviour import daylight_change
    from kdlib.evaluation.brackets import paired_difference, score_brackets
    from kdlib.evaluation.exposure_rivals import exposure_rivals
    from kdlib.evaluation.report import as_method, over_seeds
    from kdlib.models import count_parameters
    from kdlib.weights import load_model

    models = {label: load_model(name) for label, name in names.items()}
    if all_super_resolution(models):
        raise ValueError("super-resolution networks do not correct exposure; score them with --data")
    methods = exposure_rivals() | {label: as_method(model) for label, model in models.items()}
    with console.status("Scoring …") as status:
        rows = score_brackets(methods, read_brackets(folder), lambda scene: status.update(f"Scored {scene.name} …"))
    reference = next(row for row in rows if row["method"] == "six numbers")
    for row in rows:
        row |= daylight_change(methods[row["method"]])
        if row["method"] in models:
            row["parameters"] = count_parameters(models[row["method"]])
            row["over_six_numbers"] = paired_difference(row, reference)
    if not together:
        return rows
    return [*rows[: -len(models)], over_seeds(together, rows[-len(models) :])]


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Print scores, and below them how the results look."""
    from rich.markdown import Markdown

    from kdlib.evaluation.brackets import COLUMNS, LOOKS
    from kdlib.evaluation.tables import markdown_table

    for columns in (COLUMNS, LOOKS):
        console.print(Markdown(markdown_table(rows, columns)))
