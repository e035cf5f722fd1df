"""Every figure that a notebook shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kdlib.data.images import to_array
from kdlib.models import apply_curve

# Blue for what the data gives, orange for the student, green for the teacher: the same in every figure.
COLOURS = {"input": "#7f8c8d", "student": "#e67e22", "teacher": "#27ae60", "truth": "#2980b9"}


def _as_shown(photo: Tensor | np.ndarray) -> np.ndarray:
    return to_array(photo) if isinstance(photo, Tensor) else photo


def show_photos(photos: Mapping[str, Tensor | np.ndarray], columns: int = 3, width: float = 11.0) -> Figure:
    """Photos in a grid, each under its title.

    Args:
        photos: by title, 3×H×W in [0, 1] or H×W×3 uint8.
        columns: photos in a row.
        width: of the figure in inches.
    """
    shown = {title: _as_shown(photo) for title, photo in photos.items()}
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    aspect = max(photo.shape[0] / photo.shape[1] for photo in shown.values())
    height = rows * (width / columns * aspect + 0.3)
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, photo) in zip(axes.flat, shown.items(), strict=False):
        ax.imshow(photo)
        ax.set_title(title, fontsize=10)
    return fig


def before_after(rows: Mapping[str, Mapping[str, Tensor | np.ndarray]], width: float = 11.0) -> Figure:
    """One row for each photo, one column for each version of it.

    Args:
        rows: photo name → version (input, teacher, student, …) → 3×H×W in [0, 1] or H×W×3 uint8.
        width: of the figure in inches.
    """
    versions = list(next(iter(rows.values())))
    shapes = [_as_shown(next(iter(row.values()))).shape for row in rows.values()]
    ratios = [shape[0] / shape[1] for shape in shapes]
    height = sum(ratios) * width / len(versions) + 0.4
    fig, axes = plt.subplots(
        len(rows),
        len(versions),
        figsize=(width, height),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": ratios},
    )
    for row, (name, photos) in zip(axes, rows.items(), strict=True):
        for ax, version in zip(row, versions, strict=True):
            ax.imshow(_as_shown(photos[version]))
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if ax is axes[0][list(versions).index(version)]:
                ax.set_title(version, fontsize=10)
        row[0].set_ylabel(name, fontsize=9)
    return fig


def plot_curves(strengths: Sequence[float], iterations: Sequence[int]) -> Figure:
    """The light-enhancement curve for several r (lines) and several numbers of iterations (panels)."""
    x = torch.linspace(0, 1, 256).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    fig, axes = plt.subplots(
        1, len(iterations), figsize=(3 * len(iterations), 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, count in zip(axes[0], iterations, strict=True):
        for r in strengths:
            y = apply_curve(x, torch.full_like(x, r), count)
            ax.plot(x[0, 0, 0], y[0, 0, 0], color=plt.get_cmap("coolwarm")((r + 1) / 2), label=f"r = {r:+.1f}")
        ax.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
        ax.set(title=f"{count} iteration{'s' if count > 1 else ''}", xlabel="input", xlim=(0, 1), ylim=(0, 1))
        ax.set_aspect("equal")
    axes[0][0].set_ylabel("output")
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def show_maps(maps: Mapping[str, Tensor], limit: float = 1.0, columns: int = 4, label: str = "r") -> Figure:
    """Maps of signed values in false colour: blue brightens (negative), red darkens (positive).

    Args:
        maps: by title, each H×W.
        limit: the colour scale runs from -limit to limit.
        columns: maps in a row.
        label: of the colour bar.
    """
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    aspect = max(m.shape[0] / m.shape[1] for m in maps.values())
    width = 11.0
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, rows * (width / columns * aspect * 0.9 + 0.3)),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, values) in zip(axes.flat, maps.items(), strict=False):
        image = ax.imshow(values.detach(), cmap="coolwarm", vmin=-limit, vmax=limit)
        ax.set_title(title, fontsize=10)
    fig.colorbar(image, ax=axes, shrink=0.8, label=label)
    return fig


def error_map(photo: Tensor, reference: Tensor, limit: float = 0.1, title: str = "") -> Figure:
    """Where two photos (3×H×W in [0, 1]) differ: mean absolute difference over channels."""
    fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    image = ax.imshow((photo - reference).abs().mean(dim=0), cmap="magma", vmin=0, vmax=limit)
    ax.set_title(title or "absolute difference", fontsize=10)
    ax.axis("off")
    fig.colorbar(image, ax=ax, shrink=0.8)
    return fig


def plot_history(history: Sequence[Mapping[str, float]], score: str, terms: Sequence[str] = ()) -> Figure:
    """Loss terms over the epochs (left, logarithmic where all are positive) and a validation score (right).

    Args:
        history: as in :class:`kdlib.training.Run`.
        score: the validation score to show.
        terms: the loss terms to show; all by default.
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
    left.legend(fontsize=8)
    right.plot(epochs, [row[score] for row in history], color=COLOURS["student"])
    right.set(xlabel="epoch", ylabel=score.replace("_", " "), title="validation")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return fig


def plot_bars(
    values: Mapping[str, float], xlabel: str, title: str = "", log: bool = False, fmt: str = "{:,.0f}"
) -> Figure:
    """Horizontal bars, the first on top, each with its value written beside it."""
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
    **axis: Any,
) -> Figure:
    """Lines over a common x, with a legend; ``axis`` goes to ``Axes.set`` (``yscale="log"``, say)."""
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    for label, values in lines.items():
        ax.plot(x, values, marker=".", label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, **axis)
    ax.grid(alpha=0.3)
    if len(lines) > 1:
        ax.legend(fontsize=9)
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    return figure
