"""GlanceNet: gain, gamma and smoothing from a thumbnail, for a power curve at full size."""

from typing import Any

from kdlib.models.family import Family, Shapes, Whole

# What an argument is unless a registered model says otherwise.
DEFAULTS: dict[str, Any] = {"width": 8, "hidden": 10, "side": 32}


def recognise(shapes: Shapes) -> dict[str, Any] | None:
    """Return the arguments of a GlanceNet; the thumbnail's side leaves no trace in the tensors."""
    if "decide.weight" not in shapes or "knots.weight" in shapes:  # the latter is a GridNet's
        return None
    hidden, pooled = shapes["decide.weight"]
    return {"width": pooled // 2, "hidden": hidden}


FAMILY = Family(
    name="glance",
    builder="kdlib.models.glance:GlanceNet",
    models={"glance-650": {}},
    about="GlanceNet sees a thumbnail of the whole photo, and chooses gain, gamma and the strength of smoothing.",
    parameters={"glance-650": 650},
    curve_map="h×w×7: logarithm of the gain (3), gamma − 1 in [-0.9, 1] (3), tolerance in multiples of the noise (1)",
    full_size=False,
    denoise=1.0,
    limits={"width": Whole(1, 1024), "hidden": Whole(1, 1024), "side": Whole(1, 1024)},
    recognise=recognise,
    backend="kdlib.enhance.backends.torch_glance:TorchGlance",
    compiled="kdlib.enhance.backends.cpu_glance:CpuGlance",
    exported="kdlib.export.glance:GlanceForm",
)
