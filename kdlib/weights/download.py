"""Weights that a catalogue lists with an address: fetched over https, named only when their digest is right.

Nothing is ever fetched unasked: :func:`fetch`, behind ``kdlib weights fetch``, is the only way to the network.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urljoin

from kdlib.weights.catalogue import CatalogueEntry, verify
from kdlib.weights.header import MAX_BYTES

_RETRIES = 3  # after 1, 2 and 3 seconds
_SILENCE = (10.0, 30.0)  # seconds to wait for a connection, and for more to come
_LONGEST = 600.0  # seconds for one file, however it trickles
_REDIRECTS = 5


class _RefusedError(Exception):
    """Neither an error of the connection nor of the data: it is not tried again."""


def fetch(entry: CatalogueEntry) -> Path:
    """The file of an entry: as it is if it is there, or else downloaded.

    Connections that break off or stall, and files that are not what the catalogue describes, are tried again three
    times. The file gets its name when its SHA-256 is that of the catalogue. Else nothing is left.

    Raises:
        FileNotFoundError: it is missing, and the catalogue has no address for it.
        ValueError: the file that is there has changed, the address is no https one or leads away from https, what comes
            is larger than a weights file may be, or is not what the catalogue describes.
        OSError: it cannot be reached or written.
    """
    if entry.path.exists() or not entry.url:
        verify(entry)
        return entry.path
    # Imported when needed: enhancing photos needs no network.
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.ERROR)
    name, folder = entry.path.name, entry.path.parent
    source = pooch.create(folder, "", registry={name: entry.sha256}, urls={name: entry.url}, retry_if_failed=_RETRIES)
    try:
        path = Path(source.fetch(name, downloader=_download))
    except (_RefusedError, ValueError) as error:
        raise ValueError(f"{entry.name} was not downloaded from {entry.url}: {error}") from None
    except requests.RequestException as error:
        reason = str(error) if isinstance(error, requests.HTTPError) else type(error).__name__
        raise OSError(f"{entry.name} cannot be downloaded from {entry.url} ({reason}); try again later") from None
    # Made as a temporary file, which nobody else may read.
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
    return path


def _download(url: str, file: str, _pooch: Any) -> None:
    """Write what is at an address to a file, with pooch's own downloader and an eye on each answer."""
    from pooch import HTTPDownloader

    end, answers = monotonic() + _LONGEST, 0

    def watch(answer: Any, **_: Any) -> None:
        """Called before anything of an answer is read, and before one that leads on is followed."""
        nonlocal answers
        answers += 1
        # What a redirect holds besides its address would fill the memory.
        answer.raw.stream = lambda *_, **__: () if answer.is_redirect else _pieces(answer.raw, end)
        if answer.is_redirect:
            _require_https(urljoin(answer.url, answer.headers["Location"]))
            if answers > _REDIRECTS:
                raise _RefusedError(f"it leads on more than {_REDIRECTS} times")
        elif 400 <= answer.status_code < 500:
            raise _RefusedError(f"it is not there (HTTP {answer.status_code})")
        elif answer.headers.get("Content-Encoding", "identity") != "identity":
            raise _RefusedError("it comes compressed, which was not asked for")

    _require_https(url)
    # Unpacked, a small answer might be of any size.
    headers = {"Accept-Encoding": "identity"}
    HTTPDownloader(timeout=_SILENCE, headers=headers, hooks={"response": watch})(url, file, None)


def _pieces(raw: Any, end: float) -> Iterator[bytes]:
    """What comes of an answer, as it comes: a whole piece may take for ever, and the clock would not be looked at."""
    received = 0
    while piece := raw.read1(2**16):
        received += len(piece)
        if received > MAX_BYTES:
            raise _RefusedError(f"it is larger than the {MAX_BYTES:,} bytes that weights may have")
        if monotonic() > end:
            raise _RefusedError(f"it was not complete after {_LONGEST:.0f} s")
        yield piece


def _require_https(url: str) -> None:
    if not url.startswith("https://"):
        raise _RefusedError(f"{url!r} is no https address")
