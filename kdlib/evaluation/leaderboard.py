"""One table of everything that was measured on the standard test, from the files in ``results/``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdlib.evaluation.report import markdown_table

# What a method learned from, in the order of the table: nothing (–), photos alone, pairs that were made by darkening
# well-exposed photos, pairs that somebody took of one scene.
CATEGORIES = ("zero-reference", "self-made pairs", "real pairs")
NOTHING, UNKNOWN = "–", "?"

# Published files, by the beginning of their name: all are, or were distilled from, zero-reference networks.
_PUBLISHED = {
    "zero_dce": "zero-reference",
    "student_565_peer": "zero-reference",
    "nano_161_peer": "zero-reference",
}

OWN, SEEDS, PUBLISHED = "eval15.json", "seeds.json", "published.json"

_SCORES: dict[str, tuple[str, str]] = {
    "method": ("method", "s"),
    "category": ("class", "s"),
    "parameters": ("parameters", ",d"),
    "psnr": ("PSNR", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "lpips": ("LPIPS", ".3f"),
    "gt_mean_psnr": ("PSNR, GT-mean", ".2f"),
    "gt_mean_ssim": ("SSIM, GT-mean", ".3f"),
    "fidelity": ("fidelity, dB", ".1f"),
}


def behaviour_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Columns, for :func:`~kdlib.evaluation.report.markdown_table`, of what the rows say beyond scores.

    Every set of photos on which a fixed curve was fitted has its own (``fixed_curve_dicm``).
    """
    columns = {"fixed_curve": ("fixed curve, dB", ".1f")}
    for key in sorted({key for row in rows for key in row if re.fullmatch(r"fixed_curve_(?!sd$)\w+(?<!_sd)", key)}):
        columns[key] = (f"fixed curve on {key.removeprefix('fixed_curve_')}, dB", ".1f")
    return {**columns, "daylight": ("daylight", ".1%"), "ms_1080p": ("ms, 1080p", ".2f")}


def check_category(category: str) -> str:
    """``category`` itself, if it is empty or one of :data:`CATEGORIES`, else a ValueError."""
    if category and category not in CATEGORIES:
        raise ValueError(f"category {category!r} is unknown; choose from {', '.join(CATEGORIES)}")
    return category


def read_scores(path: str | Path) -> dict[str, Any]:
    """The content of a file that ``kdlib evaluate --out`` wrote.

    Returns:
        At least ``data``, the name of the test set, and ``rows``, which have a ``method`` and may lack any metric.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no scores at {path}; `kdlib evaluate --out {path}` writes them")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = content["rows"]
        sound = isinstance(content["data"], str) and all(isinstance(row["method"], str) for row in rows)
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path} is damaged or holds no scores; write it anew with `kdlib evaluate --out {path}`")
    for row in rows:
        for key in {**_SCORES, **behaviour_columns(rows)}.keys() - {"method", "category"}:
            number = int if key == "parameters" else int | float
            for name in (key, f"{key}_sd"):
                if not isinstance(row.get(name), number | None):
                    raise ValueError(f"{path}: {name} of {row['method']!r} is no number but {row[name]!r}")
    return content


def leaderboard(results_dir: str | Path = "results") -> list[dict[str, Any]]:
    """Every method that was scored on the standard test, once.

    Classical methods and shipped weights come from ``eval15.json``, methods trained with several seeds from
    ``seeds.json``, files of other projects from ``published.json``. A method of the first two files is shown with its
    seeds: their mean says more about the method than the one seed that ships.

    Returns:
        Rows of ``kdlib evaluate``, each with a ``category`` (– for methods that learn nothing, ? where nobody said),
        by category, then by parameters, then by PSNR. Not by PSNR first: it sees exposure before anything else, and
        what a method was given, in data and in parameters, is the fair company to judge it in.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or is about another test set than the others.
    """
    folder = Path(results_dir)
    files = {name: read_scores(folder / name) for name in (PUBLISHED, OWN, SEEDS)}
    for name, content in files.items():
        if content["data"] != files[OWN]["data"]:
            raise ValueError(
                f"{folder / name} holds scores on {content['data']!r}, {OWN} on {files[OWN]['data']!r}: "
                "they do not belong in one table"
            )
    chosen = {
        PUBLISHED: [row for row in files[PUBLISHED]["rows"] if row.get("parameters")],
        OWN: files[OWN]["rows"],
        SEEDS: [row for row in files[SEEDS]["rows"] if row.get("seeds")],
    }
    rows = {row["method"]: {**row, "category": _category(row)} for rows in chosen.values() for row in rows}
    # Seeds do not differ in speed: a time that was not taken again is that of the seed that ships.
    for own in files[OWN]["rows"]:
        if own["method"] in rows and own.get("ms_1080p"):
            rows[own["method"]].setdefault("ms_1080p", own["ms_1080p"])
    order = [NOTHING, *CATEGORIES, UNKNOWN]
    return sorted(
        rows.values(),
        key=lambda row: (order.index(row["category"]), row.get("parameters") or 0, -(row.get("psnr") or 0)),
    )


def _category(row: Mapping[str, Any]) -> str:
    if row.get("category") in CATEGORIES:
        return str(row["category"])
    if not row.get("parameters"):
        return NOTHING
    return next((category for start, category in _PUBLISHED.items() if row["method"].startswith(start)), UNKNOWN)


def leaderboard_table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str] = ()) -> str:
    """Format rows of :func:`leaderboard` as Markdown: mean ± standard deviation over seeds, – for missing values.

    ``keys`` chooses the columns by the keys of the rows; by default all are shown.
    """
    shown = [{**row, "method": f"{row['method']} ({row['seeds']} seeds)"} if row.get("seeds") else row for row in rows]
    columns = {**_SCORES, **behaviour_columns(rows)}
    return markdown_table(shown, {key: columns[key] for key in keys or columns})
