"""Architectures and nothing else."""

from kdlib.models.registry import (
    ARCHITECTURES,
    count_parameters,
    create_model,
    infer_architecture,
    to_published,
)
from kdlib.models.zero_dce import ZeroDCE, apply_curve

__all__ = [
    "ARCHITECTURES",
    "ZeroDCE",
    "apply_curve",
    "count_parameters",
    "create_model",
    "infer_architecture",
    "to_published",
]
