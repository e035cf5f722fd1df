"""The command line: one module for each command.

Heavy imports happen inside the commands, so that ``kdlib --help`` answers at once.
"""

import typer

from kdlib.cli import weights
from kdlib.cli.evaluate import evaluate

app = typer.Typer(no_args_is_help=True, help="Knowledge distillation on networks that brighten dark photos.")
app.command()(evaluate)
app.add_typer(weights.app, name="weights")
