"""``kdlib weights list``, ``kdlib weights verify`` and ``kdlib weights fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdlib.cli._output import console, errors_reported, escape, fail, say

if TYPE_CHECKING:
    from kdlib.weights.catalogue import CatalogueEntry

app = typer.Typer(no_args_is_help=True, help="The weights that ship with the project, and those of your own catalogue.")
Own = Annotated[
    Path | None,
    typer.Option("--catalogue", envvar="KDLIB_CATALOGUE", help="A catalogue of your own; its files lie beside it."),
]


@app.command("list")
def list_weights(own: Own = None) -> None:
    """List the weights with what they are for, how they were made, and their licence."""
    for entry in _entries(own).values():
        lines = filter(None, (entry.use, entry.made, entry.licence))
        title = f"[bold]{escape(entry.name)}[/]  {escape(entry.path.name)}"
        console.print("\n  ".join([title, *map(escape, lines)]), highlight=False)


@app.command("verify")
def verify_weights(own: Own = None) -> None:
    """Check every file against its catalogue's SHA-256."""
    from kdlib.weights.catalogue import verify

    entries = _entries(own)
    wrong = 0
    for entry in entries.values():
        try:
            verify(entry)
            console.print(f"{escape(entry.name)}: as catalogued")
        except (OSError, ValueError) as error:
            wrong += 1
            _print_error(entry, error)
    console.print(f"{len(entries) - wrong} of {len(entries)} files are as catalogued")
    if wrong or not entries:
        raise typer.Exit(1)


@app.command("fetch")
def fetch_weights(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Models. Default: all.")] = None,
    own: Own = None,
) -> None:
    """Download the files that are missing and that a catalogue has an address for; https only, checked by SHA-256.

    Those that ship with kdlib are there already.
    """
    from kdlib.weights.download import fetch

    entries = _entries(own)
    if unknown := [name for name in names or [] if name not in entries]:
        raise fail(f"no catalogue lists {unknown[0]!r}; choose from {', '.join(entries)}")
    wanted = [entries[name] for name in names] if names else list(entries.values())
    got = missing = 0
    for entry in wanted:
        there = entry.path.exists()
        try:
            path = fetch(entry)
        except (OSError, ValueError) as error:
            missing += 1
            _print_error(entry, error)
        else:
            if not there:
                got += 1
                say(f"{escape(entry.name)} → {escape(str(path))}")
    console.print(f"{got} downloaded, {len(wanted) - got - missing} of {len(wanted)} were there")
    if missing:
        raise typer.Exit(1)


def _entries(own: Path | None) -> dict[str, CatalogueEntry]:
    from kdlib.weights.catalogue import catalogue, own_catalogue

    with errors_reported():
        return catalogue() | own_catalogue(own)


def _print_error(entry: CatalogueEntry, error: Exception) -> None:
    say(f"[bold red]{escape(entry.name)}:[/] {escape(str(error))}")
