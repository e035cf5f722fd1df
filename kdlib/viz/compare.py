"""Figures of lesson 08 on Zero-DCE: comparison pages with gamma corrections, and the effect of exposure targets."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch.nn.functional as F
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from torch import Tensor

from kdlib.evaluation.classical import Method, gamma
from kdlib.files import replacing
from kdlib.viz.common import before_after

EXPONENTS = (0.3, 0.4, 0.5)
LONGEST_SIDE = 480


def _reduced(photo: Tensor) -> Tensor:
    """Downsample a photo (3×H×W) to ``LONGEST_SIDE``, which suffices for a fifth of a page's width."""
    height, width = photo.shape[-2:]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return photo
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(photo[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def comparison_pages(
    photos: Iterable[tuple[str, Tensor]],
    method: Method,
    name: str = "ours",
    *,
    exponents: Sequence[float] = EXPONENTS,
    per_page: int = 4,
    width: float = 11.0,
) -> list[Figure]:
    """Show the input, gamma corrections and a method for many photos, with one row per photo.

    The method is applied at full size; the pages show photos of at most 480 pixels a side.

    Args:
        photos: (name, 3×H×W in [0, 1]), for example from :func:`kdlib.data.dark_photos`; folders in the names are not
            shown.
        method: maps a photo to a photo.
        name: title of the method's column.
        exponents: exponents of the gamma corrections.
        per_page: photos per page.
        width: width of a page in inches.

    Returns:
        One figure per page, already closed in pyplot; show it with ``display`` or write it to a file.

    Raises:
        ValueError: there are no photos, or ``per_page`` is below 1.
    """
    if per_page < 1:
        raise ValueError(f"a page must show at least one photo, got {per_page}")
    rows = []
    for photo_name, photo in photos:
        versions = {"input": _reduced(photo)}
        versions |= {f"gamma {exponent:g}": gamma(exponent)(versions["input"]) for exponent in exponents}
        rows.append((Path(photo_name).name, {**versions, name: _reduced(method(photo))}))
    if not rows:
        raise ValueError("no photos to compare on")
    pages = []
    for start in range(0, len(rows), per_page):
        # Photos from different folders may share a name; zero-width spaces keep their rows apart.
        page = {title + "\u200b" * i: versions for i, (title, versions) in enumerate(rows[start : start + per_page])}
        pages.append(before_after(page, width=width))
        plt.close(pages[-1])
    return pages


def write_pages(path: str | Path, pages: Sequence[Figure]) -> Path:
    """Write figures to one PDF with a page for each; an existing file is replaced atomically.

    Equal figures produce equal bytes, because the file contains no date.

    Raises:
        ValueError: there are no pages, or the path does not end in ``.pdf``.
    """
    path = Path(path)
    if path.suffix.lower() != ".pdf" or not pages:
        raise ValueError(f"{path}: a PDF needs the extension .pdf and at least one page, got {len(pages)}")
    with replacing(path) as partial, PdfPages(partial, metadata={"CreationDate": None, "Producer": None}) as pdf:
        for page in pages:
            pdf.savefig(page, dpi=150)
    return path


def plot_targets(rows: Iterable[Mapping[str, Any]]) -> Figure:
    """Plot the change of bright and dark areas over the exposure target, with dots for seeds and lines through means.

    Args:
        rows: results of :func:`~kdlib.experiments.exposure_targets.measure_targets`.
    """
    rows = list(rows)
    titles = {"bright": "bright areas of the input (above 0.7)", "dark": "dark areas (below 0.3)"}
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    # Colour-blind-safe colours (Okabe and Ito); the marker repeats the information.
    styles = (("#0072b2", "o"), ("#d55e00", "^"), ("#009e73", "s"), ("#cc79a7", "D"))
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        for objective, (colour, marker) in zip(dict.fromkeys(row["objective"] for row in rows), styles, strict=False):
            mine = [row for row in rows if row["objective"] == objective]
            targets = sorted({row["target"] for row in mine})
            means = [statistics.fmean([row[name] for row in mine if row["target"] == target]) for target in targets]
            ax.plot(targets, means, color=colour, label=objective)
            ax.plot([row["target"] for row in mine], [row[name] for row in mine], marker, color=colour, alpha=0.6)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.margins(y=0.1)  # keeps the line off the frame where nothing becomes darker
        ax.set(xlabel="exposure target E", ylabel="change of brightness", title=title, xticks=targets)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=9)
    return fig
