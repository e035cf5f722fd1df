"""The command line: one module for each command.

Heavy imports happen inside the commands, so that ``kdlib --help`` answers at once.
"""

import typer

from kdlib.cli import weights
from kdlib.cli.benchmark import benchmark
from kdlib.cli.cost import cost
from kdlib.cli.enhance import enhance
from kdlib.cli.evaluate import evaluate
from kdlib.cli.report import report
from kdlib.cli.sweep import sweep
from kdlib.cli.train import AsPapermill, train
from kdlib.cli.video import camera, video

app = typer.Typer(no_args_is_help=True, help="Knowledge distillation on networks that brighten dark photos.")
app.command()(enhance)
app.command()(video)
app.command()(camera)
app.command(cls=AsPapermill)(train)
app.command()(evaluate)
app.command()(report)
app.command()(benchmark)
app.command()(cost)
app.command()(sweep)
app.add_typer(weights.app, name="weights")
