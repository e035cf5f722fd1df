"""Recognising and opening video files."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av

# File extensions of the videos that can be written → FFmpeg's name of the format
FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# FFmpeg's names of formats that refer to other files, which their author chooses freely
_LISTS = {"hls", "concat", "dash", "sdp", "rtsp", "imf", "webm_dash_manifest"}
HEVC_TAG = "hvc1"
"""How HEVC is marked in MP4 and MOV: players of Apple take no other mark."""
# Tags that describe the file rather than the video, and would be wrong for another file
_NOT_COPIED = (
    "major_brand", "minor_version", "compatible_brands", "encoder", "duration", "bps", "number_of_", "_statistics",
)  # fmt: skip
_SOON = 200  # packets after the first frame among which other streams are looked for


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


def look(path: Path, container: av.container.InputContainer) -> tuple[av.VideoFrame, dict[int, av.Packet]]:
    """Return the first frame that can be decoded, as only a frame shows size, colours and rotation reliably.

    Returns:
        the frame, and the first packets of other streams that come before it, or soon after, by their streams' indices.
    """
    video = main_stream(path, container)
    found: av.VideoFrame | None = None
    packets: dict[int, av.Packet] = {}
    waiting = {stream.index for stream in container.streams} - {video.index}
    after = 0
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux():
            index = packet.stream.index
            if index in waiting and packet.size:
                packets[index] = packet
                waiting.remove(index)
            if found is None and index == video.index:
                with contextlib.suppress(av.FFmpegError):
                    found = next(iter(video.decode(packet)), None)
            after += found is not None
            if found is not None and (not waiting or after > _SOON):
                break
    if found is None:
        raise VideoError(f"{path}: none of its video frames can be decoded")
    return found, packets


def lasting(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are also true of another file with the same video."""
    return {key: value for key, value in metadata.items() if not key.lower().startswith(_NOT_COPIED)}


def in_matroska(path: Path) -> str:
    """Return the name under which FFmpeg's format "tee" writes a Matroska file.

    Matroska can hold nearly all sound under the numbers that WAV has for it. PyAV does not let its own writer do so,
    but leaves it to "tee", which hands everything on to the writers of other formats.
    """
    special = re.sub(r"([\\'|\s])", r"\\\1", str(path))
    return f"[f=matroska]file:{special}"
