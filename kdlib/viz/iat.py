"""Figures of lesson 09 on IAT, its student and multi-level losses."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from torch import Tensor

from kdlib.enhance.photos.rgb import to_array
from kdlib.losses.levels import TO_TRUTH, ProgressiveWeights
from kdlib.stages import Stages, apply_colour_and_gamma
from kdlib.viz.common import COLOURS, open_frame, without_frame
from kdlib.viz.diagram import Diagram


def draw_iat(width: float = 11.0) -> Figure:
    """Draw IAT, with the operations on the photo at the bottom and the branches that control them at the top."""
    places = {
        "photo": (0.0, 0.0, "dark photo", False),
        "local": (2.4, 1.0, "local branch:\n5×5 convolutions", True),
        "global": (2.4, 2.0, "global branch:\n10 queries", True),
        "apply": (4.9, 0.0, "× multiply + add", False),
        "colour": (7.2, 0.0, "colour matrix,\nclip", False),
        "gamma": (9.2, 0.0, "power", False),
        "out": (10.8, 0.0, "photo", False),
    }
    diagram = Diagram(places, width)
    for start, end in (("photo", "apply"), ("apply", "colour"), ("colour", "gamma"), ("gamma", "out")):
        diagram.arrow(start, end)
    diagram.arrow("photo", "local")
    diagram.arrow("photo", "global", bend=-0.25)
    diagram.arrow("local", "apply")
    diagram.arrow("global", "colour", bend=-0.05)
    diagram.arrow("global", "gamma", bend=-0.12)
    for x, y, label in ((4.3, 0.5, "two maps"), (5.6, 0.95, "3×3 numbers"), (7.3, 1.3, "1 number")):
        diagram.ax.text(x, y, label, fontsize=9, color="#444444")
    diagram.ax.set(xlim=(-0.8, 11.4), ylim=(-0.5, 2.5))
    return diagram.figure


def show_iat_stages(rows: Mapping[str, tuple[Tensor, Tensor, Stages]], width: float = 11.0) -> Figure:
    """Show each stage: dark photo, multiply and add maps (averaged over channels), local, after colour, after gamma.

    All rows share the colour scales of the maps, in which white means no change (1 for multiply, 0 for add) and red an
    increase. Images are clipped to [0, 1].

    Args:
        rows: by network, (input photo 1×3×H×W, enhanced photo, stages).
    """
    titles = ("dark", "multiply", "add", "local", "after colour matrix", "after gamma")
    first = next(iter(rows.values()))[0]
    aspect = first.shape[2] / first.shape[3]
    size = (width, len(rows) * (width / len(titles) * aspect + 0.1) + 0.6)
    fig, axes = plt.subplots(len(rows), len(titles), figsize=size, squeeze=False, layout="constrained")
    maps = {
        "multiply": [row[2].multiply[0].mean(0).detach() for row in rows.values()],
        "add": [row[2].add[0].mean(0).detach() for row in rows.values()],
    }
    most = max(float(m.quantile(0.98)) for m in maps["multiply"])
    reach = max(0.01, *(float(m.abs().quantile(0.98)) for m in maps["add"]))
    # Multiply is at least 0, so that the blue half of its scale is shorter than the red one.
    scales = {
        "multiply": (TwoSlopeNorm(1.0, 0.0, max(most, 1.1)), (0, 1, round(max(most, 1.1), 1))),
        "add": (TwoSlopeNorm(0.0, -reach, reach), (-round(0.8 * reach, 2), 0, round(0.8 * reach, 2))),
    }
    drawn = {}
    for k, (line, (name, (photo, enhanced, stages))) in enumerate(zip(axes, rows.items(), strict=True)):
        mixed = apply_colour_and_gamma(stages.local, stages.colour, torch.ones_like(stages.gamma))
        pictures = {"dark": photo, "local": stages.local, "after colour matrix": mixed, "after gamma": enhanced}
        for ax, title in zip(line, titles, strict=True):
            if title in maps:
                drawn[title] = ax.imshow(maps[title][k], cmap="coolwarm", norm=scales[title][0])
            else:
                ax.imshow(to_array(pictures[title][0].detach().clamp(0, 1)))
            without_frame(ax)
            if k == 0:
                ax.set_title(title, fontsize=9)
        line[0].set_ylabel(name, fontsize=9)
    for column, title in ((1, "multiply"), (2, "add")):
        below = axes[-1, column].inset_axes((0.05, -0.13, 0.9, 0.06))  # does not shrink the images above
        bar = fig.colorbar(drawn[title], cax=below, orientation="horizontal", ticks=scales[title][1])
        bar.ax.tick_params(labelsize=8)
    return fig


def plot_schedule(schedule: ProgressiveWeights, steps: int = 201) -> Figure:
    """Plot each level's weight over the training: dashed for the truth, solid for the teacher, phases shaded."""
    fig, ax = plt.subplots(figsize=(9, 3.8), layout="constrained")
    shares = torch.linspace(0, 1, steps).tolist()
    weights = [schedule(share) for share in shares]
    cycle = plt.get_cmap("tab10")
    # Later lines are thinner, so that levels with equal weights both remain visible.
    widths = torch.linspace(6.5, 1.2, len(weights[0])).tolist()
    for k, level in enumerate(weights[0]):
        style = "--" if level in TO_TRUTH else "-"
        ax.plot(shares, [w[level] for w in weights], style, color=cycle(k % 10), label=level, linewidth=widths[k])
    highest = max(max(w.values()) for w in weights)
    edges = (0.0, schedule.warm_up, schedule.late_from, 1.0)
    for left, right, shade in zip(edges, edges[1:], ("#fdf2e0", "#ffffff", "#eaf5ee"), strict=False):
        if right > left:
            ax.axvspan(left, right, color=shade, zorder=0)
            ax.text((left + right) / 2, highest * 1.06, schedule.phase((left + right) / 2), ha="center", fontsize=9)
    ax.set(xlabel="share of the training that is done", ylabel="weight", xlim=(0, 1), ylim=(0, highest * 1.15))
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.spines[["top", "right"]].set_visible(False)
    return fig


def plot_guard(
    sums: Sequence[float], brightness: Mapping[str, Sequence[float]], pulls: Mapping[str, Sequence[float]]
) -> Figure:
    """Plot the output brightness as the colour matrix becomes negative (left), and the remaining gradient (right).

    Args:
        sums: sum of each row of the matrix.
        brightness: by variant of the network, the mean of the output.
        pulls: by variant, the magnitude of the gradient with respect to the matrix.
    """
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    titles = ("mean brightness of the output", "gradient that reaches the matrix")
    for ax, lines, title in zip(axes, (brightness, pulls), titles, strict=True):
        for (name, values), colour in zip(lines.items(), (COLOURS["input"], COLOURS["student"]), strict=False):
            ax.plot(sums, values, color=colour, linewidth=2.5, label=name)
        ax.axvline(0, color="black", linewidth=0.8, linestyle=":")
        ax.set(xlabel="sum of each row of the colour matrix", title=title, ylim=(0, None))
    open_frame(*axes)
    return fig
