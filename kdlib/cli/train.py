"""``kdlib train``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from kdlib.cli._output import console, errors_reported


class AsPapermill(TyperCommand):
    """Accepts ``-p NAME VALUE``, as papermill does. Typer has no repeatable option of two words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two words of each parameter."""
        joined: list[str] = []
        words = iter(args)
        for word in words:
            joined.append(word)
            if word in ("-p", "--parameters"):
                joined.append(f"{next(words, '')}={next(words, '')}")
        return super().parse_args(ctx, joined)


PARSER = AsPapermill
"""What reads the arguments of this command, in place of Typer's own class."""


def train(
    notebook: Annotated[Path, typer.Argument(help="A notebook that trains, such as notebooks/04_distill.ipynb.")],
    parameters: Annotated[
        list[str] | None, typer.Option("-p", "--parameters", metavar="NAME VALUE", help="A parameter; repeatable.")
    ] = None,
    parameters_file: Annotated[
        Path | None, typer.Option("-f", "--parameters-file", help="A YAML file of parameters, as in configs/.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run; the same as -p resume True.")] = False,
) -> None:
    """Run only the training of a notebook, with its parameters; also under torchrun and srun.

    Afterwards papermill with the same parameters and `-p resume True` evaluates the trained model.
    """
    from kdlib.notebook import read_yaml, value_of
    from kdlib.training.from_notebook import train_from_notebook
    from kdlib.training.loop import NonFiniteLossError
    from kdlib.training.processes import rank

    with errors_reported(NameError, TypeError, NonFiniteLossError):
        if parameters_file and not parameters_file.is_file():
            raise FileNotFoundError(f"no parameters file at {parameters_file}")
        given: Any = (read_yaml(parameters_file) or {}) if parameters_file else {}
        if not isinstance(given, dict):
            raise ValueError(f"{parameters_file} holds no parameters: write them as name: value, one per line")
        for parameter in parameters or []:
            name, _, value = parameter.partition("=")
            given[name] = value_of(value)
        if resume:
            given["resume"] = True
        train_from_notebook(notebook, given)
    if rank() == 0:
        evaluating = f"`papermill {notebook} … -p resume True` with the same parameters evaluates it"
        console.print(f"trained; {evaluating}", soft_wrap=True)  # a command is copied: it keeps to one line
