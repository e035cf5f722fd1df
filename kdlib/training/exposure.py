"""Training of networks that correct exposure in both directions, on photos of a virtual camera, and their distillation.

The first part trains the gains on whole photos without regard to noise. The second one trains what depends on noise:
the network should do to a noisy photo what it does to the same photo without noise.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from kdlib.checks import check_number
from kdlib.data.exposures import Exposures, VirtualCamera, bracketed, join, licensed_photos, views_of_light
from kdlib.losses import SSIMLoss
from kdlib.models import create_model
from kdlib.models.glance import noise_of
from kdlib.models.grid import GridNet, within_white
from kdlib.training.checkpoint import alone_in_its_folder
from kdlib.training.config import LoopConfig, LoopSettings
from kdlib.training.loop import Objective
from kdlib.training.state import Run
from kdlib.training.task import Task, digest, frozen, training, validate_pictures

# The embedded light: a few panoramas that anyone may use for anything.
EMBEDDED = Path(__file__).resolve().parents[2] / "data" / "open_light"
CAMERA = VirtualCamera()
_BATCH = 64
# Added to the squared error within the logarithm, 35 dB: photos that are right already count less.
_SMALL_ERROR = 3e-4
_SSIM_WEIGHT = 0.1


def picture_error(enhanced: Tensor, wanted: Tensor) -> Tensor:
    """Return how far photos are from what they should be, averaged over the batch.

    It is half the logarithm of the squared error, which is PSNR as a loss, and four times the mean error of the steps
    between neighbouring pixels, which is contrast. Pixels are limited to white as at inference, plus a tenth of their
    excess, so that they still have a gradient.

    Args:
        enhanced: B×3×H×W, not limited to white.
        wanted: B×3×H×W in [0, 1].
    """
    excess = enhanced.amax(dim=1, keepdim=True).clamp_min(1)
    error = enhanced / excess * (0.9 + 0.1 * excess) - wanted
    level = torch.log(error.square().mean(dim=(1, 2, 3)) + _SMALL_ERROR).mean() / 2
    return level + 4 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())


class Committee(nn.Module):
    """Several teachers of one student, which answer with the mean of their pictures."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, photo: Tensor, clean: Tensor) -> Tensor:
        """Return the mean of what the members make of ``clean`` with the gains for ``photo``, B×3×H×W in [0, 1]."""
        members: Any = self.members
        return torch.stack([within_white(each.apply_grid(clean, each.grid_of(photo))) for each in members]).mean(dim=0)


class GainsObjective:
    """First part: the gains, towards the target, the teachers' pictures, or both.

    The network sees a photo with noise, but the gains are applied to the same photo without it. Otherwise it would
    learn to take colour from the shadows, where noise shows; removing noise is the task of the smoothing.
    """

    def __init__(self, teacher: nn.Module | None, alpha: float) -> None:
        self.teacher, self.alpha = teacher, alpha if teacher else 0.0

    def __call__(self, model: Any, batch: Any, average: Any, generator: torch.Generator) -> dict[str, Tensor]:
        radiance, target, stops, kept, bend = batch
        settings = CAMERA.draw(stops, kept, bend, generator)
        photo, clean = settings.photo(radiance, generator), settings.photo(radiance)
        enhanced = model.apply_grid(clean, model.grid_of(photo))
        terms = {}
        if self.alpha < 1:
            terms["error"] = (1 - self.alpha) * picture_error(enhanced, settings.wanted(target, clean))
        if self.teacher is not None and self.alpha > 0:
            with torch.no_grad():
                answer = self.teacher(photo, clean)
            terms["distillation"] = self.alpha * picture_error(enhanced, answer)
        return terms


class NoiseObjective:
    """Second part: do to a noisy photo what the same gains do to the photo without noise."""

    def __init__(self) -> None:
        self.ssim = SSIMLoss()

    def __call__(self, model: Any, batch: Any, average: Any, generator: torch.Generator) -> dict[str, Tensor]:
        radiance, _, stops, kept, bend = batch
        settings = CAMERA.draw(stops, kept, bend, generator)
        noisy, clean = settings.photo(radiance, generator), settings.photo(radiance)
        with torch.no_grad():
            grid = model.grid_of(noisy)
            wanted = within_white(model.apply_grid(clean, grid))
        enhanced = model.apply_grid(noisy, grid, noise_of(noisy))
        return {
            "error": picture_error(enhanced, wanted),
            "ssim": _SSIM_WEIGHT * self.ssim(within_white(enhanced), wanted),
        }


@contextmanager
def fixed_gains(model: GridNet) -> Iterator[None]:
    """Within the block only what depends on noise is trainable: the filter's tolerances and the floor."""
    model.requires_grad_(False)
    model.smoothing.requires_grad_(True)
    model.floor.requires_grad_(True)
    try:
        yield
    finally:
        model.requires_grad_(True)


