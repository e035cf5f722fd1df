"""Figures about curves, their slopes, context and noise: what notebook 11 looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from kdlib.enhance.photos.rgb import to_array
from kdlib.viz.common import COLOURS

# One colour for each family of curves, the same in every figure; a family without one takes the next of the cycle.
CURVES = {
    "light-enhancement": COLOURS["student"],
    "gamma": COLOURS["input"],
    "gain × power": COLOURS["teacher"],
}

Box = tuple[int, int, int]


def draw_glance(width: float = 11.0) -> Figure:
    """The way of a photo through a glance network: above the thumbnail, below the photo itself."""
    fig, ax = plt.subplots(figsize=(width, width * 0.22), layout="constrained")
    photo = {"boxstyle": "round,pad=0.5", "facecolor": "#eaf2f8", "edgecolor": COLOURS["truth"]}
    learned = {"boxstyle": "round,pad=0.5", "facecolor": "#fdf2e0", "edgecolor": COLOURS["student"]}
    above = (
        (1.5, "thumbnail\nat most 32×32", photo),
        (3.0, "logarithm", photo),
        (4.3, "two\nconvolutions", learned),
        (5.9, "pooled: mean\nand deviation", photo),
        (7.3, "decision", learned),
        (8.9, "gain, gamma,\ntolerance", photo),
    )
    below = (
        (0.2, "dark photo", photo),
        (5.9, "smoothing", learned),
        (8.9, "power curve", photo),
        (10.6, "photo", photo),
    )
    boxes = [
        [ax.text(x, y, text, ha="center", va="center", fontsize=10, bbox=box) for x, text, box in row]
        for row, y in ((above, 1.0), (below, 0.0))
    ]
    pairs = [*pairwise(boxes[0]), *pairwise(boxes[1])]
    pairs += [(boxes[1][0], boxes[0][0]), (boxes[0][-1], boxes[1][1]), (boxes[0][-1], boxes[1][2])]
    arrow = {"arrowstyle": "-|>", "color": "black", "shrinkA": 1, "shrinkB": 2}
    for start, end in pairs:
        ends = {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch()}
        ax.annotate("", xy=end.get_position(), xytext=start.get_position(), arrowprops={**arrow, **ends})
    local = {**arrow, "color": COLOURS["student"], "connectionstyle": "arc3,rad=-0.18"}
    ax.annotate("", xy=(8.7, 1.3), xytext=(4.4, 1.3), arrowprops=local)
    ax.text(6.55, 1.78, "a little, place by place", ha="center", fontsize=9, color=COLOURS["student"])
    for colour, text, y in ((COLOURS["student"], "has parameters", 0.62), (COLOURS["truth"], "has none", 0.4)):
        ax.text(10.6, y, text, ha="center", fontsize=9, color=colour)
    ax.set(xlim=(-0.5, 11.2), ylim=(-0.4, 2.0))
    ax.axis("off")
    return fig


def plot_families(
    dark: Tensor, truth: Tensor, curves: Mapping[str, tuple[Tensor, Tensor]], title: str = "", highest: float = 8.0
) -> Figure:
    """What the truth asks for and what curves can give (left), and how steep they are (right).

    Args:
        dark: 3×H×W in [0, 1].
        truth: 3×H×W in [0, 1], the same photo with enough light.
        curves: by family, (outputs, slopes) over inputs evenly spaced from 0 to the largest value of ``dark``.
        title: over the left panel.
        highest: where the axis of slopes ends.
    """
    levels = dark.mul(255).round().long().flatten()
    wanted = truth.flatten()
    occupied = [level for level in range(256) if int((levels == level).sum()) >= 20]
    quantiles = torch.stack([torch.quantile(wanted[levels == v], torch.tensor([0.1, 0.5, 0.9])) for v in occupied])
    shown = np.array(occupied) / 255
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.fill_between(shown, quantiles[:, 0], quantiles[:, 2], color=COLOURS["truth"], alpha=0.25, linewidth=0)
    left.plot(shown, quantiles[:, 1], color=COLOURS["truth"], linewidth=3, label="truth: median, 10 to 90 %")
    for family, (outputs, slopes) in curves.items():
        x = np.linspace(0, float(dark.max()), len(outputs))
        colour = CURVES.get(family)
        left.plot(x, outputs.clamp(0, 1.05), color=colour, label=family, linewidth=1.8)
        right.plot(x, slopes, color=colour, label=family, linewidth=1.8)
    left.set(xlabel="dark photo", ylabel="output", ylim=(0, 1.05), title=title)
    right.set(xlabel="dark photo", ylabel="slope: noise is multiplied by this", ylim=(0, highest), title="their slopes")
    _finish(left, right)
    return fig


def plot_same_output(inputs: Sequence[float], output: float, ratios: Mapping[str, Sequence[float]]) -> Figure:
    """How steep curves are that all lift the same input to the same output, over that input."""
    fig, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for family, slopes in ratios.items():
        ax.plot(inputs, slopes, color=CURVES.get(family), label=family, linewidth=2)
    ax.set(xlabel=f"dark input that becomes {output:g}", ylabel="slope there", ylim=(0, None))
    _finish(ax)
    return fig


def plot_noise(levels: Sequence[float], noise: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Noise over the level of the dark photo: measured (dots) and expected (line).

    Args:
        levels: of the dark photo, in [0, 1].
        noise: what was measured → (measured, expected) deviations, in 255ths.
    """
    fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
    for name, (measured, expected) in noise.items():
        colour = CURVES.get(name, COLOURS["truth"])
        ax.plot(levels, expected, color=colour, linewidth=1.5, label=name)
        ax.plot(levels, measured, "o", color=colour, markersize=4)
    ax.set(xlabel="level of the dark photo", ylabel="deviation, in 255ths", ylim=(0, None))
    _finish(ax)
    return fig


