"""Which files are videos, and opening them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import av

# File extensions of videos that are written → FFmpeg's name of the format
FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# FFmpeg's names of formats that show what is in other files, whichever their author wants shown
_LISTS = {"hls", "concat", "dash", "sdp", "rtsp", "imf", "webm_dash_manifest"}


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file and the reason."""


def format_of(path: Path) -> str:
    """FFmpeg's name of the format that a file's extension stands for, or a :class:`VideoError`."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise VideoError(f"{path}: videos are written as {', '.join(FORMATS)}; choose one of these endings") from None


def open_video(path: Path) -> av.container.InputContainer:
    """Open a file with PyAV, or raise a :class:`VideoError` that says what is wrong with it."""
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if not path.is_file():
        raise VideoError(f"{path} is a folder; give a video file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty")
    try:
        # Formats that name further files may get them from nowhere but this machine; see below.
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except av.FFmpegError as error:
        with path.open("rb") as file:
            if file.read(8)[4:] == b"ftyp":
                raise VideoError(
                    f"{path} is cut off: the index that MP4 and MOV files end with is missing, without which no frame "
                    "can be found; copy the file again, or repair it first"
                ) from None
        raise VideoError(f"{path}: not a video in a known format ({error.strerror})") from None
    # FFmpeg takes photos for videos of one frame, and draws text files.
    name = container.format.name
    if name.endswith("_pipe") or name in {"image2", "tty"}:
        container.close()
        raise VideoError(f"{path} is not a video but a {'text' if name == 'tty' else 'photo'}")
    if set(name.split(",")) & _LISTS:
        container.close()
        raise VideoError(f"{path} is not a video but a list of other files; give one of these")
    return container


def is_cover(stream: Any) -> bool:
    """Whether a video stream is just a cover picture."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def main_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """The video stream that is shown: the first that is no cover picture."""
    for stream in container.streams.video:
        if not is_cover(stream) and stream.codec_context is not None:
            return stream
    held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing that can be played"
    raise VideoError(f"{path} holds no video (only {held})")


def first_frame(path: Path, container: av.container.InputContainer) -> av.VideoFrame:
    """The first frame that can be decoded: only a frame tells size, colours and rotation for sure."""
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(main_stream(path, container)):
            with contextlib.suppress(av.FFmpegError):
                for frame in packet.decode():
                    return frame
    raise VideoError(f"{path}: none of its video frames can be decoded")
