"""The Illumination Adaptive Transformer and its convolutional student: local maps, then a colour matrix and a gamma."""

from typing import Any

from kdlib.models.family import Family, Limit, Number, Shapes, Whole

_SHARED: dict[str, Any] = {
    "curve_map": "1×1×10: colour matrix, row by row (9), and gamma (1); local maps fit one photo and are left out",
    "backend": "kdlib.enhance.backends.torch_stages:TorchStages",
}
_LIMITS: dict[str, Limit] = {"width": Whole(1, 1024), "global_width": Whole(1, 1024), "centred": bool, "guarded": bool}


def recognise_iat(shapes: Shapes) -> dict[str, Any] | None:
    """Return the arguments of an IAT with the published LOL-v1 settings, which leave no trace in the tensors."""
    if "local_net.conv1.weight" not in shapes:
        return None
    width, answers = shapes["local_net.conv1.weight"], shapes["global_net.gamma_linear.weight"]
    return {"width": width[0], "global_width": answers[1]}


def recognise_student(shapes: Shapes) -> dict[str, Any] | None:
    """Return the arguments of a student with the published settings, which leave no trace in the tensors."""
    if "shared_conv1.weight" not in shapes:
        return None
    width, answers = shapes["shared_conv1.weight"], shapes["color_head.weight"]
    return {
        "width": width[0],
        "global_width": answers[1],
        "blocks": len({key.split(".")[1] for key in shapes if key.startswith("mul_blocks.")}),
        "centred": True,
        "guarded": False,
        "most_gamma": 1.0,
        "folded": "global_refine.2.weight" not in shapes,
    }


FAMILY = Family(
    name="iat",
    builder="kdlib.models.iat:IAT",
    models={"iat": {}},
    about="IAT computes two local maps at full size, then a colour matrix and a gamma for the whole photo.",
    parameters={"iat": 91_154},
    limits=_LIMITS,
    recognise=recognise_iat,
    exported="kdlib.export.stages:IATForm",
    **_SHARED,
)
STUDENT = Family(
    name="iat-student",
    builder="kdlib.models.iat_student:IATStudent",
    models={"iat-student": {}},
    about="The student of IAT computes the same maps, colour matrix and gamma as IAT with convolutions alone.",
    parameters={"iat-student": 43_504},
    limits={**_LIMITS, "blocks": Whole(1, 64), "most_gamma": Number(0, 100), "folded": bool},
    recognise=recognise_student,
    exported="kdlib.export.stages:IATStudentForm",
    **_SHARED,
)
