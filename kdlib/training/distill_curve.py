"""Distillation into curve networks of the Zero-DCE family, by a recipe."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from kdlib.evaluation.metrics import capped_psnr
from kdlib.losses.distillation import (
    SAME_DEPTH_LAYERS,
    SHALLOW_STUDENT_LAYERS,
    ContrastiveLoss,
    FeatureMatchingLoss,
    LayerFeatures,
    OutputAlignmentLoss,
    SSIMLoss,
    mean_activation_map,
)
from kdlib.losses.perceptual import PerceptualLoss
from kdlib.losses.zero_reference import ZeroReferenceLoss
from kdlib.models import ZeroDCE, apply_curve
from kdlib.training.answers import Answer, AnswersObjective, Compare
from kdlib.training.config import LoopConfig, LoopSettings
from kdlib.training.initialise import fresh_model
from kdlib.training.pretrain import pretrain
from kdlib.training.preview import preview_of
from kdlib.training.recipes import Recipe
from kdlib.training.state import Run
from kdlib.training.task import Task, at_scale, device_of, digest, split

# Beyond this much memory the teacher's curve maps are not kept: it runs again for every batch.
CACHE_LIMIT = 2 * 1024**3
FEATURE_SIZE = 8


def matching_layers(student: ZeroDCE, teacher: nn.Module) -> tuple[tuple[str, str], ...]:
    """(student layer, teacher layer) pairs for feature matching, from early to deep.

    Raises:
        ValueError: no published pairs for these depths, or a teacher of another family.
    """
    if not isinstance(teacher, ZeroDCE):
        raise ValueError(
            f"the layers of {type(teacher).__name__} match none of a curve network: use beta=0 and contrastive=0"
        )
    if student.depth == teacher.depth == 7:
        return SAME_DEPTH_LAYERS
    if (student.depth, teacher.depth) == (3, 7):
        return SHALLOW_STUDENT_LAYERS
    raise ValueError(
        f"no layer pairs are known for a student of {student.depth} and a teacher of {teacher.depth} layers; use beta=0"
    )


class RecipeObjective(AnswersObjective):
    """The terms of a recipe for a batch: (photos uint8,) or, with a cached teacher, (photos, its answer, features…).

    The answer of a curve network is its map, from which the photo follows; that of any other teacher is the enhanced
    photo.
    """

    def __init__(self, student: ZeroDCE, teacher: nn.Module, recipe: Recipe, augmentation: str) -> None:
        self.curve_teacher = teacher if isinstance(teacher, ZeroDCE) else None
        self.asks_teacher = bool(recipe.alpha or recipe.beta or recipe.contrastive)
        self.perceptual = PerceptualLoss() if recipe.perceptual else None
        pairs = matching_layers(student, teacher) if recipe.beta or recipe.contrastive else ()
        iterations = self.curve_teacher.iterations if self.curve_teacher else student.iterations
        align = OutputAlignmentLoss(recipe.map_weight, student.iterations, iterations)
        task_share = 1 - recipe.alpha - recipe.beta
        terms: dict[str, tuple[float, Compare]] = {}
        # A term without weight is left out: it would cost time and change nothing.
        if recipe.alpha:
            terms["alignment"] = recipe.alpha, lambda s, t, _: recipe.alignment * align(s.output, t.output)
        if recipe.alpha and recipe.ssim:
            ssim = SSIMLoss()
            terms["ssim"] = recipe.alpha, lambda s, t, _: recipe.ssim * ssim(s.output[0], t.output[0])
        if recipe.alpha and (perceptual := self.perceptual):
            terms["perceptual"] = (
                recipe.alpha,
                lambda s, t, _: recipe.perceptual * perceptual(s.output[0], t.output[0]),
            )
        if recipe.beta:
            match = FeatureMatchingLoss(pairs)
            terms["features"] = recipe.beta, lambda s, t, _: match(s.features, t.features)
        if task_share > 1e-9:
            task = ZeroReferenceLoss(recipe.task)
            terms["task"] = (
                task_share,
                lambda s, _, columns: torch.stack(list(task(*s.output, columns[0]).values())).sum(),
            )
        if recipe.contrastive:
            contrast = ContrastiveLoss(pairs)

            def with_past(s: Answer, t: Answer, _: tuple[Tensor, ...]) -> Tensor:
                assert s.past, "the contrastive term needs ema_decay > 0"
                return contrast(s.features, t.features, s.past().features)

            terms["contrastive"] = recipe.contrastive, with_past
        pool = partial(mean_activation_map, size=FEATURE_SIZE)
        super().__init__(teacher, terms, pairs, pool=pool, augmentation=augmentation)

    def prepare(self, column: Tensor, generator: torch.Generator) -> Tensor:
        return super().prepare(column, generator).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def ask_teacher(self, photos: Tensor) -> tuple[Tensor, ...]:
        """The teacher's answer to photos B×3×H×W in [0, 1], and its attention maps: what a cache keeps."""
        with LayerFeatures(self.teacher, self.teacher_layers) as tap:
            answer = self.curve_teacher.curve_map(photos) if self.curve_teacher else self.teacher(photos)[0]
            return answer, *(self.pool(tap.features[layer]) for layer in self.teacher_layers)

    def ask(self, columns: tuple[Tensor, ...]) -> Answer:
        photos, *kept = columns
        if not self.asks_teacher:
            return Answer(None, {})
        answer, *features = kept or self.ask_teacher(photos)
        curve = self.curve_teacher
        output = (apply_curve(photos, answer, curve.iterations), answer) if curve else (answer, None)
        return Answer(output, dict(zip(self.teacher_layers, features, strict=True)))