def plot_step(before: Tensor, after: Tensor, differences: Tensor, weights: Tensor) -> Figure:
    """A tap's weight over its difference (left), and one row of a noisy step before and after smoothing (right).

    Args:
        before: W values in 255ths.
        after: W values in 255ths.
        differences: in multiples of the tolerance.
        weights: as many.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), width_ratios=(1, 2), layout="constrained")
    left.plot(differences, weights, color=COLOURS["teacher"], linewidth=2)
    left.set(xlabel="difference ÷ tolerance", ylabel="weight of a neighbour")
    right.plot(before, color=COLOURS["input"], linewidth=1, label="noisy")
    right.plot(after, color=COLOURS["teacher"], linewidth=2, label="smoothed")
    right.set(xlabel="column", ylabel="level, in 255ths", title="one row of a step")
    left.grid(alpha=0.3)
    _finish(right)
    return fig


def show_windows(photos: Mapping[str, tuple[Tensor, Box]], width: float = 11.0) -> Figure:
    """Photos with a square marked in each (above), and these squares alone, enlarged (below).

    Args:
        photos: title → (3×H×W in [0, 1], (top, left, side)).
        width: of the figure in inches.
    """
    aspect = max(photo.shape[1] / photo.shape[2] for photo, _ in photos.values())
    size = (width, width / len(photos) * (aspect + 0.5) + 0.4)
    fig, axes = plt.subplots(2, len(photos), figsize=size, height_ratios=(2 * aspect, 1), layout="constrained")
    for column, (title, (photo, (top, left, side))) in zip(axes.T, photos.items(), strict=True):
        column[0].imshow(to_array(photo))
        frame = Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=COLOURS["student"], linewidth=2.5)
        column[0].add_patch(frame)
        column[0].set_title(title, fontsize=10)
        column[1].imshow(to_array(photo[:, top : top + side, left : left + side]), interpolation="nearest")
        for ax in column:
            ax.axis("off")
    return fig


def show_planes(planes: Mapping[str, Tensor], columns: int = 8, width: float = 11.0) -> Figure:
    """Small planes of numbers (each H×W) in grey, pixel by pixel, each from its least to its largest value."""
    columns = min(columns, len(planes))
    rows = -(-len(planes) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(width, rows * (width / columns + 0.25)), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, plane) in zip(axes.flat, planes.items(), strict=False):
        ax.imshow(plane.detach(), cmap="gray", interpolation="nearest", aspect="auto")
        ax.set_title(title, fontsize=9)
    return fig


def plot_decisions(
    stops: Sequence[float], decisions: Mapping[str, Mapping[str, Sequence[float]]], neutral: Mapping[str, float]
) -> Figure:
    """What a network decides, for photos at several exposures.

    Args:
        stops: by how much the photos were darkened.
        decisions: quantity → photo → a value for each of ``stops``; a panel for each quantity.
        neutral: for each quantity the value that changes nothing, drawn dotted; may lack some.
    """
    fig, axes = plt.subplots(1, len(decisions), figsize=(11, 3.4), squeeze=False, layout="constrained")
    for ax, (quantity, photos) in zip(axes[0], decisions.items(), strict=True):
        for name, values in photos.items():
            ax.plot(stops, values, marker=".", label=name)
        if quantity in neutral:
            ax.axhline(neutral[quantity], linestyle=":", color="grey")
        ax.set(xlabel="stops of light taken away", title=quantity)
        ax.grid(alpha=0.3)
    axes[0][-1].legend(fontsize=8)
    return fig


def _finish(*axes: Axes) -> None:
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=9)
