"""Supervised training on pairs of a dark photo and its target: synthetic pairs, or real ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from kdlib.checks import check_choice
from kdlib.data.datasets import load_photos
from kdlib.data.degrade import Darkening, darken
from kdlib.data.pairs import load_pairs, split_scenes, well_exposed
from kdlib.data.samples import sample_crops
from kdlib.losses import IlluminationSmoothnessLoss, SSIMLoss
from kdlib.models import GlanceNet, ZeroDCE, create_model
from kdlib.models.glance import noise_of
from kdlib.training.checkpoint import alone_in_its_folder
from kdlib.training.config import LoopConfig, LoopSettings
from kdlib.training.initialise import fresh_model
from kdlib.training.loop import Objective
from kdlib.training.preview import preview_of
from kdlib.training.state import Run
from kdlib.training.task import Task, at_scale, digest, training, validate_pictures

SOURCES = ("self-made", "real")
# From daylight to a hundredth of the light; one photo in four stays as it is, so that daylight photos are preserved.
PAIR_DARKENING = Darkening(stops=(0.0, 7.0))
KEPT_BRIGHT = 0.25
# For the validation photos of self-made pairs, each darkened once; their exposures are spread evenly.
VALIDATION_DARKENING = Darkening(stops=(3.0, 7.0))
CROP = 96
SSIM_WEIGHT = 0.1


def log_error(enhanced: Tensor, truth: Tensor) -> Tensor:
    """A tenth of the mean logarithm of each photo's squared error: PSNR, turned into a loss.

    Averaging squared errors instead would let the few photos whose exposure cannot be told from their content outweigh
    all others. Adding 10⁻³ (30 dB) inside the logarithm reduces the gradient of photos that are right already.

    Args:
        enhanced, truth: B×3×H×W in [0, 1].
    """
    return 0.1 * torch.log((enhanced - truth).square().mean(dim=(1, 2, 3)) + 1e-3).mean()


class PairSource:
    """Turns a batch of the training set into dark photos and targets, B×3×S×S in [0, 1]."""

    def __init__(self, source: str) -> None:
        check_choice("pairs", source, SOURCES)
        self.source = source

    def __call__(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``batch`` is (truth,) or (dark, truth), each B×3×S×S uint8."""
        truth = batch[-1].float() / 255
        if self.source == "real":
            dark = batch[0].float() / 255
        else:
            bright = round(len(truth) * KEPT_BRIGHT)
            dark = torch.cat([truth[:bright], darken(truth[bright:], PAIR_DARKENING, generator=generator)])
        if torch.rand((), generator=generator, device=truth.device) < 0.5:
            dark, truth = dark.flip(-1), truth.flip(-1)
        return dark.contiguous(memory_format=torch.channels_last), truth


def zoom(dark: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For every other batch, crop to a random window of 5/8 to all of the photos' side: new compositions of a scene."""
    side = truth.shape[-1]
    draws = torch.rand(4, generator=generator, device=truth.device).tolist()
    if draws[0] < 0.5:
        return dark, truth
    kept = int(side * (0.625 + 0.375 * draws[1]))
    top, left = int(draws[2] * (side - kept)), int(draws[3] * (side - kept))
    window = (..., slice(top, top + kept), slice(left, left + kept))
    return dark[window], truth[window]


class CurveObjective:
    """First part: the curve alone. The map of a Zero-DCE network is also smoothed."""

    def __init__(self, source: PairSource, smoothness: float) -> None:
        self.source, self.smoothness = source, smoothness
        self.total_variation = IlluminationSmoothnessLoss()

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor, ...], average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        dark, truth = self.source(batch, generator)
        if isinstance(model, GlanceNet):
            dark, truth = zoom(dark, truth, generator)
            return {"error": log_error(model.enhance(dark, model.curve_map(dark)), truth)}
        enhanced, curve_map = model(dark)
        return {"error": log_error(enhanced, truth), "smoothness": self.smoothness * self.total_variation(curve_map)}


class SmoothingObjective:
    """Second part, for :class:`GlanceNet`: how much noise to tolerate, judged on crops, with a fixed curve."""

    def __init__(self, source: PairSource) -> None:
        self.source, self.ssim = source, SSIMLoss()

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor, ...], average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        assert isinstance(model, GlanceNet)
        dark, truth = self.source(batch, generator)
        noise, curve_map = noise_of(dark), model.curve_map(dark)
        room = max(0, dark.shape[-1] - CROP)
        top, left = (torch.rand(2, generator=generator, device=dark.device) * (room + 1)).int().tolist()
        window = (..., slice(top, top + CROP), slice(left, left + CROP))
        enhanced = model.enhance(dark[window], curve_map[window], noise)
        return {"error": log_error(enhanced, truth[window]), "ssim": SSIM_WEIGHT * self.ssim(enhanced, truth[window])}


