"""Stage 2: teach a student to do what its teacher does."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from kdlib.data.datasets import load_photos
from kdlib.evaluation.metrics import capped_psnr
from kdlib.losses.distillation import (
    SAME_DEPTH_LAYERS,
    SHALLOW_STUDENT_LAYERS,
    ContrastiveLoss,
    FeatureMatchingLoss,
    LayerFeatures,
    OutputAlignmentLoss,
    SSIMLoss,
    attention_maps,
)
from kdlib.losses.perceptual import PerceptualLoss
from kdlib.losses.zero_reference import ZeroReferenceLoss
from kdlib.models import ZeroDCE, apply_curve
from kdlib.training.checkpoint import alone_in_its_folder
from kdlib.training.config import LoopConfig
from kdlib.training.loop import Run, fit
from kdlib.training.pretrain import AUGMENTATIONS, at_scale, augment, digest, fresh_model, pretrain, split
from kdlib.training.preview import preview_of
from kdlib.training.processes import make_fabric
from kdlib.training.recipes import Recipe, make_recipe
from kdlib.weights import resolve_model

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


class DistillationObjective:
    """The distillation loss of a batch: (photos uint8,) or, with a cached teacher, (photos, its answer, features…).

    A curve network's answer is its map, from which the photo follows; any other teacher's is the enhanced photo.
    """

    def __init__(self, student: ZeroDCE, teacher: nn.Module, recipe: Recipe, augmentation: str) -> None:
        self.student, self.teacher, self.recipe, self.augmentation = student, teacher, recipe, augmentation
        self.with_features = recipe.beta > 0 or recipe.contrastive > 0
        pairs = matching_layers(student, teacher) if self.with_features else ()
        self.student_layers = [s for s, _ in pairs]
        self.teacher_layers = [t for _, t in pairs]
        iterations = teacher.iterations if isinstance(teacher, ZeroDCE) else student.iterations
        self.align = OutputAlignmentLoss(recipe.map_weight, student.iterations, iterations)
        self.match = FeatureMatchingLoss(pairs) if recipe.beta else None
        self.contrast = ContrastiveLoss(pairs) if recipe.contrastive else None
        self.ssim = SSIMLoss() if recipe.ssim else None
        self.perceptual = PerceptualLoss() if recipe.perceptual else None
        task_share = 1 - recipe.alpha - recipe.beta
        self.task = ZeroReferenceLoss(recipe.task) if task_share > 1e-9 else None

    def to(self, device: torch.device | str) -> DistillationObjective:
        """Move everything but the student."""
        self.teacher.to(device)
        if self.perceptual:
            self.perceptual.to(device)
        return self

    @torch.no_grad()
    def ask_teacher(self, photos: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The teacher's answer and attention maps for photos B×3×H×W in [0, 1]."""
        with LayerFeatures(self.teacher, self.teacher_layers) as tap:
            teacher = self.teacher
            answer = teacher.curve_map(photos) if isinstance(teacher, ZeroDCE) else teacher(photos)[0]
            return answer, attention_maps(tap.features, FEATURE_SIZE)

    def taught(self, photos: Tensor, answer: Tensor) -> tuple[Tensor, Tensor | None]:
        """The enhanced photos and, of a curve network, the map that an answer stands for."""
        if isinstance(self.teacher, ZeroDCE):
            return apply_curve(photos, answer, self.teacher.iterations), answer
        return answer, None

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor, ...], average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        recipe = self.recipe
        photos = batch[0].float() / 255
        if len(batch) == 1:
            photos = augment(photos, self.augmentation, generator)
        photos = photos.contiguous(memory_format=torch.channels_last)
        if len(batch) == 1:
            answer, teacher_features = self.ask_teacher(photos)
        else:
            answer, teacher_features = batch[1], dict(zip(self.teacher_layers, batch[2:], strict=True))
        teacher_enhanced, teacher_map = self.taught(photos, answer)

        with LayerFeatures(self.student, self.student_layers) as tap:
            enhanced, curve_map = model(photos)
            features = attention_maps(tap.features, FEATURE_SIZE)

        terms = {"alignment": recipe.alignment * self.align((enhanced, curve_map), (teacher_enhanced, teacher_map))}
        if self.ssim:
            terms["ssim"] = recipe.ssim * self.ssim(enhanced, teacher_enhanced)
        if self.perceptual:
            terms["perceptual"] = recipe.perceptual * self.perceptual(enhanced, teacher_enhanced)
        terms = {name: recipe.alpha * term for name, term in terms.items()}
        if self.match:
            terms["features"] = recipe.beta * self.match(features, teacher_features)
        if self.task:
            share = 1 - recipe.alpha - recipe.beta
            terms["task"] = share * torch.stack(list(self.task(enhanced, curve_map, photos).values())).sum()
        if self.contrast:
            assert isinstance(average, torch.optim.swa_utils.AveragedModel), "the contrastive term needs ema_decay > 0"
            with torch.no_grad(), LayerFeatures(average.module, self.student_layers) as past:
                average(photos)
                past_features = attention_maps(past.features, FEATURE_SIZE)
            terms["contrastive"] = recipe.contrastive * self.contrast(features, teacher_features, past_features)
        return terms


