"""GridNet: gains over position and luminance, a bilateral grid, from a thumbnail of the photo."""

from typing import Any

from kdlib.models.family import Family, Shapes, Whole

BODIES = ("separable", "residual")
# What an argument is unless a registered model says otherwise.
DEFAULTS: dict[str, Any] = {"body": "separable", "width": 8, "hidden": 10, "side": 32}


def recognise(shapes: Shapes) -> dict[str, Any] | None:
    """Return the arguments of a GridNet; the thumbnail's side leaves no trace in the tensors."""
    if "knots.weight" not in shapes:
        return None
    hidden, width = shapes["decide.weight"][0], shapes["knots.weight"][1]
    residual = "features.first.weight" in shapes
    return {"body": BODIES[residual], "width": width, "hidden": hidden, "side": 64 if residual else 32}


FAMILY = Family(
    name="grid",
    builder="kdlib.models.grid:GridNet",
    models={
        "grid-960": {},
        "grid-teacher": {"body": "residual", "width": 32, "hidden": 64, "side": 64},
    },
    about="GridNet gives every cell of a coarse grid a gain for each of eight luminances, estimated from a thumbnail.",
    parameters={"grid-960": 960, "grid-teacher": 266004},
    curve_map="h×w×9: logarithms of the gains at eight luminances in [-3, 3] (8), and of the chroma in [-0.5, 0.5] (1)",
    full_size=False,
    denoise=1.0,
    limits={"body": str, "width": Whole(1, 256), "hidden": Whole(1, 1024), "side": Whole(1, 1024)},
    recognise=recognise,
    backend="kdlib.enhance.backends.torch_grid:TorchGrid",
    compiled="kdlib.enhance.backends.cpu_grid:CpuGrid",
    exported="kdlib.export.grid:GridForm",
)
