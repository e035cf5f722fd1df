"""The tracks of an output beside its pictures: sound, subtitles, attachments and others, copied where they fit."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import av

from kdlib.enhance.video.files import HEVC_TAG, VideoError, in_matroska, is_cover, lasting
from kdlib.enhance.video.read import VideoSource

Audio = Literal["copy", "aac", "none"]
"""What becomes of sound: it is copied as it is, encoded as AAC unless it is AAC, or left out."""
_AAC_LAYOUTS = {"mono", "stereo", "3.0", "4.0", "5.0", "5.1"}
_PER_CHANNEL = 96_000  # bits per second of AAC, which leaves no audible loss
_PER_SAMPLE = 6  # bits, more than which AAC cannot use


class _Track(Protocol):
    def packets(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        """Yield what to write for one of the source's packets, or at the end for None."""
        ...


class _Copied:
    """A track whose packets are written as they are.

    Args:
        stream: the output's.
        hides: whether the format hides what the source hides, as MP4 and MOV do with an edit list.
        from_zero: whether the format would delay all tracks for packets before 0.
    """

    def __init__(self, stream: Any, *, hides: bool, from_zero: bool) -> None:
        self._stream, self._hides, self._from_zero = stream, hides, from_zero

    def packets(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        if packet is None or (packet.is_discard and not self._hides):
            return
        if self._from_zero and packet.pts is not None and packet.pts < 0:
            if packet.pts + (packet.duration or 0) <= 0:
                return
            packet.pts = packet.dts = 0
        packet.stream = self._stream
        yield packet


class _Encoded:
    """A sound track that is encoded as AAC."""

    def __init__(self, source: Any, stream: Any) -> None:
        self._source, self._stream = source, stream

    def packets(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        frames, given = [], packet
        if given is None:  # an empty packet empties the decoder
            given = av.Packet()
            given.time_base = self._source.time_base
        with contextlib.suppress(av.FFmpegError):  # a damaged packet leaves a gap in the sound
            frames = self._source.codec_context.decode(given)
        for frame in frames:
            yield from self._stream.encode(frame)
        if packet is None:
            yield from self._stream.encode(None)


class Tracks:
    """All tracks of a source but its video, and which of them a format can hold.

    Args:
        source: the video.
        container_format: FFmpeg's name of the output's format.
        audio: what becomes of sound.

    Attributes:
        read: the source's streams whose packets :meth:`packets` expects.
        needs_any_codec: whether a track needs Matroska to take codecs that it has no name of its own for.
        notes: descriptions of what could not be kept.

    Raises:
        VideoError: the sound is to be encoded as AAC, which the format cannot hold.
    """

    def __init__(self, source: VideoSource, container_format: str, audio: Audio) -> None:
        if audio == "aac" and container_format == "webm":
            raise VideoError("webm cannot hold AAC sound; write to .mp4 or .mkv, or choose --audio copy or none")
        self.notes: list[str] = []
        self.needs_any_codec = False
        self._source, self._format, self._audio = source, container_format, audio
        others = [stream for stream in source.container.streams if stream is not source.stream]
        self.read = [stream for stream in others if self._is_kept(stream)]
        self._tracks: dict[int, _Track] = {}

    def _is_kept(self, stream: Any) -> bool:
        name = f"{stream.type} track {stream.index} ({getattr(stream, 'name', None) or 'of unknown kind'})"
        if stream.type == "audio" and self._audio == "none":
            return False
        if self._encodes(stream):
            return True
        if self._takes(stream):
            if stream.type == "video" and not is_cover(stream):
                self.notes.append(f"{name} is copied as it is")
            return True
        if stream.type == "audio" and self._format == "matroska" and stream.codec_context and self._takes_any(stream):
            self.needs_any_codec = True
            return True
        if stream.type == "audio" and not stream.codec_context:
            self.notes.append(f"{name} is left out, as FFmpeg does not know it")
        elif stream.type == "audio":
            ways = [".mkv can hold it"] * (self._format != "matroska")
            ways += ["--audio aac encodes it"] * (self._format != "webm")
            self.notes.append(f"{name} is left out because {self._format} cannot hold it; {', and '.join(ways)}")
        elif stream.type != "data" or not self._is_written_anyway():
            self.notes.append(f"{name} is left out because {self._format} cannot hold it")
        return False

    def _is_written_anyway(self) -> bool:
        """Whether a data track may be what holds chapters or the timecode, which are written from the tags."""
        timecode = "timecode" in self._source.stream.metadata and self._format in {"mp4", "mov"}
        return timecode or bool(self._source.container.chapters())

    def _encodes(self, stream: Any) -> bool:
        known = stream.type == "audio" and stream.codec_context is not None
        return known and self._audio == "aac" and stream.codec_context.name != "aac"

    def _takes(self, stream: Any) -> bool:
        """Whether the format can hold such a stream; the only test is to write a file of one packet, here to memory."""
        if is_cover(stream) and self._format != "mp4":
            return False  # it would become a second video or be lost
        return self._is_written(stream, io.BytesIO(), self._format)

    def _takes_any(self, stream: Any) -> bool:
        """Whether Matroska can hold such a stream under the names of another format, for which a file is needed."""
        with tempfile.TemporaryDirectory() as folder:
            return self._is_written(stream, in_matroska(Path(folder, "trial.mkv")), "tee")

    def _is_written(self, stream: Any, file: Any, file_format: str) -> bool:
        try:
            with av.open(file, "w", format=file_format) as trial:
                copy = trial.add_stream_from_template(stream, opaque=True)
                trial.start_encoding()
                if (packet := self._source.first_packets.get(stream.index)) is not None:
                    packet.stream = copy
                    trial.mux(packet)
        except (av.FFmpegError, ValueError):
            return False
        return True

    def _is_moved(self, stream: Any) -> bool:
        """Whether the format moves the start of a stream to 0; that of an encoder's own delay stays before it."""
        packet = self._source.first_packets.get(stream.index)
        if packet is None or packet.pts is None or packet.pts >= 0:
            return False
        file = io.BytesIO()
        if not self._is_written(stream, file, self._format):
            return True
        file.seek(0)
        with av.open(file, "r") as written:
            first = next(written.demux(), None)
            return first is None or first.pts is None or first.pts >= 0

    def add_to(self, container: av.container.OutputContainer) -> None:
        """Add a stream for each track to an output that has no head as yet."""
        for stream in self.read:
            if self._encodes(stream):
                added = self._add_encoder(container, stream)
                self._tracks[stream.index] = _Encoded(stream, added)
            else:
                added = container.add_stream_from_template(stream, opaque=True)
                if self._format in {"mp4", "mov"} and getattr(stream, "name", None) == "hevc":
                    added.codec_context.codec_tag = HEVC_TAG
                hides = self._format in {"mp4", "mov"}
                from_zero = not hides and self._is_moved(stream)
                self._tracks[stream.index] = _Copied(added, hides=hides, from_zero=from_zero)
            added.metadata.update(lasting(stream.metadata))
            added.disposition = stream.disposition

    def _add_encoder(self, container: av.container.OutputContainer, stream: Any) -> Any:
        source = stream.codec_context
        rates = av.Codec("aac", "w").audio_rates or []
        rate = source.sample_rate if source.sample_rate in rates else 48_000
        added: Any = container.add_stream("aac", rate=rate)
        layout = source.layout.name.removesuffix("(side)")
        # AAC has no place for others, such as the channels of spatial sound.
        usual = "mono" if source.channels == 1 else "stereo"
        added.codec_context.layout = layout if layout in _AAC_LAYOUTS else usual
        added.codec_context.bit_rate = min(_PER_CHANNEL, _PER_SAMPLE * rate) * added.codec_context.channels
        return added

    def packets(self, packet: av.Packet) -> Iterator[av.Packet]:
        """Yield what to write for a packet of a stream in ``read``."""
        return self._tracks[packet.stream_index].packets(packet)

    def last_packets(self) -> Iterator[av.Packet]:
        """Yield what is left to write at the end."""
        for track in self._tracks.values():
            yield from track.packets(None)
