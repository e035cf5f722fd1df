"""The server behind ``kdlib app``: the page, and kdlib for it, on this machine alone.

*Who may call it.* The server listens on 127.0.0.1. Every call of the interface needs the token that stands in the
address which ``kdlib app`` prints, so that neither other users of the machine nor pages of other hosts can use it. (The
browser gets the address as an argument, which other users may see in the list of processes; ``--no-browser`` starts
none.) Besides, a request whose ``Host`` or ``Origin`` is not the server's own is refused, which stops names that were
pointed to 127.0.0.1 afterwards (DNS rebinding).
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

from kdlib.app.jobs import Jobs
from kdlib.app.photos import OpenPhotos, Settings
from kdlib.app.uploads import uploads_folder
from kdlib.enhance.photos.kinds import readable_suffixes
from kdlib.extras import with_extra
from kdlib.models.registry import find_family
from kdlib.threads import available_threads
from kdlib.weights.catalogue import DEFAULT_MODEL, catalogue
from kdlib.weights.file import WeightsFile

MAX_PHOTO = 2**30
MAX_VIDEO = 2**36
"""Most bytes of an uploaded photo and video."""
_MAX_JSON = 2**16
_PIECE = 2**20
_SPARE = 2**30  # bytes of the disk that an upload leaves free
_DRAIN = 10.0  # most seconds for which what remains of a refused upload is read
_STRANGERS = 32  # most connections that have not shown the token; a browser makes six
_VIEWS = 2  # most views that are computed and sent at once, each of which may take gigabytes
_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "_web", _PACKAGE.parent / "web")  # in a wheel, and in a checkout
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">\n')


class _RefusedError(Exception):
    """A request that is answered with this status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def page_folder() -> Path:
    """Return the folder with the page."""
    return next(folder for folder in _FOLDERS if (folder / "index.html").is_file())


def page_file(name: str) -> tuple[bytes, str, str]:
    """Return a file of the page, its type and the policy to send along.

    The policy is the page's own, except that it may connect to this server. The element that holds it is taken out,
    because a browser obeys both.

    Raises:
        KeyError: the page has no such file.
    """
    files = {path.name: path for path in page_folder().iterdir() if path.suffix in _TYPES}
    html = files["index.html"].read_text(encoding="utf-8")
    policy = _POLICY.search(html)
    assert policy is not None
    rules = policy[1].replace("connect-src 'none'", "connect-src 'self'") + "; frame-ancestors 'none'"
    content = files[name].read_bytes()
    if name == "index.html":
        content = html.replace(policy[0], '<meta name="kdlib-engine" content="local">\n').encode()
    return content, f"{_TYPES[files[name].suffix]}; charset=utf-8", rules


