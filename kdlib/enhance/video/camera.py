"""A live view of a camera, with the original picture beside the enhanced one."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Our one-line error replaces the ten lines that OpenCV's backends log about a missing camera. OpenCV reads the variable
# when it is imported.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import cv2
import numpy as np

from kdlib.enhance.video.smoothing import Enhances, MapSmoother, check_same_size, coarse_copy

_RECENT = 0.1  # weight of the newest frame in the displayed moving averages


class CameraError(ValueError):
    """The camera cannot be read, or its picture cannot be shown."""


@dataclass(frozen=True)
class CameraReport:
    """Statistics of a live view.

    Attributes:
        frames: number of frames shown.
        dropped: number of frames left out because newer ones had arrived before their turn.
        frames_per_second: mean rate of the frames shown.
        latency_ms: mean time from a frame's arrival to its display, in milliseconds.
    """

    frames: int
    dropped: int
    frames_per_second: float
    latency_ms: float


@dataclass(frozen=True)
class _Grabbed:
    """A frame, H×W×3 uint8 in BGR, its arrival time (``time.perf_counter``), and the frames dropped before it."""

    bgr: np.ndarray
    time: float
    dropped: int


class Window:
    """A window on the screen, for use in a ``with`` statement.

    Raises:
        CameraError: OpenCV was built without window support, or there is no screen.
    """

    def __init__(self, title: str) -> None:
        _require_display()
        self.title = title

    def show(self, picture: np.ndarray) -> bool:
        """Show a picture, H×W×3 uint8 in BGR; return False if the user pressed ``q`` or closed the window."""
        cv2.imshow(self.title, picture)
        key = cv2.waitKey(1) & 0xFF
        return key != ord("q") and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1

    def __enter__(self) -> Self:
        try:
            cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise CameraError(f"no window can be opened ({error.err})") from None
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        cv2.destroyAllWindows()


def _require_display() -> None:
    """Raise CameraError unless a window can be opened.

    A separate process tries first, because without a display the library behind OpenCV's windows ends the process
    instead of reporting an error.
    """
    nowhere = "there is no screen to show the picture on; to enhance a video file, use `kdlib video`"
    if any("GUI" in line and "NONE" in line for line in cv2.getBuildInformation().splitlines()):
        raise CameraError("this OpenCV has no window support (opencv-python-headless); install opencv-python instead")
    if not sys.platform.startswith("linux"):
        return
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        raise CameraError(nowhere)
    trial = [sys.executable, "-c", "import cv2; cv2.namedWindow('kdlib')"]
    if subprocess.run(trial, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        raise CameraError(nowhere)


def view(
    source: str | int,
    enhancer: Enhances,
    show: Callable[[np.ndarray], bool],
    *,
    smoothing: float = 0.25,
    open_capture: Callable[[Any], Any] = cv2.VideoCapture,
) -> CameraReport:
    """Show frames as they arrive, original left and enhanced right, until ``show`` returns False, Ctrl-C, or the end.

    Args:
        source: number of a camera, address of a stream (``rtsp://…``), or path of a video file. Cameras and streams
            are live: of the frames that arrive while another is being processed, only the newest is kept, so that the
            picture never lags behind. A file is shown in full, at its own speed.
        enhancer: a :class:`kdlib.Enhancer`.
        show: function that takes a picture, H×2W×3 uint8 in BGR, and returns False to end the view.
        smoothing: time constant in seconds with which curve maps follow the scene.
        open_capture: replaces ``cv2.VideoCapture`` in tests.

    Raises:
        CameraError: the camera, stream or file does not exist, or provides no frames.
        ValueError: the Enhancer enlarges photos.
    """
    check_same_size(enhancer)
    smoother = MapSmoother(smoothing)
    number = int(source) if str(source).isdecimal() else None
    live = number is not None or "://" in str(source)
    if not live and not Path(str(source)).is_file():
        raise CameraError(f"{source}: no such file; give the number of a camera or the path of a video")
    name = f"camera {number}" if number is not None else str(source)
    capture = open_capture(number if number is not None else str(source))
    frames, dropped, latencies, latency, period = 0, 0, 0.0, 0.0, 0.0
    try:
        if not capture.isOpened():
            raise CameraError(f"{name} cannot be opened; is it connected, free and readable?")
        begun = previous = time.perf_counter()
        with closing(_newest(capture) if live else _paced(capture)) as grabbed:
            for frame in grabbed:
                picture = _enhanced_beside(frame, enhancer, smoother)
                if frames:
                    _write_numbers(picture, 1 / max(period, 1e-6), latency)
                going_on = show(picture)
                now = time.perf_counter()
                share = _RECENT if frames else 1.0
                latency += share * (now - frame.time - latency)
                period += share * (now - previous - period)
                previous = now
                latencies += now - frame.time
                frames += 1
                dropped += frame.dropped
                if not going_on:
                    break
    except KeyboardInterrupt:
        pass  # Ctrl-C is an ordinary way to end a live view
    finally:
        capture.release()
    if not frames:
        raise CameraError(f"{name} provides no pictures")
    return CameraReport(frames, dropped, frames / max(previous - begun, 1e-6), 1000 * latencies / frames)


def _enhanced_beside(frame: _Grabbed, enhancer: Enhances, smoother: MapSmoother) -> np.ndarray:
    """Return the frame with its enhanced version to the right."""
    height, width = frame.bgr.shape[:2]
    rgb = cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2RGB)
    curve_map = smoother(enhancer.estimate(rgb), coarse_copy(rgb), frame.time)
    enhancer.apply(rgb, curve_map, out=rgb)
    both = np.empty((height, 2 * width, 3), dtype=np.uint8)
    both[:, :width] = frame.bgr
    cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR, dst=both[:, width:])
    return both


def _write_numbers(picture: np.ndarray, frames_per_second: float, latency: float) -> None:
    size = max(0.4, picture.shape[0] / 720)
    place = (round(12 * size), round(30 * size))
    text = f"{frames_per_second:.1f} frames/s, latency {1000 * latency:.0f} ms"
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):  # black outline, for contrast on any background
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA)


def _newest(capture: Any) -> Generator[_Grabbed, None, None]:
    """Yield the newest frame at each request. A thread reads all frames, because the driver would queue them."""
    slot: queue.Queue[_Grabbed] = queue.Queue(1)
    stop, ended = threading.Event(), threading.Event()
    failures: list[Exception] = []

    def grab() -> None:
        try:
            while not stop.is_set():
                there, bgr = capture.read()
                if not there:
                    break
                try:
                    dropped = slot.get_nowait().dropped + 1
                except queue.Empty:
                    dropped = 0
                slot.put(_Grabbed(bgr, time.perf_counter(), dropped))
        except Exception as error:  # raised again in the consuming thread
            failures.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=grab, name="kdlib-camera", daemon=True)
    thread.start()
    try:
        while True:
            over = ended.is_set()  # read before the slot, which may still hold the last frame
            try:
                yield slot.get(timeout=0 if over else 0.05)
            except queue.Empty:
                if over:
                    break
        if failures:
            raise failures[0]
    finally:
        stop.set()
        thread.join()


def _paced(capture: Any) -> Generator[_Grabbed, None, None]:
    """Yield all frames of a file at its own speed."""
    period = 1 / max(capture.get(cv2.CAP_PROP_FPS), 1.0)
    due = time.perf_counter()
    while True:
        there, bgr = capture.read()
        if not there:
            return
        time.sleep(max(0.0, due - time.perf_counter()))
        due = max(due, time.perf_counter() - period) + period
        yield _Grabbed(bgr, time.perf_counter(), 0)
