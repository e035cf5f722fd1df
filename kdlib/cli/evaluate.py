"""``kdlib evaluate``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdlib.cli._output import console, fail, shown_command

if TYPE_CHECKING:
    from torch import nn

    from kdlib.evaluation.classical import InPlace, Method


def read_earlier(path: Path, data: str) -> list[dict[str, Any]]:
    """The rows of an earlier evaluation on the same data, or a ValueError."""
    from kdlib.evaluation.leaderboard import read_scores

    content = read_scores(path)
    if content["data"] != data:
        raise ValueError(f"{path} holds scores on {content['data']!r}, not on {data!r}; choose another file for --out")
    rows: list[dict[str, Any]] = content["rows"]
    return rows


def label_models(names: Sequence[str], suffix: str = "") -> dict[str, str]:
    """What to call each model: a shipped name as it is, a file by its stem, with its folder where that is not enough.

    Returns:
        label → name or path.
    """
    labels: dict[str, str] = {}
    for name in dict.fromkeys(names):
        path = Path(name)
        is_file = path.suffix in {".pth", ".pt", ".safetensors"}
        candidates = [path.stem, f"{path.absolute().parent.name}/{path.stem}", name] if is_file else [name]
        label = next((c for c in candidates if f"{c}{suffix}" not in labels), name)
        labels[f"{label}{suffix}"] = name
    return labels


def variants(model: nn.Module, denoise: Sequence[float], *, mirror: bool) -> dict[str, Method]:
    """A model as it is and, if asked for, shown mirrored photos, and the Enhancer with denoising and the blur that it
    has to beat."""
    from kdlib.evaluation.report import as_method, gaussian_after, mirrored, through_enhancer

    methods = {"": as_method(model)}
    if mirror:
        methods[", mirrored"] = mirrored(as_method(model))
    if denoise:
        methods[", Gaussian of sigma 1"] = gaussian_after(as_method(model))
        methods |= {f", denoise {amount:g}": through_enhancer(model, amount) for amount in denoise}
    return methods


def timed_methods(models: dict[str, Any], denoise: Sequence[float], threads: int) -> dict[str, InPlace]:
    """What a user would run on 8 bits for each row; there is none for the input, and none for the blur."""
    from kdlib.enhance import Enhancer
    from kdlib.evaluation.classical import eight_bit_methods

    methods = eight_bit_methods()
    for label, model in models.items():
        methods[label] = Enhancer(model, device="cpu", threads=threads)
        for amount in denoise:
            methods[f"{label}, denoise {amount:g}"] = Enhancer(model, denoise=amount, device="cpu", threads=threads)
    return methods


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Scores first, then what else is known: one table of everything would not fit a terminal."""
    from rich.markdown import Markdown

    from kdlib.evaluation.leaderboard import behaviour_columns
    from kdlib.evaluation.report import COLUMNS, markdown_table

    columns = dict(COLUMNS)
    if any("fidelity" in row for row in rows):
        columns["fidelity"] = ("fidelity to teacher", ".1f")
    console.print(Markdown(markdown_table(rows, columns)))
    console.print(Markdown(markdown_table(rows, {"method": columns["method"], **behaviour_columns(rows)})))


def write_rows(
    context: typer.Context, rows: list[dict[str, Any]], earlier: list[dict[str, Any]], data: str, out: Path | None
) -> None:
    """Write rows, after earlier ones of other methods, to ``out``, if there is one."""
    from kdlib.files import write_json

    if out is None:
        return
    command = shown_command(context)  # of each row: an appended file has several
    rows = list({row["method"]: row for row in [*earlier, *({**row, "command": command} for row in rows)]}.values())
    write_json(out, {"command": "kdlib evaluate", "data": data, "rows": rows})
    console.print(f"written to {out}")


