"""Reading a video: its pictures as RGB arrays in display order, and the packets of its other tracks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from kdlib.enhance.video.files import look, main_stream, open_video
from kdlib.enhance.video.side_data import Light, lost_kinds, side_data

# swscale's defaults are faster, but use the nearest colour sample and are up to two levels off.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
RGB, UNSPECIFIED = 0, 2  # values of AVColorSpace; the first marks streams that hold red, green and blue
# AVColorSpace → the matrix that swscale converts with, by swscale's own numbers
_ITU709, _FCC, _ITU601, _SMPTE240M, _BT2020 = 1, 4, 5, 7, 9
_MATRICES = {1: _ITU709, 4: _FCC, 5: _ITU601, 6: _ITU601, 7: _SMPTE240M, 9: _BT2020, 10: _BT2020}
_INTERLACED = {2, 3, 4, 5}  # values of AVFieldOrder
_KEEP_DURATION = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}  # formats whose header gives the duration of the video
_COUNT_FROM_ANYWHERE = {"mpegts", "mpeg"}
_NO_DISPLAY_TIMES = {"avi"}  # formats that store none, so that FFmpeg makes them up, and wrongly with B-frames
_HIDES_PICTURES = {"vp8", "vp9", "av1"}  # codecs whose packets may hold pictures that are only referred to


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
class Decoded:
    """A picture as the decoder returns it.

    Attributes:
        frame: the picture in the source's pixel format.
        pts: display time in units of the source's time base.
        duration: display duration in the same units; 0 if the file does not give it.
    """

    frame: av.VideoFrame
    pts: int
    duration: int


@dataclass(frozen=True)
class Picture:
    """A picture to enhance.

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


class _Awaited(NamedTuple):
    """A picture that the decoder has not returned as yet.

    Attributes:
        duration: of its packet, in the source's time base.
        order: number of its packet, in the order in which they are stored.
        failed: whether the decoder has reported an error, so that it will not return it.
    """

    duration: int
    order: int
    failed: bool


