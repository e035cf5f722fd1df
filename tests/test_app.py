"""``kdlib app``: the server behind the page."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
import sys
import tempfile
import textwrap
import threading
import time
import webbrowser
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from urllib.parse import quote, unquote, urlencode

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

import kdlib
from kdlib.app import server as app
from kdlib.app.uploads import uploads_folder
from kdlib.enhance.folders.local import enhance_photo, renamed
from kdlib.enhance.photos.photo_file import decode_photo
from kdlib.noise import TOP
from kdlib.weights.catalogue import DEFAULT_MODEL, catalogue
from tests import photo_corpus as corpus
from tests.helpers import in_new_process, said
from tests.helpers import kdlib as run
from tests.test_web import Page, chromium, png  # noqa: F401, which is a fixture
from tests.web.browser import WEB, scene

SETTINGS = {"model": DEFAULT_MODEL, "strength": 1, "denoise": 0}


class Client:
    """Calls a running server."""

    def __init__(self, server):
        self.server = server

    def request(self, method, path, body=None, **headers):
        """Return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=300)
        given = {"Authorization": f"Bearer {self.server.token}", **headers}
        connection.request(method, path, body, {name: value for name, value in given.items() if value is not None})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content

    def call(self, method, path, body=None, values=None):
        """Return what a call that succeeds answers."""
        address = f"/api/{path}?{urlencode(values or {})}"
        status, headers, content = self.request(method, address, body)
        assert status == 200, content
        if headers["Content-Type"] == "application/json":
            return json.loads(content)
        return json.loads(unquote(headers["X-Kdlib"])), content

    def open(self, content, name="night.png"):
        return self.call("POST", "photos", content, {"name": name})

    def view(self, photo, **values):
        about, content = self.call("GET", f"photos/{photo['id']}/view", values=values)
        return np.frombuffer(content, np.uint8).reshape(about["height"], about["width"], 4)

    def finished(self):
        """Wait for all jobs and return them."""
        while True:
            jobs = self.call("GET", "jobs")
            if not any(job["state"] in {"waiting", "running"} for job in jobs):
                return jobs
            time.sleep(0.02)


@pytest.fixture
def client():
    with app.serving() as server:
        yield Client(server)


