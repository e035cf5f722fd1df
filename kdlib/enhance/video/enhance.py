"""Brightening videos while keeping sound, frame times, colour tags and all other tracks as they are."""

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import av
import numpy as np

from kdlib.enhance.video.files import VideoError, format_of
from kdlib.enhance.video.pipeline import Stage, Timed, ahead
from kdlib.enhance.video.read import Damage, Decoded, Picture, VideoSource, bits_of
from kdlib.enhance.video.smoothing import Enhances, MapSmoother, brightness, check_same_size, coarse_copy, flicker
from kdlib.enhance.video.tracks import Audio
from kdlib.enhance.video.write import VideoOutput
from kdlib.files import replacing

AHEAD = 2
"""Pictures queued between two stages: evens out their speed, and still fits the memory at 4K and 16 bits."""


@dataclass(frozen=True)
class Steadiness:
    """Flicker of the mean brightness, as :func:`kdlib.enhance.video.smoothing.flicker` measures it, without scene cuts.

    Attributes:
        source: flicker of the source.
        unsmoothed: flicker that the output would have if the curve maps were not smoothed.
        output: flicker of the output.
        gain_unsmoothed, gain: flicker of the ratio of the output's brightness to the source's, without and with
            smoothing; this is what enhancing adds to the changes in the scene itself.
    """

    source: float
    unsmoothed: float
    output: float
    gain_unsmoothed: float
    gain: float


@dataclass(frozen=True)
class VideoReport:
    """Statistics of an enhanced video.

    Attributes:
        out: the file that was written.
        frames: number of pictures in it, including those repeated in place of lost ones.
        width, height: size of its pictures.
        seconds: time from the first picture to the last.
        decode_ms, enhance_ms, encode_ms: milliseconds per frame in each of the stages, which run in parallel. Reading
            and converting to RGB count as decoding, converting back and writing as encoding.
        elapsed: total processing time in seconds.
        scenes: number of scenes detected.
        steadiness: flicker of the brightness.
        damages: frames that were damaged in the source.
        notes: descriptions of what could not be kept.
    """

    out: Path
    frames: int
    width: int
    height: int
    seconds: float
    decode_ms: float
    enhance_ms: float
    encode_ms: float
    elapsed: float
    scenes: int
    steadiness: Steadiness
    damages: tuple[Damage, ...]
    notes: tuple[str, ...]


