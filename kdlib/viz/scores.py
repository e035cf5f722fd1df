"""Figures of scores: methods in the plane of two metrics."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from kdlib.viz.common import open_frame


def plot_scores(
    rows: Sequence[Mapping[str, Any]],
    named: Collection[str] = (),
    baseline: str = "gamma 0.3",
    places: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    width: float = 8.0,
) -> Figure:
    """Plot SSIM over PSNR, one dot for each method, coloured by class.

    Args:
        rows: rows of :func:`kdlib.evaluation.leaderboard.leaderboard`; those without PSNR are left out.
        named: methods whose names are written beside their dots.
        baseline: method through which two dotted lines pass: what is to the right of and above both scores higher in
            both metrics.
        places: offsets of names from their dots, in points; elsewhere a name stands to the upper right.
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
            spot, place = (row["psnr"], row["ssim"]), places.get(row["method"], (5, 4))
            side = "left" if place[0] > 0 else "right"
            ax.annotate(row["method"], spot, place, textcoords="offset points", ha=side, fontsize=8, zorder=3)
        if row["method"] == baseline:
            ax.axvline(row["psnr"], color="grey", linestyle=":", linewidth=1)
            ax.axhline(row["ssim"], color="grey", linestyle=":", linewidth=1)
    ax.set(xlabel="PSNR, dB", ylabel="SSIM")
    ax.margins(x=0.2)
    open_frame(ax)
    return fig
