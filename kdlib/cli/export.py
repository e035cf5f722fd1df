"""``kdlib export``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from kdlib.cli._options import check_weights
from kdlib.cli._output import errors_reported, escape, fail, say


def export(
    model: Annotated[str, typer.Argument(help="Name of a shipped model, or path of a weights file.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write; its name ends in .onnx or, for LiteRT, .tflite.")
    ],
    network: Annotated[
        bool, typer.Option("--network", help="Export the network alone, which takes a thumbnail and returns a map.")
    ] = False,
    precision: Annotated[str, typer.Option(help="Precision of the network: float32, float16 or int8.")] = "float32",
    licence: Annotated[str, typer.Option(help="Licence of weights of your own, for the metadata.")] = "",
    training_data: Annotated[str, typer.Option(help="What weights of your own were trained on, likewise.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a model as an ONNX file for other runtimes: photo in, photo out, at any size, with standard operators.

    `kdlib.Enhancer` and `--model` run the file again. A LiteRT file holds the network alone, in float32.
    """
    from kdlib.export import export_litert, export_onnx

    if os.path.lexists(out) and not overwrite:
        raise fail(f"{out} exists; --overwrite replaces it")
    with errors_reported():
        check_weights([model])
        if out.suffix == ".tflite":
            if not network or precision != "float32":
                raise ValueError(
                    f"{out}: a LiteRT file holds the network alone in float32; give --network and no precision"
                )
            about = export_litert(model, out, licence=licence, training_data=training_data)
        else:
            about = export_onnx(
                model, out, flavour="network" if network else "photo", precision=precision, licence=licence,
                training_data=training_data,
            )  # fmt: skip
    size = out.stat().st_size
    say(f"{escape(str(out))}: {escape(about.name)}, {about.flavour}, {about.precision}, {size:,} bytes")
    say(f"  smoothed inside: {about.smoothing}")
    say(f"  licence: {escape(about.licence)}")