def enhance_video(
    source: str | Path,
    out: str | Path,
    enhancer: Enhances | None = None,
    *,
    smoothing: float = 0.25,
    side_by_side: bool = False,
    codec: str | None = None,
    crf: float | None = None,
    pixel_format: str | None = None,
    options: Mapping[str, str] | None = None,
    threads: int = 0,
    audio: Audio = "copy",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> VideoReport:
    """Brighten a video.

    Frame times, frame count, sound (copied without encoding it again), rotation, colour tags, metadata, chapters and,
    where the format supports them, subtitles stay as they are; the report notes what does not. Damaged frames are
    patched or replaced, and reported.
    ``out`` appears only when it is complete.

    Args:
        source: the video.
        out: file to write, .mp4, .m4v, .mov, .mkv or .webm; its folder is created.
        enhancer: a :class:`kdlib.Enhancer`; by default one with default settings.
        smoothing: time constant in seconds with which curve maps follow the scene; 0 uses each frame's own map.
        side_by_side: whether to show the original on the left and the enhanced picture on the right.
        codec, crf, pixel_format, options, threads: settings of the encoder, see
            :class:`~kdlib.enhance.video.write.VideoOutput`.
        audio: ``copy`` copies sound as it is, ``aac`` encodes what is not AAC, ``none`` leaves sound out.
        overwrite: whether to replace ``out`` if it exists.
        progress: called with the number of frames written and the approximate total (0 if unknown).

    Raises:
        VideoError: the source is not a readable video, or ``out`` or the settings of the encoder do not work.
        FileExistsError: ``out`` exists.
        OSError: ``out`` cannot be written.
        ValueError: the Enhancer enlarges photos, or ``crf`` is outside the range of the encoder.
    """
    if enhancer is not None:
        check_same_size(enhancer)
    source, out = Path(source), Path(out)
    container_format = format_of(out)
    _check_free(out, source, overwrite)
    smoother = MapSmoother(smoothing)
    video = VideoSource(source)
    with closing(video), replacing(out, overwrite=overwrite) as partial:
        if enhancer is None:
            from kdlib.enhance.enhancer import Enhancer

            enhancer = Enhancer()
        stage = Enhancing(enhancer, smoother, side_by_side, video.display_matrix)
        width, height = stage.size(video.width, video.height)
        output = VideoOutput(
            partial, container_format, video, width, height,
            codec=codec, crf=crf, pixel_format=pixel_format, options=options, threads=threads, audio=audio,
        )  # fmt: skip
        if bits_of(output.pixel_format) > 8:
            video.use_deep_colour()
        decoding, reading = Timed(video.decode(output.copied)), Stage(Decoded, video.picture)
        enhancing, converting = Stage(Picture, stage.enhance), Stage(Picture, output.frame)
        items: Any = decoding.run()
        for step in (reading, enhancing, converting):
            items = step.run(ahead(items, AHEAD))
        encoding, frames, start = 0.0, 0, perf_counter()
        try:
            with output, closing(ahead(items, AHEAD)) as ready:
                for item in ready:
                    begun = perf_counter()
                    output.write(item)
                    encoding += perf_counter() - begun
                    if isinstance(item, av.VideoFrame):
                        frames += 1
                        if progress is not None:
                            progress(frames, video.expected_frames)
                begun = perf_counter()
                output.finish()
                encoding += perf_counter() - begun
        except av.FFmpegError as error:
            reason = f"{out} could not be written ({error.strerror})"
            raise VideoError(f"{reason}; if the disk is not full, try .mkv, which holds more kinds of tracks") from None
    per_frame = 1000 / max(frames, 1)
    return VideoReport(
        out=out,
        frames=frames,
        width=width,
        height=height,
        seconds=stage.seconds,
        decode_ms=(decoding.seconds + reading.seconds) * per_frame,
        enhance_ms=enhancing.seconds * per_frame,
        encode_ms=(converting.seconds + encoding) * per_frame,
        elapsed=perf_counter() - start,
        scenes=len(stage.cuts),
        steadiness=stage.steadiness(),
        damages=tuple(video.damages),
        notes=(*video.notes, *output.notes),
    )


def _check_free(out: Path, source: Path, overwrite: bool) -> None:
    if not os.path.lexists(out):
        return
    if source.exists() and out.exists() and out.samefile(source):
        raise VideoError(f"{out} is the source itself; give another file")
    if out.is_dir():
        raise VideoError(f"{out} is a folder; give the name of a file")
    if not overwrite:
        raise FileExistsError(f"{out} exists; give another name, or replace it with --overwrite")


class Enhancing:
    """The stage between decoding and encoding.

    Args:
        enhancer: brightens the pictures.
        smoother: of the curve maps.
        side_by_side: whether the original is to be beside the enhanced picture.
        display_matrix: how players turn the pictures; see :class:`~kdlib.enhance.video.read.VideoSource`.

    Attributes:
        cuts: numbers of the pictures that begin a scene.
    """

    def __init__(
        self,
        enhancer: Enhances,
        smoother: MapSmoother,
        side_by_side: bool = False,
        display_matrix: list[int] | None = None,
    ) -> None:
        self._enhancer, self._smoother = enhancer, smoother
        self._halves = _halves(display_matrix) if side_by_side else None
        self._brightness: list[tuple[float, float, float]] = []
        self._times: list[float] = []
        self.cuts: list[int] = []

    @property
    def seconds(self) -> float:
        """The time from the first picture to the last."""
        return self._times[-1] - self._times[0] if self._times else 0.0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the pictures that this stage outputs."""
        if self._halves is None:
            return width, height
        return (2 * width, height) if self._halves[0] == 1 else (width, 2 * height)

    def enhance(self, picture: Picture) -> Picture:
        """Return the picture enhanced, in the same memory unless the original is to be beside it."""
        rgb = picture.rgb
        before = coarse_copy(rgb)
        own = self._enhancer.estimate(rgb)
        curve_map = self._smoother(own, before, picture.time)
        if self._smoother.cut:
            self.cuts.append(len(self._brightness))
        original = None if self._halves is None else rgb.copy()
        self._enhancer.apply(rgb, curve_map, out=rgb)  # in place, as the source picture is not used elsewhere
        after = brightness(coarse_copy(rgb))
        unsmoothed = after if curve_map is own else brightness(self._enhancer.apply(before, own))
        self._times.append(picture.time)
        self._brightness.append((brightness(before), unsmoothed, after))
        if self._halves is None or original is None:
            return picture
        axis, original_first = self._halves
        return replace(picture, rgb=np.concatenate((original, rgb) if original_first else (rgb, original), axis))

    def steadiness(self) -> Steadiness:
        """Return the flicker of the pictures so far."""
        source, unsmoothed, after = np.reshape(self._brightness, (-1, 3)).T
        dark = np.maximum(source, 1 / 255)
        return Steadiness(
            *(flicker(b, self.cuts) for b in (source, unsmoothed, after, unsmoothed / dark, after / dark))
        )


def _halves(display_matrix: list[int] | None) -> tuple[int, bool]:
    """Return how to join two stored pictures so that players, which rotate them, show the original on the left.

    Returns:
        the axis to join along, columns (1) or rows (0), and whether the original comes first.
    """
    if display_matrix is None:
        return 1, True
    # How far a step along a stored row, and along a stored column, leads to the right on the screen.
    along_row, along_column = display_matrix[0], display_matrix[3]
    return (1, along_row > 0) if abs(along_row) >= abs(along_column) else (0, along_column > 0)
