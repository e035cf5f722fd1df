"""``kdlib report``."""

from pathlib import Path
from typing import Annotated

import typer

from kdlib.cli._output import errors_reported


def report(
    results: Annotated[Path, typer.Argument(help="Folder with eval15.json, seeds.json and published.json.")] = Path(
        "results"
    ),
) -> None:
    """Print all scores on the standard test as one Markdown table."""
    from kdlib.evaluation.leaderboard import leaderboard, leaderboard_table

    with errors_reported():
        table = leaderboard_table(leaderboard(results))
    typer.echo(table)  # as Markdown source, to be pasted