def load_exposures(
    data_dir: str | Path | None, brackets_dir: str | Path | None, licences: str, views: int, size: int, seed: int
) -> Exposures:
    """Load everything that the virtual camera photographs.

    Args:
        data_dir: has ``LICENCES.tsv``, ``hdr/`` and, if it lists photos, ``photos/``; None for the embedded light.
        brackets_dir: photos of bracketed scenes, or None.
        licences: ``free`` or ``any``.
        views: per panorama.
        size: side in pixels.
        seed: of views and windows.

    Raises:
        ValueError: brackets with free licences, which no listing states, or as the sources.
        FileNotFoundError, PhotoError: as the sources.
    """
    if brackets_dir is not None and licences == "free":
        raise ValueError(f"{brackets_dir} states no licence for each photo: train with licences='any'")
    folder = EMBEDDED if data_dir is None else Path(os.path.expanduser(data_dir))
    parts = [views_of_light(folder, allowed=licences, views=views, size=size, seed=seed)[0]]
    if (folder / "photos").is_dir():
        parts.append(licensed_photos(folder, allowed=licences, size=size, seed=seed)[0])
    if brackets_dir is not None:
        parts.append(bracketed(brackets_dir, size=size))
    return join(parts)


@training
@alone_in_its_folder
def train_exposure(
    model: str | GridNet = "grid-960",
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    brackets_dir: str | Path | None = None,
    licences: str = "free",
    teacher: str | Path | GridNet | Sequence[str | Path | GridNet] = (),
    alpha: float = 0.5,
    views: int = 40,
    size: int = 64,
    validation_fraction: float = 0.15,
    epochs: int = 30,
    smoothing_epochs: int = 2,
    ema_decay: float = 0.998,
    **settings: Unpack[LoopSettings],
) -> Run:
    """Train a network to correct exposure, alone or taught by others.

    Args:
        model: a name, or a model, which is trained in place.
        data_dir: a folder of light and photos with their licences, see :func:`load_exposures`; None for the embedded
            light.
        output_dir: gets ``history.csv`` and checkpoints (of the second part in ``smoothing/``); None writes nothing.
        brackets_dir: a folder of photos of bracketed scenes, for training in addition.
        licences: ``free`` for files whose licence puts no condition on weights, ``any`` for all.
        teacher: one or several trained networks, whose mean picture is the answer.
        alpha: weight of the teachers' answer; the rest is the target's.
        views: random views of each panorama.
        size: side of the photos of the first part; the second one takes twice as much.
        validation_fraction: share of the places that are held out to select the best epoch.
        epochs: of the first part.
        smoothing_epochs: of the second part, which trains what depends on noise; 0 leaves it out.
        ema_decay: the result is the moving average of the weights with this decay, unless ``averaged=False``.
        settings: see :class:`~kdlib.training.config.LoopConfig`.

    Returns:
        The last part's run; its history has ``validation_psnr`` on the held-out places, in dB.

    Raises:
        ValueError: unknown names, or values out of range; the message says which.
        TypeError, NonFiniteLossError, OSError: see :func:`~kdlib.training.task.training`.
    """
    check_number("alpha", alpha, 0, 1)
    settings.setdefault("averaged", True)
    config = LoopConfig(epochs=epochs, ema_decay=ema_decay, **settings)
    network: Any = create_model(model) if isinstance(model, str) else model
    given = [teacher] if isinstance(teacher, str | Path | nn.Module) else list(teacher)
    for role, each in [("model", network), *(("teacher", frozen(each, config)) for each in given)]:
        if not isinstance(each, GridNet):
            raise ValueError(f"the {role} has no grid of gains: {type(each).__name__}")
    committee = frozen(Committee([frozen(each, config) for each in given]), config) if given else None
    data = load_exposures(data_dir, brackets_dir, licences, views, 2 * size, config.seed)

    def part(objective: Objective, data: Exposures, description: str, noise: bool, master: Any) -> Task:
        train, held = data.split(validation_fraction, config.seed)
        generator = torch.Generator().manual_seed(config.seed)
        drawn = CAMERA.draw(held.stops, held.kept, held.bend, generator)
        clean = drawn.photo(held.radiance)
        photos = drawn.photo(held.radiance, generator) if noise else clean
        wanted = drawn.wanted(held.target, clean)

        def enhance(candidate: Any, photo: Tensor) -> Tensor:
            enhanced = candidate.apply_grid(photo, candidate.grid_of(photo), noise_of(photo) if noise else None)
            rounded: Tensor = (within_white(enhanced) * 255).round() / 255
            return rounded

        return Task(
            student=network,
            teacher=master,
            objective=objective,
            data=TensorDataset(train.radiance, train.target, train.stops, train.kept, train.bend),
            validation=validate_pictures(enhance, photos, wanted, _BATCH),
            monitored="validation_psnr",
            description=description,
            identity={
                "model": repr(network.config),
                "alpha": alpha,
                "licences": licences,
                "photos": digest(train.radiance, train.target),
                "validation_fraction": validation_fraction,
            },
        )

    gains = GainsObjective(committee, alpha)
    run = part(gains, data.resized(size), "gains", False, committee).train(config, output_dir)
    if smoothing_epochs == 0:
        return run
    config = replace(config, epochs=smoothing_epochs, weight_decay=0.0)
    with fixed_gains(network):
        smoothed = part(NoiseObjective(), data, "noise", True, None).train(
            config, None if output_dir is None else Path(output_dir) / "smoothing"
        )
    smoothed.seconds += run.seconds
    return smoothed
