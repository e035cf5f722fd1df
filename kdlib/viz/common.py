"""Figures shared by several notebooks."""

import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from kdlib.enhance.photos.rgb import to_array
from kdlib.models import ZeroDCE, apply_curve

# With this resolution an 11-inch figure is as wide as a notebook's column.
plt.rcParams["figure.dpi"] = 80

# The same in every figure: grey for the input, orange for the student, green for the teacher, blue for the truth.
COLOURS = {"input": "#7f8c8d", "student": "#e67e22", "teacher": "#27ae60", "truth": "#2980b9"}


LegendPlace = Literal["best", "lower left", "lower right"]


def _as_shown(photo: Tensor | np.ndarray) -> np.ndarray:
    return to_array(photo) if isinstance(photo, Tensor) else photo


def minus(text: object) -> str:
    """Return a text in which the hyphen of a negative number is a minus sign, as on matplotlib's axes."""
    return re.sub(r"(?<![\w)])-(?=\d)", "−", str(text))


def image_grid(
    titles: Collection[str], columns: int, width: float, aspect: float, room: float = 0.3, fontsize: int = 10
) -> tuple[Figure, np.ndarray]:
    """Make a figure with a grid of axes for images, each without ticks and under its title.

    Args:
        columns: images per row.
        aspect: height of an image as a multiple of its width.
        room: inches for the title of a row.
    """
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    size = (width, rows * (width / columns * aspect + room))
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, title in zip(axes.flat, titles, strict=False):
        ax.set_title(minus(title), fontsize=fontsize)
    return fig, axes


def _label_bar(bar: Colorbar, label: str) -> None:
    # A single letter on its side is hard to recognise.
    if len(label) == 1:
        bar.set_label(label, rotation=0, labelpad=6)
    else:
        bar.set_label(label)


def _wrapped(label: str, inches: float, fontsize: int) -> str:
    """Break a label between words, so that its lines fit into a length; line breaks of its own stay."""
    letters = max(8, int(inches * 72 / (0.6 * fontsize)))  # a letter is about 0.6 of its height wide
    return "\n".join(
        textwrap.fill(line, letters, break_long_words=False, break_on_hyphens=False) for line in label.splitlines()
    )


