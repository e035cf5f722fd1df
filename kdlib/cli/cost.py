"""``kdlib cost``."""

from pathlib import Path
from typing import Annotated

import typer

from kdlib.cli._options import check_weights
from kdlib.cli._output import console, errors_reported, shown_command, write_result

COLUMNS = {
    "method": ("network", "s"),
    "at": ("photo", "s"),
    "parameters": ("parameters", ",d"),
    "mega": ("multiply-adds, M", ",.2f"),
    "ms": ("ms", ",.1f"),
    "times_faster": ("times as fast", ".2f"),
}


def cost(
    context: typer.Context,
    models: Annotated[
        list[str], typer.Argument(help="Names or weights files; the first is the reference for the others.")
    ],
    size: Annotated[
        list[str] | None, typer.Option(help="Size of the photo, WIDTHxHEIGHT; repeatable. Default: 600x400.")
    ] = None,
    fold: Annotated[
        bool, typer.Option(help="Also time networks with batch norm folded into the convolutions, where they have any.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Timed runs of each network, whose median is reported.")] = 9,
    threads: Annotated[int, typer.Option(help="Threads that PyTorch may use.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
) -> None:
    """Measure what networks cost in PyTorch: parameters, multiply-adds, and time, with the networks taking turns."""
    with errors_reported():
        check_weights(models)
    from rich.markdown import Markdown

    from kdlib.cli.evaluate import label_models
    from kdlib.evaluation.benchmark import parse_size
    from kdlib.evaluation.cost import milliseconds, multiply_adds
    from kdlib.evaluation.tables import markdown_table
    from kdlib.models import Network
    from kdlib.weights import load_model

    with errors_reported():
        sizes = [parse_size(text) for text in size or ["600x400"]]
        networks = {label: load_model(name) for label, name in label_models(models).items()}
        if fold:
            forms = {label: model.for_inference() for label, model in networks.items() if isinstance(model, Network)}
            networks |= {f"{label}, folded": form for label, form in forms.items() if form is not networks[label]}
        with console.status("Timing …"):
            rows = milliseconds(networks, sizes, repeats=repeats, threads=threads)
            for row in rows:
                row["multiply_adds"] = multiply_adds(networks[row["method"]], row["height"], row["width"])
    shown = [{**row, "at": f"{row['width']}×{row['height']}", "mega": row["multiply_adds"] / 1e6} for row in rows]
    console.print(Markdown(markdown_table(shown, COLUMNS)))
    write_result(out, {"command": shown_command(context), "threads": threads, "rows": rows})
