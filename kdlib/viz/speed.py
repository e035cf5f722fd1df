"""Figures about speed: memory traffic of a computation, and time over photo size."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib.viz.common import COLOURS

_POINTS_A_BYTE = 0.55  # line width of an arrow, per byte carried


def draw_trips(forms: Mapping[str, Sequence[tuple[str, int, int]]], width: float = 11.0) -> Figure:
    """Draw the memory traffic of several implementations of a computation, with arrows for reads and writes.

    Args:
        forms: title → passes in order, each (operation, bytes read, bytes written), per sample.
    """
    slots = max(len(passes) for passes in forms.values())
    fig, axes = plt.subplots(
        len(forms), 1, figsize=(width, 2.3 * len(forms)), squeeze=False, sharex=True, layout="constrained"
    )
    for ax, (title, passes) in zip(axes[:, 0], forms.items(), strict=True):
        carried = sum(read + written for _, read, written in passes)
        ax.set_title(f"{title}: {len(passes)} passes, {carried} bytes for each sample", fontsize=11, loc="left")
        ax.axhspan(1.0, 1.95, color="#fdf2e0")
        ax.axhspan(-0.45, 0.0, color="#e4ecf2")
        ax.text(-1.2, 1.47, "processor", ha="right", va="center", fontsize=10)
        ax.text(-1.2, -0.22, "memory", ha="right", va="center", fontsize=10)
        for x, (name, read, written) in enumerate(passes):
            ax.text(x, 1.08, name, rotation=90, ha="center", va="bottom", fontsize=8)
            _arrow(ax, x - 0.2, 0.0, 1.0, read, COLOURS["truth"])
            _arrow(ax, x + 0.2, 1.0, 0.0, written, COLOURS["student"])
        ax.set(xlim=(-5.5, slots), ylim=(-0.45, 1.95))
        ax.axis("off")
    for colour, label in ((COLOURS["truth"], "read"), (COLOURS["student"], "written")):
        axes[0, 0].plot([], [], color=colour, linewidth=4, label=label)
    axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=9)
    return fig


def _arrow(ax: Axes, x: float, start: float, end: float, carried: int, colour: str) -> None:
    if not carried:
        return
    thick = carried * _POINTS_A_BYTE
    style = f"-|>,head_width={0.12 + 0.05 * thick:.2f},head_length=0.35"
    look = {"arrowstyle": style, "color": colour, "linewidth": thick, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", xy=(x, end), xytext=(x, start), arrowprops=look)


def plot_speed(rows: Sequence[Mapping[str, Any]], width: float = 8.0) -> Figure:
    """Plot time over photo size for several methods, on logarithmic axes.

    Args:
        rows: ``rows`` of :func:`kdlib.evaluation.benchmark.benchmark`.
    """
    figure, axes = plt.subplots(figsize=(width, width * 0.62))
    sizes = {row["size"]: row["width"] * row["height"] / 1e6 for row in rows}
    ends: list[tuple[float, float, str]] = []
    for k, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        points = [(sizes[row["size"]], row["ms"]) for row in rows if row["method"] == method]
        look: dict[str, Any] = {"color": COLOURS["student"], "linewidth": 3, "zorder": 3}
        if k:
            look = {"color": plt.get_cmap("viridis")(k / 7), "linewidth": 1.3, "zorder": 2}
        axes.plot(*zip(*points, strict=True), marker="o", **look)
        ends.append((*points[-1], method))
    # The names stand at the ends of the lines and are moved apart if they would overlap.
    lowest = 0.0
    for megapixels, ms, method in sorted(ends, key=lambda end: end[1]):
        lowest = max(ms, lowest * 1.4)
        axes.annotate(method, (megapixels, lowest), xytext=(8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(xscale="log", yscale="log", ylabel="milliseconds for a photo")
    axes.set_xticks(list(sizes.values()), list(sizes))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
