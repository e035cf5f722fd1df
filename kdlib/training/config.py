"""The settings that all trainings share, and the optimiser and schedule that they select."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from kdlib.checks import check_choice, check_number

OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
Optimiser = Literal["adam", "adamw"]
Schedule = Literal["one-cycle", "cosine", "step", "plateau", "constant"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


class SharedSettings(TypedDict, total=False):
    """The fields of :class:`LoopConfig` that every training takes as further keyword arguments.

    ``epochs`` and ``ema_decay`` are missing: every training has a parameter for these, with a default of its own.
    """

    batch_size: int
    learning_rate: float
    weight_decay: float
    optimiser: Optimiser
    centralise: bool
    hold_norm: float
    clip_norm: float
    averaged: bool
    workers: int
    device: str
    precision: Precision
    seed: int
    resume: bool
    checkpoint_minutes: float
    progress: bool
    report_every: int
    preview_every: int


class LoopSettings(SharedSettings, total=False):
    """Likewise, for those trainings where ``schedule`` is that of the learning rate."""

    schedule: Schedule


@dataclass(frozen=True)
class LoopConfig:
    """How to train. Every training takes each field as a keyword argument.

    Attributes:
        epochs: passes over the training set.
        batch_size: photos per batch, over all processes together.
        learning_rate: the peak of the schedule.
        weight_decay: L2 penalty (decoupled with ``adamw``).
        optimiser: ``adam`` or ``adamw``.
        schedule: ``one-cycle`` and ``cosine`` change with every batch; ``step`` divides by ten after each third of the
            epochs; ``plateau`` halves after five epochs without a better score; ``constant``.
        centralise: subtract the mean from every weight's gradient, see :func:`centralise_gradients`.
        hold_norm: share of the training after which batch norm keeps its statistics, see :func:`set_batch_norm`; with
            1 it never does.
        clip_norm: largest norm of the gradient; 0 turns clipping off.
        ema_decay: decay of the exponential moving average of the weights; 0 keeps none.
        averaged: the result is this average instead of the weights themselves; requires ``ema_decay`` above 0.
        workers: processes that load batches in parallel to the training; with 0, loading and training alternate. The
            result is the same. Useful where photos are decoded in every epoch, as the frames of Vimeo-90K are.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` (bfloat16 mixed on a GPU that supports it, else 32-bit), ``32-true``, ``bf16-mixed``, or
            ``16-mixed``, half precision with a scaled loss, for older GPUs.
        seed: of the weights, the order of the photos and every augmentation.
        resume: continue from ``last.ckpt`` in the output folder, if there is one; the number of processes may differ.
        checkpoint_minutes: also write ``last.ckpt`` within an epoch, once so many minutes have passed since it was
            last written; 0 writes it only after epochs.
        progress: show a progress bar.
        report_every: also print a line every so many epochs and after the last; 0 prints none.
        preview_every: write a picture of held-out photos every so many epochs and after the last; 0 writes none.
    """

    epochs: int = 24
    batch_size: int = 16
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    optimiser: Optimiser = "adamw"
    schedule: Schedule = "one-cycle"
    centralise: bool = False
    hold_norm: float = 1.0
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    averaged: bool = False
    workers: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    seed: int = 0
    resume: bool = False
    checkpoint_minutes: float = 10.0
    progress: bool = True
    report_every: int = 0
    preview_every: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            check_number(name, getattr(self, name), 1, whole=True)
        for name in ("workers", "report_every", "preview_every"):
            check_number(name, getattr(self, name), whole=True)
        for name in ("weight_decay", "clip_norm", "checkpoint_minutes"):
            check_number(name, getattr(self, name))
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("ema_decay", self.ema_decay, below=1)
        check_number("hold_norm", self.hold_norm, above=0, most=1)
        if self.averaged and not self.ema_decay:
            raise ValueError("averaged=True needs an ema_decay above 0")
        for name, allowed in (
            ("optimiser", OPTIMISERS),
            ("schedule", get_args(Schedule)),
            ("device", ("auto", "cpu", "cuda", "mps")),
            ("precision", get_args(Precision)),
        ):
            check_choice(name, getattr(self, name), allowed)

    def identity(self) -> dict[str, Any]:
        """The settings that must be equal for a run to be continued."""
        free = {"workers", "device", "resume", "checkpoint_minutes", "progress", "report_every", "preview_every"}
        return {k: v for k, v in asdict(self).items() if k not in free}

    def due(self, every: int, epoch: int) -> bool:
        """Whether a thing that is done every so many epochs (0: never) and after the last is due after this one."""
        return every > 0 and (epoch % every == 0 or epoch == self.epochs)


def make_schedule(config: LoopConfig, optimiser: Optimizer, batches: int) -> tuple[LRScheduler | None, bool]:
    """The learning-rate schedule, and whether it changes with every batch (else with every epoch)."""
    steps = config.epochs * batches
    match config.schedule:
        case "one-cycle":
            # With fewer than six steps the rising phase would have length zero, by which PyTorch would divide.
            return OneCycleLR(optimiser, config.learning_rate, total_steps=max(10, steps), pct_start=0.2), True
        case "cosine":
            return CosineAnnealingLR(optimiser, steps), True
        case "step":
            return StepLR(optimiser, max(1, math.ceil(config.epochs / 3)), gamma=0.1), False
        case "plateau":
            return ReduceLROnPlateau(optimiser, mode="max", factor=0.5, patience=5), False
    return None, False


def set_batch_norm(model: nn.Module, epoch: int, config: LoopConfig) -> None:
    """Let the batch norm layers of a model in training mode keep their statistics once ``hold_norm`` of the training
    is over. The statistics that they keep are means over the whole preceding epoch.

    Batch norm shows a network each photo relative to the others of its batch, so it cannot learn what depends on how
    bright a photo is; and in evaluation mode, with statistics of the last few batches, the network differs from the
    one that was trained.

    Args:
        epoch: the epoch that begins, counted from 0.
    """
    if config.hold_norm == 1:
        return
    first = max(1, round(config.hold_norm * config.epochs))
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            if epoch >= first:
                layer.eval()
            elif epoch == first - 1:
                layer.reset_running_stats()
                layer.momentum = None  # the plain mean


def centralise_gradients(parameters: Iterable[Tensor]) -> None:
    """Subtract from every weight's gradient, in place, its mean over the inputs of each output (gradient
    centralisation, Yong et al. 2020); biases and other vectors stay as they are."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.ndim > 1:
            parameter.grad -= parameter.grad.mean(dim=tuple(range(1, parameter.grad.ndim)), keepdim=True)
