"""``kdlib evaluate``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdlib.cli._options import check_weights
from kdlib.cli._output import console, errors_reported, escape, say, shown_command, write_result

if TYPE_CHECKING:
    from torch import nn

    from kdlib.evaluation.classical import InPlace, Method


def read_earlier(path: Path, data: str) -> list[dict[str, Any]]:
    """Return the rows of an earlier evaluation; raise ValueError if it was on other data."""
    from kdlib.evaluation.leaderboard import read_scores

    content = read_scores(path)
    if content["data"] != data:
        raise ValueError(f"{path} holds scores on {content['data']!r}, not on {data!r}; give --out another file")
    rows: list[dict[str, Any]] = content["rows"]
    return rows


def label_models(names: Sequence[str], suffix: str = "") -> dict[str, str]:
    """Return a unique label for each model, as a dict from label to name or path.

    A shipped model keeps its name. A file is called by its stem, preceded by its folder where the stem is taken.
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
    """Return the methods to score for one model: the model itself and, on request, its variants.

    These are the model on mirrored photos, and for denoising the Enhancer with each amount, beside a Gaussian blur for
    comparison.
    """
    from kdlib.evaluation.report import as_method, gaussian_after, mirrored, through_enhancer

    methods = {"": as_method(model)}
    if mirror:
        methods[", mirrored"] = mirrored(as_method(model))
    if denoise:
        methods[", Gaussian of sigma 1"] = gaussian_after(as_method(model))
        methods |= {f", denoise {amount:g}": through_enhancer(model, amount) for amount in denoise}
    return methods


