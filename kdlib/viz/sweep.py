"""Figures of a sweep: a heat map, a scatter plot, a line, or one panel per parameter."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from kdlib.sweep.settings import Range

_BEST: dict[str, Any] = {
    "marker": "*",
    "s": 200,
    "color": "#d55e00",
    "edgecolor": "white",
    "zorder": 5,
    "label": "best",
}


def heat_map(
    ax: Axes, values: np.ndarray, columns: Sequence[Any], rows: Sequence[Any], texts: Mapping[tuple[int, int], str]
) -> AxesImage:
    """Draw a matrix as colours, with text in black or white, whichever has more contrast.

    Args:
        values: rows × columns; NaN for empty cells.
        columns, rows: tick labels of the axes, rows from the bottom.
        texts: (row, column) → text of the cell.
    """
    image = ax.imshow(values, cmap="cividis", origin="lower", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (y, x), text in texts.items():
        colour = "white" if values[y, x] < middle else "black"
        ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=10)
    ax.set(xticks=range(len(columns)), yticks=range(len(rows)))
    ax.set_xticklabels(columns)
    ax.set_yticklabels(rows)
    return image


def plot_sweep(
    rows: Sequence[Mapping[str, Any]], space: Mapping[str, Any], metric: str, direction: str = "maximize"
) -> Figure:
    """Plot the metric over the swept parameters and mark the best trial.

    Two parameters give a heat map, or a scatter plot with coloured dots if one of them is a range. Any other number
    gives one panel per parameter, with a line if there is only one.

    Args:
        rows: results of :func:`kdlib.sweep.run_sweep`; only finished trials are drawn.
        space: search space of the :class:`~kdlib.sweep.Sweep`.
        metric: displayed name of the metric.
        direction: ``maximize`` or ``minimize``.

    Raises:
        ValueError: no trial has finished.
    """
    done = [row for row in rows if row["state"] == "done"]
    if not done:
        raise ValueError("no trial of the sweep has finished, so there is nothing to draw")
    best = (max if direction == "maximize" else min)(done, key=lambda row: row["metric"])
    if len(space) == 2 and not any(isinstance(values, Range) for values in space.values()):
        return _as_grid(done, best, space, metric)
    if len(space) == 2:
        return _as_plane(done, best, space, metric)
    fig, axes = plt.subplots(
        1, len(space), figsize=(max(6, 3.2 * len(space)), 4.2), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (name, values) in zip(axes[0], space.items(), strict=True):
        points = sorted((_place(row, name, space), row["metric"]) for row in done)
        ax.plot(*zip(*points, strict=True), "o-" if len(space) == 1 else "o", color="#0072b2", alpha=0.8)
        ax.scatter(_place(best, name, space), best["metric"], **_BEST)
        _axis(ax, "x", values)
        ax.set_xlabel(name)
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel(metric)
    return fig


def _as_grid(
    done: Sequence[Mapping[str, Any]], best: Mapping[str, Any], space: Mapping[str, Any], metric: str
) -> Figure:
    (x, columns), (y, lines) = space.items()
    values, texts = np.full((len(lines), len(columns)), np.nan), {}
    for row in done:
        cell = _place(row, y, space), _place(row, x, space)
        values[cell] = row["metric"]
        texts[cell] = f"{row['metric']:.4g}" + ("\nbest" if row is best else "")
    fig, ax = plt.subplots(figsize=(1.5 + 1.2 * len(columns), 1.4 + 0.8 * len(lines)), layout="constrained")
    fig.colorbar(heat_map(ax, values, columns, lines, texts), ax=ax, label=metric)
    ax.set(xlabel=x, ylabel=y)
    return fig


def _as_plane(
    done: Sequence[Mapping[str, Any]], best: Mapping[str, Any], space: Mapping[str, Any], metric: str
) -> Figure:
    (x, columns), (y, lines) = space.items()
    at = np.array([[_place(row, x, space), _place(row, y, space)] for row in done])
    fig, ax = plt.subplots(figsize=(7.0, 4.6), layout="constrained")
    ax.scatter(_place(best, x, space), _place(best, y, space), **_BEST)
    scores = [row["metric"] for row in done]
    dots = ax.scatter(at[:, 0], at[:, 1], c=scores, cmap="cividis", s=70, edgecolor="black", zorder=4)
    fig.colorbar(dots, ax=ax, label=metric)
    _axis(ax, "x", columns)
    _axis(ax, "y", lines)
    ax.set(xlabel=x, ylabel=y)
    ax.legend(loc="upper left", bbox_to_anchor=(0, 1.1), frameon=False)
    return fig


def _place(row: Mapping[str, Any], name: str, space: Mapping[str, Any]) -> Any:
    """Return a value's position on its axis: the value itself for a range, its index for a list."""
    values = space[name]
    return row[name] if isinstance(values, Range) else [*map(repr, values)].index(repr(row[name]))


def _axis(ax: Axes, which: str, values: Any) -> None:
    if not isinstance(values, Range):
        ax.set(**{f"{which}ticks": range(len(values)), f"{which}lim": (-0.5, len(values) - 0.5)})
        ax.set(**{f"{which}ticklabels": [str(value) for value in values]})
    elif values.log:
        ax.set(**{f"{which}scale": "log"})
