"""``kdlib video`` and ``kdlib camera``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdlib.cli._options import Denoise, Device, Model, Smoothing, Strength
from kdlib.cli._output import (
    STARTING,
    console,
    errors_reported,
    escape,
    fail,
    progress_bar,
    say,
    say_failed,
    say_lines,
    say_summary,
)
from kdlib.weights.catalogue import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress

    from kdlib.enhance.enhancer import Enhancer
    from kdlib.enhance.folders.local import Job
    from kdlib.enhance.video.enhance import VideoReport

_LISTED = 10  # most damaged frames printed one by one


class Audio(StrEnum):
    """What becomes of sound."""

    copy = "copy"
    aac = "aac"
    none = "none"


def video(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Video to brighten, or folder of videos.")],
    out: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT",
            help="File to write: .mp4, .m4v, .mov, .mkv, or .webm if the sound is Opus or Vorbis; for a folder, a "
            "folder. Default: beside IN.",
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    strength: Strength = 1.0,
    denoise: Denoise = None,
    smoothing: Smoothing = 0.25,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Show the original on the left, the enhanced on the right.")
    ] = False,
    audio: Annotated[
        Audio, typer.Option(help="copy keeps the sound as it is, aac encodes it unless it is AAC, none leaves it out.")
    ] = Audio.copy,
    codec: Annotated[
        str | None,
        typer.Option(
            help="FFmpeg's name of the encoder. Default: libx264, or libvpx-vp9 for .webm; for HDR and more than 8 "
            "bits libx265, or libsvtav1 for .webm."
        ),
    ] = None,
    crf: Annotated[
        float | None, typer.Option(help="Constant rate factor; lower is better. Default: nearly visually lossless.")
    ] = None,
    pixel_format: Annotated[
        str | None, typer.Option(help="FFmpeg's name of the pixel format, such as yuv420p10le. Default: as in IN.")
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Further option of the encoder, such as preset=slow; repeatable."),
    ] = None,
    encoder_threads: Annotated[int, typer.Option(min=0, help="Threads of the encoder; 0 lets it choose.")] = 0,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Include subfolders, mirrored in the output.")
    ] = False,
    suffix: Annotated[str, typer.Option(help="Text to add to each file name, before the extension.")] = "",
    container: Annotated[
        str | None,
        typer.Option("--format", help="Extension of results without a name of their own. Default: as in IN, else mkv."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep existing results and make the missing ones.")] = False,
    device: Device = "auto",
    report_to: Annotated[Path | None, typer.Option("--report", help="Write the figures to this JSON file.")] = None,
) -> None:
    """Brighten a video, or all videos of a folder. Frame times, rotation, colour tags and metadata stay as they are.

    So does the sound where the file written can hold it; what is left out is noted. Damaged frames are patched by the
    decoder, or replaced by the picture before them, and reported. The video is still complete, and the exit code 0. In
    a folder, videos that cannot be enhanced are listed at the end, and the exit code is then 1.
    """
    options = dict(entry.partition("=")[::2] for entry in encoder_option or [])
    if "" in options or "" in options.values():
        raise fail("--encoder-option takes NAME=VALUE, such as preset=slow")
    if overwrite and resume:
        raise fail("--overwrite replaces existing results and --resume keeps them; choose one")
    if container is not None:
        container = f".{container.lower().removeprefix('.')}"
    enhancing = {"strength": strength, "denoise": denoise, "device": device}
    settings: dict[str, Any] = {
        "smoothing": smoothing,
        "side_by_side": side_by_side,
        "audio": audio.value,
        "codec": codec,
        "crf": crf,
        "pixel_format": pixel_format,
        "options": options,
        "threads": encoder_threads,
    }
    if source.is_dir():
        planned = {"recursive": recursive, "suffix": suffix, "container": container}
        doing = {"overwrite": overwrite, "resume": resume}
        _folder(source, out, planned, doing, lambda: _enhancer(model, enhancing), settings, report_to)
        return
    if recursive or resume:
        raise fail("--recursive and --resume are for a folder of videos")
    _one(source, out, suffix, container, overwrite, lambda: _enhancer(model, enhancing), settings, report_to)


def _enhancer(model: str, options: dict[str, Any]) -> Enhancer:
    from kdlib.enhance.enhancer import Enhancer

    return Enhancer(model, **options)


def _one(
    source: Path,
    out: Path | None,
    suffix: str,
    container: str | None,
    overwrite: bool,
    enhancer: Callable[[], Enhancer],
    settings: dict[str, Any],
    report_to: Path | None,
) -> None:
    """Brighten one video."""
    from dataclasses import asdict

    from kdlib.enhance.folders.videos import result_of
    from kdlib.enhance.video.enhance import enhance_video
    from kdlib.files import write_json

    with errors_reported():
        target = out or result_of(source, suffix or "_enhanced", container)
        if target.is_dir():
            target /= result_of(source, suffix, container).name
    try:
        with errors_reported(), progress_bar() as bar:
            shown = _Shown(bar)
            report = enhance_video(source, target, enhancer(), overwrite=overwrite, progress=shown.frame, **settings)
    except KeyboardInterrupt:
        fail(f"stopped; {target} was not written")
        raise typer.Exit(130) from None
    _print_report(report)
    if report_to is not None:
        figures = asdict(report) | {"out": report.out.name}
        write_json(report_to, {"command": "kdlib video", "source": source.name, **figures})


def _folder(
    source: Path,
    out: Path | None,
    planned: dict[str, Any],
    doing: dict[str, Any],
    enhancer: Callable[[], Enhancer],
    settings: dict[str, Any],
    report_to: Path | None,
) -> None:
    """Brighten all videos of a folder."""
    import time
    from dataclasses import asdict

    from kdlib.enhance.folders.videos import enhance_videos, plan_videos
    from kdlib.files import write_json

    figures: list[dict[str, Any]] = []
    start = time.perf_counter()
    try:
        with errors_reported(), progress_bar() as bar:
            plan = plan_videos(source, out, **planned)
            shown = _Shown(bar)

            def progress(job: Job, frames: int, expected: int) -> None:
                shown.frame(frames, expected, f"{job.source.name} ({plan.jobs.index(job) + 1} of {len(plan.jobs)}) ")

            def finished(job: Job, report: VideoReport) -> None:
                names = {"source": str(job.source.relative_to(source)), "out": job.target.name}
                figures.append(asdict(report) | names)

            summary = enhance_videos(plan.jobs, enhancer(), progress=progress, finished=finished, **doing, **settings)
    except KeyboardInterrupt:
        fail(f"stopped after {len(figures)} videos; --resume makes the others")
        raise typer.Exit(130) from None
    say_summary(summary, time.perf_counter() - start, str(plan.jobs[0].output), plan.passed_over)
    say_lines(summary)
    if report_to is not None:
        ended = {"failed": summary.failed, "kept": summary.kept, "passed_over": plan.passed_over}
        write_json(report_to, {"command": "kdlib video", "source": source.name, "videos": figures, **ended})
    say_failed(summary)
    if summary.failed:
        raise typer.Exit(1)


class _Shown:
    """A progress bar for the frames of one video after another."""

    def __init__(self, bar: Progress) -> None:
        self._bar, self._name = bar, ""
        self._task = bar.add_task("", total=None, speed=STARTING)

    def frame(self, frames: int, expected: int, name: str = "") -> None:
        """Show how many frames of how many are done; the name is that of the video."""
        if name != self._name:
            self._bar.reset(self._task)
            self._name = name
        speed = self._bar.tasks[0].speed
        text = f"{speed:.1f} frames/s" if speed else ""
        self._bar.update(
            self._task, completed=frames, total=max(expected, frames) or None, speed=f"{escape(name)}{text}"
        )


def _print_report(report: VideoReport) -> None:
    steady = report.steadiness
    say(f"{escape(str(report.out))}: {report.frames} frames, {report.width}×{report.height}, {report.elapsed:.1f} s")
    say(
        f"per frame: decoding {report.decode_ms:.2f} ms, enhancing {report.enhance_ms:.2f} ms, "
        f"encoding {report.encode_ms:.2f} ms, all in parallel"
    )
    say(
        f"brightness from frame to frame: ±{steady.source:.2%} in the source, ±{steady.output:.2%} enhanced "
        f"(±{steady.unsmoothed:.2%} without smoothing)"
    )
    say(f"the enhancement's own share: ±{steady.gain:.2%} (±{steady.gain_unsmoothed:.2%} without smoothing)")
    for note in report.notes:
        say(f"[yellow]Note:[/] {escape(note)}")
    if report.damages:
        repeated = sum(damage.repeated for damage in report.damages)
        say(
            f"[bold yellow]Warning:[/] {len(report.damages)} damaged frames: {len(report.damages) - repeated} patched "
            f"by the decoder, {repeated} replaced by the picture before"
        )
        for damage in report.damages[:_LISTED]:
            say(f"  {damage.time:.3f} s: {'replaced' if damage.repeated else 'patched'}")
        if len(report.damages) > _LISTED:
            say(f"  … the last at {report.damages[-1].time:.3f} s")


def camera(
    source: Annotated[str, typer.Argument(help="Number of a camera, or a video file.")] = "0",
    model: Model = DEFAULT_MODEL,
    strength: Strength = 1.0,
    denoise: Denoise = None,
    smoothing: Smoothing = 0.25,
    device: Device = "auto",
) -> None:
    """Show a camera's picture beside the enhanced one, with frames per second and latency. Press q to quit."""
    from kdlib.enhance.enhancer import Enhancer
    from kdlib.enhance.video.camera import Window, view
    from kdlib.enhance.video.smoothing import check_same_size

    with errors_reported():
        enhancer = Enhancer(model, strength=strength, denoise=denoise, device=device)
        check_same_size(enhancer)  # before a window opens
        with Window("kdlib") as window:
            report = view(source, enhancer, window.show, smoothing=smoothing)
    console.print(
        f"{report.frames} frames, {report.frames_per_second:.1f} per second, latency {report.latency_ms:.1f} ms, "
        f"{report.dropped} dropped to keep up",
        highlight=False,
    )
