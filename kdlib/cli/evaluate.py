"""``kdlib evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdlib.cli._output import console, fail

if TYPE_CHECKING:
    from kdlib.models import ZeroDCE


def read_earlier(path: Path, data: str) -> list[dict[str, object]]:
    """The rows of an earlier evaluation on the same data, or a ValueError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows: list[dict[str, object]] = content["rows"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} holds no evaluation to append to; choose another file for --out") from None
    if content.get("data") != data:
        raise ValueError(
            f"{path} holds scores on {content.get('data')!r}, not on {data!r}; choose another file for --out"
        )
    return rows


def denoised(label: str, model: ZeroDCE, amounts: list[float], data: Path | None) -> list[dict[str, object]]:
    """Rows for the Enhancer with denoising, and for the blur that it has to beat."""
    from kdlib.data.datasets import evaluation_pairs
    from kdlib.evaluation.report import as_method, gaussian_after, score, through_enhancer
    from kdlib.models import count_parameters

    if not amounts:
        return []
    methods = {f"{label}, Gaussian of sigma 1": gaussian_after(as_method(model))}
    methods |= {f"{label}, denoise {amount:g}": through_enhancer(model, amount) for amount in amounts}
    parameters = count_parameters(model)
    return [
        {"method": name, "parameters": parameters, **score(method, evaluation_pairs(data))}
        for name, method in methods.items()
    ]


def evaluate(
    models: Annotated[list[str] | None, typer.Argument(help="Names or weights files; default: all shipped.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with low/ and high/; default: embedded photos.")] = None,
    teacher: Annotated[str, typer.Option(help="Also measure the fidelity of each model to this one.")] = "",
    scale_factor: Annotated[int, typer.Option(help="The network sees the photo at 1/N; 0 keeps the model's own.")] = 0,
    curve_activation: Annotated[str, typer.Option(help="tanh or sigmoid, for all models; empty keeps their own.")] = "",
    denoise: Annotated[
        list[float] | None, typer.Option(help="Score the Enhancer too, denoising this much; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the scores to this JSON file.")] = None,
    append: Annotated[bool, typer.Option(help="Keep the rows of other methods that the file already has.")] = False,
) -> None:
    """Score models against ground truth, beside gamma curves and CLAHE."""
    from rich.markdown import Markdown

    from kdlib.catalogue import catalogue
    from kdlib.data.datasets import dark_photos, evaluation_pairs
    from kdlib.evaluation.metrics import FIDELITY_CAP, fidelity
    from kdlib.evaluation.report import COLUMNS, compare, markdown_table
    from kdlib.files import write_json
    from kdlib.weights import load_model

    name_of_data = "embedded photos, 3.5 stops down" if data is None else data.resolve().name
    overrides: dict[str, object] = {"scale_factor": scale_factor} if scale_factor else {}
    if curve_activation:
        overrides["curve_activation"] = curve_activation
    try:
        earlier = read_earlier(out, name_of_data) if append and out is not None and out.is_file() else []
        loaded = {}
        for name in models or list(catalogue()):
            label = Path(name).stem if Path(name).suffix in {".pth", ".pt", ".safetensors"} else name
            label += f", 1/{scale_factor}" if scale_factor else ""
            label = f"{label}, {curve_activation}" if curve_activation else label
            loaded[name if label in loaded else label] = load_model(name, **overrides)
        with console.status("scoring …"):
            rows = compare(loaded, lambda: evaluation_pairs(data))
            rows += [row for label, model in loaded.items() for row in denoised(label, model, denoise or [], data)]
        columns = dict(COLUMNS)
        if teacher:
            master = load_model(teacher)
            for row in rows:
                if row["method"] in loaded:
                    photos = dark_photos([data] if data else [])
                    near = fidelity(loaded[row["method"]], master, photos)["mean"]
                    row["fidelity"] = near if near < FIDELITY_CAP else None  # the teacher itself
            columns["fidelity"] = ("fidelity to teacher", ".1f")
    except (OSError, ValueError) as error:
        raise fail(str(error)) from None
    console.print(Markdown(markdown_table(rows, columns)))
    if out is not None:
        rows = list({row["method"]: row for row in [*earlier, *rows]}.values())
        write_json(out, {"command": "kdlib evaluate", "data": name_of_data, "rows": rows})
        console.print(f"written to {out}")