def without_frame(ax: Axes) -> None:
    """Remove ticks and frame, but keep the labels of the axes."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def open_frame(*axes: Axes, legend: LegendPlace = "best") -> None:
    """Give axes light grid lines, a legend, and no frame at the top and right."""
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=9, loc=legend)


def show_photos(photos: Mapping[str, Tensor | np.ndarray], columns: int = 3, width: float = 11.0) -> Figure:
    """Show photos in a grid, each under its title.

    Args:
        photos: photos by title, 3×H×W in [0, 1] or H×W×3 uint8.
        columns: photos per row.
    """
    shown = {title: _as_shown(photo) for title, photo in photos.items()}
    aspect = max(photo.shape[0] / photo.shape[1] for photo in shown.values())
    fig, axes = image_grid(shown, columns, width, aspect)
    for ax, photo in zip(axes.flat, shown.values(), strict=False):
        ax.imshow(photo)
    return fig


def before_after(rows: Mapping[str, Mapping[str, Tensor | np.ndarray]], width: float = 11.0) -> Figure:
    """Show versions of photos side by side, with one row per photo and one column per version.

    Args:
        rows: photo name → version (input, teacher, student, …) → 3×H×W in [0, 1] or H×W×3 uint8.
    """
    versions = list(next(iter(rows.values())))
    shapes = [_as_shown(next(iter(row.values()))).shape for row in rows.values()]
    ratios = [shape[0] / shape[1] for shape in shapes]
    height = sum(ratios) * width / len(versions) + 0.4
    fig, axes = plt.subplots(
        len(rows), len(versions), figsize=(width, height), squeeze=False, layout="constrained", height_ratios=ratios
    )
    column = width / len(versions)
    for ax, version in zip(axes[0], versions, strict=True):
        ax.set_title(_wrapped(minus(version), column, 10), fontsize=10)
    for row, ratio, (name, photos) in zip(axes, ratios, rows.items(), strict=True):
        for ax, version in zip(row, versions, strict=True):
            ax.imshow(_as_shown(photos[version]))
            without_frame(ax)
        row[0].set_ylabel(_wrapped(name, ratio * column, 9), fontsize=9)
    return fig


def plot_curves(strengths: Sequence[float], iterations: Sequence[int]) -> Figure:
    """Plot the light-enhancement curve for several r (lines) and several numbers of iterations (panels)."""
    x = torch.linspace(0, 1, 256).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    fig, axes = plt.subplots(
        1, len(iterations), figsize=(3 * len(iterations), 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, count in zip(axes[0], iterations, strict=True):
        for r in strengths:
            y = apply_curve(x, torch.full_like(x, r), count)
            ax.plot(x[0, 0, 0], y[0, 0, 0], color=plt.get_cmap("coolwarm")((r + 1) / 2), label=minus(f"r = {r:+.1f}"))
        ax.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
        ax.set(title=f"{count} iteration{'s' if count > 1 else ''}", xlabel="input", xlim=(0, 1), ylim=(0, 1))
        ax.set_aspect("equal")
    axes[0][0].set_ylabel("output")
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def _scale(maps: Collection[Tensor], limit: float | None) -> dict[str, Any]:
    if limit is not None:
        return {"cmap": "coolwarm", "vmin": -limit, "vmax": limit}
    return {"cmap": "Blues_r", "vmin": min(float(m.min()) for m in maps), "vmax": max(float(m.max()) for m in maps)}


def show_maps(
    maps: Mapping[str, Tensor],
    limit: float | None = 1.0,
    columns: int = 4,
    label: str = "r",
    width: float = 11.0,
) -> Figure:
    """Show signed maps in false colour: blue (negative) brightens, red (positive) darkens.

    Args:
        maps: maps by title, each H×W.
        limit: the colour scale ranges from -limit to limit. None: from the lowest to the highest value of all maps, the
            lower the darker; for maps of one sign, whose small differences a scale around 0 would hide.
        columns: maps per row.
        label: label of the colour bar.
    """
    aspect = max(m.shape[0] / m.shape[1] for m in maps.values())
    fig, axes = image_grid(maps, columns, width, 0.9 * aspect)  # the colour bar takes a tenth of the width
    scale = _scale(maps.values(), limit)
    for ax, values in zip(axes.flat, maps.values(), strict=False):
        image = ax.imshow(values.detach(), **scale)
    _label_bar(fig.colorbar(image, ax=axes, shrink=0.8), label)
    return fig


def error_map(photo: Tensor, reference: Tensor, limit: float = 0.1, title: str = "") -> Figure:
    """Show the absolute difference of two photos (3×H×W in [0, 1]), averaged over channels."""
    fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    image = ax.imshow((photo - reference).abs().mean(dim=0), cmap="magma", vmin=0, vmax=limit)
    ax.set_title(title or "absolute difference", fontsize=10)
    ax.axis("off")
    fig.colorbar(image, ax=ax, shrink=0.8, label="mean over the channels")
    return fig


def plot_history(history: Sequence[Mapping[str, float]], score: str, terms: Sequence[str] = ()) -> Figure:
    """Plot loss terms (left, on a logarithmic axis if all are positive) and a validation score (right) by epoch.

    Args:
        history: as in :class:`kdlib.training.Run`.
        score: validation score to plot.
        terms: loss terms to plot; all by default.
    """
    not_terms = {"epoch", "learning_rate", "seconds", "fidelity", "task_loss", "validation_objective"}
    terms = terms or [name for name in history[0] if name not in not_terms]
    epochs = [row["epoch"] for row in history]
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for term in terms:
        values = [row.get(term, float("nan")) for row in history]
        left.plot(epochs, values, label=term, linewidth=2.5 if term == "total" else 1.5)
    if all(row.get(term, 1) > 0 for row in history for term in terms):
        left.set_yscale("log")
    left.set(xlabel="epoch", ylabel="weighted loss term", title="training loss")
    fig.legend(loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    right.plot(epochs, [row[score] for row in history], color=COLOURS["student"])
    right.set(xlabel="epoch", ylabel=score.replace("_", " "), title="validation")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return fig


def plot_bars(
    values: Mapping[str, float], xlabel: str, title: str = "", log: bool = False, fmt: str = "{:,.0f}"
) -> Figure:
    """Plot horizontal bars labelled with their values, the first at the top."""
    fig, ax = plt.subplots(figsize=(8, 0.4 * len(values) + 1), layout="constrained")
    bars = ax.barh(list(values), list(values.values()), color=COLOURS["truth"])
    ax.bar_label(bars, [fmt.format(value) for value in values.values()], padding=3, fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, title=title, xscale="log" if log else "linear")
    ax.margins(x=0.15)
    ax.spines[["top", "right"]].set_visible(False)
    return fig


def plot_lines(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    title: str = "",
    ax: Axes | None = None,
    references: Mapping[str, float] | None = None,
    legend: LegendPlace = "best",
    **axis: Any,
) -> Figure:
    """Plot lines over a common x with a legend.

    Args:
        references: values to compare with, drawn as dashed lines across the axes, by name.
        legend: place of the legend.
        axis: passed to ``Axes.set``, for example ``yscale="log"``.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    marker = "." if len(x) <= 30 else ""  # dots mark measurements; on densely sampled curves they would merge
    for label, values in lines.items():
        ax.plot(x, values, marker=marker, label=minus(label))
    for number, (label, value) in enumerate((references or {}).items(), len(lines)):
        ax.axhline(value, color=f"C{number}", linestyle="--", linewidth=1.2, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, **axis)
    if "xscale" not in axis and all(float(value).is_integer() for value in x):  # there is no epoch 1.5
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    if len(lines) + len(references or {}) > 1:
        ax.legend(fontsize=9, loc=legend)
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    return figure


