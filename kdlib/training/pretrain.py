"""Stage 1: train a network without a teacher and without ground truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from kdlib.checks import check_choice
from kdlib.data.datasets import load_photos
from kdlib.losses.zero_reference import ZeroReferenceLoss
from kdlib.models import ZeroDCE
from kdlib.training.augmentation import AUGMENTATIONS, augment
from kdlib.training.config import LoopConfig, LoopSettings
from kdlib.training.initialise import fresh_model
from kdlib.training.preview import preview_of
from kdlib.training.state import Run
from kdlib.training.task import Task, at_scale, digest, split, training, validate_objective


class PretrainObjective:
    """The zero-reference loss of a batch of photos (a 1-tuple of B×3×H×W, uint8)."""

    def __init__(self, loss: ZeroReferenceLoss, augmentation: str) -> None:
        check_choice("augmentation", augmentation, AUGMENTATIONS)
        self.loss, self.augmentation = loss, augmentation

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor], average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        photos = augment(batch[0].float() / 255, self.augmentation, generator)
        photos = photos.contiguous(memory_format=torch.channels_last)
        enhanced, curve_map = model(photos)
        return self.loss(enhanced, curve_map, photos)


@training
def pretrain(
    model: str | ZeroDCE = "student-565",
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    photos: Tensor | None = None,
    objective: str | Mapping[str, float] = "multi-region",
    exposure_target: float = 0.6,
    augmentation: str = "gamma",
    size: int = 64,
    network_side: int = 0,
    limit: int | None = None,
    validation_fraction: float = 0.1,
    epochs: int = 40,
    ema_decay: float = 0.0,
    **settings: Unpack[LoopSettings],
) -> Run:
    """Stage 1: train on dark photos alone, with losses that need no ground truth.

    Args:
        model: a name, or a model, which is trained in place.
        data_dir: a folder of photos, or None for the embedded ones.
        output_dir: gets ``history.csv``, checkpoints and previews; None writes nothing.
        photos: N×3×S×S uint8 instead of ``data_dir``.
        objective: ``multi-region`` (default), ``zero-dce++``, ``zero-dce``, ``zero-dce-absolute``,
            ``zero-dce-official``, ``global``, or loss weights by term.
        exposure_target: the target E of the exposure control loss (by patches or global), where the objective has one.
        augmentation: ``gamma``, ``darken`` or ``none``; see :func:`~kdlib.training.augmentation.augment`.
        size: side of the training images, which the network sees at full resolution.
        network_side: for a model given by name: it sees a copy of at most this many pixels a side, in training and
            ever after; 0 sets no limit.
        limit: use at most so many photos.
        validation_fraction: share of the photos that is held out; the objective on them selects the best epoch.
        epochs, ema_decay, settings: see :class:`~kdlib.training.config.LoopConfig`.

    Returns:
        The run; its history has ``validation_objective``, minus the objective on the held-out photos.

    Raises:
        ValueError: unknown names, or values out of range; the message says which.
        TypeError, NonFiniteLossError, OSError: see :func:`~kdlib.training.task.training`.
    """
    config = LoopConfig(epochs=epochs, ema_decay=ema_decay, **settings)
    loss = ZeroReferenceLoss(objective, exposure_target)
    step = PretrainObjective(loss, augmentation)
    if photos is None:
        photos = load_photos(data_dir, size=size, limit=limit, seed=config.seed).photos
    network = fresh_model(model, photos, network_side)
    train, held = split(len(photos), validation_fraction, config.seed)
    with at_scale(1, network):
        return Task(
            student=network,
            objective=step,
            data=TensorDataset(photos[train]),
            validation=validate_objective(step, TensorDataset(photos), held, config.seed),
            monitored="validation_objective",
            description="stage 1",
            identity={
                "model": repr(network.config),
                "objective": repr(sorted(loss.weights.items())),
                "exposure_target": exposure_target,
                "augmentation": augmentation,
                "photos": digest(photos),
                "validation_fraction": validation_fraction,
            },
            preview=preview_of(photos[held]),
        ).train(config, output_dir)
