"""``kdlib enhance``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdlib.cli._options import Denoise, Device, Model, Strength
from kdlib.cli._output import console, escape, fail, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdlib.enhance.folders.local import Summary

_LISTED = 100  # on the screen; a report has all


class Engine(StrEnum):
    """What runs the workers."""

    local = "local"
    ray = "ray"


def enhance(
    inputs: Annotated[list[str], typer.Argument(metavar="IN…", help="Photos, folders, glob patterns.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder for the results, or a file name for one photo. [default: beside]"),
    ] = None,
    model: Model = "glance-650",
    strength: Strength = 1.0,
    denoise: Denoise = None,
    upscale: Annotated[
        int | None, typer.Option(help="How many times as wide and high; a model knows one. [default: the model's own]")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Subfolders too, mirrored.")] = False,
    suffix: Annotated[str, typer.Option(help="Added to each file name, before the extension.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Photos in the works at once; 0: one for each core.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep results that exist, make the others.")] = False,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse photos, or results, of more pixels, which might fill the memory.")
    ] = None,
    device: Device = "auto",
    engine: Annotated[
        Engine, typer.Option(help="ray: many machines, photos and results in any store, such as s3://bucket/photos.")
    ] = Engine.local,
    address: Annotated[
        str | None, typer.Option(help="With --engine ray: a running cluster. [default: RAY_ADDRESS, else this machine]")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write what failed, and why, to this file, as JSON lines.")
    ] = None,
) -> None:
    """Brighten photos, or enlarge them by a model that sharpens. Each result is of its photo's kind: format, bit depth,
    alpha, EXIF, colour profile, and, unless it is enlarged, size.

    Inputs are never touched. Photos that cannot be read are listed at the end, and the exit code is then 1.
    """
    import time

    if overwrite and resume:
        raise fail("--overwrite replaces results, --resume keeps them; choose one")
    if engine is Engine.local and address:
        raise fail("--address names a cluster, which takes --engine ray")
    if engine is Engine.local and (stores := [path for path in (*inputs, output or "") if "://" in path]):
        raise fail(f"{stores[0]} is in a store, which takes --engine ray")  # else a local folder named s3: is made
    if engine is Engine.ray and (output is None or device not in {"auto", "cpu"}):
        raise fail("--engine ray works on CPUs and needs an --output folder; leave --device out")
    if report is not None and report.is_dir():
        raise fail(f"{report} is a folder; --report takes the name of a file")
    shared = {"recursive": recursive, "suffix": suffix}
    doing = {"workers": workers, "overwrite": overwrite, "resume": resume, "max_pixels": max_pixels}
    options = {"strength": strength, "denoise": denoise, "upscale": upscale}
    start = time.perf_counter()
    try:
        with progress_bar() as bar:
            task = bar.add_task("", total=None, speed="")

            def progress(photos: int, total: int | None = None) -> None:
                rate = photos / (time.perf_counter() - start)
                bar.update(task, completed=photos, total=total, speed=f"{rate:.1f} photos/s")

            if engine is Engine.ray:
                from kdlib.scale import enhance_dataset

                everything: dict[str, Any] = {**shared, **doing, **options, "model": model, "address": address}
                summary, where = enhance_dataset(inputs, str(output), **everything, progress=progress), ""
            else:
                summary, where = _on_this_machine(
                    inputs, output, shared, doing, {**options, "device": device}, model, progress
                )
    except (OSError, ValueError) as error:
        raise fail(str(error)) from None
    seconds, most, unwritten = time.perf_counter() - start, _LISTED, ""
    if report is not None:
        try:
            summary.write_report(report)
        except OSError as error:  # after a long run: the screen then has all that the report would have had
            most, unwritten = summary.photos + len(summary.notes), str(error)
    kept = f", {summary.kept} kept" if summary.kept else ""
    console.print(f"{summary.done} enhanced{kept}, {seconds:.1f} s{escape(where)}", highlight=False, soft_wrap=True)
    for colour, lines in (("yellow", summary.notes), ("bold red", summary.failed)):
        for photo, what in lines[:most]:
            console.print(f"[{colour}]{escape(photo)}[/]: {escape(what)}", highlight=False, soft_wrap=True)
        if len(lines) > most:
            console.print(f"… and {len(lines) - _LISTED:,} more, which --report FILE lists", highlight=False)
    if summary.failed:
        console.print(f"[bold red]{len(summary.failed)} of {summary.photos} could not be enhanced[/]", highlight=False)
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
    """What became of the photos, and where the result is if there is one."""
    from kdlib.enhance.enhancer import Enhancer
    from kdlib.enhance.folders.local import enhance_files, plan
    from kdlib.threads import available_threads

    jobs = plan(inputs, Path(output) if output else None, **chosen)
    finished: list[Path] = []

    def one_more(photo: Path) -> None:
        finished.append(photo)
        progress(len(finished), len(jobs))

    doing = {**doing, "workers": doing["workers"] or available_threads()}
    summary = enhance_files(
        jobs, lambda threads: Enhancer(model, threads=threads, **options), **doing, progress=one_more
    )
    if len(jobs) == summary.done == 1:
        return summary, f" → {jobs[0].target}"
    # Where they are was not the user's choice.
    folders = {str(job.target.parent) for job in jobs} if output is None and summary.done else set()
    return summary, f" → {os.path.commonpath(folders)}" if folders else ""
