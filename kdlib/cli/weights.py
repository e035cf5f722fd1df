"""``kdlib weights list`` and ``kdlib weights verify``."""

from __future__ import annotations

import typer
from rich.markup import escape

from kdlib.cli._output import console

app = typer.Typer(no_args_is_help=True, help="The weights that ship with the project.")


@app.command("list")
def list_weights() -> None:
    """List the shipped weights with their licence and how they were made."""
    from kdlib.catalogue import catalogue

    for entry in catalogue().values():
        console.print(f"[bold]{entry.name}[/]  {entry.path.name}\n  {entry.made}\n  {entry.licence}", highlight=False)


@app.command("verify")
def verify_weights() -> None:
    """Check every shipped file against the catalogue's SHA-256."""
    from kdlib.catalogue import catalogue, verify

    entries = catalogue()
    wrong = 0
    for entry in entries.values():
        try:
            verify(entry)
            console.print(f"{entry.name}: as catalogued")
        except (OSError, ValueError) as error:
            wrong += 1
            console.print(f"[bold red]{entry.name}:[/] {escape(str(error))}", highlight=False)
    console.print(f"{len(entries) - wrong} of {len(entries)} files are as catalogued")
    if wrong or not entries:
        raise typer.Exit(1)
