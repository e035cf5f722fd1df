"""``kdlib evaluate --brackets``: every exposure of a scene against the fusion of all of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdlib.cli._output import console

# Fitted on the light with free licences: results/six_numbers.json.
SIX_NUMBERS = Path("results/six_numbers.json")


def score_models(models: Mapping[str, Any], folder: Path, *, together: str) -> list[dict[str, Any]]:
    """Return the rows of the classical rivals and of each model, or of all ``together`` as seeds of one method.

    Args:
        models: by label.
        folder: a subfolder for each scene, see :func:`kdlib.data.brackets.read_brackets`.
        together: name of the method whose seeds the models are; empty for methods of their own.

    Raises:
        OSError, ValueError: no scenes, or photos that cannot be read.
    """
    from kdlib.data.brackets import read_brackets
    from kdlib.evaluation.behaviour import daylight_change
    from kdlib.evaluation.brackets import paired_difference, score_brackets
    from kdlib.evaluation.exposure_rivals import exposure_rivals
    from kdlib.evaluation.report import as_method, over_seeds
    from kdlib.models import count_parameters

    methods = exposure_rivals() | {label: as_method(model) for label, model in models.items()}
    with console.status("Scoring …") as status:
        rows = score_brackets(
            methods, read_brackets(folder), lambda bracket: status.update(f"Scoring … {bracket.name} done")
        )
    for row in rows:
        row |= daylight_change(methods[row["method"]])
        if (model := models.get(row["method"])) is not None:
            row["parameters"] = count_parameters(model)
    known = [row for row in rows if row["method"] not in models]
    own = [row for row in rows if row["method"] in models]
    if together:
        own = [over_seeds(together, own)]
    reference = next(row for row in known if row["method"] == "six numbers")
    for row in own:
        if "scenes" in row:
            row["over_six_numbers"] = paired_difference(row, reference)
    return known + own


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Print scores, and below them how the results look."""
    from rich.markdown import Markdown

    from kdlib.evaluation.brackets import COLUMNS, LOOKS
    from kdlib.evaluation.tables import markdown_table

    for columns in (COLUMNS, LOOKS):
        console.print(Markdown(markdown_table(rows, columns)))
