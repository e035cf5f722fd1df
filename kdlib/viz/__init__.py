"""All figures of the notebooks and the README, drawn with matplotlib.

Functions receive numbers and photos and return figures; nothing here may train a network or measure one. A ``width`` is
that of the whole figure in inches.
"""

from kdlib.viz.common import (
    COLOURS,
    before_after,
    compare_maps,
    draw_network,
    error_map,
    map_over_photo,
    plot_bars,
    plot_curves,
    plot_history,
    plot_lines,
    plot_panels,
    plot_stacked,
    plt,
    show_loss,
    show_maps,
    show_photos,
    show_stages,
)

__all__ = [
    "COLOURS", "before_after", "compare_maps", "draw_network", "error_map", "map_over_photo", "plot_bars",
    "plot_curves", "plot_history", "plot_lines", "plot_panels", "plot_stacked", "plt", "show_loss", "show_maps",
    "show_photos", "show_stages",
]  # fmt: skip
