"""Architectures and nothing else."""

from kdlib.models.glance import GlanceNet
from kdlib.models.iat import IAT
from kdlib.models.iat_student import IATStudent
from kdlib.models.msafn import MSAFN, LightMSAFN
from kdlib.models.registry import (
    ARCHITECTURES,
    Model,
    build_model,
    count_parameters,
    create_model,
    infer_architecture,
    to_published,
)
from kdlib.models.zero_dce import ZeroDCE, apply_curve
from kdlib.stages import Stages

__all__ = [
    "ARCHITECTURES",
    "IAT",
    "MSAFN",
    "GlanceNet",
    "IATStudent",
    "LightMSAFN",
    "Model",
    "Stages",
    "ZeroDCE",
    "apply_curve",
    "build_model",
    "count_parameters",
    "create_model",
    "infer_architecture",
    "to_published",
]
