"""``kdlib video`` and ``kdlib camera``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdlib.cli._options import Denoise, Device, Model, Smoothing, Strength
from kdlib.cli._output import STARTING, console, errors_reported, escape, fail, progress_bar, say
from kdlib.weights.catalogue import DEFAULT_MODEL

if TYPE_CHECKING:
    from kdlib.enhance.video.enhance import VideoReport

_LISTED = 10  # most damaged frames printed one by one


def video(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Video to brighten.")],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="File to write: .mp4, .m4v, .mov, .mkv, or .webm if the sound is Opus or Vorbis."
        ),
    ],
    model: Model = DEFAULT_MODEL,
    strength: Strength = 1.0,
    denoise: Denoise = None,
    smoothing: Smoothing = 0.25,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Show the original on the left, the enhanced on the right.")
    ] = False,
    codec: Annotated[
        str | None, typer.Option(help="FFmpeg's name of the encoder. Default: libx264, or libvpx-vp9 for .webm.")
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    device: Device = "auto",
    report_to: Annotated[Path | None, typer.Option("--report", help="Write the figures to this JSON file.")] = None,
) -> None:
    """Brighten a video. Sound, frame times, rotation, colour tags and metadata stay as they are.

    Damaged frames are patched by the decoder, or replaced by the picture before them, and reported. The video is still
    complete, and the exit code 0.
    """
    from dataclasses import asdict

    from kdlib.enhance.enhancer import Enhancer
    from kdlib.enhance.video.enhance import enhance_video
    from kdlib.files import write_json

    options = dict(entry.partition("=")[::2] for entry in encoder_option or [])
    if "" in options or "" in options.values():
        raise fail("--encoder-option takes NAME=VALUE, such as preset=slow")
    try:
        with errors_reported(), progress_bar() as bar:
            task = bar.add_task("", total=None, speed=STARTING)
            enhancer = Enhancer(model, strength=strength, denoise=denoise, device=device)

            def progress(frames: int, expected: int) -> None:
                speed = bar.tasks[0].speed
                shown = f"{speed:.1f} frames/s" if speed else ""
                bar.update(task, completed=frames, total=max(expected, frames) or None, speed=shown)

            report = enhance_video(
                source,
                out,
                enhancer,
                smoothing=smoothing,
                side_by_side=side_by_side,
                codec=codec,
                crf=crf,
                pixel_format=pixel_format,
                options=options,
                threads=encoder_threads,
                overwrite=overwrite,
                progress=progress,
            )
    except KeyboardInterrupt:
        fail(f"stopped; {out} was not written")
        raise typer.Exit(130) from None
    _print_report(report)
    if report_to is not None:
        figures = asdict(report) | {"out": report.out.name}
        write_json(report_to, {"command": "kdlib video", "source": source.name, **figures})


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
