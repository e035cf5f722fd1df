"""``kdlib app``."""

from typing import Annotated

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

    with errors_reported(), serving(port) as server:
        say(server.address)
        say("Press Ctrl-C to end.")
        try:
            if browser:
                webbrowser.open(server.address)
            threading.Event().wait()
        except KeyboardInterrupt:
            say("Ended; uploaded files are deleted.")
