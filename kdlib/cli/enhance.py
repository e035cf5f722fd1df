"""``kdlib enhance``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from kdlib.cli._options import Denoise, Device, Model, Strength
from kdlib.cli._output import console, fail, progress_bar


def enhance(
    inputs: Annotated[list[str], typer.Argument(metavar="IN…", help="Photos, folders, glob patterns.")],
    output: Annotated[
        Path | None,
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
) -> None:
    """Brighten photos, or enlarge them by a model that sharpens. Each result is of its photo's kind: format, bit depth,
    alpha, EXIF, colour profile, and, unless it is enlarged, size.

    Inputs are never touched. Photos that cannot be read are listed at the end, and the exit code is then 1.
    """
    import time

    from kdlib.inference.enhancer import Enhancer
    from kdlib.inference.folder import enhance_files, plan
    from kdlib.inference.threads import available_threads

    if overwrite and resume:
        raise fail("--overwrite replaces results, --resume keeps them; choose one")
    start = time.perf_counter()
    try:
        jobs = plan(inputs, output, recursive=recursive, suffix=suffix)
        with progress_bar() as bar:
            task = bar.add_task("", total=len(jobs), speed="")

            def progress(_: Path) -> None:
                bar.advance(task)
                rate = bar.tasks[0].completed / (time.perf_counter() - start)
                bar.update(task, speed=f"{rate:.1f} photos/s")

            summary = enhance_files(
                jobs,
                lambda threads: Enhancer(
                    model, strength=strength, denoise=denoise, device=device, threads=threads, upscale=upscale
                ),
                workers=workers or available_threads(),
                overwrite=overwrite,
                resume=resume,
                max_pixels=max_pixels,
                progress=progress,
            )
    except (OSError, ValueError) as error:
        raise fail(str(error)) from None
    seconds = time.perf_counter() - start
    where = f" → {summary.done[0]}" if len(summary.done) == 1 and len(jobs) == 1 else ""
    kept = f", {len(summary.kept)} kept" if summary.kept else ""
    console.print(
        f"{len(summary.done)} enhanced{kept}, {seconds:.1f} s{escape(where)}", highlight=False, soft_wrap=True
    )
    for path, note in summary.notes:
        console.print(f"[yellow]{escape(str(path))}[/]: {escape(note)}", highlight=False, soft_wrap=True)
    for path, reason in summary.failed:
        console.print(f"[bold red]{escape(str(path))}[/]: {escape(reason)}", highlight=False, soft_wrap=True)
    if summary.failed:
        console.print(f"[bold red]{len(summary.failed)} of {len(jobs)} could not be enhanced[/]", highlight=False)
        raise typer.Exit(1)
