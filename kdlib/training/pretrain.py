"""Stage 1: train a network without a teacher and without ground truth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from kdlib.data.datasets import load_photos
from kdlib.data.degrade import Darkening, darken
from kdlib.losses.zero_reference import ZeroReferenceLoss
from kdlib.models import ZeroDCE, create_model
from kdlib.training.config import LoopConfig
from kdlib.training.initialise import initialise_from_data
from kdlib.training.loop import Run, fit
from kdlib.training.preview import preview_of

GAMMA_RANGE = (0.5, 1.5)
AUGMENTATIONS = ("none", "gamma", "darken")
# Half of the photos of a batch stay as they are, the others lose up to 5.3 stops (a factor of 10^1.6) of light.
TRAINING_DARKENING = Darkening(stops=(0.0, 5.3))


def augment(photos: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Vary the exposure of a batch and flip it at random.

    Args:
        photos: B×3×H×W in [0, 1].
        kind: ``none`` (photos as they are), ``gamma`` (each photo to the power of a uniform draw from [0.5, 1.5]) or
            ``darken``
            (every other photo physically, up to 5.3 stops).
        generator: on the photos' device.
    """
    if kind == "none":
        return photos
    if torch.rand((), generator=generator, device=photos.device) < 0.5:
        photos = photos.flip(-1)
    if kind == "gamma":
        low, high = GAMMA_RANGE
        draw = torch.rand((len(photos), 1, 1, 1), generator=generator, device=photos.device)
        return photos ** (low + (high - low) * draw)
    if kind != "darken":
        raise ValueError(f"augmentation {kind!r} is unknown; choose from {', '.join(AUGMENTATIONS)}")
    photos = photos.clone()
    photos[::2] = darken(photos[::2], TRAINING_DARKENING, generator=generator)
    return photos


def digest(*tensors: Tensor) -> str:
    """A short fingerprint of some tensors, to tell whether a run goes on with the same ones."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().numpy().data)
    return total.hexdigest()[:16]


def split(count: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Shuffle ``count`` indices and cut them into training and validation; the latter has at least one."""
    if count < 2:
        raise ValueError(f"training needs at least 2 photos, one of them for validation; there is {count}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = min(count - 1, max(1, round(count * fraction)))
    return order[held:], order[:held]


def fresh_model(model: str | ZeroDCE, photos: Tensor, network_side: int = 0) -> ZeroDCE:
    """A model as it is, or one by name, initialised for the photos (N×3×S×S uint8) that it will learn from.

    Raises:
        ValueError: unknown name or argument, or a model that is no curve network.
    """
    limit = {"network_side": network_side} if network_side else {}  # which other families do not know
    network: ZeroDCE = create_model(model, **limit) if isinstance(model, str) else model
    if not isinstance(network, ZeroDCE):
        raise ValueError(f"{model!r} is no curve network of the Zero-DCE family; train it on pairs")
    if network is model:
        return network
    sample = photos[:: max(1, len(photos) // 64)][:64]
    initialise_from_data(network, sample.float() / 255)
    return network


class PretrainObjective:
    """The zero-reference loss of a batch of photos (a 1-tuple of B×3×H×W, uint8)."""

    def __init__(self, loss: ZeroReferenceLoss, augmentation: str) -> None:
        if augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation {augmentation!r} is unknown; choose from {', '.join(AUGMENTATIONS)}")
        self.loss, self.augmentation = loss, augmentation

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor], average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        photos = augment(batch[0].float() / 255, self.augmentation, generator)
        photos = photos.contiguous(memory_format=torch.channels_last)
        enhanced, curve_map = model(photos)
        return self.loss(enhanced, curve_map, photos)


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
    **settings: Any,
) -> Run:
    """Stage 1: train on dark photos alone, with losses that need no ground truth.

    Args:
        model: a name, or a model, which is trained in place.
        data_dir: a folder of photos, or None for the embedded ones.
        output_dir: gets ``history.csv``, checkpoints and previews; None writes nothing.
        photos: N×3×S×S uint8 instead of ``data_dir``.
        objective: ``multi-region`` (default), ``zero-dce++``, ``zero-dce``, ``zero-dce-absolute``,
            ``zero-dce-official``, ``global``, or loss weights by term.
        exposure_target: the target E of the exposure control loss (patch by patch or global), where the objective has
            one.
        augmentation: ``gamma``, ``darken`` or ``none``; see :func:`augment`.
        size: side of the training images, which the network sees at full resolution.
        network_side: of a model given by name: it sees a copy of at most this many pixels a side, in training and
            ever after; 0 sets no limit.
        limit: use at most so many photos.
        validation_fraction: share of the photos kept back to choose the best epoch by the objective.
        epochs, settings: see :class:`~kdlib.training.config.LoopConfig`.

    Raises:
        ValueError: unknown names, or values out of range; the message says which.
        NonFiniteLossError, OSError: see :func:`~kdlib.training.loop.fit`.
    """
    config = LoopConfig(epochs=epochs, **settings)
    torch.manual_seed(config.seed)
    loss = ZeroReferenceLoss(objective, exposure_target)
    step = PretrainObjective(loss, augmentation)
    if photos is None:
        photos = load_photos(data_dir, size=size, limit=limit, seed=config.seed).photos
    network = fresh_model(model, photos, network_side)
    train, held = split(len(photos), validation_fraction, config.seed)

    def validate(model: nn.Module) -> dict[str, float]:
        # The same augmented photos after every epoch, so that epochs compare.
        device = next(model.parameters()).device
        generator = torch.Generator(device=device).manual_seed(config.seed)
        sums: dict[str, float] = {}
        for batch in photos[held].split(64):
            terms = step(model, (batch.to(device),), None, generator)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term) * len(batch) / len(held)
        return {"validation_objective": -sum(sums.values())}

    with at_scale(1, network):
        return fit(
            network,
            step,
            TensorDataset(photos[train]),
            validate,
            "validation_objective",
            config,
            output_dir,
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
        )


@contextmanager
def at_scale(scale: int, *models: ZeroDCE) -> Iterator[None]:
    """Within the block the models see photos at 1/scale; afterwards their own ``scale_factor`` returns."""
    saved = [model.scale_factor for model in models]
    for model in models:
        model.scale_factor = scale
    try:
        yield
    finally:
        for model, own in zip(models, saved, strict=True):
            model.scale_factor = own
