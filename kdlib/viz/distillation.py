"""Figures of the first lesson: class probabilities, accuracies with intervals, and the family of methods."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from kdlib.experiments.ablation import Compared, half_width, interval, summarise
from kdlib.losses.classification import soften
from kdlib.viz.common import COLOURS, open_frame, without_frame


def show_digits(images: Tensor, columns: int = 25, width: float = 10.0) -> Figure:
    """Show N×1×8×8 images in [0, 1] as dark digits in rows, close together."""
    rows = -(-len(images) // columns)
    sheet = np.ones((rows * 9, columns * 9))
    for number, image in enumerate(images):
        top, left = 9 * (number // columns), 9 * (number % columns)
        sheet[top : top + 8, left : left + 8] = 1 - image[0]
    fig, ax = plt.subplots(figsize=(width, width * rows / columns + 0.1), layout="constrained")
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1)
    ax.axis("off")
    return fig


def plot_softened(images: Tensor, logits: Tensor, temperatures: Sequence[float], width: float = 10.0) -> Figure:
    """Plot class probabilities as bars: one row for each image, which stands at the left, one column per temperature.

    Args:
        images: N×1×8×8 in [0, 1].
        logits: N×10, a teacher's.
    """
    fig, axes = plt.subplots(
        len(images), 1 + len(temperatures), figsize=(width, 1.55 * len(images) + 0.3), squeeze=False,
        layout="constrained", width_ratios=[0.6] + [1.0] * len(temperatures),
    )  # fmt: skip
    for row, image, answer in zip(axes, images, logits, strict=True):
        row[0].imshow(1 - image[0], cmap="gray", vmin=0, vmax=1)
        without_frame(row[0])
        for ax, temperature in zip(row[1:], temperatures, strict=True):
            bars = ax.bar(range(10), soften(answer, temperature), color=COLOURS["truth"])
            bars[int(answer.argmax())].set_color(COLOURS["teacher"])
            ax.set(ylim=(0, 1.05), xticks=range(10), yticks=(0, 0.5, 1))
            ax.tick_params(labelsize=7, labelleft=temperature == temperatures[0])
            ax.spines[["top", "right"]].set_visible(False)
    for ax, temperature in zip(axes[0, 1:], temperatures, strict=True):
        ax.set_title(f"T = {temperature:g}", fontsize=10)
    return fig


def plot_accuracies(
    rows: Sequence[Mapping[str, Any]],
    lines: Mapping[str, Mapping[float, str]],
    variants: Sequence[Compared],
    *,
    levels: Mapping[str, str] | None = None,
    xlabel: str = "",
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Plot mean test accuracies over a number, with the 95% interval of the mean over the seeds.

    Args:
        rows: of :func:`kdlib.experiments.digits.measure`.
        lines: label → position → variant.
        variants: all of them.
        levels: label → variant, drawn as dashed horizontal lines.
        ax: where to draw; by default in a new figure.
    """
    ax = ax or plt.subplots(figsize=(7.0, 3.6), layout="constrained")[1]
    summary = {line["variant"]: line for line in summarise(rows, "accuracy", variants)}
    colours = [COLOURS["student"], COLOURS["truth"], COLOURS["input"], COLOURS["teacher"]]
    for colour, (label, line) in zip(colours, lines.items(), strict=False):
        shown = [summary[name] for name in line.values()]
        margins = [half_width(row["deviation"], row["seeds"]) for row in shown]
        ax.errorbar(list(line), [row["mean"] for row in shown], margins,
                    color=colour, marker="o", markersize=4, capsize=3, label=label)  # fmt: skip
    styles = zip((COLOURS["teacher"], COLOURS["input"], "black"), (levels or {}).items(), strict=False)
    for colour, (label, name) in styles:
        ax.axhline(summary[name]["mean"], color=colour, linestyle="--", linewidth=1.2, label=label)
    ax.set_xscale("log", base=2)
    ticks = list(next(iter(lines.values())))
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set(xlabel=xlabel, ylabel="test accuracy, %", title=title)
    open_frame(ax, legend="lower right")
    return ax


def plot_gains(gains: Mapping[str, Sequence[float]], unit: str, width: float = 7.5) -> Figure:
    """Plot paired differences: a dot for each seed, and their mean with its 95% interval.

    Args:
        gains: label → difference for each of two or more seeds.
    """
    fig, ax = plt.subplots(figsize=(width, 0.5 * len(gains) + 0.9), layout="constrained")
    for row, steps in enumerate(gains.values()):
        ax.plot(steps, [row - 0.15] * len(steps), ".", color=COLOURS["input"], markersize=7)
        mean, margin = interval(steps)
        ax.errorbar(mean, row + 0.12, xerr=margin, fmt="D", color=COLOURS["student"], capsize=4, markersize=5)
    ax.axvline(0, color="black", linewidth=1)
    ax.set(yticks=range(len(gains)), yticklabels=list(gains), ylim=(len(gains) - 0.5, -0.5), xlabel=f"gain, {unit}")
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return fig


