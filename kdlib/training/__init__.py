"""Stage 1, stage 2 and the loop that both use."""

from kdlib.training.distill import RECIPES, Recipe, distill, make_recipe
from kdlib.training.loop import LoopConfig, NonFiniteLossError, Run
from kdlib.training.pretrain import pretrain

__all__ = ["RECIPES", "LoopConfig", "NonFiniteLossError", "Recipe", "Run", "distill", "make_recipe", "pretrain"]