class AppServer(ThreadingHTTPServer):
    """Serves one user.

    Args:
        folder: for uploads.
        port: 0 takes a free one.

    Attributes:
        token: needed by every call.
    """

    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"  # where it would let two programs share a port

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.token = folder, secrets.token_urlsafe(24)
        self.photos, self.jobs = OpenPhotos(folder), Jobs()
        self.viewing = threading.BoundedSemaphore(_VIEWS)
        self._strangers, self._lock = dict[socket.socket, None](), threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def address(self) -> str:
        """The address to open. The token is in its fragment, which browsers send to nobody."""
        return f"http://127.0.0.1:{self.server_port}/#token={self.token}"

    def server_close(self) -> None:
        super().server_close()
        self.jobs.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread. Where too many have not shown the token, the oldest of them ends."""
        with self._lock:
            self._strangers[request] = None
            if len(self._strangers) > _STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                with suppress(OSError):  # it has just ended by itself
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def trust(self, connection: Any) -> None:
        """Note that a connection has shown the token, or has ended."""
        with self._lock:
            self._strangers.pop(connection, None)

    def shutdown_request(self, request: Any) -> None:
        self.trust(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing for a connection that breaks."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def serving(port: int = 0) -> Iterator[AppServer]:
    """Serve in the background until the block ends; uploads are deleted then.

    Raises:
        OSError: the port is taken.
    """
    with uploads_folder() as folder, AppServer(folder, port) as server:
        # Between two looks at whether to end; half a second by default.
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: AppServer
    server_version, sys_version = "kdlib", ""
    protocol_version = "HTTP/1.1"
    timeout = 60
    _ROUTES: ClassVar[list[tuple[str, str, str]]] = [
        ("GET", "models", "_models"),
        ("POST", "photos", "_open"),
        ("DELETE", "photos/([0-9]+)", "_close"),
        ("GET", "photos/([0-9]+)/view", "_view"),
        ("GET", "photos/([0-9]+)/result", "_result"),
        ("POST", "photos/([0-9]+)/compare", "_compare"),
        ("GET", "jobs", "_list_jobs"),
        ("POST", "jobs", "_start_job"),
        ("POST", "videos", "_start_video"),
        ("POST", "jobs/([0-9]+)/stop", "_stop_job"),
        ("DELETE", "jobs/([0-9]+)", "_remove_job"),
        ("GET", "jobs/([0-9]+)/result", "_job_result"),
    ]

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal belongs to the command."""

    def _answer(self, method: str) -> None:
        length = self.headers.get("Content-Length", "")
        self._left = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0  # bytes of the body to be read
        self._begun = False  # whether an answer has been
        try:
            self._refuse_strangers()
            if method != "POST" and (length not in {"", "0"} or "Transfer-Encoding" in self.headers):
                raise _RefusedError(400, "only POST takes a body")  # which would be read as the next request
            address = urlsplit(self.path)
            self._query = {name: values[-1] for name, values in parse_qs(address.query).items()}
            if address.path.startswith("/api/"):
                self._refuse_without_token()
                self._route(method, address.path.removeprefix("/api/"))
            elif method == "GET":
                content, kind, policy = self._found(lambda: page_file(address.path.removeprefix("/") or "index.html"))
                self._send(200, content, kind, {"Content-Security-Policy": policy})
            else:
                raise _RefusedError(405, "the page is only read")
        except _RefusedError as error:
            self._fail(error.status, str(error))
        except ImportError as error:
            self._fail(501, str(with_extra(error, "this")))
        except (OSError, ValueError, MemoryError) as error:
            if isinstance(error, ConnectionError | TimeoutError):
                self.close_connection = True
                return
            self._fail(422, str(error) or type(error).__name__)
        except Exception as error:
            self._fail(500, f"kdlib has a fault here and goes on. {type(error).__name__}: {error}")

    def _refuse_strangers(self) -> None:
        port = "" if self.server.server_port == 80 else f":{self.server.server_port}"
        own = {f"{host}{port}" for host in ("127.0.0.1", "localhost")}
        if self.headers.get("Host") not in own:
            raise _RefusedError(403, "the address of this page is 127.0.0.1")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in own}:
            raise _RefusedError(403, "pages of other hosts may not call kdlib")

    def _refuse_without_token(self) -> None:
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            raise _RefusedError(401, "open the address that `kdlib app` has printed; it holds the token of this run")
        self.server.trust(self.connection)

    def _route(self, method: str, path: str) -> None:
        for own, pattern, name in self._ROUTES:
            if own == method and (match := re.fullmatch(pattern, path)):
                getattr(self, name)(*match.groups())
                return
        raise _RefusedError(404, "there is no such thing")

    def _found(self, get: Callable[[], Any]) -> Any:
        try:
            return get()
        except KeyError:
            raise _RefusedError(404, "there is no such thing; it may have been closed") from None

    # Photos

    def _models(self) -> None:
        models = []
        for name, entry in catalogue().items():
            family = find_family(WeightsFile(name).architecture)
            models.append({"name": name, "use": entry.use, "licence": entry.licence, "denoise": family.denoise})
        models.sort(key=lambda model: model["name"] != DEFAULT_MODEL)
        cores = available_threads()
        how = f"kdlib {version('kdlib')} on this computer, {cores} {'core' if cores == 1 else 'cores'}"
        self._send_json({"models": models, "how": how})

    def _open(self) -> None:
        key, photo = self.server.photos.add(self._upload(MAX_PHOTO, _photo_suffix(self._name())), self._name())
        self._send_json({"id": key, "width": photo.width, "height": photo.height, "notes": photo.notes})

    def _close(self, key: str) -> None:
        self._found(lambda: self.server.photos.close(key))
        self._send_json({})

    def _view(self, key: str) -> None:
        settings = Settings.of(self._query) if "model" in self._query else None
        place: dict[str, Any] = {
            "factor": self._number("factor", 1),
            "x": self._number("x", 0),
            "y": self._number("y", 0),
        }
        place |= {name: self._number(name, 0) or None for name in ("width", "height")}
        if place["factor"] < 1:
            raise ValueError("factor is at least 1")
        with self.server.viewing:
            pixels = self._found(lambda: self.server.photos.view(key, settings, **place))
            about = {"width": pixels.shape[1], "height": pixels.shape[0]}
            self._send(200, memoryview(pixels).cast("B"), "application/octet-stream", _about(about))

    def _result(self, key: str) -> None:
        settings = Settings.of(self._query)
        with TemporaryDirectory(dir=self.server.folder) as folder:
            target = Path(folder) / "result"
            name, notes = self._found(lambda: self.server.photos.result(key, settings, target))
            self._send_file(target, {"name": name, "notes": notes})

    def _compare(self, key: str) -> None:
        upload = self._upload(MAX_PHOTO, _photo_suffix(self._name()))
        try:
            settings = Settings.of(self._query)
            with self.server.viewing:
                found = self._found(lambda: self.server.photos.compare(key, settings, upload, self._name()))
            self._send_json(found)
        finally:
            upload.unlink()

    # Folders and videos

    def _list_jobs(self) -> None:
        self._send_json(self.server.jobs.as_json())

    def _start_job(self) -> None:
        try:
            given = json.loads(self._body(_MAX_JSON))
        except (RecursionError, ValueError):
            raise ValueError("a job is ordered as JSON") from None
        if not isinstance(given, dict) or not isinstance(given.get("path"), str):
            raise ValueError("a job takes the path of a folder or a video")
        flags = {name: given.get(name) is True for name in ("recursive", "side_by_side", "overwrite")}
        self._send_json({"id": self.server.jobs.start(given["path"], Settings.of(given), **flags)})

    def _start_video(self) -> None:
        settings, name = Settings.of(self._query), self._name()
        both = self._query.get("side_by_side") == "true"
        settings.enhancer()  # raises, for example where PyTorch is missing, before gigabytes are stored
        key = self.server.jobs.start_video(self._upload(MAX_VIDEO), name, settings, side_by_side=both)
        self._send_json({"id": key})

    def _stop_job(self, key: str) -> None:
        self._body(0)
        self._found(lambda: self.server.jobs.stop(key))
        self._send_json({})

    def _remove_job(self, key: str) -> None:
        self._found(lambda: self.server.jobs.remove(key))
        self._send_json({})

    def _job_result(self, key: str) -> None:
        job = self._found(lambda: self.server.jobs[key])
        if job.result is None:
            raise _RefusedError(404, "this job has no result to download")
        self._send_file(job.result, {"name": job.name})

    # Bodies

    def _number(self, name: str, default: int) -> int:
        value = self._query.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise ValueError(f"{name} is a whole number, not {value[:20]!r}")
        return int(value)

    def _name(self) -> str:
        """Return the name of an uploaded file, without any folder."""
        name = re.split(r"[/\\]", self._query.get("name", ""))[-1]
        return name if name.strip(". ") else "photo"

    def _check_length(self, most: int) -> None:
        if not self._left and self.headers.get("Content-Length") != "0":
            raise _RefusedError(411, "an upload needs a length")
        if self._left > most:
            raise _RefusedError(413, f"the file has {self._left:,} bytes, more than the limit of {most:,}")

    def _pieces(self) -> Iterator[bytes]:
        """Yield what is left of the body.

        Raises:
            ConnectionError: the connection ends before.
        """
        while self._left:
            # What is there; a whole piece may take any time.
            if not (piece := self.rfile.read1(min(_PIECE, self._left))):
                raise ConnectionError("the upload was broken off")
            self._left -= len(piece)
            yield piece

    def _body(self, most: int) -> bytes:
        self._check_length(most)
        return b"".join(self._pieces())

    def _upload(self, most: int, suffix: str = "") -> Path:
        """Store the body in a file, which is deleted if the connection ends before it is complete."""
        self._check_length(most)
        if self._left > shutil.disk_usage(self.server.folder).free - _SPARE:
            raise _RefusedError(413, "there is not enough space on the disk for this file")
        path = self.server.folder / f"{secrets.token_hex(8)}{suffix}"
        try:
            with path.open("xb") as file:
                for piece in self._pieces():
                    file.write(piece)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _send_json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), "application/json")

    def _send_file(self, path: Path, about: dict[str, Any]) -> None:
        with path.open("rb") as file:
            self._head(200, path.stat().st_size, "application/octet-stream", _about(about))
            shutil.copyfileobj(file, self.wfile, _PIECE)

    def _fail(self, status: int, reason: str) -> None:
        # What is left of a body would be read as the next request. A browser that is still sending it when the
        # connection ends does not read the answer.
        self.close_connection = True
        if self._begun:
            return  # The end of the connection tells that the answer is not complete.
        self._send(status, json.dumps({"error": reason}).encode(), "application/json", {"Connection": "close"})
        end = time.monotonic() + _DRAIN
        with suppress(OSError):
            self.connection.settimeout(_DRAIN)
            for _ in self._pieces():
                if (left := end - time.monotonic()) <= 0:
                    break
                self.connection.settimeout(left)

    def _send(self, status: int, content: bytes | memoryview, kind: str, headers: dict[str, str] | None = None) -> None:
        self._head(status, len(content), kind, headers or {})
        self.wfile.write(content)

    def _head(self, status: int, length: int, kind: str, headers: dict[str, str]) -> None:
        self._begun = True
        self.send_response(status)
        always = {
            "Content-Type": kind,
            "Content-Length": str(length),
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in (always | headers).items():
            self.send_header(name, value)
        self.end_headers()


def _photo_suffix(name: str) -> str:
    """Return the extension of a photo, which tells raw files of cameras apart; empty for others."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in readable_suffixes() else ""


def _about(values: dict[str, Any]) -> dict[str, str]:
    """Return facts about an answer whose body is not JSON, as a header."""
    return {"X-Kdlib": quote(json.dumps(values))}