@contextmanager
def fixed_curve(model: GlanceNet) -> Iterator[None]:
    """Within the block only the smoothing is trainable: the filter's tolerances, and the output that scales them for
    each photo."""
    model.requires_grad_(False)
    model.smoothing.requires_grad_(True)
    model.globals.requires_grad_(True)
    hooks = [
        parameter.register_hook(lambda gradient: torch.cat([torch.zeros_like(gradient[:6]), gradient[6:]]))
        for parameter in model.globals.parameters()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        model.requires_grad_(True)


def load_training_set(
    source: str, data_dir: str | Path | None, size: int, limit: int | None, seed: int, *, judged_at: int | None = None
) -> tuple[Tensor, ...]:
    """(truth,) of self-made or (dark, truth) of real pairs, each N×3×S×S uint8.

    Args:
        judged_at: side in pixels at which photos are judged to be well exposed, ``size`` unless given. Sets of
            different sizes hold the same photos only if they were judged at the same side.

    Raises:
        ValueError: unknown source, no well-exposed photo in the folder, or no real pairs.
    """
    check_choice("pairs", source, SOURCES)
    if source == "real":
        if data_dir is None:
            raise ValueError("real pairs come from a folder with low/ and high/: give data_dir, or use self-made pairs")
        return load_pairs(data_dir, size=size, limit=limit)

    def photos_of(side: int) -> Tensor:
        if data_dir is None:
            return sample_crops(limit or 1024, side, seed, darkened=False)
        return load_photos(data_dir, size=side, limit=limit, seed=seed).photos

    photos = photos_of(size)
    return targets(photos, photos if judged_at in (None, size) else photos_of(judged_at))


def targets(photos: Tensor, judged: Tensor | None = None) -> tuple[Tensor]:
    """The well-exposed of N×3×S×S uint8 photos, as the one column of a set of self-made pairs.

    Args:
        judged: the same photos at the size at which they are judged, if that differs.

    Raises:
        ValueError: fewer than two are well exposed.
    """
    chosen = photos[well_exposed(photos if judged is None else judged)]
    if len(chosen) < 2:
        raise ValueError(
            "training needs at least 2 well-exposed photos as targets (mean brightness 0.25 to 0.65, hardly anything "
            f"blown out); {len(chosen)} of {len(photos)} are"
        )
    return (chosen,)


@training
@alone_in_its_folder
def train_pairs(
    model: str | ZeroDCE | GlanceNet = "glance-650",
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    photos: Tensor | None = None,
    pairs: str = "self-made",
    size: int = 128,
    network_side: int = 0,
    limit: int | None = None,
    validation_fraction: float = 0.1,
    smoothness: float = 0.1,
    epochs: int = 60,
    smoothing_epochs: int = 6,
    ema_decay: float = 0.99,
    **settings: Unpack[LoopSettings],
) -> Run:
    """Train on pairs of a dark photo and its target.

    Args:
        model: a name, or a model, which is trained in place.
        data_dir: a folder of photos, or one with ``low/`` and ``high/`` for real pairs; None for the embedded photos.
        output_dir: gets ``history.csv`` and checkpoints (of the second part in ``smoothing/``); None writes nothing.
        photos: N×3×S×S uint8 instead of ``data_dir``, for self-made pairs and a Zero-DCE network; the well-exposed ones
            are used.
        pairs: ``self-made``: synthetic pairs, well-exposed photos darkened physically by up to seven stops, which are
            their own targets; ``real``: photos that were taken twice.
        size: side of the training images; the second part, which learns about noise, takes twice as much.
        network_side: for a Zero-DCE network given by name, see :func:`~kdlib.training.pretrain.pretrain`.
        limit: use at most so many photos.
        validation_fraction: share of the photos, in whole scenes, that is held out to select the best epoch.
        smoothness: weight of a Zero-DCE network's illumination smoothness.
        epochs: of the first part, which trains the curve.
        smoothing_epochs: of the second part, which trains a ``GlanceNet``'s smoothing alone.
        ema_decay: the result is the moving average of the weights with this decay, unless ``averaged=False``.
        settings: see :class:`~kdlib.training.config.LoopConfig`.

    Returns:
        The last part's run; its history has ``validation_psnr`` on the held-out photos, in dB.

    Raises:
        ValueError: unknown names, or values out of range; the message says which.
        TypeError, NonFiniteLossError, OSError: see :func:`~kdlib.training.task.training`.
    """
    settings.setdefault("averaged", True)
    config = LoopConfig(epochs=epochs, ema_decay=ema_decay, **settings)
    source = PairSource(pairs)
    data = load_training_set(pairs, data_dir, size, limit, config.seed) if photos is None else targets(photos)
    network: Any = model
    if isinstance(model, str) and isinstance(created := create_model(model), GlanceNet):
        network = created
    if not isinstance(network, GlanceNet):
        dark = source((data[-1][:: max(1, len(data[-1]) // 64)],), torch.Generator().manual_seed(config.seed))[0]
        network = fresh_model(network, dark.mul(255).byte(), network_side)
    train, held = split_scenes(data[-1], validation_fraction, config.seed)  # for both parts, whatever their size

    def part(objective: Objective, data: tuple[Tensor, ...], description: str) -> Task:
        generator = torch.Generator().manual_seed(config.seed)
        truth = data[-1][held].float() / 255
        dark = (
            data[0][held].float() / 255 if pairs == "real" else darken(truth, VALIDATION_DARKENING, generator=generator)
        )

        return Task(
            student=network,
            objective=objective,
            data=TensorDataset(*(column[train] for column in data)),
            validation=validate_pictures(lambda model, photos: model(photos)[0], dark, truth, 8),
            monitored="validation_psnr",
            description=description,
            identity={
                "model": repr(network.config),
                "pairs": pairs,
                "smoothness": smoothness,
                "photos": digest(*data),
                "validation_fraction": validation_fraction,
            },
            preview=preview_of(dark, truth),
        )

    with at_scale(1, network):
        run = part(CurveObjective(source, smoothness), data, "curve").train(config, output_dir)
    if not isinstance(network, GlanceNet) or smoothing_epochs == 0:
        return run
    larger = load_training_set(pairs, data_dir, 2 * size, limit, config.seed, judged_at=size)
    config = replace(config, epochs=smoothing_epochs, weight_decay=0.0)
    with fixed_curve(network):
        smoothed = part(SmoothingObjective(source), larger, "smoothing").train(
            config, None if output_dir is None else Path(output_dir) / "smoothing"
        )
    smoothed.seconds += run.seconds
    return smoothed
