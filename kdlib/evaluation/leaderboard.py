"""Collect all scores on the standard test set from the files in ``results/`` into one table."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdlib.evaluation.tables import COLUMNS, markdown_table

# Training data of a method, in the order of the table: none (–), photos without ground truth, synthetic pairs made by
# darkening well-exposed photos, scenes at any exposure with the fusion of a bracket, and pairs photographed of the same
# scene.
CATEGORIES = ("zero-reference", "self-made pairs", "exposures", "real pairs")
NOTHING, UNKNOWN = "–", "?"

# Published weights by prefix of their name; all are zero-reference networks or were distilled from one.
_PUBLISHED = {"zero_dce": "zero-reference", "student_565_peer": "zero-reference", "nano_161_peer": "zero-reference"}

OWN, SEEDS, PUBLISHED = "eval15.json", "seeds.json", "published.json"

_SCORES: dict[str, tuple[str, str]] = {
    "method": COLUMNS["method"],
    "category": ("class", "s"),
    **COLUMNS,
    "gt_mean_ssim": ("SSIM, GT-mean", ".3f"),
    "fidelity": ("fidelity, dB", ".1f"),
}


def behaviour_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Return the columns of behaviour and speed for :func:`~kdlib.evaluation.tables.markdown_table`.

    Each set of photos on which a fixed curve was fitted has its own column (for example ``fixed_curve_dicm``).
    """
    columns = {"fixed_curve": ("fixed curve, dB", ".1f")}
    for key in sorted({key for row in rows for key in row if re.fullmatch(r"fixed_curve_(?!sd$)\w+(?<!_sd)", key)}):
        columns[key] = (f"fixed curve on {key.removeprefix('fixed_curve_')}, dB", ".1f")
    return {**columns, "daylight": ("daylight", ".1%"), "ms_1080p": ("ms, 1080p", ".2f")}


def read_scores(path: str | Path) -> dict[str, Any]:
    """Read a file written by ``kdlib evaluate --out``.

    Returns:
        At least ``data``, the name of the test set, and ``rows``, which each have a ``method`` and may lack any metric.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged or contains something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no scores at {path}; create the file with `kdlib evaluate --out {path}`")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = content["rows"]
        sound = isinstance(content["data"], str) and all(isinstance(row["method"], str) for row in rows)
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path} is damaged or contains no scores; recreate it with `kdlib evaluate --out {path}`")
    for row in rows:
        for key in {**_SCORES, **behaviour_columns(rows)}.keys() - {"method", "category"}:
            number = int if key == "parameters" else int | float
            for name in (key, f"{key}_sd"):
                if not isinstance(row.get(name), number | None):
                    raise ValueError(f"{path}: {name} of {row['method']!r} must be a number, got {row[name]!r}")
    return content


def leaderboard(results_dir: str | Path = "results") -> list[dict[str, Any]]:
    """Return every method that was scored on the standard test set, once.

    Classical methods and shipped weights come from ``eval15.json``, methods trained with several seeds from
    ``seeds.json``, and weights of other projects from ``published.json``. A method in both of the first two files is
    listed with its seeds, because their mean describes the method better than the single seed that ships.

    Returns:
        Rows of ``kdlib evaluate``, each with a ``category`` (– for methods without training, ? if unknown), sorted by
        category, then parameters, then PSNR. PSNR does not come first, because it depends mainly on exposure, and
        methods are best compared with others that had similar training data and a similar number of parameters.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or holds scores on a different test set.
    """
    folder = Path(results_dir)
    files = {name: read_scores(folder / name) for name in (PUBLISHED, OWN, SEEDS)}
    for name, content in files.items():
        if content["data"] != files[OWN]["data"]:
            raise ValueError(
                f"{folder / name} holds scores on {content['data']!r}, but {OWN} on {files[OWN]['data']!r}; "
                "scores on different test sets cannot share a table"
            )
    chosen = {
        PUBLISHED: [row for row in files[PUBLISHED]["rows"] if row.get("parameters")],
        OWN: files[OWN]["rows"],
        SEEDS: [row for row in files[SEEDS]["rows"] if row.get("seeds")],
    }
    rows = {row["method"]: {**row, "category": _category(row)} for rows in chosen.values() for row in rows}
    # Speed does not depend on the seed, so a row without a time takes that of the shipped weights.
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
