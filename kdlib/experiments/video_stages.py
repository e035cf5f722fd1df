"""Compare the time of a whole video with that of its stages alone: decoding, enhancing and encoding."""

import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from kdlib.checks import check_number
from kdlib.data.samples import sample_pairs
from kdlib.enhance import Enhancer
from kdlib.enhance.photos.rgb import to_array
from kdlib.enhance.video.enhance import AHEAD, Enhancing, enhance_video
from kdlib.enhance.video.pipeline import Stage, ahead
from kdlib.enhance.video.read import Decoded, Picture, VideoSource
from kdlib.enhance.video.smoothing import MapSmoother
from kdlib.enhance.video.write import VideoOutput
from kdlib.evaluation.benchmark import parse_size
from kdlib.evaluation.timing import load_average, time_spent
from kdlib.threads import available_threads

STAGES = ("decode", "enhance", "encode")
_STOPS = 3.0
"""Exposure reduction of the video, in stops."""
_RATE, _STEP, _KEPT = 25, 8, 30  # frames per second; pixels from one frame to the next; frames until it turns round
_REPEATS = 3


def measure_video(
    folder: Path,
    models: Sequence[str],
    *,
    size: str = "1080p",
    frames: int = 240,
    threads: int | None = None,
    encoder_threads: int = 0,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Time each stage alone, with all cores to itself, and the whole, in turn.

    The video is a slow pan to and fro over an embedded photo, darkened, H.264 with 8 bits. Enhancing and encoding alone
    take their frames from memory. No run can take less time than the slowest stage alone, nor less than the CPU time
    of all stages divided by the number of cores; the longer of the two is ``bound_ms``.

    Args:
        folder: for the video and its results.
        models: names or paths.
        size: see :func:`kdlib.evaluation.benchmark.parse_size`.
        frames: number of frames.
        threads: threads of the Enhancer; None for one for each core.
        encoder_threads: see :func:`kdlib.enhance.video.enhance.enhance_video`.
        progress: called with a description of the next measurement.

    Returns:
        ``rows``: for each model the milliseconds a frame of each of :data:`STAGES` and of ``whole``, by wall clock and
        as ``cpu_ms``, medians over the repeats; ``slowest``, ``over_slowest``, ``bound_ms`` and ``over_bound``.
        ``cores``, and ``load``, the machine's load average before and after.

    Raises:
        ValueError: there are too few frames.
    """
    check_number("frames", frames, _KEPT)
    width, height = (side // 2 * 2 for side in parse_size(size))
    progress("writing the video")
    source = write_video(folder / "in.mp4", width, height, frames)
    load, rows = [load_average()], []
    for model in models:
        enhancer = Enhancer(model, device="cpu", threads=threads)
        dark, bright = _pictures(source, enhancer)
        ways: dict[str, Callable[[], object]] = {
            "decode": partial(_decode, source),
            "enhance": partial(_enhance, dark, enhancer, frames),
            "encode": partial(_encode, source, folder / "alone.mp4", bright, frames, encoder_threads),
            "whole": partial(
                enhance_video, source, folder / "out.mp4", enhancer, threads=encoder_threads, overwrite=True
            ),
        }
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for repeat in range(_REPEATS):
            for name, way in ways.items():
                progress(f"{model}: {name}, {repeat + 1} of {_REPEATS}")
                spent[name].append(time_spent(way))
        rows.append({"model": model, **_summary(spent, frames)})
    return {
        "size": f"{width}×{height}",
        "frames": frames,
        "threads": threads,
        "encoder_threads": encoder_threads,
        "cores": available_threads(),
        "rows": rows,
        "load": [*load, load_average()],
    }


def _summary(spent: Mapping[str, Sequence[tuple[float, float]]], frames: int) -> dict[str, Any]:
    """Return milliseconds a frame, and how the whole compares with its bounds."""
    wall, cpu = (
        {name: 1e3 * statistics.median(pair[k] for pair in pairs) / frames for name, pairs in spent.items()}
        for k in (0, 1)
    )
    slowest = max(STAGES, key=lambda name: wall[name])
    bound = max(wall[slowest], sum(cpu[name] for name in STAGES) / available_threads())
    return {
        "ms": {name: round(number, 2) for name, number in wall.items()},
        "cpu_ms": {name: round(number, 2) for name, number in cpu.items()},
        "slowest": slowest,
        "over_slowest": round(wall["whole"] / wall[slowest], 3),
        "bound_ms": round(bound, 2),
        "over_bound": round(wall["whole"] / bound, 3),
    }


def write_video(path: Path, width: int, height: int, frames: int) -> Path:
    """Write a slow pan to and fro over an embedded photo, darkened."""
    photo = Image.fromarray(to_array(next(iter(sample_pairs(_STOPS).values()))[0]))
    scale = max((width + _STEP * _KEPT) / photo.width, height / photo.height)
    large = np.asarray(photo.resize((round(photo.width * scale) + 1, round(photo.height * scale) + 1)))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=_RATE, options={"crf": "20", "preset": "veryfast"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            left = _STEP * _turning(number)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(large[:height, left : left + width].copy())))
        out.mux(stream.encode(None))
    return path


def _turning(number: int) -> int:
    """Return which of the kept frames is shown, to and fro."""
    return abs((number + _KEPT - 1) % (2 * _KEPT - 2) - (_KEPT - 1))


def _pictures(source: Path, enhancer: Enhancer) -> tuple[list[Picture], list[Picture]]:
    """Return the first pictures of a video, and the same enhanced."""
    stage = Enhancing(enhancer, MapSmoother())
    with closing(VideoSource(source)) as video:
        dark = [item for item, _ in zip(video.read([]), range(_KEPT), strict=False) if isinstance(item, Picture)]
    return dark, [stage.enhance(_copied(picture, number)) for number, picture in enumerate(dark)]


def _copied(picture: Picture, number: int) -> Picture:
    """Return a picture that may be overwritten, with the time of a frame."""
    return Picture(picture.rgb.copy(), number, 1, number / _RATE)


def _decode(source: Path) -> None:
    with closing(VideoSource(source)) as video:
        for _ in Stage(Decoded, video.picture).run(ahead(_generated(video.decode([])), AHEAD)):
            pass


def _generated(items: Any) -> Generator[Any, None, None]:
    yield from items


def _enhance(pictures: Sequence[Picture], enhancer: Enhancer, frames: int) -> None:
    stage = Enhancing(enhancer, MapSmoother())
    for number in range(frames):
        stage.enhance(_copied(pictures[_turning(number)], number))


def _encode(source: Path, out: Path, pictures: Sequence[Picture], frames: int, threads: int) -> None:
    with closing(VideoSource(source)) as video:
        height, width, _ = pictures[0].rgb.shape
        output = VideoOutput(out, "mp4", video, width, height, threads=threads)
        duration = round(1 / (_RATE * video.time_base))
        shown = (
            Picture(pictures[_turning(number)].rgb, number * duration, duration, number / _RATE)
            for number in range(frames)
        )
        with output, closing(ahead(Stage(Picture, output.frame).run(shown), AHEAD)) as ready:
            for frame in ready:
                output.write(frame)
            output.finish()


def video_table(result: Mapping[str, Any]) -> str:
    """Format the result of :func:`measure_video` as Markdown."""
    lines = [
        f"| ms a frame, {result['size']} | decode | enhance | encode | whole | of the slowest | of the bound |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for row in result["rows"]:
        times = " | ".join(f"{row['ms'][name]:.1f}" for name in (*STAGES, "whole"))
        lines.append(f"| {row['model']} | {times} | {row['over_slowest']:.2f} | {row['over_bound']:.2f} |")
    return "\n".join(lines)
