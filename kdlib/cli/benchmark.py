"""``kdlib benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdlib.cli._options import Model
from kdlib.cli._output import console, fail


def benchmark(
    model: Model = "student-565",
    size: Annotated[
        list[str] | None, typer.Option(help="640×480, 1080p, 4K, 12 MP or WIDTHxHEIGHT; repeatable. Default: all four.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Measured runs of each method; the median counts.")] = 15,
    threads: Annotated[int, typer.Option(help="Threads for every method.")] = 2,
    without: Annotated[list[str] | None, typer.Option(help="Leave a method out, by its name in the table.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them into this PNG file.")] = None,
) -> None:
    """Time the Enhancer beside PyTorch, ONNX Runtime, torch.compile, CLAHE, a lookup table and a plain copy."""
    from rich.markdown import Markdown

    from kdlib.evaluation.benchmark import SIZES, speed_table
    from kdlib.evaluation.benchmark import benchmark as run
    from kdlib.files import write_json

    try:
        with console.status("…") as status:
            result = run(
                model,
                size or list(SIZES),
                repeats=repeats,
                threads=threads,
                without=without or [],
                progress=status.update,
            )
    except (OSError, ValueError) as error:
        raise fail(str(error)) from None
    console.print(Markdown(speed_table(result)))
    for name, reason in result["left_out"].items():
        console.print(f"left out: {name} ({reason})", highlight=False)
    if result["cuda"]:
        console.print(
            "4K on {device}: {us} µs, {fraction_of_copy_bandwidth:.0%} of its copy bandwidth".format(**result["cuda"])
        )
    if out is not None:
        write_json(out, {"command": "kdlib benchmark", **result})
        console.print(f"written to {out}")
    if plot is not None:
        from kdlib.viz_speed import plot_speed

        plot_speed(result["rows"]).savefig(plot, dpi=120, bbox_inches="tight")
        console.print(f"drawn to {plot}")