def test_page_is_that_of_the_folder_with_the_policy_as_a_header(client):
    for path in sorted(WEB.iterdir()):
        status, headers, content = client.request("GET", f"/{path.name}", Authorization=None)
        assert status == 200
        if path.name != "index.html":
            assert content == path.read_bytes()
    own = (WEB / "index.html").read_text(encoding="utf-8").splitlines()
    status, headers, content = client.request("GET", "/", Authorization=None)
    changed = [(a, b) for a, b in zip(own, content.decode().splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert "Content-Security-Policy" in changed[0][0]
    assert changed[0][1] == '<meta name="kdlib-engine" content="local">'
    policy = changed[0][0].split('content="')[1].split('"')[0]
    wanted = policy.replace("connect-src 'none'", "connect-src 'self'") + "; frame-ancestors 'none'"
    assert headers["Content-Security-Policy"] == wanted
    for name in ("/../pyproject.toml", "/%2e%2e/pyproject.toml", "/kdlib", "/models.json"):
        assert client.request("GET", name)[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": None}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "example.org"}, 403),
        ({"Host": "127.0.0.1"}, 403),
    ],
)
def test_strangers_may_not_call(client, headers, status):
    for method, path in (("GET", "/api/models"), ("POST", "/api/photos?name=a.png"), ("DELETE", "/api/photos/0")):
        answer, _, content = client.request(method, path, b"" if method == "POST" else None, **headers)
        assert answer == status
        assert json.loads(content)["error"]
    assert client.request("GET", "/api/models", Origin=f"http://127.0.0.1:{client.server.server_port}")[0] == 200


def test_address_holds_the_token_where_browsers_send_it_to_nobody(client):
    address, fragment = client.server.address.split("#")
    assert address == f"http://127.0.0.1:{client.server.server_port}/"
    assert fragment == f"token={client.server.token}"
    assert len(client.server.token) >= 32


def test_every_model_is_offered_the_default_first(client):
    models = client.call("GET", "models")["models"]
    assert {model["name"] for model in models} == set(catalogue())
    assert models[0]["name"] == DEFAULT_MODEL


def test_result_is_the_file_of_the_command_line(client, tmp_path):
    deep = (scene(40, 30)[..., 0].astype(np.uint16) * 257).astype(np.uint16)
    Image.fromarray(deep).save(source := tmp_path / "deep.png")
    photo = client.open(source.read_bytes(), "täglich.png")
    assert (photo["width"], photo["height"], photo["notes"]) == (30, 40, [])
    about, content = client.call("GET", f"photos/{photo['id']}/result", values={**SETTINGS, "denoise": 0.5})
    assert about["name"] == "täglich_enhanced.png"
    (tmp_path / "got.png").write_bytes(content)
    got = decode_photo(tmp_path / "got.png").pixels
    assert got.dtype == np.uint16
    assert (got == kdlib.Enhancer(denoise=0.5)(deep)).all()


@pytest.mark.slow
def test_every_kind_of_photo_is_shown_and_saved_as_on_the_command_line(client, tmp_path):
    for case in corpus.cases():
        if case.needs or case.refused:
            continue
        (source := tmp_path / case.name).write_bytes(case.make())
        opened, decoded = client.open(source.read_bytes(), case.name), decode_photo(source)
        shown, pixels = client.view(opened), decoded.pixels
        top = TOP[pixels.dtype.name]
        wanted = np.rint(pixels.reshape(*pixels.shape[:2], -1)[..., :1] * (255 / top))  # red, or grey
        assert np.abs(shown[..., :1] - wanted).max() <= 1, case.kind
        about, content = client.call("GET", f"photos/{opened['id']}/result", values=SETTINGS)
        target = renamed(source, "_enhanced")
        assert about["name"] == target.name, case.kind
        enhance_photo(source, target, kdlib.Enhancer(denoise=0))
        (tmp_path / "got").write_bytes(content)
        got, own = decode_photo(tmp_path / "got"), decode_photo(target)
        assert got.format == own.format, case.kind
        for picture, same in zip([got.pixels, *got.pages], [own.pixels, *own.pages], strict=True):
            assert np.array_equal(picture, same), case.kind
        assert bool(decoded.pages) == any("all are saved" in note for note in opened["notes"]), case.kind
        client.call("DELETE", f"photos/{opened['id']}")


@pytest.mark.skipif(not corpus.HAS_RAW, reason="rawpy is not installed")
def test_a_raw_photo_is_developed_and_turned_once(client, tmp_path):
    (source := tmp_path / "night.dng").write_bytes(corpus.dng(orientation=6))
    photo, decoded = client.open(source.read_bytes(), "Night.DNG"), decode_photo(source).pixels
    assert (client.view(photo)[..., :3] == (decoded.astype(int) + 128) // 257).all()
    assert client.call("GET", f"photos/{photo['id']}/result", values=SETTINGS)[0]["name"] == "Night_enhanced.tif"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_views_are_upright_regions(client, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = scene(24, 36)
    content = png(stored, exif=exif)
    upright = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    photo = client.open(content)
    assert (photo["height"], photo["width"]) == upright.shape[:2]
    assert (client.view(photo)[..., :3] == upright).all()
    assert (client.view(photo, x=3, y=5, width=10, height=7)[..., :3] == upright[5:12, 3:13]).all()
    reduced = client.view(photo, factor=4)
    mean = upright.reshape(upright.shape[0] // 4, 4, upright.shape[1] // 4, 4, 3).mean((1, 3))
    assert np.abs(reduced[..., :3] - mean).max() <= 0.51
    bright = Image.fromarray(kdlib.Enhancer(denoise=0)(stored))
    bright.getexif()[0x0112] = orientation
    wanted = np.array(ImageOps.exif_transpose(bright))
    assert (client.view(photo, **SETTINGS)[..., :3] == wanted).all()


def test_bad_uploads_are_refused_with_the_name_and_the_reason(client):
    for content, words in ((b"words", "not a photo"), (b"", "empty"), (png(scene(64, 64))[:900], "truncated")):
        status, _, answer = client.request("POST", f"/api/photos?name={quote('../a/dark.png')}", content)
        assert status == 422
        assert json.loads(answer)["error"].startswith("dark.png: ")
        assert words in json.loads(answer)["error"]
    assert not list(client.server.folder.iterdir())


def test_uploads_are_limited_before_they_are_read(client):
    for length, status in ((str(app.MAX_PHOTO + 1), 413), ("-1", 411), ("many", 411)):
        connection = http.client.HTTPConnection("127.0.0.1", client.server.server_port, timeout=300)
        connection.putrequest("POST", "/api/photos?name=a.png")
        connection.putheader("Authorization", f"Bearer {client.server.token}")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        assert connection.getresponse().status == status
        connection.close()
    assert not list(client.server.folder.iterdir())


def test_a_refused_upload_is_answered_although_the_browser_still_sends_it(client, monkeypatch):
    monkeypatch.setattr(app, "MAX_PHOTO", 1000)
    for headers, status in (({}, 413), ({"Authorization": "Bearer wrong"}, 401), ({"Origin": "null"}, 403)):
        answer, _, content = client.request("POST", "/api/photos?name=a.png", bytes(40_000_000), **headers)
        assert answer == status
        assert json.loads(content)["error"]


def test_at_port_80_an_address_has_no_port():
    def asked(host):
        app._Handler._refuse_strangers(SimpleNamespace(server=SimpleNamespace(server_port=80), headers={"Host": host}))

    asked("127.0.0.1")
    for host in ("127.0.0.1:80", "example.org"):
        with pytest.raises(app._RefusedError, match="the address of this page"):
            asked(host)


def test_a_photo_of_too_many_pixels_is_refused_by_its_header(client):
    bomb = bytearray(png(scene(8, 8)))
    bomb[16:24] = (40_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    status, _, answer = client.request("POST", "/api/photos?name=bomb.png", bytes(bomb))
    assert status == 422
    assert "more than the limit" in json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("photos/0/view", 404),
        ("photos/x/view", 404),
        ("nothing", 404),
        ("jobs/7/result", 404),
    ],
)
def test_what_is_not_there_is_said(client, path, status):
    answer, _, content = client.request("GET", f"/api/{path}")
    assert answer == status
    assert json.loads(content)["error"]


@pytest.mark.parametrize(
    "values",
    [
        {"factor": 0}, {"x": -1}, {"x": 8, "width": 10}, {"width": "wide"}, {**SETTINGS, "strength": 3},
        {**SETTINGS, "strength": "nan"}, {**SETTINGS, "model": "none"}, {"model": DEFAULT_MODEL, "strength": "x"},
    ],
)  # fmt: skip
def test_bad_values_are_refused(client, values):
    photo = client.open(png(scene(10, 12)))
    status, _, content = client.request("GET", f"/api/photos/{photo['id']}/view?{urlencode(values)}")
    assert status == 422
    assert json.loads(content)["error"]


def test_closing_deletes_the_file(client):
    photo = client.open(png(scene(10, 12)))
    assert len(list(client.server.folder.iterdir())) == 1
    client.call("DELETE", f"photos/{photo['id']}")
    assert not list(client.server.folder.iterdir())
    assert client.request("DELETE", f"/api/photos/{photo['id']}")[0] == 404


def test_a_reference_is_compared(client):
    photo = scene(40, 50)
    opened = client.open(png(photo))
    result = kdlib.Enhancer(denoise=0)(photo)
    values = {**SETTINGS, "name": "truth.png"}
    found = client.call("POST", f"photos/{opened['id']}/compare", png(result), values)
    assert found == {"PSNR": "inf dB", "PSNR, same mean": "inf dB", "SSIM": "1.000"}
    off = np.clip(result.astype(int) + 8, 0, 255).astype(np.uint8)
    found = client.call("POST", f"photos/{opened['id']}/compare", png(off), values)
    error = np.mean((off / 255 - result / 255) ** 2)
    assert found["PSNR"] == f"{-10 * np.log10(error):.2f} dB"
    path = f"/api/photos/{opened['id']}/compare?{urlencode(values)}"
    status, _, content = client.request("POST", path, png(photo[:-1]))
    assert status == 422
    assert "50×40 and 50×39" in json.loads(content)["error"]


def test_a_folder_is_enhanced_with_its_failures(client, tmp_path):
    folder = tmp_path / "night"
    (folder / "more").mkdir(parents=True)
    photos = {"a.png": scene(20, 30), "more/b.png": scene(30, 20, seed=1)}
    for name, photo in photos.items():
        (folder / name).write_bytes(png(photo))
    (folder / "broken.png").write_bytes(b"words")
    client.call("POST", "jobs", json.dumps({**SETTINGS, "path": str(folder), "recursive": True}))
    [job] = client.finished()
    assert job["state"] == "done"
    assert (job["done"], job["total"]) == (3, 3)
    assert job["message"][0] == f"2 of 3 photos brightened. Written to {tmp_path / 'night_enhanced'}."
    assert "broken.png" in job["message"][1]
    for name, photo in photos.items():
        assert (np.array(Image.open(tmp_path / "night_enhanced" / name)) == kdlib.Enhancer(denoise=0)(photo)).all()
    client.call("POST", "jobs", json.dumps({**SETTINGS, "path": str(folder)}))
    refused = client.finished()[0]
    assert refused["state"] == "failed"
    target = tmp_path / "night_enhanced" / "a.png"
    assert refused["message"] == [
        f"1 of 2 results exist, such as {target}. Choose “Replace existing results” to replace them."
    ]
    target.write_bytes(b"old")
    client.call("POST", "jobs", json.dumps({**SETTINGS, "path": str(folder), "overwrite": True}))
    assert client.finished()[0]["message"][0].startswith("1 of 2 photos brightened. Written to ")
    assert (np.array(Image.open(target)) == kdlib.Enhancer(denoise=0)(photos["a.png"])).all()
    client.call("POST", "jobs", json.dumps({**SETTINGS, "path": str(folder / "broken.png")}))
    assert client.finished()[0]["message"][0] == "0 of 1 photos brightened."


@contextmanager
def video_file(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(6):
            frame = av.VideoFrame.from_ndarray(scene(48, 64, seed=n), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    yield path


def test_videos_are_enhanced_where_they_lie_or_uploaded(client, tmp_path):
    with video_file(tmp_path / "night.mp4") as video:
        client.call("POST", "jobs", json.dumps({**SETTINGS, "path": str(video)}))
        assert client.finished()[0]["state"] == "done"
        with av.open(str(tmp_path / "night_enhanced.mp4")) as result:
            assert sum(1 for _ in result.decode(video=0)) == 6
        values = {**SETTINGS, "name": "night.mp4", "side_by_side": "true"}
        client.call("POST", "videos", video.read_bytes(), values)
    job = client.finished()[0]
    assert (job["state"], job["done"], job["result"]) == ("done", 6, True)
    about, content = client.call("GET", f"jobs/{job['id']}/result")
    assert about["name"] == "night_enhanced.mp4"
    with av.open(io.BytesIO(content)) as result:
        assert result.streams.video[0].width == 128
    client.call("POST", "videos", b"words", values)
    job = client.finished()[0]
    assert job["state"] == "failed"
    assert job["message"]


def test_a_folder_may_hold_videos_and_other_files(client, tmp_path):
    (folder := tmp_path / "night").mkdir()
    for name in ("a.mp4", "b.MP4"):
        with video_file(folder / name):
            pass
    client.call("POST", "jobs", json.dumps({**SETTINGS, "path": str(folder)}))
    assert [(job["name"], job["state"], job["done"]) for job in client.finished()] == [
        ("b.MP4", "done", 6), ("a.mp4", "done", 6),
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "night_enhanced").iterdir()) == ["a.mp4", "b.MP4"]
    (folder / "c.png").write_bytes(png(scene(20, 30)))
    (folder / "notes.txt").write_text("words")
    client.call("POST", "jobs", json.dumps({**SETTINGS, "path": str(folder)}))
    b, a, photos = client.finished()[:3]
    assert (photos["name"], photos["done"]) == (str(folder), 1)
    assert photos["message"][1] == "1 file passed over (1 × .txt)."
    assert (a["state"], b["state"]) == ("failed", "failed")  # results exist, and are not overwritten
    assert "exists" in a["message"][0]


def test_a_job_is_stopped(client, tmp_path):
    (tmp_path / "many").mkdir()
    for n in range(40):
        (tmp_path / "many" / f"{n}.png").write_bytes(png(scene(200, 200, seed=n)))
    key = client.call("POST", "jobs", json.dumps({**SETTINGS, "path": str(tmp_path / "many")}))["id"]
    client.call("POST", f"jobs/{key}/stop")
    [job] = client.finished()
    assert job["state"] == "stopped"
    assert job["done"] < 40


def endless(job):
    """Work until it is stopped, or for a minute."""
    for n in range(6000):
        job.advance(n, 6000)
        time.sleep(0.01)


def wait_until(holds):
    for _ in range(6000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it does not happen")


def test_a_job_that_has_ended_is_removed_with_its_result(client, tmp_path):
    first = client.server.jobs._order("endless", endless)
    status, _, content = client.request("DELETE", f"/api/jobs/{first}")
    assert status == 422
    assert json.loads(content)["error"] == "endless is not finished; stop it before"
    with video_file(tmp_path / "night.mp4") as video:
        keys = [
            client.call("POST", "videos", video.read_bytes(), {**SETTINGS, "name": f"{n}.mp4"})["id"] for n in range(2)
        ]
    client.call("POST", f"jobs/{keys[1]}/stop")  # it has not begun
    client.call("POST", f"jobs/{first}/stop")
    assert [job["state"] for job in client.finished()] == ["stopped", "done", "stopped"]
    [result] = client.server.folder.iterdir()  # neither of the uploads
    assert result == client.server.jobs[keys[0]].result
    for key in (first, *keys):
        client.call("DELETE", f"jobs/{key}")
    assert client.call("GET", "jobs") == []
    assert not list(client.server.folder.iterdir())
    assert client.request("DELETE", f"/api/jobs/{keys[0]}")[0] == 404


def test_jobs_end_with_the_server():
    with app.serving() as server:
        key = server.jobs._order("endless", endless)
    assert server.jobs[key].state == "stopped"


def test_jobs_are_listed_while_others_are_ordered(client):
    jobs = client.server.jobs
    with jobs._lock:
        listing = threading.Thread(target=jobs.as_json)
        listing.start()
        listing.join(0.2)
        assert listing.is_alive()  # it waits
    listing.join()


@pytest.mark.parametrize("path", ["/nowhere/at/all", "~no-such-user/photos"])
def test_no_such_folder(client, path):
    status, _, content = client.request("POST", "/api/jobs", json.dumps({**SETTINGS, "path": path}))
    assert status == 422
    assert json.loads(content)["error"] == f"{path}: no such file or folder"


@pytest.mark.parametrize("body", ["[" * 60_000, "9" * 60_000, b"\xff\xfe{", "{"])
def test_what_is_not_json_is_refused(client, body):
    status, _, content = client.request("POST", "/api/jobs", body)
    assert status == 422
    assert json.loads(content)["error"] in {"a job is ordered as JSON", "a job takes the path of a folder or a video"}
    assert client.request("POST", "/api/jobs", bytes(2**16 + 1))[0] == 413


def test_an_unexpected_error_is_answered(client, monkeypatch):
    def fault(*_):
        raise RuntimeError("words")

    monkeypatch.setattr(app, "catalogue", fault)
    status, _, content = client.request("GET", "/api/models")
    assert status == 500
    assert json.loads(content)["error"].endswith("RuntimeError: words")


def test_an_answer_that_fails_half_way_ends_the_connection(client, monkeypatch):
    def fault(*_):
        raise OSError("words")

    photo = client.open(png(scene(20, 30)))
    monkeypatch.setattr(app.shutil, "copyfileobj", fault)
    with pytest.raises(http.client.IncompleteRead) as error:
        client.call("GET", f"photos/{photo['id']}/result", values=SETTINGS)
    assert error.value.partial == b""


def raw(client, head, token=True):
    """A connection that has sent the head of a request."""
    lines = [head, f"Host: 127.0.0.1:{client.server.server_port}"]
    lines += [f"Authorization: Bearer {client.server.token}"] if token else []
    connection = socket.create_connection(("127.0.0.1", client.server.server_port), timeout=30)
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def everything(connection):
    """What comes until the server ends the connection."""
    found = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            found += piece
    connection.close()
    return found


@pytest.mark.parametrize("trickles", [False, True])
def test_a_refused_upload_is_read_for_a_limited_time(client, monkeypatch, trickles):
    monkeypatch.setattr(app, "_DRAIN", 0.1)
    connection = raw(client, "POST /api/photos?name=a.png HTTP/1.1\r\nContent-Length: 1000000", token=False)

    def trickle():
        with suppress(OSError):  # until the connection ends
            for _ in range(1500):
                connection.sendall(b"x")
                sent.append(1)
                time.sleep(0.01)

    sent = []
    if trickles:
        thread = threading.Thread(target=trickle)
        thread.start()
    assert everything(connection).startswith(b"HTTP/1.1 401")
    if trickles:
        thread.join()
        assert len(sent) < 1500


def test_a_silent_connection_ends(client, monkeypatch):
    assert 0 < app._Handler.timeout <= 60
    monkeypatch.setattr(app._Handler, "timeout", 0.1)
    connection = raw(client, "GET / HTTP/1.1\r\nX: y")
    assert everything(connection).startswith(b"HTTP/1.1 200")
    assert everything(socket.create_connection(("127.0.0.1", client.server.server_port), timeout=30)) == b""


def test_strangers_hold_few_connections(client, monkeypatch):
    monkeypatch.setattr(app, "_STRANGERS", 2)
    own = http.client.HTTPConnection("127.0.0.1", client.server.server_port, timeout=30)
    for _ in range(2):
        own.request("GET", "/api/jobs", headers={"Authorization": f"Bearer {client.server.token}"})
        assert own.getresponse().read() == b"[]"
        strangers = [socket.create_connection(("127.0.0.1", client.server.server_port), timeout=30) for _ in range(4)]
        assert [everything(stranger) for stranger in strangers[:2]] == [b"", b""]
        assert len(client.server._strangers) == 2
        for stranger in strangers[2:]:
            stranger.close()
    own.close()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_body_is_not_read_as_the_next_request(client, method):
    for header in ("Content-Length: 31", "Transfer-Encoding: chunked"):
        connection = raw(client, f"{method} /api/jobs HTTP/1.1\r\n{header}")
        connection.sendall(b"GET /api/models HTTP/1.1\r\nX: y\r\n\r\n"[:31])
        answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.count(b"HTTP/1.1") == 1


def test_a_video_is_refused_before_it_is_sent(client, monkeypatch):
    def enhancer(_):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(app.Settings, "enhancer", enhancer)
    monkeypatch.setattr(app, "_DRAIN", 0.1)
    connection = raw(client, f"POST /api/videos?{urlencode(SETTINGS)} HTTP/1.1\r\nContent-Length: 1000")
    answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 501")
    assert b"needs PyTorch" in answer
    assert not list(client.server.folder.iterdir())


def test_a_broken_upload_is_deleted(client):
    connection = raw(client, "POST /api/photos?name=a.png HTTP/1.1\r\nContent-Length: 1000")
    connection.sendall(bytes(500))
    wait_until(lambda: list(client.server.folder.iterdir()))
    connection.close()
    wait_until(lambda: not list(client.server.folder.iterdir()))


def test_a_photo_that_fails_in_any_way_is_deleted(client, monkeypatch):
    def fault(*_):
        raise RuntimeError("words")

    monkeypatch.setattr("kdlib.app.photos.orientation_of", fault)
    assert client.request("POST", "/api/photos?name=a.png", png(scene(10, 12)))[0] == 500
    assert not list(client.server.folder.iterdir())


def test_a_full_disk_is_said(client, monkeypatch):
    monkeypatch.setattr(app.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30 + 5))
    status, _, content = client.request("POST", "/api/photos?name=a.png", bytes(6))
    assert status == 413
    assert "not enough space" in json.loads(content)["error"]


def test_few_photos_stay_in_memory_and_none_that_is_closed(client):
    photos = [client.open(png(scene(10, 12, seed=n))) for n in range(4)]
    for photo in photos:
        client.view(photo, **SETTINGS)
    opened = client.server.photos
    assert list(opened._decoded) == [photo["id"] for photo in photos[2:]]
    assert [key for key, _ in opened._results] == [photo["id"] for photo in photos[2:]]
    for photo in photos:
        client.call("DELETE", f"photos/{photo['id']}")
    assert not opened._decoded
    assert not opened._results


def test_few_views_are_computed_at_once(client, monkeypatch):
    photo = client.open(png(scene(10, 12)))
    running, most = [], []

    def view(*_, **__):
        running.append(0)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return np.zeros((1, 1, 4), np.uint8)

    monkeypatch.setattr(client.server.photos, "view", view)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.view(photo), range(8)))
    assert max(most) <= 2


def test_the_page_works_with_the_local_engine(client, chromium, tmp_path):  # noqa: F811
    photo = scene(60, 90)
    page = Page(chromium, client.server.address)
    assert "token" not in page.page.url
    assert page.page.locator("#model option").count() == len(catalogue())
    page.choose(png(photo), "night.png")
    page.set(denoise=0, strength=1.2)
    wanted = kdlib.Enhancer(strength=1.2, denoise=0)(photo)
    assert (page.canvas()[..., :3] == wanted).all()
    assert (page.canvas("before")[..., :3] == photo).all()
    saved = page.save(tmp_path)
    assert saved.name == "night_enhanced.png"
    assert (np.array(Image.open(saved)) == wanted).all()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(png(photo))
    page.page.fill("#path", str(tmp_path / "photos"))
    page.page.click("#job-form button")
    page.until("document.getElementById('job-list').textContent.includes('1 of 1 photos brightened')")
    assert (tmp_path / "photos_enhanced" / "a.png").is_file()
    page.page.set_input_files("#reference-file", {"name": "t.png", "mimeType": "image/png", "buffer": png(wanted)})
    page.until("document.getElementById('metrics').textContent.includes('PSNR')")
    assert page.requests
    assert all(url.startswith((client.server.address.split("#")[0], "blob:")) for url in page.requests)
    page.context.close()
    assert not page.errors


def test_the_list_of_jobs_comes_back_keeps_the_focus_and_is_quiet(client, chromium):  # noqa: F811
    client.server.jobs._order("endless", endless)
    page = Page(chromium, client.server.address)
    page.until("document.querySelector('#job-list li')")
    page.page.locator("#job-list button", has_text="Stop").focus()
    for _ in range(2):
        before = page.page.locator("#job-list li").text_content()
        page.until(f"document.querySelector('#job-list li').textContent !== {json.dumps(before)}")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.page.evaluate(focused) == "Stop: endless"
    assert page.page.locator("#said").text_content() == ""
    assert page.page.locator("#job-list").get_attribute("aria-live") is None
    page.page.keyboard.press("Enter")
    page.until("document.getElementById('said').textContent === 'endless: Stopped.'")
    assert page.page.evaluate(focused) == "Remove: endless"
    page.page.keyboard.press("Enter")
    page.until("!document.querySelector('#job-list li')")
    assert page.page.evaluate("document.activeElement.id") == "path"
    assert client.call("GET", "jobs") == []
    # Of calls at the same time, one asks; and once more for those that came meanwhile.
    calls = """async () => {
        const { JobsPanel } = await import("./local.js");
        let [running, most, calls] = [0, 0, 0];
        const json = async () => {
            most = Math.max(most, running += 1);
            calls += 1;
            await new Promise((resolve) => setTimeout(resolve, 20));
            running -= 1;
            return [];
        };
        const panel = new JobsPanel({ json }, () => ({}), () => {}, () => {});
        await Promise.all([panel._poll(), panel._poll(), panel._poll()]);
        return [most, calls];
    }"""
    assert page.page.evaluate(calls) == [1, 2]
    page.context.close()
    assert not page.errors


@pytest.mark.slow
def test_two_tabs_are_independent_and_leave_nothing(client, chromium):  # noqa: F811
    tabs = [Page(chromium, client.server.address) for _ in range(2)]
    for number, tab in enumerate(tabs):
        tab.choose(png(scene(20, 30 + number)), "night.png")
    assert len(list(client.server.folder.iterdir())) == 2
    tabs[0].page.reload()
    tabs[0].wait(lambda: len(list(client.server.folder.iterdir())) == 1, "the reloaded tab's upload is deleted")
    tabs[0].page.wait_for_selector("html[data-ready]")
    tabs[0].choose(png(scene(20, 32)), "again.png")  # with the token that the tab keeps
    tabs[1].set(strength=1.5)
    assert tabs[1].canvas().shape[:2] == (20, 31)
    for tab in tabs:
        tab.context.close()
        assert not tab.errors
    stranger = (context := chromium.new_context()).new_page()
    stranger.goto(client.server.address.split("#")[0])
    stranger.wait_for_selector("#alerts div")
    assert "open the address that `kdlib app` has printed" in stranger.locator("#alerts").text_content()
    context.close()


def test_command_prints_the_address_opens_it_and_ends(monkeypatch):
    opened = []

    def press_ctrl_c(address):
        opened.append(address)
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", press_ctrl_c)
    result = run("app")
    assert result.exit_code == 0
    [address] = opened
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=[\w-]{32,}", address)
    assert said(result) == f"{address} Press Ctrl-C to end. Ended; uploaded files are deleted."


def test_a_taken_port_is_said(client):
    result = run("app", "--no-browser", "--port", client.server.server_port)
    assert result.exit_code == 1
    assert "in use" in said(result)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_end_the_command_as_ctrl_c_does(monkeypatch, tmp_path, name):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def send(_):
        [uploads] = tmp_path.glob("kdlib-app-*/uploads")
        (uploads / "night.png").write_bytes(b"words")
        os.kill(os.getpid(), getattr(signal, name))
        raise AssertionError("the signal has not ended the command")

    before = signal.signal(getattr(signal, name), lambda *_: None)  # so that the fault does not end pytest
    monkeypatch.setattr(webbrowser, "open", send)
    try:
        result = run("app")
    finally:
        signal.signal(getattr(signal, name), before)
    assert said(result).endswith("Ended; uploaded files are deleted.")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_what_a_killed_command_has_left_is_removed_by_the_next(monkeypatch, tmp_path):
    program = """
        import os, signal, sys, tempfile
        from kdlib.app.uploads import uploads_folder
        tempfile.tempdir = sys.argv[1]
        with uploads_folder() as folder:
            (folder / "night.png").write_bytes(b"words")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    in_new_process(textwrap.dedent(program), str(tmp_path))
    [left] = tmp_path.iterdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (stranger := tmp_path / "kdlib-app-other").mkdir()  # without a lock, it is not a folder of kdlib
    with uploads_folder() as one, uploads_folder() as two:
        assert not left.exists()
        assert set(tmp_path.iterdir()) == {one.parent, two.parent, stranger}  # those in use stay
    assert list(tmp_path.iterdir()) == [stranger]


def test_an_address_that_is_pasted_into_the_open_page_is_used(client, chromium):  # noqa: F811
    address, _, given = client.server.address.partition("#")
    context = chromium.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#alerts p")
    page.goto(f"{address}#{given}")  # changes the hash alone
    page.wait_for_selector("html[data-ready]")
    page.wait_for_function(f"document.querySelectorAll('#model option').length === {len(catalogue())}")
    assert "token" not in page.url
    context.close()
