"""Figures of scores: methods in the plane of two metrics."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from kdlib.viz.common import open_frame


def plot_scores(
    rows: Sequence[Mapping[str, Any]], named: Collection[str] = (), baseline: str = "gamma 0.3", width: float = 8.0
) -> Figure:
    """Plot SSIM over PSNR, one dot for each method, coloured by class.

    Args:
        rows: rows of :func:`kdlib.evaluation.leaderboard.leaderboard`; those without PSNR are left out.
        named: methods whose names are written beside their dots.
        baseline: method through which two dotted lines pass: what is to the right of and above both scores higher in
            both metrics.
        width: inches.
    """
    fig, ax = plt.subplots(figsize=(width, width * 0.62), layout="constrained")
    rows = [row for row in rows if row.get("psnr") is not None]
    for k, category in enumerate(dict.fromkeys(row["category"] for row in rows)):
        own = [row for row in rows if row["category"] == category]
        label = "no training" if category == "–" else category
        ax.scatter([row["psnr"] for row in own], [row["ssim"] for row in own], s=28, color=f"C{k}", label=label)
    for row in rows:
        if row["method"] in named:
            ax.annotate(
                row["method"], (row["psnr"], row["ssim"]), (5, 4), textcoords="offset points", fontsize=8, zorder=3
            )
        if row["method"] == baseline:
            ax.axvline(row["psnr"], color="grey", linestyle=":", linewidth=1)
            ax.axhline(row["ssim"], color="grey", linestyle=":", linewidth=1)
    ax.set(xlabel="PSNR, dB", ylabel="SSIM")
    ax.margins(x=0.12)
    open_frame(ax)
    return fig