def evaluate(
    context: typer.Context,
    models: Annotated[list[str] | None, typer.Argument(help="Names or weights files; default: all shipped.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with low/ and high/ (of sharp photos, to sharpen); default: embedded photos."),
    ] = None,
    together: Annotated[
        str, typer.Option("--as", help="The models are seeds of one method of this name: one row, mean and deviation.")
    ] = "",
    teacher: Annotated[str, typer.Option(help="Also measure the fidelity of each model to this one.")] = "",
    adaptivity_data: Annotated[
        Path | None, typer.Option(help="Folder of photos: would one fixed curve do there, too?")
    ] = None,
    category: Annotated[
        str, typer.Option(help="What the models learned from: zero-reference, self-made pairs or real pairs.")
    ] = "",
    scale_factor: Annotated[int, typer.Option(help="The network sees the photo at 1/N; 0 keeps the model's own.")] = 0,
    curve_activation: Annotated[str, typer.Option(help="tanh or sigmoid, for all models; empty keeps their own.")] = "",
    mirror: Annotated[bool, typer.Option(help="Score each model on mirrored photos too.")] = False,
    size: Annotated[str, typer.Option("--resize", help="Bring the pairs to WIDTHxHEIGHT first.")] = "",
    denoise: Annotated[
        list[float] | None, typer.Option(help="Score the Enhancer too, denoising this much; repeatable.")
    ] = None,
    time: Annotated[
        bool,
        typer.Option(help="Also measure milliseconds at 1920×1080, through the Enhancer; to sharpen, per megapixel."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the scores to this JSON file.")] = None,
    append: Annotated[
        bool,
        typer.Option(help="Keep the file's rows of other methods; gamma and CLAHE are not scored again."),
    ] = False,
) -> None:
    """Score models against ground truth, beside gamma curves and CLAHE.

    Super-resolution networks are scored on --data FOLDER of sharp photos, beside bicubic.
    """
    from kdlib.cli import _super_resolution
    from kdlib.data.datasets import dark_photos, evaluation_pairs
    from kdlib.evaluation.benchmark import parse_size
    from kdlib.evaluation.classical import classical_methods
    from kdlib.evaluation.leaderboard import check_category
    from kdlib.evaluation.metrics import FIDELITY_CAP, fidelity
    from kdlib.evaluation.report import compare, measure_method, over_seeds, resized
    from kdlib.evaluation.timing import milliseconds_1080p
    from kdlib.models import count_parameters
    from kdlib.threads import available_threads
    from kdlib.weights import load_model
    from kdlib.weights.catalogue import catalogue

    name_of_data = "embedded photos, 3.5 stops down" if data is None else data.resolve().name
    overrides: dict[str, object] = {"scale_factor": scale_factor} if scale_factor else {}
    if curve_activation:
        overrides["curve_activation"] = curve_activation
    suffix = "".join(f", {part}" for part in (f"1/{scale_factor}" if scale_factor else "", curve_activation) if part)
    amounts = denoise or []
    adaptivity: dict[str, Callable[[], Any]] = {}
    if adaptivity_data is not None:
        where = re.sub(r"\W+", "_", adaptivity_data.resolve().name.lower())
        adaptivity[where] = lambda: dark_photos([adaptivity_data])

    def pairs() -> Any:
        return evaluation_pairs(data)

    try:
        if size:
            width, height = parse_size(size)
            name_of_data += f", {width}×{height}"
            pairs = resized(pairs, width, height)
        check_category(category)
        if together and not models:
            raise ValueError(f"--as {together}: name the weights files that are its seeds")
        earlier = read_earlier(out, name_of_data) if append and out is not None and out.is_file() else []
        names = label_models(models or list(catalogue()), suffix)
        loaded = {label: load_model(name, **overrides) for label, name in names.items()}
        if models and _super_resolution.all_super_resolution(loaded):
            unsuited = {
                "--teacher": teacher,
                "--adaptivity-data": adaptivity_data,
                "--denoise": denoise,
                "--mirror": mirror,
                "--resize": size,
            }
            folder = _super_resolution.check_options(unsuited, data)
            with console.status("scoring …"):
                rows = _super_resolution.score_models(
                    loaded,
                    folder,
                    together=together,
                    category=category,
                    time=time,
                    known={r["method"] for r in earlier},
                )
            _super_resolution.print_table(rows)
            write_rows(context, rows, earlier, name_of_data, out)
            return
        loaded = _super_resolution.without_super_resolution(loaded)  # all that ship
        master = load_model(teacher) if teacher else None

        def measure(label: str) -> dict[str, dict[str, Any]]:
            """The rows of one model, by the variant."""
            model, shipped = loaded[label], catalogue().get(names[label])
            found = {}
            for variant, method in variants(model, amounts, mirror=mirror).items():
                row = measure_method(
                    label + variant, method, pairs, parameters=count_parameters(model), adaptivity=adaptivity
                )
                if known := (shipped.category if shipped else "") or category:
                    row["category"] = known
                found[variant] = row
            if master is not None:
                near = fidelity(model, master, dark_photos([data] if data else []))["mean"]
                found[""]["fidelity"] = near if near < FIDELITY_CAP else None  # the teacher itself
            return found

        with console.status("scoring …"):
            # What needs no training scores the same every time: an appended file has it already.
            known = {row["method"] for row in earlier}
            classical = {name: method for name, method in classical_methods().items() if name not in known}
            rows = compare({}, pairs, classical, adaptivity=adaptivity)
            measured = [measure(label) for label in loaded]
            if together:
                for variant in measured[0]:
                    rows.append(over_seeds(together + variant, [found[variant] for found in measured]))
            else:
                rows += [row for found in measured for row in found.values()]
            if time:
                # Seeds of one method take the same time.
                shown = {together: next(iter(loaded.values()))} if together else loaded
                threads = available_threads()
                wanted = {row["method"] for row in rows}
                methods = timed_methods(shown, amounts, threads)
                methods = {name: method for name, method in methods.items() if name in wanted}
                times = milliseconds_1080p(methods, threads=threads)
                for row in rows:
                    if row["method"] in times:
                        row |= {"ms_1080p": times[row["method"]], "threads": threads}
    except (OSError, ValueError) as error:
        raise fail(str(error)) from None
    print_tables(rows)
    write_rows(context, rows, earlier, name_of_data, out)
