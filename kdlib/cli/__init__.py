"""The command line, with one module per command; a command parses options, calls the library and prints.

Heavy modules are imported inside the commands, so that ``kdlib --help`` answers at once.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kdlib.cli import weights
from kdlib.cli._output import fail
from kdlib.cli.app import app as page
from kdlib.cli.benchmark import benchmark
from kdlib.cli.cost import cost
from kdlib.cli.enhance import enhance
from kdlib.cli.evaluate import evaluate
from kdlib.cli.export import export
from kdlib.cli.progress import progress
from kdlib.cli.report import report
from kdlib.cli.sweep import sweep
from kdlib.cli.train import AsPapermill, train
from kdlib.cli.video import camera, video
from kdlib.extras import with_extra


class Commands(TyperGroup):
    """Says in one sentence what a command cannot import, and which extra installs it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except ImportError as error:
            raise fail(str(with_extra(error, f"kdlib {ctx.invoked_subcommand}"))) from None


app = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode="markdown")


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


app.command()(enhance)
app.command()(video)
app.command()(camera)
app.command("app")(page)
app.command(cls=AsPapermill)(train)
app.command()(evaluate)
app.command()(export)
app.command()(report)
app.command()(benchmark)
app.command()(cost)
app.command()(sweep)
app.command()(progress)
app.add_typer(weights.app, name="weights")
