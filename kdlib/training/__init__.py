"""The five trainings, and the tasks, settings and loop that they share.

Losses, data sets and networks live in packages of their own; nothing here draws figures, runs experiments, or imports
more of :mod:`kdlib.enhance` than the writing of a photo.
"""

import sys

if "torchmetrics" not in sys.modules:
    # Lightning asks torchmetrics for its version, for a callback that is not used here. Importing it would take longer
    # than all of Lightning, because torchmetrics imports torchvision and SciPy.
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]
    try:
        import lightning_fabric  # noqa: F401
    finally:
        del sys.modules["torchmetrics"]

from kdlib.training.config import LoopConfig
from kdlib.training.distill import distill
from kdlib.training.distill_stages import distill_stages
from kdlib.training.loop import NonFiniteLossError
from kdlib.training.pairs import train_pairs
from kdlib.training.pretrain import pretrain
from kdlib.training.recipes import RECIPES, Recipe, make_recipe
from kdlib.training.state import Run
from kdlib.training.super_resolution import distill_super_resolution
from kdlib.training.task import Task

__all__ = [
    "RECIPES", "LoopConfig", "NonFiniteLossError", "Recipe", "Run", "Task", "distill", "distill_stages",
    "distill_super_resolution", "make_recipe", "pretrain", "train_pairs",
]  # fmt: skip
