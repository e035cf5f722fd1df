"""Reading a video: its pictures as RGB arrays in display order, and the packets of its other tracks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from kdlib.enhance.video.files import first_frame, main_stream, open_video

# swscale's defaults are faster, but use the nearest colour sample and are up to two levels off.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
RGB, UNSPECIFIED = 0, 2  # values of AVColorSpace; the first marks streams that hold red, green and blue
# AVColorSpace → the matrix that swscale converts with, by swscale's own numbers
_ITU709, _FCC, _ITU601, _SMPTE240M, _BT2020 = 1, 4, 5, 7, 9
_MATRICES = {1: _ITU709, 4: _FCC, 5: _ITU601, 6: _ITU601, 7: _SMPTE240M, 9: _BT2020, 10: _BT2020}
_INTERLACED = {2, 3, 4, 5}  # values of AVFieldOrder
_KEEP_DURATION = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}  # formats whose header gives the duration of the video
_COUNT_FROM_ANYWHERE = {"mpegts", "mpeg"}


@dataclass(frozen=True)
class Colours:
    """How a stream's samples represent colours, in FFmpeg's numbers.

    Attributes:
        matrix: AVColorSpace, as tagged; 2 is unspecified.
        range: AVColorRange; 1 is limited (tv), 2 is full (pc), 0 is unspecified, which means limited.
        primaries: AVColorPrimaries, as tagged; 2 is unspecified.
        transfer: AVColorTransferCharacteristic, as tagged; 2 is unspecified.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int

    def conversion(self, width: int, height: int) -> tuple[int, int]:
        """Return matrix and range to convert with; without a tag, BT.709 for sizes beyond PAL and BT.601 otherwise."""
        usual = _ITU709 if height > 576 or width >= 1280 else _ITU601
        full = self.matrix == RGB or self.range == ColorRange.JPEG
        return _MATRICES.get(self.matrix, usual), int(ColorRange.JPEG if full else ColorRange.MPEG)


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: H×W×3, uint8 or uint16, C-contiguous.
        pts: display time in units of the source's time base.
        duration: display duration in the same units; 0 if the file does not give it.
        time: display time in seconds.
    """

    rgb: np.ndarray
    pts: int
    duration: int
    time: float


@dataclass(frozen=True)
class Damage:
    """A damaged frame.

    Attributes:
        time: display time in seconds.
        repeated: whether nothing of it could be decoded, so that a neighbour is shown in its place; otherwise the
            decoder has patched it.
    """

    time: float
    repeated: bool


class VideoSource:
    """A video file opened for reading. Read it once, then :meth:`close` it.

    Attributes:
        path: the file.
        container: the container that PyAV opened.
        stream: the video stream, which is the first that is not a cover picture.
        width, height, pixel_format, colours, sample_aspect_ratio: of the pictures as stored, before rotation.
        display_matrix: FFmpeg's nine numbers for how players rotate and mirror the pictures, or None.
        time_base, rate: unit of ``Picture.pts`` in seconds; average frames per second.
        interlaced: whether a picture holds two fields.
        damages: damaged frames found so far.
        notes: other remarks about the file for the user.

    Raises:
        VideoError: the file is missing, empty, cut off or not a video, or no frame of it can be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.damages: list[Damage] = []
        self.notes: list[str] = []
        with open_video(self.path) as container:
            self._look_at(first_frame(self.path, container))
        # The file is opened again, because seeking back to the start is not exact in all formats.
        self.container = open_video(self.path)
        self.stream = main_stream(self.path, self.container)
        self.stream.thread_type = "SLICE"  # an error then belongs to the packet that is being decoded
        self.time_base = self.stream.time_base or Fraction(1, 90_000)
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.sample_aspect_ratio: Fraction | None = self.stream.sample_aspect_ratio or None
        self.interlaced = self.stream.codec_context.field_order in _INTERLACED
        self._deep = bits_of(self.pixel_format) > 8
        self._reformatter = VideoReformatter()
        # Whether each packet holds exactly one picture. If so, a picture that the decoder does not return is lost even
        # if the decoder reports no error; otherwise only reported pictures count as lost.
        self._one_each = not self.interlaced and self.stream.codec_context.name != "vp8"
        self._awaited: dict[int, int] = {}
        self._filled: set[int] = set()
        self._step, self._steady, self._count = 0, True, 0
        self._gaps: list[tuple[float, float]] = []
        self._last: tuple[av.VideoFrame, int] | None = None
        self._hidden = 0
        self._end = 0.0

    def _look_at(self, frame: av.VideoFrame) -> None:
        self.width, self.height, self.pixel_format = frame.width, frame.height, frame.format.name
        full = self.pixel_format.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        self.colours = Colours(
            int(frame.colorspace),
            int(ColorRange.JPEG) if full else int(frame.color_range),
            int(frame.color_primaries),
            int(frame.color_trc),
        )
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        self.display_matrix = None if matrix is None else [int(n) for n in np.frombuffer(matrix, np.int32)]

    @property
    def expected_frames(self) -> int:
        """The approximate number of frames, or 0 if the file does not give it."""
        if self.stream.duration:
            return round(self.stream.duration * self.time_base * self.rate)
        return round(self.container.duration * self.rate / av.time_base) if self.container.duration else 0

    def use_deep_colour(self) -> None:
        """Return 16-bit pictures even if the stream has 8 bits, for an output that has more."""
        self._deep = True

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def read(self, copied: list[Any]) -> Iterator[Picture | av.Packet]:
        """Yield all pictures in display order and, in between, the packets of the streams ``copied``."""
        for packet in self._packets([self.stream, *copied]):
            if packet.stream is self.stream:
                yield from self._pictures(packet)
            elif packet.size:
                yield packet
        yield from self._bridge(None, math.inf)
        self._note_gaps()
        if self._hidden:
            self.notes.append(f"{self._hidden} frames that the file's edit list hides are left out")

    def _packets(self, streams: list[Any]) -> Iterator[av.Packet]:
        """Yield packets of some streams, then the empty ones that flush decoders; an incomplete file ends early."""
        # In such formats, players start at the first packet; in other formats, timestamps are absolute.
        start = self.container.start_time or 0
        start = start if self.container.format.name in _COUNT_FROM_ANYWHERE else 0
        shifts = {stream.index: round(start / (av.time_base * stream.time_base)) for stream in streams}
        packets = self.container.demux(streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.FFmpegError as error:
                self.notes.append(f"the file cannot be read beyond {self._end:.2f} s ({error.strerror})")
                yield from self._flush()
                return
            shift = shifts[packet.stream_index]
            if packet.pts is not None:
                packet.pts -= shift
                self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.dts is not None:
                packet.dts -= shift
            yield packet
        promised = (self.container.duration or 0) / av.time_base
        if self.container.format.name in _KEEP_DURATION and promised - self._end > 0.5:
            self.notes.append(f"the file breaks off after {self._end:.2f} s of {promised:.2f} s")

    def _flush(self) -> Iterator[av.Packet]:
        packet = av.Packet()
        packet.stream = self.stream
        yield packet

    def _pictures(self, packet: av.Packet) -> Iterator[Picture]:
        """Yield the pictures that the decoder returns for this packet."""
        self._hidden += packet.is_discard
        place = packet.pts if packet.size and not packet.is_discard else None
        if place is not None and self._one_each:
            self._awaited[place] = packet.duration or 0
        try:
            frames = self.stream.decode(packet)
        except av.FFmpegError:
            frames = []
            if place is not None:
                self._awaited[place] = packet.duration or 0
        for frame in frames:
            pts = self._time_of(frame)
            yield from self._bridge(frame, pts)
            self._awaited.pop(pts, None)
            if self._last is not None and pts <= self._last[1]:
                if pts not in self._filled:
                    self._report(pts, repeated=True)  # too late, as a later picture has been output
                continue
            if frame.is_corrupt:
                self._report(pts, repeated=False)
            yield self._next(frame, pts, frame.duration)

    def _time_of(self, frame: av.VideoFrame) -> int:
        """Return a frame's time, estimated where AVI and raw streams do not give it."""
        if self._last is None:
            return frame.pts or frame.dts or 0
        following = self._last[1] + max(1, round(1 / (self.rate * self.time_base)))
        pts = frame.pts if frame.pts is not None else frame.dts if frame.dts is not None else following
        return pts + (pts == self._last[1])  # no two frames at the same time

    def _bridge(self, following: av.VideoFrame | None, until: float) -> Iterator[Picture]:
        """Fill the places of lost frames before ``until`` with the preceding picture, or else the following one."""
        neighbour = self._last[0] if self._last else following
        for pts in sorted(pts for pts in self._awaited if pts < until):
            duration = self._awaited.pop(pts)
            self._report(pts, repeated=True)
            if neighbour is not None and (self._last is None or pts > self._last[1]):
                self._filled.add(pts)
                yield self._next(neighbour, pts, duration)

    def _report(self, pts: int, *, repeated: bool) -> None:
        self.damages.append(Damage(float(pts * self.time_base), repeated))

    def _next(self, frame: av.VideoFrame, pts: int, duration: int) -> Picture:
        """Return the next picture; a step more than 1.5 times as long as the first one is recorded as a gap."""
        if self._last is not None:
            step = pts - self._last[1]
            self._step = self._step or step
            if step > 1.5 * self._step:
                self._gaps.append((float(self._last[1] * self.time_base), float(pts * self.time_base)))
            self._steady = self._steady and not 1.3 < step / self._step < 1.5 and step > 0.7 * self._step
        self._last = frame, pts
        self._count += 1
        return self._picture(frame, pts, duration)

    def _note_gaps(self) -> None:
        """Add a note if an otherwise steady stream has gaps, because packets may have been lost without a trace."""
        if self._steady and 0 < len(self._gaps) <= max(1, self._count // 20):
            first, last = self._gaps[0]
            more = f" and {len(self._gaps) - 1} more gaps" if len(self._gaps) > 1 else ""
            self.notes.append(
                f"the source has no frames from {first:.2f} to {last:.2f} s{more}; neither does the output"
            )

    def _picture(self, frame: av.VideoFrame, pts: int, duration: int) -> Picture:
        matrix, colour_range = self.colours.conversion(self.width, self.height)
        rgb = self._reformatter.reformat(
            frame,
            self.width,  # a stream may change its size midway
            self.height,
            "rgb48le" if self._deep else "rgb24",
            src_colorspace=matrix,
            src_color_range=colour_range,
            dst_color_range=ColorRange.JPEG,
            interpolation=EXACT,
            threads=1,
        )
        # Rows of some widths are padded; only those need a copy.
        return Picture(np.ascontiguousarray(rgb.to_ndarray()), pts, duration, float(pts * self.time_base))


def bits_of(pixel_format: str) -> int:
    """Return the number of bits per colour of a pixel format."""
    return max(component.bits for component in VideoFormat(pixel_format, 2, 2).components)