@torch.no_grad()
def cache_teacher(objective: RecipeObjective, photos: Tensor, device: torch.device) -> Dataset[Any]:
    """Run the teacher once over all photos (N×3×S×S uint8) and keep what the objective needs of it."""
    kept: list[Tensor] = []
    # On a CPU a few photos at a time are several times faster: their features stay in its cache.
    step = 4 if device.type == "cpu" else 64
    for start in range(0, len(photos), step):
        batch = photos[start : start + step]
        small = (batch.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
        answers = objective.ask_teacher(small)
        if not kept:
            kept = [torch.empty(len(photos), *part.shape[1:]) for part in answers]
        for column, part in zip(kept, answers, strict=True):
            column[start : start + step] = part
    return TensorDataset(photos, *kept)


def distill_curve(
    student: str | nn.Module,
    teacher: nn.Module,
    recipe: Recipe,
    photos: Tensor,
    config: LoopConfig,
    output_dir: str | Path | None,
    *,
    augmentation: str,
    network_side: int | None,
    validation_fraction: float,
    identity: Mapping[str, Any],
    stage1: LoopSettings,
) -> Run:
    """Teach a curve network by a recipe; the arguments are those of :func:`~kdlib.training.distill.distill`.

    Args:
        teacher: a frozen copy on the training's device.
        identity: what else must be equal for the run to be continued.
        stage1: further settings of the recipe's stage 1.
    """
    teacher.to(memory_format=torch.channels_last)
    curve = teacher if isinstance(teacher, ZeroDCE) else None
    if network_side is None:  # the student sees what its teacher sees
        network_side = curve.network_side if curve else 0
    pupil = fresh_model(student, photos, network_side)
    objective = RecipeObjective(pupil, teacher, recipe, augmentation)
    if recipe.pretrain_epochs:
        pretrain(
            pupil,
            output_dir=Path(output_dir) / "stage1" if output_dir is not None else None,
            photos=photos,
            epochs=recipe.pretrain_epochs,
            validation_fraction=validation_fraction,
            ema_decay=config.ema_decay if config.averaged else 0.0,
            **stage1,
        )
    device = device_of(config)
    if objective.perceptual:
        objective.perceptual.to(device)
    train, held = split(len(photos), validation_fraction, config.seed)
    channels = 3 * curve.iterations if curve and not curve.shared_map else 3
    cached = objective.asks_teacher and augmentation == "none" and photos[:, :1].numel() * channels * 4 <= CACHE_LIMIT
    task_loss = ZeroReferenceLoss(recipe.task)

    def held_out() -> Iterator[Tensor]:
        for batch in photos[held].split(8):
            yield (batch.to(device).float() / 255).contiguous(memory_format=torch.channels_last)

    def validate(model: nn.Module) -> dict[str, float]:
        scores, losses = [], 0.0
        for small, wanted in zip(held_out(), taught, strict=True):
            enhanced, curve_map = model(small)
            scores += [capped_psnr(have, want) for have, want in zip(enhanced.cpu(), wanted, strict=True)]
            terms = task_loss(enhanced, curve_map, small)
            losses += float(torch.stack(list(terms.values())).sum()) * len(small)
        return {"fidelity": sum(scores) / len(scores), "task_loss": losses / len(held)}

    identity = {**identity, "student": repr(pupil.config), "recipe": repr(recipe), "photos": digest(photos)}
    with at_scale(1, pupil, teacher):
        with torch.no_grad():
            taught = [teacher(small)[0].cpu() for small in held_out()]
        return Task(
            student=pupil,
            teacher=teacher,
            objective=objective,
            data=cache_teacher(objective, photos[train], device) if cached else TensorDataset(photos[train]),
            validation=validate,
            monitored="fidelity",
            description="distilling",
            identity=identity,
            preview=preview_of(photos[held], torch.cat(taught)),
        ).train(config, output_dir)
