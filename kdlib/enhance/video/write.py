"""Writing a video that differs from its source only in its pictures."""

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.codec import find_best_pix_fmt_of_list
from av.codec.context import Flags
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, VideoReformatter

from kdlib.checks import check_number
from kdlib.enhance.video.files import HEVC_TAG, VideoError, in_matroska, lasting
from kdlib.enhance.video.read import EXACT, RGB, UNSPECIFIED, Colours, Picture, VideoSource, bits_of
from kdlib.enhance.video.scheduling import same_scheduling
from kdlib.enhance.video.side_data import described
from kdlib.enhance.video.tracks import Audio, Tracks

# Nearly visually lossless
_CRF = {"libx264": 18, "libx265": 20, "libvpx-vp9": 22, "libsvtav1": 22}
_WORST_CRF = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libsvtav1": 63}  # x264 and x265 clip higher values
_QUIET = {"libx265": {"x265-params": "log-level=error"}, "libvpx-vp9": {"row-mt": "1"}}
_EVEN_SIDES = {"libx264", "libx265", "libsvtav1"}  # encoders that require whole chroma samples
_HDR = {16, 18}  # AVColorTransferCharacteristic of PQ and HLG
_HELD_BY_MP4 = {"libx264", "libx265", "libvpx-vp9", "libsvtav1"}  # with the metadata of HDR videos


