"""Architectures and nothing else."""

from kdlib.models.glance import GlanceNet
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

__all__ = [
    "ARCHITECTURES",
    "GlanceNet",
    "Model",
    "ZeroDCE",
    "apply_curve",
    "build_model",
    "count_parameters",
    "create_model",
    "infer_architecture",
    "to_published",
]