def timed_methods(models: dict[str, Any], denoise: Sequence[float], threads: int) -> dict[str, InPlace]:
    """Return what a user would run on 8-bit photos for each row; the input and the blur have none."""
    from kdlib.enhance import Enhancer
    from kdlib.evaluation.classical import eight_bit_methods

    methods = eight_bit_methods()
    for label, model in models.items():
        methods[label] = Enhancer(model, device="cpu", threads=threads)
        for amount in denoise:
            methods[f"{label}, denoise {amount:g}"] = Enhancer(model, denoise=amount, device="cpu", threads=threads)
    return methods


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Print the scores, then a second table of the other columns, because one table would not fit a terminal.

    If LPIPS could not be measured, a line below says why.
    """
    from rich.markdown import Markdown

    from kdlib.evaluation.leaderboard import behaviour_columns
    from kdlib.evaluation.metrics import LPIPS_LEAST_SIDE, lpips_obstacle
    from kdlib.evaluation.tables import COLUMNS, markdown_table

    columns = dict(COLUMNS)
    if any("fidelity" in row for row in rows):
        columns["fidelity"] = ("fidelity to teacher", ".1f")
    console.print(Markdown(markdown_table(rows, columns)))
    console.print(Markdown(markdown_table(rows, {"method": columns["method"], **behaviour_columns(rows)})))
    if any(row["lpips"] is None for row in rows):
        reason = lpips_obstacle() or f"a side of a photo is shorter than {LPIPS_LEAST_SIDE} pixels"
        say(f"LPIPS left out: {escape(reason)}")


def check_inputs(models: Sequence[str], folders: Sequence[Path | None]) -> None:
    """Look for the weights and the photos, which takes no PyTorch; importing it takes seconds.

    Raises:
        OSError, ValueError: no such weights, or no photos in one of the folders that are given.
    """
    from kdlib.enhance.photos.paths import list_photos

    check_weights(models)
    for folder in folders:
        if folder is not None:
            list_photos(folder)


def write_rows(
    context: typer.Context, rows: list[dict[str, Any]], earlier: list[dict[str, Any]], data: str, out: Path | None
) -> None:
    """Write the rows to ``out``, if it is given, after the earlier rows of other methods."""
    command = shown_command(context)  # stored per row, because --append collects rows of several commands
    rows = list({row["method"]: row for row in [*earlier, *({**row, "command": command} for row in rows)]}.values())
    write_result(out, {"command": "kdlib evaluate", "data": data, "rows": rows})


def evaluate(
    context: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(help="Names or weights files. Default: all shipped models.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with low/ and high/, or of sharp photos to enlarge. Default: embedded photos."),
    ] = None,
    brackets: Annotated[
        Path | None,
        typer.Option(help="Instead: a folder of scenes with several exposures; the truth is the fusion of each scene."),
    ] = None,
    together: Annotated[
        str,
        typer.Option("--as", help="Treat the models as seeds of one method of this name; report mean and deviation."),
    ] = "",
    teacher: Annotated[str, typer.Option(help="Also measure the fidelity of each model to this teacher.")] = "",
    adaptivity_data: Annotated[
        Path | None, typer.Option(help="Also compare each model with one fixed curve on this folder of photos.")
    ] = None,
    category: Annotated[
        str, typer.Option(help="Training data of the models: zero-reference, self-made pairs, exposures or real pairs.")
    ] = "",
    scale_factor: Annotated[
        int, typer.Option(help="Run the networks on photos downsampled to 1/N; 0 keeps the model's own.")
    ] = 0,
    curve_activation: Annotated[str, typer.Option(help="tanh or sigmoid for all models; empty keeps their own.")] = "",
    mirror: Annotated[bool, typer.Option(help="Also score each model on mirrored photos.")] = False,
    size: Annotated[str, typer.Option("--resize", help="Resize the pairs to WIDTHxHEIGHT first.")] = "",
    denoise: Annotated[
        list[float] | None, typer.Option(help="Also score the Enhancer with this much denoising; repeatable.")
    ] = None,
    time: Annotated[
        bool, typer.Option(help="Also time the Enhancer at 1920×1080, or per megapixel for super-resolution.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the scores to this JSON file.")] = None,
    append: Annotated[
        bool, typer.Option(help="Keep the rows of other methods in the file; gamma and CLAHE are not scored again.")
    ] = False,
) -> None:
    """Score models against ground truth, with gamma curves and CLAHE for comparison.

    The first evaluation downloads the weights of SqueezeNet, 5 MB, for LPIPS. Without them the column stays empty.

    Super-resolution networks are scored on --data FOLDER of sharp photos, with bicubic for comparison. With --brackets,
    rivals are a gamma, six fitted numbers, CLAHE and a fusion of copies.
    """
    with errors_reported():
        if append and out is None:
            raise ValueError("--append keeps the rows of an earlier file; name the file with --out")
        check_inputs([*(models or []), *([teacher] if teacher else [])], [data, adaptivity_data, brackets])
        if brackets is not None:
            from kdlib.cli import _brackets

            given = {
                "--data": data, "--teacher": teacher, "--adaptivity-data": adaptivity_data, "--category": category,
                "--scale-factor": scale_factor, "--curve-activation": curve_activation, "--mirror": mirror,
                "--resize": size, "--denoise": denoise, "--time": time, "--append": append,
            }  # fmt: skip
            if others := [name for name, value in given.items() if value]:
                raise ValueError(f"{', '.join(others)}: not with --brackets")
            rows = _brackets.score_models(label_models(models or []), brackets, together=together)
            _brackets.print_tables(rows)
            write_rows(context, rows, [], brackets.resolve().name, out)
            return

    from kdlib.checks import check_choice
    from kdlib.cli import _super_resolution
    from kdlib.data.datasets import dark_photos, evaluation_pairs
    from kdlib.evaluation.benchmark import parse_size
    from kdlib.evaluation.classical import classical_methods
    from kdlib.evaluation.leaderboard import CATEGORIES
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

    with errors_reported():
        if size:
            width, height = parse_size(size)
            name_of_data += f", {width}×{height}"
            pairs = resized(pairs, width, height)
        if category:
            check_choice("category", category, CATEGORIES)
        if together and not models:
            raise ValueError(f"--as {together}: name the weights files of its seeds")
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
            with console.status("Scoring …"):
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
        # By default all shipped models are loaded.
        loaded = _super_resolution.without_super_resolution(loaded)
        master = load_model(teacher) if teacher else None

        def measure(label: str) -> dict[str, dict[str, Any]]:
            """Return the rows of one model, by variant."""
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

        with console.status("Scoring …"):
            # Classical methods always score the same, so an appended file need not score them again.
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
                # All seeds of a method take the same time, so only one is measured.
                shown = {together: next(iter(loaded.values()))} if together else loaded
                threads = available_threads()
                wanted = {row["method"] for row in rows}
                methods = timed_methods(shown, amounts, threads)
                methods = {name: method for name, method in methods.items() if name in wanted}
                times = milliseconds_1080p(methods, threads=threads)
                for row in rows:
                    if row["method"] in times:
                        row |= {"ms_1080p": times[row["method"]], "threads": threads}
    print_tables(rows)
    write_rows(context, rows, earlier, name_of_data, out)
