"""Diagrams of networks as boxes and arrows."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from kdlib.viz.common import COLOURS

PLAIN = {"facecolor": "#eaf2f8", "edgecolor": COLOURS["truth"]}
LEARNED = {"facecolor": "#fdf2e0", "edgecolor": COLOURS["student"]}

_Point = tuple[float, float]


class Diagram:
    """Labelled boxes at given positions, and arrows between them.

    Args:
        places: boxes by name, each (x, y, text, whether it has learned parameters); those that have are orange.
        width: width of the figure in inches.
        height: height of the figure as a fraction of its width.

    Attributes:
        figure, ax: the figure and its axes, for further drawing.
    """

    def __init__(
        self, places: Mapping[str, tuple[float, float, str, bool]], width: float, height: float = 0.26
    ) -> None:
        self.figure: Figure
        self.figure, self.ax = plt.subplots(figsize=(width, width * height), layout="constrained")
        self.ax.axis("off")
        self._boxes = {
            name: self.ax.text(
                x, y, text, ha="center", va="center", fontsize=10,
                bbox={"boxstyle": "round,pad=0.5", **(LEARNED if learned else PLAIN)},
            )
            for name, (x, y, text, learned) in places.items()
        }  # fmt: skip

    def arrow(self, start: str, end: str, bend: float = 0.0, line: str = "-", colour: str = "black") -> None:
        """Draw an arrow between two boxes; ``bend`` is the height of its arc as a fraction of the distance."""
        first, last = self._boxes[start], self._boxes[end]
        look = {"arrowstyle": "-|>", "color": colour, "shrinkA": 1, "shrinkB": 2, "linestyle": line}
        look |= {"patchA": first.get_bbox_patch(), "patchB": last.get_bbox_patch()}
        look |= {"connectionstyle": f"arc3,rad={bend}"}
        self.ax.annotate("", xy=last.get_position(), xytext=first.get_position(), arrowprops=look)

    def detour(self, start: _Point, end: _Point, label: str, middle: _Point) -> None:
        """Draw an arc above the boxes with a label: what each place gets beside the decision about the whole photo."""
        look = {"arrowstyle": "-|>", "color": COLOURS["student"], "shrinkA": 1, "shrinkB": 2}
        look |= {"connectionstyle": "arc3,rad=-0.18"}
        self.ax.annotate("", xy=end, xytext=start, arrowprops=look)
        self.ax.text(*middle, label, ha="center", fontsize=9, color=COLOURS["student"])

    def legend(self, x: float, y: float) -> None:
        """Say below (x, y) what the colours of the boxes mean."""
        self.ax.text(x, y, "has parameters", ha="center", fontsize=9, color=COLOURS["student"])
        self.ax.text(x, y - 0.22, "has none", ha="center", fontsize=9, color=COLOURS["truth"])