def show_stages(stages: Mapping[str, Tensor], limit: float | None = 0.5, width: float = 11.0) -> Figure:
    """Show the stages of an enhancement from left to right.

    Args:
        stages: photos (3×H×W in [0, 1]) and curve maps (H×W, blue brightens, red darkens) by title.
        limit: of the maps' colour scale, as in :func:`show_maps`.
    """
    scale = _scale([stage for stage in stages.values() if stage.ndim == 2], limit)
    aspect = max(stage.shape[-2] / stage.shape[-1] for stage in stages.values())
    size = (width, width / len(stages) * aspect + 0.6)
    fig, axes = plt.subplots(1, len(stages), figsize=size, squeeze=False)
    fig.subplots_adjust(left=0.005, right=0.995, bottom=0.02, top=0.82, wspace=0.16)
    for ax, (title, stage) in zip(axes[0], stages.items(), strict=True):
        if stage.ndim == 2:
            ax.imshow(stage.detach().cpu(), **scale, interpolation="nearest")
        else:
            ax.imshow(_as_shown(stage), interpolation="nearest" if stage.shape[-1] < 100 else None)
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    for ax in axes[0, 1:]:
        ends = {"xy": (-0.01, 0.5), "xytext": (-0.15, 0.5)}
        ax.annotate("", **ends, xycoords="axes fraction", arrowprops={"arrowstyle": "-|>", "color": "black"})
    return fig


