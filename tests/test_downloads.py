"""Downloads of weights, from a server of our own that interrupts, tampers, stalls, leads astray; none unasked."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

import kdlib
from kdlib.cli import app
from kdlib.models import create_model
from kdlib.weights import download as downloads
from kdlib.weights import load_model, save_model
from kdlib.weights.catalogue import catalogue, find_weights, own_catalogue, sha256_of
from tests.helpers import said


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        times = server.asked.count(self.path)
        content, start = server.content, 0
        match self.path:
            case "/away":
                return self.lead("http://127.0.0.1:1/good")
            case "/on":
                return self.lead("/good")
            case "/round":
                return self.lead("/round")
            case "/gone":
                return self.send_error(404)
            case "/ill" if times < 3:
                return self.send_error(503)
            case "/tampered":
                content = content[:-1] + bytes([content[-1] ^ 1])
            case "/endless":
                content, start = content * 1000, 0
        self.send_response(200)
        if self.path not in ("/endless", "/trickling"):
            self.send_header("Content-Length", str(len(content)))
        if self.path == "/packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.path == "/trickling":
            while not server.done.wait(0.05):
                self.wfile.write(content[:1])
                self.wfile.flush()
        elif self.path in ("/broken", "/stalling") or (self.path == "/shaky" and times < 3):
            self.wfile.write(content[start : len(content) // 2])
            self.wfile.flush()
            if self.path == "/stalling":
                server.done.wait(20)
        else:
            self.wfile.write(content)
        self.close_connection = True
        return None

    def lead(self, where):
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server(authority, tmp_path, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.daemon_threads, server.block_on_close = True, False
        server.handle_error = lambda *_: None  # clients that hang up are what is tested
        server.content = save_model(
            create_model("student-565", scale_factor=5), tmp_path / "m.safetensors"
        ).read_bytes()
        server.asked, server.done = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
        for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(proxy, raising=False)
        monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
        yield server
        server.done.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def listed(server, tmp_path, monkeypatch):
    """Have a catalogue of one's own list a model at one of the server's paths; gives the folder."""

    def listed(path, **changes):
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        url = f"https://127.0.0.1:{server.server_port}{path}"
        entry = {"file": "theirs.safetensors", "sha256": sha256_of(tmp_path / "m.safetensors"), "url": url} | changes
        (folder / "catalogue.json").write_text(json.dumps({"theirs": entry}))
        monkeypatch.setenv("KDLIB_CATALOGUE", str(folder / "catalogue.json"))
        return folder

    return listed


def fetch(*arguments):
    return CliRunner().invoke(app, ["weights", "fetch", *map(str, arguments)])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/good", "/on", "/shaky", "/ill"])
def test_file_is_fetched_and_is_usable_by_name(path, listed, server):
    folder = listed(path)
    result = fetch("theirs")
    assert result.exit_code == 0, result.output
    assert "1 downloaded, 0 of 1 were there" in result.output
    assert names(folder) == ["catalogue.json", "theirs.safetensors"]
    assert kdlib.load_model("theirs").scale_factor == 5
    assert kdlib.Enhancer("theirs").backend == "numba"
    if path in ("/shaky", "/ill"):
        assert server.asked == [path] * 3
    count = len(server.asked)
    assert "0 downloaded, 1 of 1 were there" in fetch("theirs").output
    assert len(server.asked) == count


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_file_has_the_permissions_of_any_new_file(listed):
    folder = listed("/good")
    fetch("theirs")
    (folder / "other").touch()
    assert (folder / "theirs.safetensors").stat().st_mode == (folder / "other").stat().st_mode


@pytest.mark.parametrize(
    ("path", "reason", "tries"),
    [
        ("/tampered", "hash of downloaded file", 4),
        ("/broken", "ChunkedEncodingError", 4),
        ("/stalling", "ConnectionError", 4),
        ("/gone", "HTTP 404", 1),
        ("/away", "'http://127.0.0.1:1/good' is no https address", 1),
        ("/round", "leads on more than 5 times", 6),
        ("/packed", "compressed", 1),
        ("/endless", "larger than the 6,000 bytes", 1),
    ],
)
def test_what_cannot_be_trusted_leaves_nothing(path, reason, tries, listed, server, monkeypatch):
    monkeypatch.setattr(downloads, "_SILENCE", (5.0, 0.2))
    monkeypatch.setattr(downloads, "MAX_BYTES", 6000)
    folder = listed(path)
    result = fetch("theirs")
    assert result.exit_code == 1
    assert reason in said(result)
    assert said(result).count("theirs:") == 1
    assert server.asked == [path] * tries
    assert names(folder) == ["catalogue.json"]
    with pytest.raises(FileNotFoundError, match="restore it with `kdlib weights fetch theirs`"):
        load_model("theirs")


def test_trickle_ends(listed, server, monkeypatch):
    monkeypatch.setattr(downloads, "_LONGEST", 0.5)
    folder = listed("/trickling")
    assert "was not complete after" in said(fetch("theirs"))
    assert names(folder) == ["catalogue.json"]


def test_server_that_nobody_vouches_for_is_refused(listed, server, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    folder = listed("/good")
    result = fetch("theirs")
    assert result.exit_code == 1
    assert "SSLError" in result.output
    assert server.asked == []
    assert names(folder) == ["catalogue.json"]


def test_interruption_leaves_nothing(listed, monkeypatch):
    def interrupted(_url, file, _pooch):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    folder = listed("/good")
    monkeypatch.setattr(downloads, "_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        downloads.fetch(own_catalogue()["theirs"])
    assert names(folder) == ["catalogue.json"]


def test_file_that_has_changed_is_not_replaced(listed, server):
    folder = listed("/good")
    (folder / "theirs.safetensors").write_bytes(b"my own work")
    result = fetch()
    assert result.exit_code == 1
    assert "has changed" in result.output
    assert (folder / "theirs.safetensors").read_bytes() == b"my own work"
    assert server.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/good", "file:///etc/passwd", "ftp://127.0.0.1/good", "HTTPS:/good"])
def test_other_addresses_are_refused(url, listed, server):
    listed("/good", url=url)
    result = fetch()
    assert result.exit_code == 1
    assert "address that does not begin with https://" in said(result)


@pytest.mark.parametrize(
    "file",
    [
        *("../theirs.pth", "a/theirs.pth", "/tmp/theirs.pth", "..", "", ".pth", ".hidden.pth", "theirs", "theirs.py"),
        *("C:theirs.pth", r"a\theirs.pth", r"\\server\theirs.pth", "NUL.pth", "com1.pth", "theirs.pth ", "theirs.pth."),
        *("a\0.pth", "a\n.pth", "ä.pth", "~.pth", "-rf.pth", f"{'a' * 200}.pth", "catalogue.json", "http:a.pth"),
    ],
)
def test_names_cannot_leave_the_folder(file, listed, server):
    listed("/good", file=file)
    with pytest.raises(ValueError, match="does not name a weights file"):
        own_catalogue()
    assert fetch().exit_code == 1
    assert server.asked == []


@pytest.mark.parametrize("name", ["../up", "a/b", "", "-x", "model.pth", "x" * 200, "[bold]"])
def test_names_of_models_are_plain(name, tmp_path):
    (tmp_path / "catalogue.json").write_text(json.dumps({name: {"file": "a.pth", "sha256": "0" * 64}}))
    with pytest.raises(ValueError, match="is not a model name"):
        own_catalogue(tmp_path / "catalogue.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "not a table"),
        ("{", "Expecting"),
        ("[" * 100_000, "."),
        ('{"a": 1}', "not a table"),
        ('{"a": {"file": 1}}', "not a text"),
        ('{"a": {"file": "a.pth", "sha256": "abc"}}', "64 hexadecimal digits"),
        ('{"a": {}, "a": {}}', "occurs twice"),
        (json.dumps({n: {"file": f"{n}.pth", "sha256": "0" * 64} for n in "Aa"}), "two models name the same file"),
    ],
)
def test_catalogue_that_is_none_is_refused(content, reason, tmp_path):
    (tmp_path / "catalogue.json").write_text(content)
    with pytest.raises(ValueError, match=reason) as caught:
        own_catalogue(tmp_path / "catalogue.json")
    assert str(tmp_path / "catalogue.json") in str(caught.value)


@pytest.mark.parametrize("content", [None, "folder"])
def test_unreadable_catalogue_is_named_with_the_variable_that_names_it(content, tmp_path, monkeypatch):
    listing = tmp_path / "mine.json"
    if content:
        listing.mkdir()
    monkeypatch.setenv("KDLIB_CATALOGUE", str(listing))
    with pytest.raises(OSError, match=r"KDLIB_CATALOGUE names, cannot be read \(") as caught:
        find_weights("theirs")
    assert str(caught.value).startswith(f"the catalogue {listing}")
    result = fetch()
    assert result.exit_code == 1
    assert str(caught.value) in said(result)


def test_shipped_names_cannot_be_taken(tmp_path, monkeypatch):
    listing = {"student-565": {"file": "a.pth", "sha256": "0" * 64}}
    (tmp_path / "catalogue.json").write_text(json.dumps(listing))
    result = fetch("--catalogue", tmp_path / "catalogue.json")
    assert result.exit_code == 1
    assert "name of weights that ship with kdlib" in said(result)
    monkeypatch.setenv("KDLIB_CATALOGUE", str(tmp_path / "catalogue.json"))
    assert find_weights("student-565") == catalogue()["student-565"].path


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_link_out_of_the_folder_is_refused(listed, server, tmp_path):
    folder = listed("/good")
    (folder / "theirs.safetensors").symlink_to(tmp_path / "m.safetensors")
    for load in (load_model, kdlib.Enhancer):
        with pytest.raises(ValueError, match="is a link to a file elsewhere"):
            load("theirs")
    assert fetch().exit_code == 1
    (folder / "theirs.safetensors").unlink()
    (folder / "theirs.safetensors").symlink_to(tmp_path / "not there")
    assert fetch().exit_code == 0  # the link gives way to the file
    assert not (tmp_path / "not there").exists()
    assert load_model("theirs").scale_factor == 5


def test_shipped_weights_are_all_there(monkeypatch):
    monkeypatch.delenv("KDLIB_CATALOGUE", raising=False)
    result = fetch()
    assert result.exit_code == 0, result.output
    count = len(catalogue())
    assert f"0 downloaded, {count} of {count} were there" in result.output


def test_missing_files_without_an_address_are_named(tmp_path):
    (tmp_path / "catalogue.json").write_text(json.dumps({"mine": {"file": "a.pth", "sha256": "0" * 64}}))
    result = fetch("mine", "--catalogue", tmp_path / "catalogue.json")
    assert result.exit_code == 1
    assert "is missing; put it there, or give its url" in said(result)
    assert "no catalogue lists 'yours'" in said(fetch("yours"))


OFFLINE = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"):
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(refuse)
"""


def test_such_a_watch_notices_a_connection():
    code = f"{OFFLINE}\nimport urllib.request\nurllib.request.urlopen('https://127.0.0.1:1')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "socket.getaddrinfo" in done.stderr or "socket.connect" in done.stderr


@pytest.mark.slow
def test_nothing_is_fetched_unasked(tmp_path):
    # Importing, loading every model, enhancing, and what the notebooks import.
    notebooks = Path(__file__).parents[1] / "notebooks"
    code = f"""{OFFLINE}
import ast, json
from pathlib import Path
import numpy as np
import kdlib
from kdlib.weights.catalogue import catalogue

for name in catalogue():
    kdlib.load_model(name)
kdlib.Enhancer()(np.full((8, 8, 3), 9, np.uint8))
seen = set()
for notebook in sorted(Path({str(notebooks)!r}).glob("*.ipynb")):
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "import" in source and not source.startswith("%"):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    seen.add(ast.unparse(node))
for line in sorted(seen):
    exec(line, {{}})
assert len(seen) > 10
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr


def test_tests_have_no_network():
    with pytest.raises(PermissionError, match="tests have no network"):
        socket.create_connection(("example.org", 443))
