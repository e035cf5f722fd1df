"""Printing for all commands: the console, progress bars, escaped text and errors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import markup
from rich.console import Console

if TYPE_CHECKING:
    from collections import Counter

    from rich.progress import Progress

    from kdlib.enhance.folders.local import Summary

console = Console()
STARTING = "starting; the first run compiles once, for some seconds"
"""What a progress bar says until the first photo or frame is done."""
STREAM = "-"
"""The name of standard input and output among inputs and outputs."""
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str) -> str:
    """Return untrusted text, such as a file name, in a form that is safe to print.

    Control characters, characters that change the direction of writing, and bytes that are not valid UTF-8 become
    escape sequences; markup is escaped.
    """
    return markup.escape(_UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text))


def progress_bar() -> Progress:
    """Return a bar with count, time left, and the text of the task's field ``speed``. It disappears at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def shown_command(context: typer.Context) -> str:
    """Return the running command with every argument that differs from its default.

    Paths are cut to their last two parts, so that results reveal nothing about the machine.
    """

    def shortened(value: object) -> str:
        text = str(value)
        return "/".join(Path(text).parts[-2:]) if isinstance(value, Path) or "/" in text else text

    words = [f"kdlib {context.info_name}"]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if value is None or value == parameter.default or value in ((), [], "", False):
            continue
        option = [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
        for one in value if isinstance(value, list | tuple) else [value]:
            words += option if one is True else [*option, shortened(one)]
    return " ".join([words[0], *(shlex.quote(word) for word in words[1:])])


def say(text: str) -> None:
    """Print a line of markup as it is: without highlighting, and not broken at the width of the terminal."""
    console.print(text, highlight=False, soft_wrap=True)


def say_summary(summary: Summary, seconds: float, where: str, others: Counter[str]) -> None:
    """Print how many photos or videos were enhanced, where the results are, and which files were passed over.

    Args:
        summary: of the run.
        seconds: that it took.
        where: the folder of the results, or the single result.
        others: the files that were passed over, by kind.
    """
    from kdlib.enhance.folders.others import in_words

    kept = f", {summary.kept} kept" if summary.kept else ""
    place = f" → {escape(where)}" if summary.done or summary.kept else ""
    say(f"{summary.done} enhanced{kept}, {seconds:.1f} s{place}")
    if others:
        say(f"[yellow]{escape(in_words(others))}[/]")


def say_lines(summary: Summary, most: int | None = None) -> None:
    """Print the notes and the failures of a run, of each no more than ``most``, and how many there are more."""
    for colour, lines in (("yellow", summary.notes), ("bold red", summary.failed)):
        for name, what in lines[:most]:
            say(f"[{colour}]{escape(name)}[/]: {escape(what)}")
        if more := len(lines[most:]) if most is not None else 0:
            say(f"… and {more:,} more; --report FILE lists them all")


def say_failed(summary: Summary) -> None:
    """Print how many photos or videos could not be enhanced, if any."""
    if summary.failed:
        say(f"[bold red]{len(summary.failed)} of {summary.photos} could not be enhanced[/]")


def write_result(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write figures to a JSON file, if one was asked for, and say so."""
    from kdlib.files import write_json

    if path is not None:
        write_json(path, content)
        console.print(f"written to {path}")


@contextmanager
def errors_reported(*further: type[Exception]) -> Iterator[None]:
    """End the command with a message for the errors that the library documents, and for ``further`` ones."""
    expected: tuple[type[Exception], ...] = (OSError, ValueError, *further)
    try:
        yield
    except expected as error:
        where = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
        # The library's messages name its arguments, and a user of the command line its options.
        raise fail(re.sub(r"\bdevice='(\w+)'", r"--device \1", str(error)) + where) from None


def fail(message: str) -> typer.Exit:
    """Print an error and return the exit to raise, with code 1."""
    Console(stderr=True).print(f"[bold red]Error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(1)
