"""Rows of figures as Markdown tables; nothing here imports PyTorch."""

from collections.abc import Mapping, Sequence
from typing import Any

Columns = Mapping[str, tuple[str, str]]

COLUMNS: dict[str, tuple[str, str]] = {
    "method": ("method", "s"),
    "parameters": ("parameters", ",d"),
    "psnr": ("PSNR", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "lpips": ("LPIPS", ".3f"),
    "gt_mean_psnr": ("PSNR, GT-mean", ".2f"),
}


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Columns = COLUMNS) -> str:
    """Rows as a Markdown table; ``columns`` maps a row's key to its title and number format.

    None shows as –; a value whose deviation is in the row too (``<key>_sd``) as mean ± deviation.
    """

    def cell(row: Mapping[str, Any], key: str, spec: str) -> str:
        if row.get(key) is None:
            return "–"
        spread = row.get(f"{key}_sd")
        return format(row[key], spec) if spread is None else f"{row[key]:{spec}} ± {spread:{spec}}"

    head = "| " + " | ".join(title for title, _ in columns.values()) + " |"
    rule = "| " + " | ".join("---" if spec == "s" else "--:" for _, spec in columns.values()) + " |"
    body = ["| " + " | ".join(cell(row, key, spec) for key, (_, spec) in columns.items()) + " |" for row in rows]
    return "\n".join([head, rule, *body])
