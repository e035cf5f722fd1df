"""Figures of lesson 10 on super-resolution."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from kdlib.enhance.photos.rgb import to_array
from kdlib.evaluation.super_resolution import luminance, psnr_y
from kdlib.viz.common import COLOURS, without_frame
from kdlib.viz.diagram import Diagram

# Left, top and side of a square crop, in pixels.
Box = tuple[int, int, int]


def draw_msafn(width: float = 11.0) -> Figure:
    """Draw MSAFN: three scales, fusion, residual blocks and refinement."""
    places = {
        "photo": (0.0, 1.0, "upsampled\nphoto", False),
        "init": (1.4, 1.0, "3×3\nconvolution", True),
        "full": (3.2, 2.0, "full size: block, gate", True),
        "half": (3.2, 1.0, "half size: block, gate", True),
        "quarter": (3.2, 0.0, "quarter: block, gate", True),
        "fusion": (5.1, 1.0, "upsample,\nfuse: 1×1", True),
        "blocks": (6.5, 1.0, "residual\nblocks", True),
        "refine": (7.9, 1.0, "recurrent\nunit", True),
        "recon": (9.3, 1.0, "two 3×3", True),
        "out": (10.6, 1.0, "restored", False),
    }
    diagram = Diagram(places, width)
    for path in ("full", "half", "quarter"):
        diagram.arrow("init", path)
        diagram.arrow(path, "fusion")
    for start, end in (
        ("photo", "init"), ("fusion", "blocks"), ("blocks", "refine"), ("refine", "recon"), ("recon", "out")
    ):  # fmt: skip
        diagram.arrow(start, end)
    diagram.arrow("photo", "out", bend=-0.3, line=":", colour=COLOURS["student"])
    ax = diagram.ax
    ax.text(6.5, 2.15, "residual: added to the photo", fontsize=9, color=COLOURS["student"], ha="center")
    loop = {"arrowstyle": "-|>", "color": "black", "connectionstyle": "arc3,rad=-1.3", "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", xy=(7.65, 0.58), xytext=(8.15, 0.58), arrowprops=loop)
    ax.text(7.9, 0.02, "3 times (student: 2)", fontsize=9, ha="center", va="top")
    ax.set(xlim=(-0.7, 11.3), ylim=(-0.5, 2.9))
    return diagram.figure


def cut(photo: Tensor, box: Box) -> Tensor:
    """Crop the box (left, top, side) from a 3×H×W photo.

    Raises:
        ValueError: the box extends beyond the photo.
    """
    left, top, side = box
    height, width = photo.shape[-2:]
    if min(left, top) < 0 or side < 1 or left + side > width or top + side > height:
        raise ValueError(f"the box of {side} pixels at {left}, {top} is not inside the photo of {width}×{height}")
    return photo[..., top : top + side, left : left + side]


def show_crops(
    rows: Mapping[str, Mapping[str, Tensor]],
    truths: Mapping[str, Tensor],
    boxes: Mapping[str, Box],
    limit: float = 0.15,
    width: float = 11.0,
) -> Figure:
    """Show for each photo the position of a crop, the crop in every version, and the luminance error below each.

    Args:
        rows: photo → version → 3×H×W in [0, 1].
        truths: photo → 3×H×W in [0, 1], shown as the last version.
        boxes: photo → (left, top, side) of the crop, in pixels.
        limit: upper end of the error scale, which starts at 0 (white).

    Raises:
        ValueError: there are no photos, or a box extends beyond its photo.
    """
    if not rows:
        raise ValueError("there are no photos to show")
    versions = list(next(iter(rows.values())))
    columns = len(versions) + 2
    side = width / (columns + 0.7)  # the rest of the width holds the colour bar
    fig, axes = plt.subplots(
        2 * len(rows), columns, figsize=(width, 2 * len(rows) * (side + 0.18) + 0.6), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax in axes.flat:
        without_frame(ax)
    image = None
    for k, (name, answers) in enumerate(rows.items()):
        above, below = axes[2 * k], axes[2 * k + 1]
        truth, box = truths[name], boxes[name]
        above[0].imshow(to_array(truth))
        above[0].add_patch(Rectangle(box[:2], box[2], box[2], fill=False, edgecolor=COLOURS["student"], linewidth=2))
        above[0].set_title(name, fontsize=9)
        below[0].axis("off")
        for ax, under, version in zip(above[1:], below[1:], versions, strict=False):
            answer = answers[version].clamp(0, 1)
            ax.imshow(to_array(cut(answer, box)), interpolation="nearest")
            ax.set_title(f"{version}\n{psnr_y(answer, truth):.2f} dB", fontsize=9)
            error = (luminance(cut(answer, box)) - luminance(cut(truth, box))).abs()[0]
            image = under.imshow(error.numpy(), cmap="Reds", vmin=0, vmax=limit, interpolation="nearest")
        above[-1].imshow(to_array(cut(truth, box)), interpolation="nearest")
        above[-1].set_title("truth\n", fontsize=9)
        below[-1].axis("off")
    assert image is not None
    fig.colorbar(image, ax=axes[:, -1], shrink=0.4, label="|error| of Y")
    return fig


def plot_psnr(points: Mapping[str, float], lowest: float = 24.0, highest: float = 62.0) -> Figure:
    """Plot the root mean square error, in levels of 255 on a logarithmic scale, over the PSNR.

    Args:
        points: PSNR values in dB to mark, by name.
        lowest, highest: ends of the PSNR axis in dB.
    """
    fig, ax = plt.subplots(figsize=(9, 4), layout="constrained")
    db = np.linspace(lowest, highest, 200)
    ax.plot(db, 255 * 10 ** (-db / 20), color="black", linewidth=1)
    colours = plt.get_cmap("tab10")
    for k, (name, value) in enumerate(points.items()):
        level = 255 * 10 ** (-value / 20)
        ax.plot(value, level, "o", color=colours(k % 10), label=f"{name}: {value:.1f} dB, {level:.2f} levels")
    ax.axhline(0.5, color="grey", linestyle=":", linewidth=1)
    ax.text(lowest, 0.5, " half a level", va="bottom", fontsize=9, color="grey")
    ax.set(xlabel="PSNR (dB)", ylabel="root mean square error (levels of 255)", yscale="log", xlim=(lowest, highest))
    ax.legend(fontsize=9, loc="upper right")
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return fig


def plot_spread(values: Mapping[str, Sequence[float]], xlabel: str, bins: int = 40) -> Figure:
    """Plot histograms below one another, each with its mean (line) and maximum (dot)."""
    fig, axes = plt.subplots(
        len(values), 1, figsize=(9, 1.7 * len(values) + 0.6), squeeze=False, sharex=True, layout="constrained"
    )
    everything = np.concatenate([np.asarray(series) for series in values.values()])
    edges = np.linspace(everything.min(), everything.max(), bins + 1)
    for ax, (name, series) in zip(axes[:, 0], values.items(), strict=True):
        ax.hist(series, bins=edges, color=COLOURS["input"], alpha=0.7)
        mean, most = float(np.mean(series)), float(np.max(series))
        ax.axvline(mean, color=COLOURS["student"], linewidth=2, label=f"mean {mean:.1f}")
        ax.plot(most, 0, "o", color=COLOURS["truth"], label=f"largest {most:.1f}", clip_on=False)
        ax.set_title(name, fontsize=10, loc="left")
        ax.set_yticks([])
        ax.legend(fontsize=9)
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[-1, 0].set_xlabel(xlabel)
    return fig