def draw_network(model: ZeroDCE) -> Figure:
    """Draw the layers of a curve network from left to right, with channels in → out and an arc for each skip."""
    fig, ax = plt.subplots(figsize=(11, 2.7 if model.skips else 1.3), layout="constrained")
    straight = model.depth // 2 + 1 if model.skips else model.depth
    box = {"boxstyle": "round,pad=0.5", "facecolor": "#eaf2f8", "edgecolor": COLOURS["truth"]}
    arrow = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0}
    for i in range(1, model.depth + 1):
        weights = [p for p in model.get_submodule(f"e_conv{i}").parameters() if p.ndim == 4]
        c_in, c_out = weights[-1].shape[1], weights[-1].shape[0]
        ax.text(i, 0, f"e_conv{i}\n{c_in} → {c_out}", ha="center", va="center", fontsize=10, bbox=box)
        ax.annotate("", xy=(i - 0.37, 0), xytext=(i - 0.63, 0), arrowprops=arrow)
        if i > straight:
            mirror = model.depth + 1 - i
            curve = {**arrow, "color": COLOURS["student"], "connectionstyle": "arc3,rad=-0.28"}
            ax.annotate("", xy=(i - 0.15, 0.24), xytext=(mirror + 0.15, 0.24), arrowprops=curve)
    ax.annotate("", xy=(model.depth + 0.63, 0), xytext=(model.depth + 0.37, 0), arrowprops=arrow)
    ax.text(0.32, 0, "small\ncopy", ha="right", va="center", fontsize=10)
    ax.text(model.depth + 0.68, 0, f"{model.curve_activation}\n= curve map", ha="left", va="center", fontsize=10)
    ax.text((1 + model.depth) / 2, -0.5, "ReLU after every layer but the last", ha="center", fontsize=9, color="grey")
    ax.set(xlim=(-0.2, model.depth + 1.6), ylim=(-0.6, 1.25 if model.skips else 0.3))
    ax.axis("off")
    return fig


def map_over_photo(photo: Tensor, curve_map: Tensor) -> Figure:
    """Show a photo (3×H×W), its curve map (3×H×W, averaged over channels), and the map's contours on the grey photo.

    The colour scale of the map ranges from its lowest to its highest value.
    """
    grey, mean = photo.mean(dim=0).cpu(), curve_map.mean(dim=0).detach().cpu()
    fig, axes = plt.subplots(1, 3, figsize=(9, 9 / 3.3 * photo.shape[1] / photo.shape[2] + 0.4), layout="constrained")
    axes[0].imshow(_as_shown(photo))
    image = axes[1].imshow(mean, **_scale([mean], None))
    axes[2].imshow((grey / grey.max().clamp_min(1e-6)).sqrt(), cmap="gray", alpha=0.6)
    lines = axes[2].contour(mean, levels=6, colors="#1b4f9c", linewidths=1.2, linestyles="solid")
    height, width = mean.shape
    for label in axes[2].clabel(lines, fontsize=8, inline=False):
        x, y = label.get_position()
        inside = 0.1 * width < x < 0.9 * width and 0.08 * height < y < 0.92 * height
        label.set_visible(inside)  # beyond the border of the photo, labels would be cut
        label.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8})
    for ax, title in zip(axes, ("photo", "curve map r", "lines of equal r over the photo"), strict=True):
        ax.set_title(title, fontsize=10)
        ax.axis("off")
    _label_bar(fig.colorbar(image, ax=axes, shrink=0.8), "r")
    return fig


def plot_panels(
    panels: Mapping[str, Mapping[str, float]], xlabel: str = "", fmt: str = "{:,.0f}", total: bool = True
) -> Figure:
    """Plot horizontal bars in adjacent panels, each with its own scale and, with ``total``, its sum in the title."""
    rows = max(len(panel) for panel in panels.values())
    fig, axes = plt.subplots(
        1, len(panels), figsize=(11, 0.32 * rows + 1.1), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (title, panel) in zip(axes[0], panels.items(), strict=True):
        bars = ax.barh(list(panel), list(panel.values()), color=COLOURS.get(title, COLOURS["truth"]))
        ax.bar_label(bars, [fmt.format(value) for value in panel.values()], padding=3, fontsize=9)
        ax.set(xlabel=xlabel, title=f"{title}: {fmt.format(sum(panel.values()))}" if total else title)
        ax.margins(x=0.2)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].invert_yaxis()
    return fig


