"""``kdlib app``."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from kdlib.cli._output import errors_reported, say


def page(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the default browser.")] = True,
) -> None:
    """Open the page in a browser, with kdlib behind it: photos, folders and videos, and every model.

    The page is reached from this computer alone, by the address that is printed. Ctrl-C ends it.
    """
    import threading
    import webbrowser

    from kdlib.app.server import serving

    with errors_reported(), _signals_as_ctrl_c():
        try:
            with serving(port) as server:
                say(server.address)
                say("Press Ctrl-C to end.")
                if browser:
                    webbrowser.open(server.address)
                threading.Event().wait()
        except KeyboardInterrupt:
            with suppress(OSError):  # the terminal may be closed
                say("Ended; uploaded files are deleted.")


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Let the signals of ``kill`` and of a closed terminal end the block as Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        for number in before:  # A second one would break off the end, which deletes uploads.
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # nohup ignores SIGHUP, and what is ignored stays so.
    before = {number: old for number in numbers if (old := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
