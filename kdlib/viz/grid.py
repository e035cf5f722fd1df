"""Figures of lesson 12 on GridNet: the network, and its grid of gains over position and luminance."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from kdlib.enhance.photos.rgb import to_array
from kdlib.gain_grid import KNOTS
from kdlib.viz.common import open_frame, without_frame
from kdlib.viz.diagram import Diagram

# Gains are shown on a logarithmic scale on which white leaves a pixel unchanged.
_TICKS = {1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2", 1: "1", 2: "2", 4: "4", 8: "8"}
_SCALE = LogNorm(min(_TICKS), max(_TICKS))


def draw_grid_network(width: float = 11.0) -> Figure:
    """Draw GridNet, with the thumbnail's path at the top and the photo's path at the bottom."""
    places = {
        "thumbnail": (1.4, 1.0, "thumbnail\nat most 32×32", False),
        "features": (3.3, 1.0, "convolutions\n8×8 cells", True),
        "decision": (5.2, 1.0, "decision for\nthe whole photo", True),
        "grid": (7.3, 1.0, "grid of gains\n8×8 cells × 8", True),
        "photo": (0.2, 0.0, "photo", False),
        "smoothing": (3.3, 0.0, "smoothing", True),
        "slice": (7.3, 0.0, "slice: place\nand luminance", False),
        "gain": (9.1, 0.0, "gain,\nchroma", True),
        "result": (10.6, 0.0, "within\nwhite", False),
    }
    diagram = Diagram(places, width, height=0.22)
    above, below = list(places)[:4], list(places)[4:]
    for start, end in (*pairwise(above), *pairwise(below), ("photo", "thumbnail"), ("grid", "slice")):
        diagram.arrow(start, end)
    diagram.detour((3.4, 1.35), (7.1, 1.35), "each cell", (5.25, 1.85))
    diagram.legend(10.0, 1.1)
    diagram.ax.set(xlim=(-0.4, 11.2), ylim=(-0.4, 2.05))
    return diagram.figure


def show_grid(photo: Tensor, gains: Tensor, knots: Sequence[int], cells: Mapping[str, tuple[int, int]]) -> Figure:
    """Show a photo with marked cells, its gains over position at some luminances, and over luminance in these cells.

    Args:
        photo: 3×H×W in [0, 1].
        gains: 8×h×w, factors.
        knots: indices of the luminances whose gains are shown over position.
        cells: row and column of some cells, by name.
    """
    ratios = [1.0] * (len(knots) + 1) + [1.5]
    fig, axes = plt.subplots(1, len(ratios), figsize=(11, 2.7), layout="constrained", width_ratios=ratios)
    height, width = gains.shape[-2:]
    axes[0].imshow(to_array(photo), extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect="auto")
    axes[0].set_title("photo", fontsize=10)
    for ax, knot in zip(axes[1:-1], knots, strict=True):
        shown = ax.imshow(gains[knot].detach(), cmap="RdBu_r", norm=_SCALE, aspect="auto")
        ax.set_title(f"gain at luminance {KNOTS[knot]:g}", fontsize=10)
    bar = fig.colorbar(shown, ax=axes[1:-1], shrink=0.9, ticks=list(_TICKS))
    bar.ax.set_yticklabels(_TICKS.values())
    bar.ax.minorticks_off()
    for number, (name, (row, column)) in enumerate(cells.items()):
        colour = plt.get_cmap("Dark2")(number)
        for ax in axes[:-1]:
            ax.plot(column, row, "o", markersize=9, markerfacecolor=colour, markeredgecolor="white")
        axes[-1].plot(KNOTS, gains[:, row, column].detach(), ".-", color=colour, label=name)
    axes[-1].axhline(1, linestyle=":", color="grey")
    axes[-1].set_xscale("function", functions=(np.sqrt, np.square))  # shows the knots of the shadows apart
    axes[-1].set(xlabel="luminance of the pixel", ylabel="gain", yscale="log", xlim=(0, 1))
    axes[-1].set_xticks(KNOTS, [f"{knot:g}" for knot in KNOTS], fontsize=8, rotation=90)
    axes[-1].set_yticks(list(_TICKS), _TICKS.values())
    axes[-1].minorticks_off()
    open_frame(axes[-1])
    for ax in axes[:-1]:
        without_frame(ax)
    return fig
