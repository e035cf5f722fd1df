import subprocess
import sys
import threading
import time
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from kdlib import Enhancer
from kdlib.cli.video import camera as camera_command
from kdlib.enhance.video import camera
from kdlib.enhance.video.camera import CameraError, Window, view

LEVELS = range(20, 140, 10)


@pytest.fixture
def clip(tmp_path):
    """A video of grey frames, each brighter than the one before, with a red left half."""
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=200, options={"crf": "1"})
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = 320, 240, "yuv444p"
        for i, level in enumerate(LEVELS):
            rgb = np.full((240, 320, 3), level, np.uint8)
            rgb[120:, :160, 0] = 200
            frame = av.VideoFrame.from_ndarray(rgb)
            frame.pts, frame.time_base = i, Fraction(1, 200)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


class Brighter:
    """An enhancer that adds to red and green and leaves blue."""

    def estimate(self, image):
        return np.zeros((2, 2, 3), np.float32)

    def apply(self, image, curve_map, out=None):
        out[...] = image + np.array([50, 20, 0], np.uint8)
        return out


class Capture:
    """A camera whose frames are numbered by their level; ``wait`` says when the next one is there."""

    def __init__(self, frames, wait=lambda number: None, opened=True):
        self.frames, self.wait, self.opened, self.number, self.released = frames, wait, opened, 0, False

    def isOpened(self):
        return self.opened

    def read(self):
        if self.number >= self.frames:
            return False, None
        self.wait(self.number)
        self.number += 1
        return True, np.full((48, 64, 3), self.number % 200, np.uint8)

    def get(self, _):
        return 1000.0

    def release(self):
        self.released = True


def test_file_is_shown_in_full_with_the_enhanced_picture_on_the_right(clip):
    shown = []
    report = view(clip, Brighter(), lambda picture: shown.append(picture.copy()) or True)
    assert report.frames == len(shown) == len(LEVELS)
    assert report.dropped == 0
    assert report.latency_ms > 0
    assert report.frames_per_second > 0
    for picture, level in zip(shown, LEVELS, strict=True):
        assert picture.shape == (240, 640, 3)
        left, right = picture[120:, :320].astype(int), picture[120:, 320:].astype(int)
        assert np.abs(left[:, 170:] - level).max() <= 2
        assert np.abs(left[:, :150] - [level, level, 200]).max() <= 2  # OpenCV's order: blue, green, red
        assert np.abs(right[:, 170:] - [level, level + 20, level + 50]).max() <= 2
        assert np.abs(right[:, :150] - [level, level + 20, 250]).max() <= 2


def test_numbers_are_written_on_the_picture(clip):
    shown = []
    view(clip, Brighter(), lambda picture: shown.append(picture.copy()) or True)
    assert shown[0][:40].max() < 100  # no numbers yet
    assert all(np.all(picture[:40] == 255, axis=2).any() for picture in shown[1:])


def test_show_ends_the_view(clip):
    shown = []
    report = view(clip, Brighter(), lambda picture: shown.append(1) or len(shown) < 4)
    assert report.frames == len(shown) == 4


@pytest.mark.parametrize("live", [False, True])
def test_interrupt_ends_the_view_in_good_order(live, clip):
    capture = Capture(10_000)
    shown = []

    def show(picture):
        shown.append(1)
        if len(shown) == 3:
            raise KeyboardInterrupt
        return True

    report = view(0 if live else clip, Brighter(), show, open_capture=lambda _: capture)
    assert report.frames == 2
    assert capture.released
    assert not [thread for thread in threading.enumerate() if thread.name == "kdlib-camera"]


def test_live_view_leaves_out_frames_that_came_meanwhile():
    taken, seen = threading.Event(), []

    def wait(number):
        if number == 1:
            taken.wait(10)  # the second frame comes while the first is being shown, and many more after it

    capture = Capture(40, wait)

    def show(picture):
        seen.append(int(picture[0, 0, 0]))
        if len(seen) == 1:
            taken.set()
            while capture.number < 40:
                time.sleep(0.001)
        return True

    report = view("0", Brighter(), show, open_capture=lambda number: capture if number == 0 else None)
    assert seen[0] == 1
    assert seen[-1] == 40
    assert report.frames == len(seen) <= 3  # one more may already have been taken
    assert report.frames + report.dropped == 40


def test_all_frames_are_shown_where_there_is_time():
    ready = threading.Semaphore(1)
    capture = Capture(20, lambda _: ready.acquire(timeout=10))
    seen = []

    def show(picture):
        seen.append(int(picture[0, 0, 0]))
        ready.release()
        return True

    report = view(0, Brighter(), show, open_capture=lambda _: capture)
    assert seen == list(range(1, 21))
    assert (report.frames, report.dropped) == (20, 0)


