"""What every command prints with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import markup
from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress

console = Console()
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str) -> str:
    """A text of a stranger, such as a file's name, as it is shown: it can neither command the terminal nor turn the
    direction of what is beside it, and what has no code (bytes that are no UTF-8) has one."""
    return markup.escape(_UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text))


def progress_bar() -> Progress:
    """A bar with count, time left, and the text of the task's field ``speed``; gone when it is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def shown_command(context: typer.Context) -> str:
    """The command that is running, with every argument that is not the default; of paths their last two parts, so that
    results tell nothing of the machine."""

    def brief(value: object) -> str:
        text = str(value)
        return "/".join(Path(text).parts[-2:]) if isinstance(value, Path) or "/" in text else text

    words = [f"kdlib {context.info_name}"]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if value is None or value == parameter.default or value in ((), [], "", False):
            continue
        option = [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
        for one in value if isinstance(value, list | tuple) else [value]:
            words += option if one is True else [*option, brief(one)]
    return " ".join([words[0], *(shlex.quote(word) for word in words[1:])])


def fail(message: str) -> typer.Exit:
    """Print an error and return the exit that goes with it."""
    Console(stderr=True).print(f"[bold red]Error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(1)
