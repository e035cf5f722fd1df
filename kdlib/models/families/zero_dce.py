"""Zero-DCE, Zero-DCE++ and their students: a per-pixel curve that is applied several times."""

from typing import Any

from kdlib.models.family import Family, Shapes, Whole

# What an argument is unless a registered model says otherwise; files from before network_side do not name it.
DEFAULTS: dict[str, Any] = {
    "width": 32,
    "depth": 7,
    "iterations": 8,
    "separable": True,
    "shared_map": True,
    "skips": True,
    "scale_factor": 12,
    "network_side": 0,
    "curve_activation": "tanh",
}
MODELS: dict[str, dict[str, Any]] = {
    "zero-dce": {"width": 32, "separable": False, "shared_map": False, "scale_factor": 1},
    "zero-dce++": {"width": 32},
    "student-565": {"width": 4},
    "nano-161": {"width": 4, "depth": 3, "iterations": 4, "skips": False},
}


def recognise(shapes: Shapes) -> dict[str, Any] | None:
    """Return the arguments of a curve network, published or of the variant that ``to_published`` translates.

    One map shared by all iterations leaves no trace of their number in the tensors: the number is that of the
    registered model of the same shape, or 8.
    """
    if "conv1.weight" in shapes:
        shapes = {f"e_{key}": shape for key, shape in shapes.items()}
    layers = {key.split(".")[0] for key in shapes}
    depth = len(layers)
    if not layers or layers != {f"e_conv{i}" for i in range(1, depth + 1)}:
        return None
    separable = "e_conv1.point_conv.weight" in shapes
    part = "point_conv.weight" if separable else "weight"
    first, last = shapes[f"e_conv1.{part}"], shapes[f"e_conv{depth}.{part}"]
    width, maps = first[0], last[0] // 3
    found = {
        "width": width,
        "depth": depth,
        "separable": separable,
        "shared_map": maps == 1,
        "skips": last[1] == 2 * width,
    }
    if maps > 1:
        return {**found, "iterations": maps, "scale_factor": 1}
    for arguments in MODELS.values():
        complete = DEFAULTS | arguments
        if all(complete[name] == value for name, value in found.items()):
            return complete
    return {**found, "iterations": 8}


FAMILY = Family(
    name="zero-dce",
    builder="kdlib.models.zero_dce:ZeroDCE",
    models=MODELS,
    about="Zero-DCE estimates a curve map, and applies the light-enhancement curve to the photo several times with it.",
    parameters={"zero-dce": 79_416, "zero-dce++": 10_561, "student-565": 565, "nano-161": 161},
    curve_map="h×w×3 in [-1, 1], or h×w×(3·iterations) for networks with one map for each iteration",
    full_size=False,
    denoise=0.0,
    implied=True,
    limits={
        "width": Whole(1, 1024),
        "depth": Whole(1, 64),
        "iterations": Whole(1, 64),
        "separable": bool,
        "shared_map": bool,
        "skips": bool,
        "scale_factor": Whole(1, 4096),
        "network_side": Whole(0, 65_536),
        "curve_activation": str,
    },
    recognise=recognise,
    to_published="kdlib.models.zero_dce:to_published",
    backend="kdlib.enhance.backends.torch_curves:TorchCurves",
    compiled="kdlib.enhance.backends.cpu_curves:CpuCurves",
    published_form="kdlib.evaluation.benchmark:PublishedForm",
    exported="kdlib.export.curves:CurvesForm",
)
