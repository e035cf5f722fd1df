"""Figures of lesson 11 on GlanceNet: curves, their slopes, context and noise."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from kdlib.enhance.photos.rgb import to_array
from kdlib.viz.common import COLOURS, image_grid, open_frame
from kdlib.viz.diagram import Diagram

# Colours of the families of curves, the same in every figure; other families use matplotlib's colour cycle.
CURVES = {"light-enhancement": COLOURS["student"], "gamma": COLOURS["input"], "gain × power": COLOURS["teacher"]}

Box = tuple[int, int, int]


def draw_glance(width: float = 11.0) -> Figure:
    """Draw GlanceNet, with the thumbnail's path at the top and the photo's path at the bottom."""
    places = {
        "thumbnail": (1.5, 1.0, "thumbnail\nat most 32×32", False),
        "logarithm": (3.0, 1.0, "logarithm", False),
        "convolutions": (4.3, 1.0, "two\nconvolutions", True),
        "pooled": (5.9, 1.0, "pooled: mean\nand deviation", False),
        "decision": (7.3, 1.0, "decision", True),
        "chosen": (8.9, 1.0, "gain, gamma,\ntolerance", False),
        "dark": (0.2, 0.0, "dark photo", False),
        "smoothing": (5.9, 0.0, "smoothing", True),
        "curve": (8.9, 0.0, "power curve", False),
        "photo": (10.6, 0.0, "photo", False),
    }
    diagram = Diagram(places, width, height=0.22)
    above, below = list(places)[:6], list(places)[6:]
    for start, end in (*pairwise(above), *pairwise(below)):
        diagram.arrow(start, end)
    for start, end in (("dark", "thumbnail"), ("chosen", "smoothing"), ("chosen", "curve")):
        diagram.arrow(start, end)
    diagram.detour((4.4, 1.3), (8.7, 1.3), "a little, place by place", (6.55, 1.78))
    diagram.legend(10.6, 0.62)
    diagram.ax.set(xlim=(-0.5, 11.2), ylim=(-0.4, 2.0))
    return diagram.figure


def plot_families(
    dark: Tensor, truth: Tensor, curves: Mapping[str, tuple[Tensor, Tensor]], title: str = "", highest: float = 8.0
) -> Figure:
    """Plot the mapping from a dark photo to its truth with fitted curves (left), and the slopes of the curves (right).

    Args:
        dark: 3×H×W in [0, 1].
        truth: the same photo with enough light, 3×H×W in [0, 1].
        curves: by family, (outputs, slopes) at inputs evenly spaced from 0 to the maximum of ``dark``.
        title: title of the left panel.
        highest: upper end of the slope axis.
    """
    levels = dark.mul(255).round().long().flatten()
    wanted = truth.flatten()
    occupied = [level for level in range(256) if int((levels == level).sum()) >= 20]
    quantiles = torch.stack([torch.quantile(wanted[levels == v], torch.tensor([0.1, 0.5, 0.9])) for v in occupied])
    shown = np.array(occupied) / 255
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.fill_between(shown, quantiles[:, 0], quantiles[:, 2], color=COLOURS["truth"], alpha=0.25, linewidth=0)
    left.plot(shown, quantiles[:, 1], color=COLOURS["truth"], linewidth=3, label="truth: median, 10 to 90%")
    for family, (outputs, slopes) in curves.items():
        x = np.linspace(0, float(dark.max()), len(outputs))
        colour = CURVES.get(family)
        left.plot(x, outputs.clamp(0, 1.05), color=colour, label=family, linewidth=1.8)
        right.plot(x, slopes, color=colour, label=family, linewidth=1.8)
    left.set(xlabel="dark photo", ylabel="output", ylim=(0, 1.05), title=title)
    right.set(xlabel="dark photo", ylabel="slope: noise is multiplied by this", ylim=(0, highest), title="their slopes")
    open_frame(left, right)
    return fig


def plot_noise(levels: Sequence[float], noise: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Plot noise over the level of the dark photo, measured (dots) and expected (lines).

    Args:
        levels: levels of the dark photo, in [0, 1].
        noise: name of the method → (measured, expected) standard deviations, in 255ths.
    """
    fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
    for name, (measured, expected) in noise.items():
        colour = CURVES.get(name, COLOURS["truth"])
        ax.plot(levels, expected, color=colour, linewidth=1.5, label=name)
        ax.plot(levels, measured, "o", color=colour, markersize=4)
    ax.set(xlabel="level of the dark photo", ylabel="deviation, in 255ths", ylim=(0, None))
    open_frame(ax)
    return fig


def plot_step(before: Tensor, after: Tensor, differences: Tensor, weights: Tensor) -> Figure:
    """Plot a tap's weight over its difference (left), and a noisy step edge before and after smoothing (right).

    Args:
        before, after: one row of W values, in 255ths.
        differences: differences in multiples of the tolerance.
        weights: weight for each difference.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), width_ratios=(1, 2), layout="constrained")
    left.plot(differences, weights, color=COLOURS["teacher"], linewidth=2)
    left.set(xlabel="difference ÷ tolerance", ylabel="weight of a neighbour")
    right.plot(before, color=COLOURS["input"], linewidth=1, label="noisy")
    right.plot(after, color=COLOURS["teacher"], linewidth=2, label="smoothed")
    right.set(xlabel="column", ylabel="level, in 255ths", title="one row of a step")
    left.grid(alpha=0.3)
    open_frame(right)
    return fig


def show_windows(photos: Mapping[str, tuple[Tensor, Box]], width: float = 11.0) -> Figure:
    """Show photos with a marked square (top) and enlargements of these squares (bottom).

    Args:
        photos: title → (3×H×W in [0, 1], (top, left, side)).
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
    """Show small feature maps (each H×W) in grey, each scaled from its minimum to its maximum."""
    aspect = max(plane.shape[0] / plane.shape[1] for plane in planes.values())
    fig, axes = image_grid(planes, columns, width, aspect, room=0.25, fontsize=9)
    for ax, plane in zip(axes.flat, planes.values(), strict=False):
        ax.imshow(plane.detach(), cmap="gray", interpolation="nearest", aspect="auto")
    return fig


def plot_decisions(
    stops: Sequence[float], decisions: Mapping[str, Mapping[str, Sequence[float]]], neutral: Mapping[str, float]
) -> Figure:
    """Plot the quantities that a network predicts for photos at several exposures.

    Args:
        stops: exposure reduction of the photos, in stops.
        decisions: quantity → photo → a value for each of ``stops``; each quantity has its own panel.
        neutral: for some or all quantities, the value that changes nothing, drawn as a dotted line.
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
