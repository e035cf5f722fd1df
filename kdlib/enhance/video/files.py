"""Recognising and opening video files."""

import contextlib
from pathlib import Path
from typing import Any

import av

# File extensions of the videos that can be written → FFmpeg's name of the format
FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# FFmpeg's names of formats that refer to other files, which their author chooses freely
_LISTS = {"hls", "concat", "dash", "sdp", "rtsp", "imf", "webm_dash_manifest"}


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file and the reason."""


def format_of(path: Path) -> str:
    """Return FFmpeg's name of the format for a file's extension, or raise :class:`VideoError`."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise VideoError(f"{path}: videos are written as {', '.join(FORMATS)}; use one of these extensions") from None


def open_video(path: Path) -> av.container.InputContainer:
    """Open a file with PyAV, or raise a :class:`VideoError` with the reason."""
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if not path.is_file():
        raise VideoError(f"{path} is a folder; give a video file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty")
    try:
        # Formats that refer to other files must not fetch them from the network; they are refused below.
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except av.FFmpegError as error:
        with path.open("rb") as file:
            if file.read(8)[4:] == b"ftyp":
                raise VideoError(
                    f"{path} is cut off: the index at the end of MP4 and MOV files is missing, and no frame can be "
                    "found without it; copy the file again, or repair it first"
                ) from None
        raise VideoError(f"{path}: not a video in a known format ({error.strerror})") from None
    # FFmpeg reads photos as videos of one frame, and renders text files as pictures.
    name = container.format.name
    if name.endswith("_pipe") or name in {"image2", "tty"}:
        container.close()
        raise VideoError(f"{path} is not a video but a {'text' if name == 'tty' else 'photo'}")
    if set(name.split(",")) & _LISTS:
        container.close()
        raise VideoError(f"{path} is not a video but a list of other files; give one of those")
    return container


def is_cover(stream: Any) -> bool:
    """Whether a video stream is only a cover picture."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def main_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """Return the video stream that players show, which is the first that is not a cover picture."""
    for stream in container.streams.video:
        if not is_cover(stream) and stream.codec_context is not None:
            return stream
    held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing that can be played"
    raise VideoError(f"{path} contains no video (only {held})")


def first_frame(path: Path, container: av.container.InputContainer) -> av.VideoFrame:
    """Return the first frame that can be decoded; only a frame shows size, colours and rotation reliably."""
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(main_stream(path, container)):
            with contextlib.suppress(av.FFmpegError):
                for frame in packet.decode():
                    return frame
    raise VideoError(f"{path}: none of its video frames can be decoded")
