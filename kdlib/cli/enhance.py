"""``kdlib enhance``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdlib.cli._options import Denoise, Device, Model, Strength
from kdlib.cli._output import (
    STARTING,
    STREAM,
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

    from kdlib.enhance.folders.local import Summary

_LISTED = 100  # most lines on the screen of failures and of notes; a report has all of them


class Format(StrEnum):
    """Formats that results can have."""

    jpeg = "jpeg"
    png = "png"
    webp = "webp"
    avif = "avif"
    tiff = "tiff"
    heic = "heic"
    bmp = "bmp"
    gif = "gif"
    ppm = "ppm"


class Engine(StrEnum):
    """Where photos are enhanced: by threads of this process, or by workers on Ray."""

    local = "local"
    ray = "ray"


def enhance(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN…", help="Photos, folders or glob patterns; - is standard input.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the results, or file name for one photo; - is standard output. Default: beside the input.",
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    strength: Strength = 1.0,
    denoise: Denoise = None,
    upscale: Annotated[
        int | None,
        typer.Option(help="Factor to enlarge photos by, which the model must match. Default: the model's own."),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Include subfolders, mirrored in the output.")
    ] = False,
    suffix: Annotated[str, typer.Option(help="Text to add to each file name, before the extension.")] = "",
    format: Annotated[
        Format | None,
        typer.Option(help="Format of the results. Default: that of each photo; of raw photos, 16-bit TIFF."),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, help="Quality of JPEG, WebP, AVIF and HEIC. Default: that of a JPEG photo, else a high one."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Photos to enhance at once; 0 is one per core.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep existing results and make the missing ones.")] = False,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse photos or results with more pixels, to protect the memory.")
    ] = None,
    device: Device = "auto",
    engine: Annotated[
        Engine, typer.Option(help="ray uses many machines, and any store, such as s3://bucket/photos.")
    ] = Engine.local,
    address: Annotated[
        str | None,
        typer.Option(help="With --engine ray: address of a cluster. Default: RAY_ADDRESS, else this machine."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for photos to arrive in a folder, and enhance each.")
    ] = False,
    preview: Annotated[
        bool,
        typer.Option("--preview", help="Write one contact sheet of photos before and after, instead of results."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write all failures and notes to this file, as JSON lines; --watch adds them as they occur."),
    ] = None,
) -> None:
    """Brighten photos, or enlarge them with a super-resolution model.

    A result keeps its photo's format, bit depth, alpha, EXIF, colour profile, date and, unless it is enlarged, size.
    Inputs are never changed. Photos that cannot be enhanced are listed at the end, and the exit code is then 1. Of
    animations and documents, every frame and page is enhanced. HEIC photos take the extra 'kdlib[heic]', raw photos of
    cameras 'kdlib[raw]'.
    """
    import time
    from collections import Counter

    from kdlib.enhance.photos.kinds import installed

    if overwrite and resume:
        raise fail("--overwrite replaces existing results and --resume keeps them; choose one")
    if engine is Engine.local and address:
        raise fail("--address names a Ray cluster; add --engine ray")
    if engine is Engine.local and (stores := [path for path in (*inputs, output or "") if "://" in path]):
        raise fail(f"{stores[0]} is in a remote store; add --engine ray")  # else a local folder "s3:" would be made
    if engine is Engine.ray and (output is None or device not in {"auto", "cpu"}):
        raise fail("--engine ray runs on CPUs and needs an --output folder; give --output and leave --device out")
    if report is not None and report.is_dir():
        raise fail(f"{report} is a folder; give --report the name of a file")
    options = {"strength": strength, "denoise": denoise, "upscale": upscale}
    if watch or preview or STREAM in (*inputs, output):
        if engine is Engine.ray:
            raise fail("--watch, --preview and standard input or output do not take --engine ray")
        if report is not None and not watch:
            raise fail("--preview and standard input or output do not take --report; they print what fails")
        if format or quality is not None:
            raise fail("--watch, --preview and standard input or output take neither --format nor --quality")
        from kdlib.cli._ways import Ways

        ways = Ways(inputs, output, model, {**options, "device": device}, workers, overwrite, max_pixels)
        if watch + preview + (STREAM in (*inputs, output)) > 1:
            raise fail("--watch, --preview and standard input or output exclude each other; choose one")
        if watch:
            ways.watch(recursive=recursive, suffix=suffix, report=report)
        elif preview:
            ways.preview(recursive=recursive)
        else:
            ways.pipe()
        return
    wanted = {"PPM": "PNM"}.get(format.upper(), format.upper()) if format else None
    if wanted is not None and not installed(wanted):
        raise fail(f"--format {format} needs pillow-heif: pip install 'kdlib[heic]' (its wheels are under the GPLv2)")
    shared: dict[str, Any] = {"recursive": recursive, "suffix": suffix, "wanted": wanted}
    doing = {"workers": workers, "overwrite": overwrite, "resume": resume, "max_pixels": max_pixels, "quality": quality}
    others: Counter[str] = Counter()
    start = time.perf_counter()
    with errors_reported(), progress_bar() as bar:
        task = bar.add_task("", total=None, speed=STARTING)

        def progress(photos: int, total: int | None = None) -> None:
            rate = photos / (time.perf_counter() - start)
            bar.update(task, completed=photos, total=total, speed=f"{rate:.1f} photos/s" if photos else STARTING)

        if engine is Engine.ray:
            from kdlib.enhance.folders.others import passed_over
            from kdlib.scale import enhance_dataset

            everything: dict[str, Any] = {**shared, **doing, **options, "model": model, "address": address}
            summary, where = enhance_dataset(inputs, str(output), **everything, progress=progress), str(output)
            folders = [Path(os.path.expanduser(given)) for given in inputs if "://" not in given]
            others = passed_over(filter(Path.is_dir, folders), Path(str(output)), recursive=recursive)
        else:
            summary, where = _on_this_machine(
                inputs, output, {**shared, "others": others}, doing, {**options, "device": device}, model, progress
            )
    seconds, most, unwritten = time.perf_counter() - start, _LISTED, ""
    if report is not None:
        try:
            summary.write_report(report)
        except OSError as error:  # the run may have been long: print everything that the report would have held
            most, unwritten = summary.photos + len(summary.notes), str(error)
    say_summary(summary, seconds, where, others)
    for line in (_still_dark(summary, strength), _taken_again(inputs, output if recursive else None)):
        if line:
            say(line)
    say_lines(summary, most)
    say_failed(summary)
    if unwritten:
        raise fail(f"the report could not be written: {unwritten}")
    if summary.failed:
        raise typer.Exit(1)


def _on_this_machine(
    inputs: list[str],
    output: str | None,
    chosen: dict[str, Any],
    doing: dict[str, Any],
    options: dict[str, Any],
    model: str,
    progress: Callable[[int, int], object],
) -> tuple[Summary, str]:
    """Enhance on this machine, and return the summary and where the results are."""
    from kdlib.enhance.enhancer import Enhancer
    from kdlib.enhance.folders.local import enhance_files, plan
    from kdlib.threads import available_threads

    jobs = plan(inputs, Path(output) if output else None, **chosen)
    finished: list[Path] = []
    progress(0, len(jobs))

    def one_more(photo: Path) -> None:
        finished.append(photo)
        progress(len(finished), len(jobs))

    doing = {**doing, "workers": doing["workers"] or available_threads()}
    summary = enhance_files(
        jobs,
        lambda threads: Enhancer(model, threads=threads, **options),
        **doing,
        wanted=chosen["wanted"],
        progress=one_more,
    )
    if len(jobs) == 1:
        return summary, str(jobs[0].target)
    return summary, output or os.path.commonpath({str(job.target.parent) for job in jobs})


def _still_dark(summary: Summary, strength: float) -> str:
    """Return a hint for a run of which at least a quarter of the results are still dark, or an empty string."""
    if 4 * summary.dark < max(summary.done, 1):
        return ""
    from kdlib.enhance.folders.local import DARK

    # A higher strength brightens more with every model; only at its maximum is another model the better advice.
    more = (f"--strength {value:g}" for value in (1.5, 2) if value > strength)
    advice = next(more, "another --model, of which `kdlib enhance --help` says what each is for")
    return f"{summary.dark} of {summary.done} results are still dark (mean brightness below {DARK:.0%}): try {advice}"


def _taken_again(inputs: list[str], output: str | None) -> str:
    """Return a warning if the results lie below a folder that was searched for photos, or an empty string."""
    if output is None:
        return ""
    place = Path(os.path.realpath(output))
    for given in inputs:
        if Path(os.path.realpath(os.path.expanduser(given))) in place.parents:
            return (
                f"[yellow]{escape(output)} lies inside {escape(given)}[/]: "
                "a later run with another --output would enhance these results again"
            )
    return ""
