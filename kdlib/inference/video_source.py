"""Reading a video: its pictures as RGB arrays in the order they are shown, and the packets of its other tracks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

# Slower than swscale's defaults, which pick the nearest colour sample and are up to two levels off.
_EXACT = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
_UNSPECIFIED = 2  # in AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic alike
_ITU709, _ITU601, _BT2020 = 1, 5, 9
# swscale's name for each AVColorSpace that it converts
_MATRICES = {1: _ITU709, 4: 4, 5: _ITU601, 6: _ITU601, 7: 7, 9: _BT2020, 10: _BT2020}


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file and the reason."""


@dataclass(frozen=True)
class Colours:
    """How a stream's numbers stand for colours, as FFmpeg counts them: what the output is tagged with."""

    matrix: int
    range: int
    primaries: int
    transfer: int


@dataclass(frozen=True)
class Picture:
    """A picture on its way through.

    Attributes:
        rgb: H×W×3, uint8 or uint16, C-contiguous.
        pts: when it is shown, in units of the stream's time base.
        duration: how long, in the same units; 0 if the file does not say.
        time: when it is shown, in seconds.
    """

    rgb: np.ndarray
    pts: int
    duration: int
    time: float


@dataclass(frozen=True)
class Damage:
    """A damaged frame.

    Attributes:
        time: when it is shown, in seconds.
        repeated: nothing could be decoded, and the picture before is shown in its place; otherwise the decoder has
            patched the picture.
    """

    time: float
    repeated: bool


def matrix_for(colours: Colours, width: int, height: int) -> int:
    """The matrix to convert with, as swscale counts them. Untagged video is BT.709 if larger than PAL, else BT.601."""
    if colours.matrix in _MATRICES:
        return _MATRICES[colours.matrix]
    return _ITU709 if height > 576 or width >= 1280 else _ITU601


def bits_of(pixel_format: str) -> int:
    """Bits of a colour in this pixel format."""
    return max(component.bits for component in VideoFormat(pixel_format, 2, 2).components)


class VideoSource:
    """A video file, opened for reading.

    Attributes:
        path: the file.
        container: PyAV's.
        stream: the video stream that is shown.
        width, height: of its pictures as they are stored, before rotation.
        pixel_format, colours, sample_aspect_ratio: of the stream.
        display_matrix: FFmpeg's nine numbers for rotation and mirroring, or None.
        time_base: unit of ``Picture.pts``.
        damages: damaged frames met so far.
        notes: what else to tell about the file.

    Raises:
        VideoError: missing, empty, cut off, not a video, or no frame of it can be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.damages: list[Damage] = []
        self.notes: list[str] = []
        with _open(self.path) as container:
            self._look(container, _main_stream(self.path, container))
        # Opened anew: to seek back to the start is not exact in every format.
        self.container = _open(self.path)
        self.stream = _main_stream(self.path, self.container)
        self.stream.thread_type = "SLICE"  # an error then belongs to the packet that was just decoded
        self.time_base: Fraction = self.stream.time_base or Fraction(1, 90_000)
        self.rate: Fraction = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        # Transport streams count from anywhere, up to 26 hours; players show their first frame at once.
        self.starts_anywhere = self.container.format.name in {"mpegts", "mpeg"}
        self._deep = bits_of(self.pixel_format) > 8
        self._reformatter = VideoReformatter()
        self._hidden = 0
        self._end = 0.0

    def _look(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        """Learn what only a decoded frame tells for sure."""
        for packet in _packets(container, [stream], self.notes):
            with contextlib.suppress(av.InvalidDataError):
                for frame in stream.decode(packet):
                    self.width, self.height, self.pixel_format = frame.width, frame.height, frame.format.name
                    full = frame.format.name.startswith("yuvj")
                    self.colours = Colours(
                        int(frame.colorspace),
                        int(ColorRange.JPEG) if full else int(frame.color_range),
                        int(frame.color_primaries),
                        int(frame.color_trc),
                    )
                    self.sample_aspect_ratio = stream.sample_aspect_ratio or None
                    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
                    self.display_matrix = [int(n) for n in np.frombuffer(matrix, np.int32)] if matrix else None
                    self.notes.clear()
                    return
        raise VideoError(f"{self.path}: none of its video frames can be decoded")

    @property
    def expected_frames(self) -> int:
        """About how many frames there will be, or 0 if the file does not say."""
        if self.stream.duration:
            return round(self.stream.duration * self.time_base * self.rate)
        return round(self.container.duration * self.rate / av.time_base) if self.container.duration else 0

    def use_deep_colour(self) -> None:
        """Give pictures of 16 bits even though the stream has 8: for an output that has more."""
        self._deep = True

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def read(self, copied: list[Any]) -> Iterator[Picture | av.Packet]:
        """All pictures in the order they are shown, and between them the packets of the streams ``copied``."""
        offset = Fraction(self.container.start_time or 0, av.time_base) if self.starts_anywhere else Fraction(0)
        lost: list[int] = []
        previous: av.VideoFrame | None = None
        shown: int | None = None
        for packet in _packets(self.container, [self.stream, *copied], self.notes):
            self._follow(packet)
            if packet.stream is not self.stream:
                if packet.size or packet.pts is not None:
                    yield _earlier(packet, offset)
                continue
            for frame in self._decode(packet, lost):
                pts = self._time_of(frame, shown) - round(offset / self.time_base)
                for missed in self._due(lost, pts + round(offset / self.time_base)):
                    at = missed - round(offset / self.time_base)
                    if shown is None or at > shown:
                        self.damages.append(Damage(float(at * self.time_base), repeated=True))
                        yield self._picture(previous or frame, at, 0)
                        shown = at
                shown = pts if shown is None else max(pts, shown + 1)
                if frame.is_corrupt:
                    self.damages.append(Damage(float(shown * self.time_base), repeated=False))
                yield self._picture(frame, shown, frame.duration)
                previous = frame
        yield from ()
