"""Weights of the terms of the distillation loss, and the recipes: the two published ones, and that of the shipped
students."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from kdlib.checks import check_choice, check_number, unknown_name
from kdlib.losses.zero_reference import MULTI_REGION_WEIGHTS, ZERO_DCE_PP_WEIGHTS


@dataclass(frozen=True)
class Recipe:
    """The weights of the terms of the distillation loss.

    total = α · distillation + β · features + (1 − α − β) · task + contrastive, where
    distillation = alignment + ssim · SSIM loss + perceptual · perceptual loss.

    Attributes:
        alpha, beta: α and β, each in [0, 1] and together at most 1.
        alignment: factor on the output alignment loss, which is about 10⁻³ where the task loss is about 1.
        map_weight: weight of the curve map's error within output alignment.
        ssim, perceptual: weights of these terms within the distillation term; 0 leaves them out.
        contrastive: weight of the contrastive term; 0 leaves it out.
        task: weights of the zero-reference losses that make up the task term.
        pretrain_epochs: epochs of stage 1, before distillation.
    """

    alpha: float = 0.7
    beta: float = 0.2
    alignment: float = 100.0
    map_weight: float = 0.1
    ssim: float = 0.0
    perceptual: float = 0.0
    contrastive: float = 0.0
    task: Mapping[str, float] = field(default_factory=lambda: ZERO_DCE_PP_WEIGHTS)
    pretrain_epochs: int = 0

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            check_number(name, getattr(self, name), 0, 1)
        if self.alpha + self.beta > 1 + 1e-9:
            raise ValueError(
                f"alpha + beta must not exceed 1, because 1 − alpha − beta is the task loss's share; "
                f"{self.alpha} + {self.beta} = {self.alpha + self.beta:g}"
            )
        for name in ("alignment", "map_weight", "ssim", "perceptual", "contrastive"):
            check_number(name, getattr(self, name))
        check_number("pretrain_epochs", self.pretrain_epochs, whole=True)


RECIPES = {
    "alignment": Recipe(alpha=1.0, beta=0.0),  # output alignment alone
    "one-stage": Recipe(),
    "two-stage": Recipe(
        alpha=0.35,
        beta=0.1,
        contrastive=0.05,
        task={**MULTI_REGION_WEIGHTS, "spatial": 1.5, "colour": 1.2, "saturation": 0.3},
        pretrain_epochs=40,
    ),
}


def make_recipe(recipe: str | Recipe = "one-stage", **overrides: Any) -> Recipe:
    """A recipe, by name or as it is, with single fields replaced (None keeps the recipe's own).

    Raises:
        ValueError: unknown name or field, or a value out of range.
    """
    if isinstance(recipe, str):
        check_choice("recipe", recipe, RECIPES)
        recipe = RECIPES[recipe]
    known = [f.name for f in fields(Recipe)]
    for name in overrides:
        if name not in known:
            raise ValueError(unknown_name("field", name, known, "a recipe has"))
    return replace(recipe, **{name: value for name, value in overrides.items() if value is not None})
