"""``kdlib sweep``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdlib.cli._output import console, errors_reported, escape, say

if TYPE_CHECKING:
    from kdlib.sweep import Sweep


def sweep(
    settings: Annotated[Path, typer.Argument(metavar="YAML", help="For example configs/sweep_alpha_beta.yaml.")],
    jobs: Annotated[int, typer.Option(min=0, help="Trials at once; 0: as the file says, else one for each core.")] = 0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run trials again that failed.")] = False,
) -> None:
    """Run a notebook with many parameters, several at once, and compare what came of them.

    Start it again after an interruption, and it goes on; start it on several machines with one database, and they
    share the work. Trials that failed are listed at the end, and the exit code is then 1.
    """
    import optuna  # noqa: F401 - first, for the extra that brings it brings all that a sweep imports
    from rich.table import Table

    from kdlib.sweep import read_sweep, run_sweep

    with errors_reported():
        chosen = read_sweep(settings)

        def shown(row: Mapping[str, Any]) -> list[str]:
            value = f"{row['metric']:.5g}" if row["metric"] is not None else row["state"]
            seconds = "" if row["seconds"] is None else f"{row['seconds']:.0f} s"
            return [f"{row['trial']:04}", *(escape(str(row[name])) for name in chosen.space), escape(value), seconds]

        console.print(f"{chosen.trials} trials of {escape(chosen.notebook.name)}", highlight=False)
        rows = run_sweep(
            chosen,
            jobs=jobs,
            retry=retry_failed,
            progress=lambda row: say("  ".join(shown(row))),
        )
        done = [row for row in rows if row["state"] == "done"]
        failed = [row for row in rows if row["state"] == "failed"]
        if done:
            _draw(chosen, rows)
    done.sort(key=lambda row: row["metric"], reverse=chosen.direction == "maximize")
    table = Table("trial", *map(escape, chosen.space), escape(chosen.metric), "time")
    for row in done:
        table.add_row(*shown(row))
    console.print(table)
    for row in failed:
        reason = str(row["reason"]).strip().splitlines()[0]
        say(f"[bold red]trial-{row['trial']:04}[/]: {escape(reason)}")
    console.print(f"{len(done)} done, {len(failed)} failed → {escape(str(chosen.output))}/results.csv, .json, .png")
    if failed:
        raise typer.Exit(1)


def _draw(sweep: Sweep, rows: list[dict[str, Any]]) -> None:
    """Write ``results.png``; of several processes, one at a time."""
    from filelock import FileLock

    from kdlib.files import replacing
    from kdlib.viz.sweep import plot_sweep

    with FileLock(sweep.output / ".table.lock"), replacing(sweep.output / "results.png") as partial:
        plot_sweep(rows, sweep.space, sweep.metric, sweep.direction).savefig(partial, format="png", dpi=120)