class DisplayTimes:
    """The display times of frames, by the rule of FFmpeg's own tools (``guess_correct_pts``).

    Where the times of the packets are missing, or run backwards more often than the decoding times, the latter count.

    Args:
        made_up: whether the times of the packets are not to be trusted.
    """

    def __init__(self, *, made_up: bool) -> None:
        self.made_up = made_up
        self._faulty_pts = self._faulty_dts = 0
        self._last_pts = self._last_dts = -math.inf

    def __call__(self, frame: av.VideoFrame) -> int | None:
        """Return the display time of the next frame in units of its time base, or None if nothing tells it."""
        pts, dts = None if self.made_up else frame.pts, frame.dts
        if dts is not None:
            self._faulty_dts += dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        return pts if pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts) else dts


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
        light: the metadata of HDR videos that are the same for all pictures.
        first_packets: by the index of their streams, the first packets of all streams that begin with the video.
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
            frame, self.first_packets = look(self.path, container)
            self._look_at(frame)
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
        self._one_each = not self.interlaced and self.stream.codec_context.name not in _HIDES_PICTURES
        self._times = DisplayTimes(made_up=self.container.format.name in _NO_DISPLAY_TIMES)
        self._awaited: dict[int, _Awaited] = {}
        self._packets_read, self._begun = 0, False
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
        held = side_data(frame)
        matrix = held.get("DISPLAYMATRIX")
        self.display_matrix = None if matrix is None else [int(n) for n in np.frombuffer(matrix, np.int32)]
        self.light = Light.of(held)
        self.notes += lost_kinds(held)

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
        for item in self.decode(copied):
            yield self.picture(item) if isinstance(item, Decoded) else item

    def decode(self, copied: list[Any]) -> Iterator[Decoded | av.Packet]:
        """Do the first half of :meth:`read`, which is to decode; :meth:`picture` does the second."""
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
            shift = shifts[packet.stream.index]  # packets that flush have no index of their own
            if packet.pts is not None:
                packet.pts -= shift
                self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.dts is not None:
                packet.dts -= shift
            yield packet
        # The container may promise more for a track that is not read.
        lengths = [stream.duration and float(stream.duration * stream.time_base) for stream in streams]
        promised = max(lengths) if all(lengths) else (self.container.duration or 0) / av.time_base
        if self.container.format.name in _KEEP_DURATION and promised - self._end > 0.5:
            self.notes.append(f"the file breaks off after {self._end:.2f} s of {promised:.2f} s")

    def _flush(self) -> Iterator[av.Packet]:
        packet = av.Packet()
        packet.stream = self.stream
        yield packet

    def _pictures(self, packet: av.Packet) -> Iterator[Decoded]:
        """Yield the pictures that the decoder returns for this packet."""
        self._hidden += packet.is_discard
        failed, frames = False, []
        try:
            frames = self.stream.decode(packet)
        except av.FFmpegError:
            failed = True
        self._await(packet, failed)
        for frame in frames:
            given = self._times(frame)
            pts = self._following() if given is None else given
            pts += self._last is not None and pts == self._last[1]  # no two frames at the same time
            own = None if given is None else self._awaited.pop(given, None)
            yield from self._bridge(frame, pts, own)
            if self._last is not None and pts <= self._last[1]:
                if pts not in self._filled:
                    self._report(pts, repeated=True)  # too late, as a later picture has been output
                continue
            if frame.is_corrupt:
                self._report(pts, repeated=False)
            yield self._next(frame, pts, frame.duration)

    def _await(self, packet: av.Packet, failed: bool) -> None:
        """Remember that a picture of this packet is to come, or was to come if the decoder has failed."""
        self._packets_read += 1
        self._begun = self._begun or packet.is_keyframe  # recordings of broadcasts begin amid pictures that need others
        if not packet.size or packet.is_discard or not self._begun:
            return
        place = None if self._times.made_up else packet.pts
        if place is None:
            place, self._one_each = packet.dts, False
        if place is not None and (failed or self._one_each):
            self._awaited[place] = _Awaited(packet.duration or 0, self._packets_read, failed)

    def _following(self) -> int:
        """Return the time after the last frame's at the average rate, for raw streams that give no times."""
        return 0 if self._last is None else self._last[1] + max(1, round(1 / (self.rate * self.time_base)))

    def _bridge(
        self, following: av.VideoFrame | None, until: float, own: "_Awaited | None" = None
    ) -> Iterator[Decoded]:
        """Fill the places of lost frames before ``until`` with the preceding picture, or else the following one.

        Args:
            following: the picture at ``until``, or None at the end.
            until: a display time.
            own: what was known of the packet of ``following``.
        """
        neighbour = self._last[0] if self._last else following
        for pts in sorted(pts for pts in self._awaited if pts < until):
            awaited = self._awaited.pop(pts)
            if not (awaited.failed or self._is_missed(pts, awaited, until, own)):
                continue
            self._report(pts, repeated=True)
            if neighbour is not None and (self._last is None or pts > self._last[1]):
                self._filled.add(pts)
                yield self._next(neighbour, pts, awaited.duration)

    def _is_missed(self, pts: int, awaited: "_Awaited", until: float, own: "_Awaited | None") -> bool:
        """Whether a picture is missing in the display that the decoder did not return, without saying why."""
        if self._last is None:
            # Pictures that are shown before a key frame but stored after it may refer to what has been cut off.
            return own is None or awaited.order < own.order
        # Half pictures, and pictures that are only referred to, leave no gap.
        least = 0.75 * (awaited.duration or self._step)
        return pts - self._last[1] >= least and until - pts >= least

    def _report(self, pts: int, *, repeated: bool) -> None:
        self.damages.append(Damage(float(pts * self.time_base), repeated))

    def _next(self, frame: av.VideoFrame, pts: int, duration: int) -> Decoded:
        """Return the next picture; a step more than 1.5 times as long as the first one is recorded as a gap."""
        if self._last is not None:
            step = pts - self._last[1]
            self._step = self._step or step
            if step > 1.5 * self._step:
                self._gaps.append((float(self._last[1] * self.time_base), float(pts * self.time_base)))
            self._steady = self._steady and not 1.3 < step / self._step < 1.5 and step > 0.7 * self._step
        self._last = frame, pts
        self._count += 1
        return Decoded(frame, pts, duration)

    def _note_gaps(self) -> None:
        """Add a note if an otherwise steady stream has gaps, because packets may have been lost without a trace."""
        if self._steady and 0 < len(self._gaps) <= max(1, self._count // 20):
            first, last = self._gaps[0]
            more = f" and {len(self._gaps) - 1} more gaps" if len(self._gaps) > 1 else ""
            self.notes.append(
                f"the source has no frames from {first:.2f} to {last:.2f} s{more}; neither does the output"
            )

    def picture(self, decoded: Decoded) -> Picture:
        """Convert a decoded picture to RGB."""
        matrix, colour_range = self.colours.conversion(self.width, self.height)
        rgb = self._reformatter.reformat(
            decoded.frame,
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
        array, pts = np.ascontiguousarray(rgb.to_ndarray()), decoded.pts
        return Picture(array, pts, decoded.duration, float(pts * self.time_base))


def bits_of(pixel_format: str) -> int:
    """Return the number of bits per colour of a pixel format."""
    return max(component.bits for component in VideoFormat(pixel_format, 2, 2).components)
