"""Figures of the ablation study: variants with their seeds, the α × β grid, and one score against another."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kdlib.experiments.ablation import ALPHAS, BETAS, VARIANTS, Compared, grid, summarise
from kdlib.viz.sweep import heat_map

# Colour-blind-safe colours (Okabe and Ito); the marker repeats the information.
VERDICTS = {
    "–": ("black", "D", "compared with"),
    "higher": ("#0072b2", "^", "higher"),
    "lower": ("#d55e00", "v", "lower"),
    "not shown": ("#7f7f7f", "o", "difference not shown"),
}
GROUPS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def plot_variants(
    rows: Sequence[Mapping[str, Any]],
    panels: Mapping[str, Mapping[str, str]],
    score: str = "fidelity",
    xlabel: str = "fidelity to the teacher on held-out photos (dB)",
    lines: Mapping[str, float] | None = None,
    width: float = 9.0,
    variants: Sequence[Compared] = VARIANTS,
) -> Figure:
    """Plot each seed of each variant as a dot, with the mean and standard deviation over the seeds.

    Colour and marker show whether the difference from the reference variant exceeds the variation between seeds
    (:func:`~kdlib.experiments.ablation.summarise`).

    Args:
        rows: results of :func:`~kdlib.experiments.ablation.run_ablation`, or of another measurement with ``variant``
            and ``seed``.
        panels: panel title → displayed name → variant.
        score: ``fidelity``, ``psnr``, ``ssim`` or ``seconds``.
        xlabel: name and unit of the score.
        lines: values to mark in all panels, by name.
        variants: the variants and the reference of each.
    """
    lines = lines or {}
    summary = {line["variant"]: line for line in summarise(rows, score, variants)}
    heights = [len(panel) for panel in panels.values()]
    fig, axes = plt.subplots(
        len(panels), 1, figsize=(width, 0.34 * sum(heights) + 0.6 * len(panels) + 0.9), squeeze=False, sharex=True,
        height_ratios=heights, layout="constrained",
    )  # fmt: skip
    for ax, (title, panel) in zip(axes[:, 0], panels.items(), strict=True):
        for y, variant in enumerate(panel.values()):
            line = summary[variant]
            colour, marker, _ = VERDICTS[line["verdict"]]
            seeds = [row[score] for row in rows if row["variant"] == variant]
            ax.plot(seeds, [y - 0.2] * len(seeds), ".", color=colour, alpha=0.55, markersize=7)
            spread = line["deviation"] or 0.0
            ax.errorbar(line["mean"], y + 0.12, xerr=spread, color=colour, fmt=marker, capsize=3, markersize=6)
        for style, (name, value) in zip(("--", ":", "-."), lines.items(), strict=False):
            ax.axvline(value, color="black", linestyle=style, linewidth=1, label=name)
        ax.set(yticks=range(len(panel)), ylim=(len(panel) - 0.5, -0.6))
        ax.set_yticklabels(panel, fontsize=9)
        ax.set_title(title, fontsize=10, loc="left")
        ax.grid(axis="x", alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    drawn = {summary[variant]["verdict"] for panel in panels.values() for variant in panel.values()}
    for verdict, (colour, marker, text) in VERDICTS.items():
        if verdict in drawn:
            axes[0, 0].plot([], [], marker, color=colour, label=text)
    axes[-1, 0].set_xlabel(xlabel)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return fig


def plot_grid(
    rows: Sequence[Mapping[str, Any]],
    score: str = "fidelity",
    label: str = "fidelity, dB",
    fmt: str = ".1f",
    outlined: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Plot the α × β grid as a heat map with the mean over the seeds and the standard deviation in each cell.

    Args:
        rows: results of :func:`~kdlib.experiments.ablation.run_ablation`.
        score, label, fmt: the score, its displayed name, and its number format.
        outlined: cells (α, β) to outline, by displayed name.
    """
    cells = grid(rows, score)
    means = np.full((len(BETAS), len(ALPHAS)), np.nan)
    for (alpha, beta), scores in cells.items():
        means[BETAS.index(beta), ALPHAS.index(alpha)] = statistics.fmean(scores)
    fig, ax = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    texts = {}
    for (alpha, beta), scores in cells.items():
        x, y = ALPHAS.index(alpha), BETAS.index(beta)
        spread = f"\n± {statistics.stdev(scores):{fmt}}" if len(scores) > 1 else ""
        texts[y, x] = f"{means[y, x]:{fmt}}{spread}"
    image = heat_map(ax, means, ALPHAS, BETAS, texts)
    for style, (name, (alpha, beta)) in zip(("-", "--", ":"), (outlined or {}).items(), strict=False):
        corner = (ALPHAS.index(alpha) - 0.45, BETAS.index(beta) - 0.45)
        frame = Rectangle(corner, 0.9, 0.9, fill=False, edgecolor="#d55e00", linewidth=2.5, linestyle=style, label=name)
        ax.add_patch(frame)
    ax.set(xlabel="α, share of output alignment", ylabel="β, share of feature matching")
    ax.set_title("what is left of 1 goes to the task loss", fontsize=10)
    if outlined:
        fig.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    fig.colorbar(image, ax=ax, label=label)
    return fig


def plot_scores(
    rows: Sequence[Mapping[str, Any]],
    x: str,
    y: str,
    xlabel: str,
    ylabel: str,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Plot one score against another, with a marker and error bars (standard deviations) for each variant.

    Args:
        rows: results of :func:`~kdlib.experiments.ablation.run_ablation`.
        x, y: the scores.
        xlabel, ylabel: labels of the axes.
        lines: values of ``y`` to mark, by name.
    """
    summaries = [{line["variant"]: line for line in summarise(rows, score)} for score in (x, y)]
    groups = list(dict.fromkeys(line["group"] for line in summaries[0].values()))
    fig, ax = plt.subplots(figsize=(8.5, 4.6), layout="constrained")
    for i, group in enumerate(groups):
        names = [name for name, line in summaries[0].items() if line["group"] == group]
        across, up = ([one[name]["mean"] for name in names] for one in summaries)
        xerr, yerr = ([one[name]["deviation"] or 0.0 for name in names] for one in summaries)
        colour, marker = GROUPS[i % len(GROUPS)], "os^vDPX*"[i % 8]
        ax.errorbar(across, up, yerr, xerr, fmt=marker, color=colour, label=group, elinewidth=0.8)
    for style, (name, value) in zip(("--", ":", "-."), (lines or {}).items(), strict=False):
        ax.axhline(value, color="black", linestyle=style, linewidth=1, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return fig