class VideoOutput:
    """An output file opened for writing.

    Args:
        path: file to write; the format does not depend on its extension.
        container_format: FFmpeg's name of the format.
        source: the video that pictures, tags and other tracks come from.
        width, height: size of the pictures.
        codec: FFmpeg's name of an encoder; by default libx264, or libvpx-vp9 for WebM; for HDR and more than 8 bits,
            which hardly a phone takes as H.264, libx265, or libsvtav1 for WebM.
        crf: constant rate factor of the encoder, lower is better; by default nearly visually lossless.
        pixel_format: FFmpeg's name; by default the source's, or the nearest that the encoder supports.
        options: further options of the encoder.
        threads: threads of the encoder; 0 lets it choose.
        audio: what becomes of sound, see :data:`~kdlib.enhance.video.tracks.Audio`.

    Attributes:
        copied: the source's streams whose packets :meth:`write` expects.
        pixel_format: the chosen pixel format.
        notes: descriptions of what could not be kept.

    Raises:
        VideoError: the encoder or an option is unknown, or the combination does not work.
        ValueError: ``crf`` is outside the range of the encoder.
    """

    def __init__(
        self,
        path: Path,
        container_format: str,
        source: VideoSource,
        width: int,
        height: int,
        *,
        codec: str | None = None,
        crf: float | None = None,
        pixel_format: str | None = None,
        options: Mapping[str, str] | None = None,
        threads: int = 0,
        audio: Audio = "copy",
    ) -> None:
        codec = codec or _usual_codec(container_format, source)
        if crf is not None and codec in _WORST_CRF:
            check_number(f"crf of {codec}", crf, 0, _WORST_CRF[codec])
        self.notes: list[str] = []
        self._source, self._format = source, container_format
        self.pixel_format = self._choose_pixel_format(codec, pixel_format, width, height)
        self._colours = self._choose_colours()
        self._reformatter = VideoReformatter()
        metadata = lasting(source.container.metadata)
        settings: dict[str, str] = {}
        if container_format in {"mp4", "mov"}:
            if source.time_base.numerator == 1:
                settings["video_track_timescale"] = str(source.time_base.denominator)
            if any(key.startswith("com.") for key in metadata):
                settings["movflags"] = "use_metadata_tags"  # phones store place and time there
        self._tracks = Tracks(source, container_format, audio)
        self.copied = self._tracks.read
        chapters = source.container.chapters()
        if self._tracks.needs_any_codec:
            self._container = av.open(in_matroska(path), "w", format="tee")
            if chapters:
                self.notes.append("the chapters are left out, which PyAV cannot write beside such sound")
        else:
            self._container = av.open(f"file:{path}", "w", format=container_format, container_options=settings)
        try:
            self._container.metadata.update(metadata)
            self._container.set_chapters(chapters)
            self._stream = self._add_video(codec, width, height, crf, options or {}, threads)
            self._tracks.add_to(self._container)
            self.notes += self._tracks.notes
            try:
                self._container.start_encoding()
            except av.FFmpegError as error:
                reason = f"{container_format} cannot hold {codec} video ({error.strerror})"
                raise VideoError(f"{reason}; write to .mkv or choose another --codec") from None
        except BaseException:
            self.__exit__()
            raise

    def _choose_pixel_format(self, codec: str, wanted: str | None, width: int, height: int) -> str:
        try:
            taken = [form.name for form in av.Codec(codec, "w").video_formats or []]
        except av.codec.codec.UnknownCodecError:
            raise VideoError(f"no encoder is named {codec!r}; try libx264, libx265, libvpx-vp9 or libsvtav1") from None
        # yuvj… is another name for yuv… in full range, which is tagged in any case.
        taken = [name for name in taken if not name.startswith("yuvj")] or taken
        if not taken:
            raise VideoError(f"{codec} is not a video encoder; try libx264, libx265, libvpx-vp9 or libsvtav1")
        if wanted is not None and wanted not in taken:
            raise VideoError(f"{codec} does not support the pixel format {wanted!r}; choose from {', '.join(taken)}")
        own = self._source.pixel_format.replace("yuvj", "yuv")
        chosen = wanted or (own if own in taken else _nearest(taken, own))
        shape = VideoFormat(chosen, 16, 16)
        odd = (width % 2 and shape.chroma_width() < 16) or (height % 2 and shape.chroma_height() < 16)
        if codec in _EVEN_SIDES and odd:
            whole = "yuv444p10le" if bits_of(chosen) > 8 else "yuv444p"
            if wanted or whole not in taken:
                raise VideoError(
                    f"{codec} cannot write {width}×{height} as {chosen}, which halves the sides of the colour planes; "
                    f"choose {f'--pixel-format {whole}' if whole in taken else 'another --codec, such as libx264'}"
                )
            chosen = whole
            self.notes.append(f"written as {chosen}, which not all players show, as {width}×{height} has an odd side")
        elif not wanted and bits_of(chosen) < bits_of(own):
            self.notes.append(f"{codec} writes {bits_of(chosen)} bits per colour, but the source has {bits_of(own)}")
        return chosen

    def _choose_colours(self) -> Colours:
        """Return the source's tags, adapted if one video holds RGB and the other luma and chroma."""
        colours = self._source.colours
        if VideoFormat(self.pixel_format, 2, 2).is_rgb:
            return replace(colours, matrix=RGB, range=int(ColorRange.JPEG))
        if colours.matrix != RGB:
            return replace(colours, range=int(ColorRange.JPEG)) if self.pixel_format.startswith("yuvj") else colours
        untagged = replace(colours, matrix=UNSPECIFIED, range=int(ColorRange.MPEG))
        matrix, _ = untagged.conversion(self._source.width, self._source.height)
        return replace(untagged, matrix=matrix)

    def _add_video(
        self, codec: str, width: int, height: int, crf: float | None, options: Mapping[str, str], threads: int
    ) -> av.VideoStream:
        """Open the encoder, and return the stream that its packets go to."""
        source, chosen = self._source, dict(_QUIET.get(codec, {}))
        if crf is None:
            crf = _CRF.get(codec)
        if crf is not None:
            chosen["crf"] = f"{crf:g}"
        if codec == "libx265" and source.light.x265:
            chosen["x265-params"] += f":{source.light.x265}"
        chosen.update(options)
        if codec == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only, as it prints its settings otherwise
        unfit = f"{self._format} cannot hold {codec} video; write to .mkv or choose another --codec"
        container, head = self._container, io.BytesIO()
        lit = bool(source.light) and codec in _HELD_BY_MP4
        if lit:
            container = av.open(head, "w", format="mp4", container_options={"movflags": "empty_moov"})
        elif source.light:
            self.notes.append("the HDR tags are kept, but not the metadata of the mastering display")
        try:
            stream = container.add_stream(codec, rate=source.rate, options=chosen)
        except (ValueError, av.FFmpegError):
            raise VideoError(unfit) from None
        assert isinstance(stream, av.VideoStream)  # the encoder has pixel formats
        self._encoder = context = stream.codec_context
        self._describe(stream, width, height)
        context.thread_count = threads
        context.flags |= int(Flags.frame_duration) | int(Flags.global_header)
        if source.interlaced:
            context.flags |= int(Flags.interlaced_dct) | int(Flags.interlaced_me)
        try:
            with same_scheduling():
                context.open()
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(
                f"{codec} does not support {width}×{height} {self.pixel_format} with {chosen} ({error})"
            ) from None
        unknown = [name for name in chosen if name in context.options]
        if unknown:
            raise VideoError(f"{codec} has no option {', '.join(unknown)}")
        if lit:
            container.start_encoding()
            container.close()
            try:
                stream = self._container.add_stream_from_template(described(head.getvalue(), source.light), opaque=True)
            except ValueError:
                raise VideoError(unfit) from None
            self._describe(stream, width, height)
            stream.codec_context.extradata = context.extradata  # in the form that the encoder's packets have
        if self._format == "webm" and source.sample_aspect_ratio not in {None, 1}:
            self.notes.append("WebM cannot store that the pixels are not square; choose .mkv or .mp4")
        return stream

    def _describe(self, stream: av.VideoStream, width: int, height: int) -> None:
        """Give a stream what players are to know of the pictures."""
        source, colours, context = self._source, self._colours, stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, self.pixel_format
        context.framerate, stream.time_base = source.rate, source.time_base
        if context.is_encoder:
            context.time_base = source.time_base
        context.color_range, context.colorspace = colours.range, colours.matrix
        context.color_primaries, context.color_trc = colours.primaries, colours.transfer
        if source.sample_aspect_ratio is not None:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        if source.interlaced:
            context.field_order = source.stream.codec_context.field_order
        if self._format in {"mp4", "mov"} and context.codec.canonical_name == "hevc":
            context.codec_tag = HEVC_TAG
        stream.set_display_matrix(source.display_matrix)
        stream.metadata.update(lasting(source.stream.metadata))
        stream.disposition = source.stream.disposition & ~av.stream.Disposition.multilayer  # a second view is not kept

    def write(self, item: av.VideoFrame | av.Packet) -> None:
        """Encode a picture that :meth:`frame` has converted, or write a packet of a stream in ``copied``."""
        packets = self._encoded(item) if isinstance(item, av.VideoFrame) else list(self._tracks.packets(item))
        self._container.mux(packets)

    def _encoded(self, frame: av.VideoFrame | None) -> list[av.Packet]:
        packets = self._encoder.encode(frame)
        for packet in packets:
            packet.stream = self._stream
        return packets

    def frame(self, picture: Picture) -> av.VideoFrame:
        """Convert a picture to the output's pixel format."""
        deep = picture.rgb.dtype == np.uint16
        rgb = av.VideoFrame.from_numpy_buffer(picture.rgb, "rgb48le" if deep else "rgb24")
        matrix, colour_range = self._colours.conversion(self._source.width, self._source.height)
        frame = self._reformatter.reformat(
            rgb,
            format=self.pixel_format,
            src_color_range=ColorRange.JPEG,
            dst_colorspace=matrix,
            dst_color_range=colour_range,
            interpolation=EXACT,
            threads=1,
        )
        frame.pts, frame.duration, frame.time_base = picture.pts, picture.duration, self._source.time_base
        return frame

    def finish(self) -> None:
        """Flush the encoder and write the end of the file."""
        self._container.mux(self._encoded(None))
        self._container.mux(list(self._tracks.last_packets()))
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        # Closing an incomplete file may fail too, which would hide the original error.
        with contextlib.suppress(av.FFmpegError):
            self._container.close()


def _usual_codec(container_format: str, source: VideoSource) -> str:
    deep = source.colours.transfer in _HDR or bits_of(source.pixel_format) > 8
    if container_format == "webm":
        return "libsvtav1" if deep else "libvpx-vp9"
    return "libx265" if deep else "libx264"


def _nearest(taken: list[str], own: str) -> str:
    """Return the pixel format in ``taken`` that loses the least."""
    best, _ = find_best_pix_fmt_of_list(taken, own)
    return taken[0] if best is None else best.name
