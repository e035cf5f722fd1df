"""The command line, with one module per command; a command parses options, calls the library and prints.

A command's module is imported when the command runs, and for the help. Heavy modules are imported inside the commands,
so that ``kdlib --help`` answers at once.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

# Name → module of this package and what it has: a function or a group of commands. The order is that of the help.
_COMMANDS = {
    "enhance": "enhance:enhance",
    "video": "video:video",
    "camera": "video:camera",
    "app": "page:page",
    "train": "train:train",
    "evaluate": "evaluate:evaluate",
    "export": "export:export",
    "report": "report:report",
    "benchmark": "benchmark:benchmark",
    "cost": "cost:cost",
    "sweep": "sweep:sweep",
    "progress": "progress:progress",
    "weights": "weights:app",
}
_MARKUP: Any = "markdown"


@cache
def _command(name: str) -> Any:
    """Import a command and return it as Typer runs it."""
    module, _, attribute = _COMMANDS[name].partition(":")
    home = import_module(f"kdlib.cli.{module}")
    found = getattr(home, attribute)
    holder = typer.Typer(rich_markup_mode=_MARKUP)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name, cls=getattr(home, "PARSER", None))(found)
    return typer.main.get_group(holder).commands[name]


class _Imported(Mapping[str, Any]):
    """The commands by name."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __contains__(self, name: object) -> bool:
        return name in _COMMANDS

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class Commands(TyperGroup):
    """Imports a command when it is asked for, and says in one sentence what it cannot import and which extra has it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = _Imported()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of the help."""
        return list(_COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except ImportError as error:
            from kdlib.cli._output import fail
            from kdlib.extras import with_extra

            raise fail(str(with_extra(error, f"kdlib {ctx.invoked_subcommand}"))) from None


app = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode=_MARKUP)


def show_version(wanted: bool) -> None:
    """Print the version of the package and end the program, if it is asked for."""
    if wanted:
        import kdlib

        typer.echo(f"kdlib {kdlib.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Enhance dark photos and videos, and distil the networks that do it."""