def darken_once(photos: Tensor, seed: int) -> Tensor:
    """Augment the photos (N×3×S×S uint8) as :func:`~kdlib.training.pretrain.augment` does, but once and for all.

    The teacher's answers can then be cached although it sees every other photo darkened.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = [augment(batch.float() / 255, "darken", generator) for batch in photos.split(64)]
    return torch.cat([part.mul(255).round().byte() for part in parts])


@torch.no_grad()
def cache_teacher(objective: DistillationObjective, photos: Tensor, device: torch.device) -> Dataset[Any]:
    """Run the teacher once over all photos (N×3×S×S uint8) and keep what the objective needs of it."""
    kept: list[Tensor] = []
    # On a CPU a few photos at a time are several times faster: their features stay in its cache.
    step = 4 if device.type == "cpu" else 64
    for start in range(0, len(photos), step):
        batch = photos[start : start + step]
        small = (batch.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
        answer, features = objective.ask_teacher(small)
        answers = (answer, *(features[layer] for layer in objective.teacher_layers))
        if not kept:
            kept = [torch.empty(len(photos), *part.shape[1:]) for part in answers]
        for column, part in zip(kept, answers, strict=True):
            column[start : start + step] = part
    return TensorDataset(photos, *kept)


@alone_in_its_folder
def distill(
    student: str | ZeroDCE = "student-565",
    teacher: str | Path | nn.Module = "zero-dce++",
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    photos: Tensor | None = None,
    recipe: str | Recipe = "one-stage",
    augmentation: str = "none",
    size: int = 64,
    network_side: int | None = None,
    limit: int | None = None,
    validation_fraction: float = 0.1,
    epochs: int = 24,
    ema_decay: float = 0.999,
    alpha: float | None = None,
    beta: float | None = None,
    perceptual: float | None = None,
    pretrain_epochs: int | None = None,
    **settings: Any,
) -> Run:
    """Stage 2: train a student to repeat its frozen teacher.

    Args:
        student: a name, or a model, which is trained in place.
        teacher: a shipped name, the path of a weights file, or a model, of any family. One that is no curve network is
            followed by its photos alone.
        data_dir: a folder of photos, or None for the embedded ones.
        output_dir: gets ``history.csv``, checkpoints and previews (of stage 1 in ``stage1/``); None writes nothing.
        photos: N×3×S×S uint8 instead of ``data_dir``.
        recipe: ``one-stage``, ``two-stage`` or a :class:`Recipe`.
        augmentation: with ``none`` the teacher runs once per photo and is cached; ``gamma`` and ``darken`` vary the
            photos, and the
            teacher runs for every batch.
        size: side of the training images, which both networks see at full resolution, but for ``network_side``.
        network_side: of a student given by name: it sees a copy of at most this many pixels a side, in training and
            ever after; 0 sets no limit, None takes the teacher's own.
        limit: use at most so many photos.
        validation_fraction: share of the photos kept back; the epoch with the highest fidelity on them wins.
        alpha, beta, perceptual, pretrain_epochs: replace the recipe's own.
        epochs, ema_decay, settings: see :class:`~kdlib.training.config.LoopConfig`.

    Returns:
        The run; its history has ``fidelity`` (PSNR to the teacher in dB) and ``task_loss`` on the validation photos.

    Raises:
        ValueError: unknown names, or values out of range; the message says which.
        NonFiniteLossError, OSError: see :func:`~kdlib.training.loop.fit`.
    """
    chosen = make_recipe(recipe, alpha=alpha, beta=beta, perceptual=perceptual, pretrain_epochs=pretrain_epochs)
    allowed = (*AUGMENTATIONS, "darken-once")
    if augmentation not in allowed:
        raise ValueError(f"augmentation {augmentation!r} is unknown; choose from {', '.join(allowed)}")
    if chosen.contrastive and not ema_decay:
        raise ValueError("the contrastive term compares with the student's average: it needs ema_decay above 0")
    config = LoopConfig(
        epochs=epochs, ema_decay=ema_decay if chosen.contrastive or settings.get("averaged") else 0.0, **settings
    )
    torch.manual_seed(config.seed)
    master = resolve_model(teacher)
    master = copy.deepcopy(master).eval().requires_grad_(False)  # the caller's stays as it is
    master.to(memory_format=torch.channels_last)
    if photos is None:
        photos = load_photos(data_dir, size=size, limit=limit, seed=config.seed).photos
    requested = augmentation
    if augmentation == "darken-once":
        photos, augmentation = darken_once(photos, config.seed), "none"
    if network_side is None:  # the student sees what its teacher sees
        network_side = master.network_side if isinstance(master, ZeroDCE) else 0
    pupil = fresh_model(student, photos, network_side)
    objective = DistillationObjective(pupil, master, chosen, augmentation)
    if chosen.pretrain_epochs:
        stage1 = {name: settings[name] for name in settings if name not in {"resume"}}
        pretrain(
            pupil,
            output_dir=Path(output_dir) / "stage1" if output_dir is not None else None,
            photos=photos,
            epochs=chosen.pretrain_epochs,
            validation_fraction=validation_fraction,
            resume=config.resume,
            **stage1,
        )

    device = make_fabric(config.device, config.precision).device
    objective.to(device)
    train, held = split(len(photos), validation_fraction, config.seed)
    curves = [network for network in (pupil, master) if isinstance(network, ZeroDCE)]
    channels = 3 * master.iterations if isinstance(master, ZeroDCE) and not master.shared_map else 3
    cached = augmentation == "none" and photos[:, :1].numel() * channels * 4 <= CACHE_LIMIT
    task = ZeroReferenceLoss(chosen.task)

    def held_out() -> Iterator[Tensor]:
        for batch in photos[held].split(8):
            yield (batch.to(device).float() / 255).contiguous(memory_format=torch.channels_last)

    with torch.no_grad(), at_scale(1, *curves):
        taught = [master(small)[0].cpu() for small in held_out()]

    def validate(model: nn.Module) -> dict[str, float]:
        scores, losses = [], 0.0
        for small, wanted in zip(held_out(), taught, strict=True):
            enhanced, curve_map = model(small)
            scores += [capped_psnr(have, want) for have, want in zip(enhanced.cpu(), wanted, strict=True)]
            terms = task(enhanced, curve_map, small)
            losses += float(torch.stack(list(terms.values())).sum()) * len(small)
        return {"fidelity": sum(scores) / len(scores), "task_loss": losses / len(held)}

    identity = {
        "student": repr(pupil.config),
        "teacher": digest(*master.state_dict().values()),
        "recipe": repr(chosen),
        "augmentation": requested,
        "photos": digest(photos),
        "validation_fraction": validation_fraction,
    }
    with at_scale(1, *curves):
        data = cache_teacher(objective, photos[train], device) if cached else TensorDataset(photos[train])
        return fit(
            pupil,
            objective,
            data,
            validate,
            "fidelity",
            config,
            output_dir,
            description="distilling",
            identity=identity,
            preview=preview_of(photos[held], torch.cat(taught)),
        )
