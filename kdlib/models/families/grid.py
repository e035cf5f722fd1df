"""GridNet: gains over position and luminance, a bilateral grid, from a thumbnail of the photo."""

from typing import Any

from kdlib.models.family import Family, Shapes, Whole

# Luminances, from 0 to 1, at which a cell of the grid holds a gain. They are denser in the shadows, roughly as
# logarithms are.
KNOTS = (0.0, 0.02, 0.05, 0.11, 0.22, 0.4, 0.66, 1.0)
# Limit of the logarithm of a gain, and of the photo's chroma: factors from 1/20 to 20, and from 1/e to e.
MOST_GAIN, MOST_CHROMA = 3.0, 1.0
BODIES = ("separable", "residual")


def recognise(shapes: Shapes) -> dict[str, Any] | None:
    """Return the arguments of a GridNet; the thumbnail's side leaves no trace in the tensors."""
    if "knots.weight" not in shapes:
        return None
    hidden, width = shapes["decide.weight"][0], shapes["knots.weight"][1]
    residual = "body.first.weight" in shapes
    return {"body": BODIES[residual], "width": width, "hidden": hidden, "side": 64 if residual else 32}


FAMILY = Family(
    name="grid",
    builder="kdlib.models.grid:GridNet",
    models={
        "grid-961": {},
        "grid-teacher": {"body": "residual", "width": 32, "hidden": 64, "side": 64},
    },
    output="image",
    limits={"body": str, "width": Whole(1, 256), "hidden": Whole(1, 1024), "side": Whole(1, 1024)},
    recognise=recognise,
)
