"""Stage 1, stage 2, supervised training on pairs, and the loop that all use."""

from kdlib.training.config import LoopConfig
from kdlib.training.distill import distill
from kdlib.training.loop import NonFiniteLossError, Run
from kdlib.training.pairs import train_pairs
from kdlib.training.pretrain import pretrain
from kdlib.training.recipes import RECIPES, Recipe, make_recipe

__all__ = [
    "RECIPES",
    "LoopConfig",
    "NonFiniteLossError",
    "Recipe",
    "Run",
    "distill",
    "make_recipe",
    "pretrain",
    "train_pairs",
]
