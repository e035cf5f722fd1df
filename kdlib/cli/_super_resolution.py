"""``kdlib evaluate`` for super-resolution networks: a test of their own, on sharp photos instead of pairs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdlib.cli._output import console

COLUMNS: dict[str, tuple[str, str]] = {
    "method": ("method", "s"),
    "parameters": ("parameters", ",d"),
    "psnr_y": ("PSNR, Y", ".2f"),
    "ssim_y": ("SSIM, Y", ".4f"),
    "psnr": ("PSNR", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "ms_per_megapixel": ("ms per megapixel", ",.0f"),
}


def without_super_resolution(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the models, by label, that brighten."""
    from kdlib.models.registry import find_family

    return {label: model for label, model in loaded.items() if not find_family(model.config).upscales}


def all_super_resolution(loaded: Mapping[str, Any]) -> bool:
    """Whether models, by label, are super-resolution networks.

    Raises:
        ValueError: only some are, or they were made for different factors.
    """
    others = without_super_resolution(loaded)
    found = {label: model for label, model in loaded.items() if label not in others}
    if found and others:
        raise ValueError(
            f"super-resolution ({', '.join(found)}) and brightening ({', '.join(others)}) have different tests: "
            "evaluate one kind at a time"
        )
    if len(factors := sorted({model.upscale for model in found.values()})) > 1:
        raise ValueError(f"the models are for photos enlarged by {' and by '.join(map(str, factors))}: one at a time")
    return bool(found)


def check_options(unsuited: Mapping[str, object], data: Path | None) -> Path:
    """``data`` itself, if it is given and no option of the other test is set, else a ValueError."""
    if given := [name for name, value in unsuited.items() if value]:
        raise ValueError(f"{', '.join(given)}: for networks that brighten, not for super-resolution")
    if data is None:
        raise ValueError("super-resolution networks are scored on a folder of sharp photos; give it with --data")
    return data


def score_models(
    models: Mapping[str, Any], data: Path, *, together: str, category: str, time: bool, known: Collection[str]
) -> list[dict[str, Any]]:
    """The rows of bicubic, unless it is ``known`` already, and of each model, or of all ``together`` as one method.

    Raises:
        OSError, ValueError: no photos that can be read and scored, or models that are not seeds of one method.
    """
    from kdlib.evaluation.report import as_method, over_seeds
    from kdlib.evaluation.super_resolution import (
        BICUBIC,
        bicubic,
        milliseconds_per_megapixel,
        score_super_resolution,
        sharp_photos,
    )
    from kdlib.models import count_parameters
    from kdlib.threads import available_threads

    upscale = next(iter(models.values())).upscale
    measured = []
    for label, model in models.items():
        scores = score_super_resolution(as_method(model), sharp_photos(data), upscale)
        row = {"method": label, "parameters": count_parameters(model), "upscale": upscale, **scores}
        measured.append({**row, "category": category} if category else row)
    rows = [over_seeds(together, measured)] if together else measured
    if BICUBIC not in known:
        scores = score_super_resolution(bicubic, sharp_photos(data), upscale)
        rows.insert(0, {"method": BICUBIC, "parameters": 0, "upscale": upscale, **scores})
    if time:
        # Seeds of one method take the same time.
        shown = {together: next(iter(models.values()))} if together else dict(models)
        methods = {BICUBIC: bicubic, **{label: as_method(model) for label, model in shown.items()}}
        threads = available_threads()
        times = milliseconds_per_megapixel(methods, upscale=upscale, threads=threads)
        for row in rows:
            row |= {"ms_per_megapixel": times[row["method"]], "threads": threads}
    return rows


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """The means as a table."""
    from rich.markdown import Markdown

    from kdlib.evaluation.tables import markdown_table

    console.print(Markdown(markdown_table(rows, COLUMNS)))