def plot_stacked(rows: Mapping[str, Mapping[str, float]], xlabel: str, title: str = "", fmt: str = "{:,.0f}") -> Figure:
    """Plot stacked horizontal bars labelled with their sums; a part has the same colour in every row."""
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    fig, ax = plt.subplots(figsize=(9, 0.45 * len(rows) + 1.5), layout="constrained")
    left = [0.0] * len(rows)
    for part, colour in zip(parts, plt.get_cmap("Set2").colors, strict=False):  # type: ignore[attr-defined]
        values = [row.get(part, 0.0) for row in rows.values()]
        bars = ax.barh(list(rows), values, left=left, label=part, color=colour)
        left = [a + b for a, b in zip(left, values, strict=True)]
    ax.bar_label(bars, [fmt.format(total) for total in left], padding=4, fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, title=title)
    ax.margins(x=0.12)
    ax.legend(fontsize=9, ncols=len(parts), loc="upper center", bbox_to_anchor=(0.5, -0.35), frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return fig


def show_loss(photo: Tensor, loss_map: Tensor, gradient: Tensor, title: str = "") -> Figure:
    """Show a photo, the map of a loss over it, and the gradient of the loss at each pixel.

    Args:
        photo: input of the loss, 3×H×W in [0, 1].
        loss_map: the loss before averaging, h×w, one value per region or pixel. The colour scale ends at the 99th
            percentile.
        gradient: gradient of the loss with respect to the photo, 3×H×W. Gradient descent moves against it, so blue
            (negative) pixels become brighter and red (positive) ones darker. The colour scale ends there, too.
        title: title of the first panel.
    """
    height, width = photo.shape[-2:]
    pull = gradient.detach().cpu().sum(dim=0)
    limit = max(float(pull.abs().flatten().quantile(0.99)), 1e-12)
    fig, axes = plt.subplots(1, 3, figsize=(9, 9 / 3.3 * height / width + 0.3), layout="constrained")
    axes[0].imshow(_as_shown(photo))
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    heights = loss_map.detach().cpu()
    highest = max(float(heights.flatten().quantile(0.99)), 1e-12)
    heat = axes[1].imshow(heights, cmap="magma", vmin=0, vmax=highest, extent=extent)
    arrows = axes[2].imshow(pull, cmap="coolwarm", vmin=-limit, vmax=limit)
    fig.colorbar(heat, ax=axes[1], shrink=0.7)
    bar = fig.colorbar(arrows, ax=axes[2], shrink=0.7, ticks=[-limit, 0, limit])
    bar.ax.set_yticklabels(["brighter", "stays", "darker"], fontsize=8)
    for ax, text in zip(axes, (title or "photo", "loss map", "gradient's pull"), strict=True):
        ax.set_title(text, fontsize=10)
        ax.axis("off")
    return fig


def compare_maps(rows: Mapping[str, Mapping[str, Tensor]], width: float = 9.0) -> Figure:
    """Compare maps of several networks, one network per row; the rows of a column share a colour scale.

    Args:
        rows: network → panel title → map, h×w. Columns are matched by order, so titles may differ between rows.
    """
    columns = [list(column) for column in zip(*(maps.values() for maps in rows.values()), strict=True)]
    panel = width / len(columns)
    aspect = columns[0][0].shape[0] / columns[0][0].shape[1]
    size = (width, len(rows) * (panel * aspect * 0.7 + 0.3))
    fig, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, layout="constrained")
    for j, column in enumerate(columns):
        low = min(float(values.min()) for values in column)
        high = max(float(values.max()) for values in column)
        for ax, values in zip(axes[:, j], column, strict=True):
            image = ax.imshow(values.detach().cpu(), cmap="viridis", vmin=low, vmax=high)
            ax.set(xticks=[], yticks=[])
        fig.colorbar(image, ax=list(axes[:, j]), shrink=0.7)
    for row, (name, maps) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name, fontsize=9)
        for ax, title in zip(row, maps, strict=True):
            ax.set_title(title, fontsize=9)
    return fig
