"""``kdlib enhance --watch``."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kdlib.cli._output import console, errors_reported, escape, say, say_lines

if TYPE_CHECKING:
    from kdlib.enhance.enhancer import Enhancer
    from kdlib.enhance.folders.local import Summary

pause = time.sleep
_PAUSE = 1.0  # seconds between two looks at the folder; more if a look takes long, as for very many photos


def watch_folder(
    folder: str,
    output: str | None,
    enhancer: Callable[[int | None], Enhancer],
    options: dict[str, Any],
    report: Path | None,
) -> None:
    """Enhance the photos that arrive in a folder until the command is stopped, and report each.

    Args:
        folder: the folder to watch.
        output: the folder of the results; None is a new folder beside the first.
        enhancer: makes an Enhancer for a number of threads.
        options: for :class:`kdlib.enhance.folders.watch.Watch`.
        report: file to which failures and notes are added as JSON lines.
    """
    from kdlib.enhance.folders.local import Summary
    from kdlib.enhance.folders.watch import Look, Watch

    place = Path(folder).expanduser()
    results = Path(output) if output else place.resolve().with_name(f"{place.resolve().name}_enhanced")
    done = failed = 0
    trouble = ""
    with errors_reported():
        watch = Watch(place, results, enhancer, **options)
        if report is not None:
            Summary().append_report(report)  # finds out now whether it can be written
    say(f"watching {escape(folder)} → {escape(str(results))}; stop with Ctrl-C")
    # What stops a service ends the command as Ctrl-C does, with a summary.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with errors_reported():
            while True:
                start = time.monotonic()
                try:
                    look, trouble = watch.look(), ""
                except OSError as error:  # a disk or a share may come back
                    if str(error) != trouble:
                        say(f"[bold red]waiting[/]: {escape(str(error))}")
                    look, trouble = Look(), str(error)
                done, failed = done + len(look.done), failed + len(look.summary.failed)
                for source, target in look.done:
                    say(f"{escape(str(source))} → {escape(str(target))}")
                say_lines(look.summary)
                if report is not None:
                    _add(look.summary, report)
                pause(_PAUSE if look.done else max(_PAUSE, 4 * (time.monotonic() - start)))
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    say(f"{done} enhanced → {escape(str(results))}")
    if failed:
        console.print(f"[bold red]{failed} could not be enhanced[/]", highlight=False)
        raise typer.Exit(1)


def _add(summary: Summary, report: Path) -> None:
    """Add to the report; where that fails, photos are still enhanced, and the screen has what the report lacks."""
    if summary.failed or summary.notes:
        try:
            summary.append_report(report)
        except OSError as error:
            say(f"[bold red]the report could not be written[/]: {escape(str(error))}")