def test_failure_in_the_enhancer_comes_out_and_stops_the_camera():
    class Failing(Brighter):
        def estimate(self, image):
            raise RuntimeError("broken")

    capture = Capture(10_000)
    with pytest.raises(RuntimeError, match="broken"):
        view(0, Failing(), lambda _: True, open_capture=lambda _: capture)
    assert capture.released
    assert not [thread for thread in threading.enumerate() if thread.name == "kdlib-camera"]


def test_failure_in_the_camera_comes_out():
    def wait(number):
        if number == 2:
            raise RuntimeError("unplugged")

    with pytest.raises(RuntimeError, match="unplugged"):
        view(0, Brighter(), lambda _: True, open_capture=lambda _: Capture(5, wait))


@pytest.mark.parametrize(
    ("source", "capture", "reason"),
    [
        ("7", Capture(5, opened=False), "camera 7 cannot be opened"),
        ("3", Capture(0), "camera 3 provides no pictures"),
        ("rtsp://somewhere/1", Capture(5, opened=False), "rtsp://somewhere/1 cannot be opened"),
        ("missing.mp4", Capture(5), "missing.mp4: no such file; give the number of a camera"),
    ],
)
def test_nothing_to_show(source, capture, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CameraError, match=reason):
        view(source, Brighter(), lambda _: True, open_capture=lambda _: capture)


@pytest.mark.slow
def test_real_enhancer_brightens(clip):
    shown = []
    view(clip, Enhancer(), lambda picture: shown.append(picture[120:].mean((0, 2))) or True)
    assert all(columns[330:].mean() > 1.2 * columns[:310].mean() for columns in shown)


# --- the window ---


def test_no_screen_is_told_before_a_window_is_opened(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(CameraError, match="no screen"):
        Window("test")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="screens are reached in other ways")
def test_screen_that_cannot_be_reached_does_not_end_the_process(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":4077")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(CameraError, match="no screen"):
        Window("test")


def test_opencv_without_windows(monkeypatch):
    monkeypatch.setattr(camera.cv2, "getBuildInformation", lambda: "x\n  GUI:                           NONE\n")
    with pytest.raises(CameraError, match="install opencv-python instead"):
        Window("test")


@pytest.fixture
def screen(monkeypatch):
    """A screen, which there may be none of: what OpenCV was called for, and what it answers or raises."""
    called, answers = [], {"waitKey": -1, "getWindowProperty": 1.0}

    def call(name, *arguments):
        called.append((name, arguments))
        if isinstance(answer := answers.get(name), Exception):
            raise answer
        return answer

    monkeypatch.setattr(camera, "_require_display", lambda: None)
    for name in ("namedWindow", "imshow", "waitKey", "getWindowProperty", "destroyAllWindows"):
        monkeypatch.setattr(camera.cv2, name, partial(call, name))
    return SimpleNamespace(called=called, answers=answers)


def test_window_that_fails_to_open(screen):
    screen.answers["namedWindow"] = cv2.error("not implemented")
    with pytest.raises(CameraError, match="no window can be opened"), Window("test"):
        pass


@pytest.mark.parametrize(
    ("key", "visible", "going_on"), [(-1, 1.0, True), (ord("a"), 1.0, True), (ord("q"), 1.0, False), (-1, 0.0, False)]
)
def test_window_ends_by_q_and_by_closing_it(key, visible, going_on, screen):
    screen.answers.update(waitKey=key, getWindowProperty=visible)
    with Window("test") as window:
        assert window.show(np.zeros((2, 4, 3), np.uint8)) is going_on
    asked = ("waitKey", "getWindowProperty")
    assert [name for name, _ in screen.called if name not in asked] == ["namedWindow", "imshow", "destroyAllWindows"]


# --- the command ---


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(camera_command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_shows_a_file_and_says_how_it_went(run, clip, screen):
    result = run(clip, "--strength", "0.5")
    assert result.exit_code == 0, result.output
    shown = [arguments[1].shape for name, arguments in screen.called if name == "imshow"]
    assert shown == [(240, 640, 3)] * len(LEVELS)
    assert f"{len(LEVELS)} frames" in result.output
    assert "latency" in result.output


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="screens are reached in other ways")
@pytest.mark.parametrize("display", ["", ":4077"])
def test_command_without_a_screen_says_so_in_one_line(display, monkeypatch):
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code = "import typer; from kdlib.cli.video import camera; typer.run(camera)"
    result = subprocess.run([sys.executable, "-c", code, "0"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: there is no screen")
    assert len((result.stdout + result.stderr).strip().splitlines()) == 1


@pytest.mark.slow
def test_command_without_a_camera_says_so_in_one_line():
    code = (
        "import kdlib.enhance.video.camera as camera, typer; from kdlib.cli.video import camera as command\n"
        "camera._require_display = lambda: None\n"
        "camera.cv2.namedWindow = camera.cv2.destroyAllWindows = lambda *_: None\n"
        "typer.run(command)"
    )
    result = subprocess.run([sys.executable, "-c", code, "87"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert (result.stdout + result.stderr).strip().splitlines() == [
        "Error: camera 87 cannot be opened; is it connected, free and readable?"
    ]
