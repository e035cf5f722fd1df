"""``kdlib benchmark``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from kdlib.cli._options import Model, check_weights
from kdlib.cli._output import console, errors_reported, fail, write_result


def benchmark(
    model: Model = "student-565",
    size: Annotated[
        list[str] | None, typer.Option(help="640×480, 1080p, 4K, 12 MP or WIDTHxHEIGHT; repeatable. Default: the four.")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="Timed runs of each method, whose median is reported. Default: 15; 3 for engines."),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads that each method may use.")] = 2,
    without: Annotated[
        list[str] | None, typer.Option(help="Method to leave out, by its name in the table; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this PNG file.")] = None,
    engines: Annotated[
        bool, typer.Option("--engines", help="Compare the engines of kdlib enhance, local and Ray, instead.")
    ] = False,
    folder: Annotated[
        bool, typer.Option("--folder", help="Compare a folder's pace with decoding and encoding it, instead.")
    ] = False,
    video: Annotated[
        bool, typer.Option("--video", help="Compare a whole video with its stages alone, instead.")
    ] = False,
    frames: Annotated[int, typer.Option(help="With --video: frames to measure.")] = 240,
    data: Annotated[
        Path | None, typer.Option(help="With --folder: your own JPEG photos. Default: made from the embedded photos.")
    ] = None,
    photos: Annotated[
        int | None,
        typer.Option(
            help="With --folder: photos to measure, 100 by default. With --engines: 12 MP photos in the largest "
            "folder, 60 by default."
        ),
    ] = None,
    price: Annotated[float, typer.Option(help="With --engines: assumed price of a core-hour.")] = 0.05,
) -> None:
    """Compare the speed of the Enhancer with PyTorch, ONNX Runtime, torch.compile, CLAHE, a lookup table and a copy."""
    with errors_reported():
        check_weights([model])
    if engines:
        _engines(model, size, repeats or 3, 60 if photos is None else photos, price, out)
        return
    if folder:
        from kdlib.experiments.folder_speed import folder_table, measure_folder

        more = {"data": data, "photos": 100 if photos is None else photos, "threads": threads}
        _beside_default("--folder", measure_folder, folder_table, model, size, "12 MP", out, **more)
        return
    if video:
        from kdlib.experiments.video_stages import measure_video, video_table

        of_video = {"frames": frames, "threads": threads}
        _beside_default("--video", measure_video, video_table, model, size, "1080p", out, **of_video)
        return
    if data is not None:
        raise fail("--data names photos for --folder; add --folder")
    from rich.markdown import Markdown

    from kdlib.evaluation.benchmark import SIZES, speed_table
    from kdlib.evaluation.benchmark import benchmark as run

    with errors_reported(), console.status("…") as status:
        result = run(
            model,
            size or list(SIZES),
            repeats=15 if repeats is None else repeats,
            threads=threads,
            without=without or [],
            progress=status.update,
        )
    console.print(Markdown(speed_table(result)))
    for name, reason in result["left_out"].items():
        console.print(f"left out: {name} ({reason})", highlight=False)
    if result["cuda"]:
        console.print(
            "4K on {device}: {us} µs, {fraction_of_copy_bandwidth:.0%} of its copy bandwidth".format(**result["cuda"])
        )
    write_result(out, {"command": "kdlib benchmark", **result})
    if plot is not None:
        from kdlib.viz.speed import plot_speed

        plot_speed(result["rows"]).savefig(plot, dpi=120, bbox_inches="tight")
        console.print(f"drawn to {plot}")


def _beside_default(
    option: str,
    measure: Callable[..., dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
    model: str,
    size: list[str] | None,
    usual: str,
    out: Path | None,
    **more: Any,
) -> None:
    """Measure a model and the default one at one size, and print the table."""
    import tempfile

    from kdlib.weights.catalogue import DEFAULT_MODEL

    if size is not None and len(size) > 1:
        raise fail(f"{option} measures one size; give --size once")
    models = list(dict.fromkeys([model, DEFAULT_MODEL]))
    with (
        errors_reported(RuntimeError),
        console.status("…") as status,
        tempfile.TemporaryDirectory(prefix="kdlib-") as scratch,
    ):
        result = measure(Path(scratch), models, size=size[0] if size else usual, progress=status.update, **more)
    print(table(result))
    write_result(out, {"command": f"kdlib benchmark {option}", **result})


def _engines(model: str, size: list[str] | None, repeats: int, photos: int, price: float, out: Path | None) -> None:
    import tempfile

    from kdlib.experiments.cluster_cost import SIZES_OF_PHOTOS, engines_table, measure_engines

    with (
        errors_reported(RuntimeError),
        console.status("…") as status,
        tempfile.TemporaryDirectory(prefix="kdlib-") as folder,
    ):
        result = measure_engines(
            Path(folder), size or SIZES_OF_PHOTOS, photos=photos, repeats=repeats, model=model, price=price,
            progress=status.update,
        )  # fmt: skip
    print(engines_table(result))
    write_result(out, {"command": "kdlib benchmark --engines", **result})
