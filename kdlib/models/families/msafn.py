"""MSAFN and its student LightMSAFN: super-resolution of photos that bicubic interpolation has enlarged."""

from functools import partial
from typing import Any

from kdlib.models.family import Family, Number, Shapes, Whole

_SHARED: dict[str, Any] = {
    "curve_map": "1×1×K in [0, 1]: the weights of the network's channels",
    "upscales": True,
    "limits": {
        "width": Whole(1, 1024),
        "blocks": Whole(1, 64),
        "steps": Whole(1, 64),
        "drop": Number(0, 100),
        "recurrent": bool,
        "residual": bool,
        "upscale": Whole(2, 16),
    },
    "backend": "kdlib.enhance.backends.torch_super_resolution:TorchSuperResolution",
    "exported": "kdlib.export.super_resolution:SuperResolutionForm",
}
_DENSE = "res_blocks.0.conv3.weight"  # the teacher's dense blocks have a third convolution


def recognise(shapes: Shapes, *, dense: bool) -> dict[str, Any] | None:
    """Return the arguments of an MSAFN or a LightMSAFN; steps, residual and upscale are the published code's."""
    if "conv_init.weight" not in shapes or (_DENSE in shapes) is not dense:
        return None
    blocks = {key.split(".")[1] for key in shapes if key.startswith("res_blocks.")}
    if not blocks:
        raise KeyError("res_blocks.0.conv1.weight")
    return {
        "width": shapes["conv_init.weight"][0],
        "blocks": len(blocks),
        "recurrent": any(key.startswith("refinement.") for key in shapes),
    }


FAMILY = Family(
    name="msafn",
    builder="kdlib.models.msafn:MSAFN",
    models={"msafn": {}},
    about="MSAFN restores detail in a photo that was upsampled fourfold.",
    parameters={"msafn": 8_753_179},
    recognise=partial(recognise, dense=True),
    **_SHARED,
)
STUDENT = Family(
    name="light-msafn",
    builder="kdlib.models.msafn:LightMSAFN",
    models={"light-msafn": {}},
    about="LightMSAFN is the student of MSAFN, with a twentieth of its parameters.",
    parameters={"light-msafn": 456_115},
    recognise=partial(recognise, dense=False),
    **_SHARED,
)
