"""Model names and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.models.glance import GlanceNet
from kdlib.models.iat import IAT
from kdlib.models.iat_student import IATStudent
from kdlib.models.msafn import MSAFN, LightMSAFN
from kdlib.models.zero_dce import ZeroDCE

Model = ZeroDCE | GlanceNet | IAT | IATStudent | MSAFN
FAMILIES: dict[str, type[ZeroDCE] | type[GlanceNet] | type[IAT] | type[IATStudent] | type[MSAFN]] = {
    "zero-dce": ZeroDCE,
    "glance": GlanceNet,
    "iat": IAT,
    "iat-student": IATStudent,
    "msafn": MSAFN,
    "light-msafn": LightMSAFN,
}
# Arguments by name; without a family they are ZeroDCE's.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "zero-dce": {"width": 32, "separable": False, "shared_map": False, "scale_factor": 1},
    "zero-dce++": {"width": 32},
    "student-565": {"width": 4},
    "nano-161": {"width": 4, "depth": 3, "iterations": 4, "skips": False},
    "glance-650": {"family": "glance"},
    "iat": {"family": "iat"},
    "iat-student": {"family": "iat-student"},
    "msafn": {"family": "msafn"},
    "light-msafn": {"family": "light-msafn"},
}


def build_model(config: Mapping[str, Any]) -> Model:
    """Build an architecture from its family (``zero-dce`` unless ``family`` says otherwise) and arguments.

    Raises:
        ValueError: unknown family or argument, or a value out of range.
    """
    arguments = dict(config)
    family = arguments.pop("family", "zero-dce")
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; choose from {', '.join(FAMILIES)}")
    try:
        return FAMILIES[family](**arguments)
    except TypeError as error:
        raise ValueError(str(error)) from None


def create_model(name: str, **overrides: Any) -> Any:
    """Build an architecture by name, with random weights.

    Args:
        name: ``zero-dce`` (79,416 parameters), ``zero-dce++`` (10,561), ``student-565``, ``nano-161``,
            ``glance-650``, ``iat`` (91,154), ``iat-student`` (43,504), and for sharpening ``msafn`` (8,753,179) or
            ``light-msafn`` (456,115).
        overrides: any argument of :class:`~kdlib.models.zero_dce.ZeroDCE` (of
            :class:`~kdlib.models.glance.GlanceNet` for ``glance-650``, of :class:`~kdlib.models.iat.IAT` for ``iat``,
            of :class:`~kdlib.models.iat_student.IATStudent` for ``iat-student``, of
            :class:`~kdlib.models.msafn.MSAFN` for ``msafn`` and ``light-msafn``), for example ``scale_factor=4``.

    Raises:
        ValueError: unknown name or argument.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(ARCHITECTURES)}")
    try:
        return build_model({**ARCHITECTURES[name], **overrides})
    except ValueError as error:
        raise ValueError(f"create_model({name!r}): {error}") from None


def to_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a known variant's state dict into the published layout.

    Drops the ``module.`` prefix of ``DataParallel``. A re-implementation of Zero-DCE names its layers ``conv1`` …
    ``conv7``
    and concatenates the other way round: there, the halves of the input channels of the last three layers change
    places.
    """
    state = {key.removeprefix("module."): tensor for key, tensor in state_dict.items()}
    if "conv1.weight" not in state:
        return state
    published = {}
    for key, tensor in state.items():
        if tensor.ndim == 4 and tensor.shape[1] == 2 * state["conv1.weight"].shape[0]:
            tensor = torch.cat(tensor.chunk(2, dim=1)[::-1], dim=1)
        published[f"e_{key}"] = tensor
    return published


def infer_architecture(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Tell the architecture from the tensors of a state dict with published keys.

    With one map shared by all iterations, their number leaves no trace in the tensors: it is taken from the
    registered architecture of the same shape, and is 8 otherwise. Nor do tensors say how IAT and its student see a
    photo: ``centred`` and ``guarded`` are those of the published LOL-v1 weights and of the published student. Nor how
    often MSAFN refines and whether it gives the photo or the difference to it: ``steps``, ``residual`` and ``upscale``
    are those of the published code.

    Raises:
        ValueError: these are not the tensors of a known architecture.
    """
    if "decide.weight" in state_dict:
        hidden, pooled = state_dict["decide.weight"].shape
        return {"family": "glance", "width": int(pooled) // 2, "hidden": int(hidden)}
    if "local_net.conv1.weight" in state_dict or "shared_conv1.weight" in state_dict:
        return _infer_iat(state_dict)
    if "conv_init.weight" in state_dict:
        return _infer_msafn(state_dict)
    layers = {key.split(".")[0] for key in state_dict}
    if not layers or layers != {f"e_conv{i}" for i in range(1, len(layers) + 1)}:
        found = ", ".join(sorted(state_dict)[:3]) or "no tensors"
        raise ValueError(f"not the weights of a known architecture (found {found})")
    depth = len(layers)
    separable = "e_conv1.point_conv.weight" in state_dict
    part = "point_conv.weight" if separable else "weight"
    try:
        first, last = state_dict[f"e_conv1.{part}"], state_dict[f"e_conv{depth}.{part}"]
    except KeyError as missing:
        raise ValueError(f"not the weights of a known architecture ({missing} is missing)") from None
    width, maps = int(first.shape[0]), int(last.shape[0]) // 3
    shape = {
        "width": width,
        "depth": depth,
        "separable": separable,
        "shared_map": maps == 1,
        "skips": last.shape[1] == 2 * width,
    }
    if maps > 1:
        return {**shape, "iterations": maps, "scale_factor": 1}
    for arguments in ARCHITECTURES.values():
        if "family" in arguments:
            continue
        config = build_model(arguments).config
        if all(config.get(key) == value for key, value in shape.items()):
            return config
    return {**shape, "iterations": 8}


def _infer_iat(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """:func:`infer_architecture` for IAT and its student."""
    try:
        if "local_net.conv1.weight" in state_dict:
            width, answers = state_dict["local_net.conv1.weight"], state_dict["global_net.gamma_linear.weight"]
            return {"family": "iat", "width": int(width.shape[0]), "global_width": int(answers.shape[1])}
        width, answers = state_dict["shared_conv1.weight"], state_dict["color_head.weight"]
    except KeyError as missing:
        raise ValueError(f"not the weights of a known architecture ({missing} is missing)") from None
    return {
        "family": "iat-student",
        "width": int(width.shape[0]),
        "global_width": int(answers.shape[1]),
        "blocks": len({key.split(".")[1] for key in state_dict if key.startswith("mul_blocks.")}),
        "centred": True,
        "guarded": False,
        "most_gamma": 1.0,
        "folded": "global_refine.2.weight" not in state_dict,
    }


def _infer_msafn(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """:func:`infer_architecture` for MSAFN and its student."""
    blocks = {key.split(".")[1] for key in state_dict if key.startswith("res_blocks.")}
    if not blocks:
        raise ValueError("not the weights of a known architecture ('res_blocks.0.conv1.weight' is missing)")
    return {
        "family": "msafn" if "res_blocks.0.conv3.weight" in state_dict else "light-msafn",
        "width": int(state_dict["conv_init.weight"].shape[0]),
        "blocks": len(blocks),
        "recurrent": any(key.startswith("refinement.") for key in state_dict),
    }


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(p.numel() for p in model.parameters())