def show_confusions(counts: Mapping[str, Tensor], marked: int, width: float = 9.5) -> Figure:
    """Show confusion matrices (10×10, true class by answer) side by side; ``marked`` is the class to look at."""
    fig, axes = plt.subplots(1, len(counts), figsize=(width, width / len(counts) + 0.2), layout="constrained")
    for ax, (title, matrix) in zip(np.atleast_1d(axes), counts.items(), strict=True):
        ax.imshow(matrix, cmap="Blues", vmin=0, vmax=float(matrix.sum(1).max()))
        for (true, answer), number in np.ndenumerate(matrix.numpy().astype(int)):
            if number:
                colour = "white" if number > 30 else "black"
                ax.text(answer, true, number, ha="center", va="center", fontsize=7, color=colour)
        ax.axhspan(marked - 0.5, marked + 0.5, fill=False, edgecolor=COLOURS["student"], linewidth=2)
        ax.set(xticks=range(10), yticks=range(10), xlabel="answer", ylabel="digit")
        ax.set_title(title, fontsize=10)
        ax.tick_params(labelsize=8)
    return fig


def draw_family(width: float = 10.5) -> Figure:
    """Draw teacher and student side by side, and what each method of the family compares."""
    fig, ax = plt.subplots(figsize=(width, 0.5 * width), layout="constrained")
    ax.set(xlim=(0, 12.6), ylim=(0, 6.2))
    ax.axis("off")

    def box(x: float, y: float, wide: float, high: float, text: str, colour: str) -> None:
        shape = "round,pad=0.02,rounding_size=0.12"
        corner = (x - wide / 2, y - high / 2)
        ax.add_patch(FancyBboxPatch(corner, wide, high, boxstyle=shape, facecolor=f"{colour}22", edgecolor=colour))
        ax.text(x, y, text, ha="center", va="center", fontsize=10)

    def arrow(start: tuple[float, float], end: tuple[float, float], style: str = "-|>", colour: str = "black") -> None:
        ax.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": style, "color": colour, "linewidth": 1.3})

    heights = {"images": 0.55, "first layer": 2.0, "features": 3.45, "logits": 4.9}
    for x, name, role, wide in ((3.4, "teacher", "frozen", 2.3), (8.4, "student", "learns", 1.5)):
        colour = COLOURS[name]
        for part in list(heights)[1:]:
            box(x, heights[part], wide, 0.62, part, colour)
        for low, high in ((0.55, 2.0), (2.0, 3.45), (3.45, 4.9)):
            arrow((x, low + 0.33), (x, high - 0.35))
        ax.text(x, 5.5, f"{name} ({role})", ha="center", color=colour, fontsize=11)
    box(5.9, 0.55, 7.0, 0.6, "the same images: real ones, noise or invented ones", COLOURS["input"])
    for height, text in (
        (4.9, "answers\nhard targets, soft targets, logits"),
        (3.45, "features\nprojected (FitNets), attention,\nrelations between images"),
    ):
        arrow((4.65, height), (7.55, height), "<|-|>", COLOURS["truth"])
        ax.text(6.1, height - 0.12, text, ha="center", va="top", fontsize=9, color=COLOURS["truth"])
    notes = (
        "who teaches?\na larger network\nseveral (ensemble)\nan equal one (born again)",
        ("where is the student\ncompared?\non data\non the teacher's sequences\non its own sequences"),
    )
    for x, note in zip((1.05, 11.0), notes, strict=True):
        ax.text(x, 3.45, note, ha="center", va="center", fontsize=9, linespacing=1.5)
    return fig


def plot_modes(places: Tensor, teacher: Tensor, students: Mapping[str, Tensor], width: float = 9.5) -> Figure:
    """Plot a distribution with several peaks, and beside it students that can have one peak only.

    Args:
        places: N positions.
        teacher: N probabilities.
        students: N probabilities by title.
    """
    fig, axes = plt.subplots(1, len(students), figsize=(width, 2.9), sharey=True, layout="constrained", squeeze=False)
    for ax, (title, student) in zip(axes[0], students.items(), strict=True):
        ax.fill_between(places, teacher, color=COLOURS["teacher"], alpha=0.35, label="teacher")
        ax.plot(places, student.detach(), color=COLOURS["student"], linewidth=2.2, label="student")
        ax.set_title(title, fontsize=10)
        ax.set(xlabel="outcome", yticks=[])
        open_frame(ax)
    axes[0, 0].set_ylabel("probability")
    return fig
