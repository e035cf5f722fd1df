"""The state of a training run: everything that changes from batch to batch, and that a checkpoint keeps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdlib.models.network import Network
from kdlib.training.config import OPTIMISERS, LoopConfig, centralise_gradients, make_schedule
from kdlib.training.processes import average_gradients, first


@dataclass
class Run:
    """The result of a training run.

    Attributes:
        model: with the weights of the best epoch, on the CPU, ready for inference.
        history: one dict per epoch: epoch, learning rate, each loss term, the validation scores, seconds.
        best_epoch: counted from 1.
        best_score: the monitored validation score of that epoch.
        skipped_batches: the number of batches with a non-finite loss or gradient.
        seconds: spent training, including earlier parts of a resumed run.
        device, precision: the ones used.
    """

    model: nn.Module
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    skipped_batches: int = 0
    seconds: float = 0.0
    device: str = ""
    precision: str = ""


_KEPT = [f.name for f in fields(Run) if f.name not in {"model", "device", "precision"}]


class State:
    """The weights, their optimiser, schedule and moving average, and the run so far.

    Args:
        model: moved to the device of ``fabric``; every process begins with the weights of the first one.
        batches: per epoch.

    Attributes:
        average: the moving average of the weights, or None.
        best_model: the weights of the best epoch so far, on the CPU.
        bad_in_a_row: the number of batches since the last one with a finite loss and gradient.
    """

    def __init__(self, model: nn.Module, config: LoopConfig, fabric: Fabric, batches: int) -> None:
        self.config, self.fabric = config, fabric
        if isinstance(model, Network):
            # Convolutions are then two to three times faster on CPUs, and no slower on GPUs. A network of other kinds
            # may count on the usual order, as those do that flatten with ``view``.
            model.to(memory_format=torch.channels_last)
        self.model = fabric.to_device(model)
        self.model.load_state_dict(first(fabric, self.model.state_dict))
        self.optimiser = OPTIMISERS[config.optimiser](
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._stepper: Any = fabric.setup_optimizers(self.optimiser)
        self.average: AveragedModel | None = None
        if config.ema_decay:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self._schedule, self._every_batch = make_schedule(config, self.optimiser, batches)
        self.precision: Any = fabric.strategy.precision
        self.run = Run(self.model, device=str(fabric.device), precision=str(self.precision.precision))
        self.best_model: dict[str, Tensor] = {}
        self.bad_in_a_row = 0

    @property
    def candidate(self) -> nn.Module:
        """The network to judge and to return: the student, or its moving average."""
        return self.average.module if self.average and self.config.averaged else self.model

    def step(self, loss: Tensor, share: float, due: bool) -> tuple[bool, bool]:
        """Follow the gradient of a loss, unless it or the loss is not finite.

        Args:
            loss: of this process's part of the batch.
            share: that part, from 0 to 1.
            due: whether the first process wants a checkpoint.

        Returns:
            Whether loss and gradient were finite on every process; ``due`` of the first process.
        """
        self.optimiser.zero_grad()
        finite = bool(loss.isfinite())
        if finite or self.fabric.world_size > 1:  # the other processes wait for this gradient, whatever its value
            self.fabric.backward(loss)
            due = average_gradients(self.fabric, self.model.parameters(), share if finite else math.nan, due)
            if self.config.centralise:
                centralise_gradients(self.model.parameters())
            norm = self.fabric.clip_gradients(
                self.model, self._stepper, max_norm=self.config.clip_norm or math.inf, error_if_nonfinite=False
            )
            finite = bool(torch.as_tensor(norm).isfinite())
            if finite or self.config.precision == "16-mixed":
                # The scaler of half precision skips the step itself after an overflow, and lowers its scale.
                self._stepper.step()
        if finite and self.average:
            self.average.update_parameters(self.model)
        self.bad_in_a_row = 0 if finite else self.bad_in_a_row + 1
        self.run.skipped_batches += not finite
        if self._schedule and self._every_batch:
            self._schedule.step()
        return finite, due

    def end_epoch(self, means: Mapping[str, float], scores: Mapping[str, float], monitor: str, seconds: float) -> None:
        """Record an epoch, move the schedule on, and keep the weights if they are the best so far."""
        if isinstance(self._schedule, ReduceLROnPlateau):
            self._schedule.step(scores[monitor])
        elif self._schedule and not self._every_batch:
            self._schedule.step()
        run, number = self.run, len(self.run.history) + 1
        rate = self.optimiser.param_groups[0]["lr"]
        run.seconds += seconds
        run.history.append({"epoch": number, "learning_rate": rate, **means, **scores, "seconds": seconds})
        score = scores[monitor] if math.isfinite(scores[monitor]) else -math.inf
        if score > run.best_score or not self.best_model:
            run.best_score, run.best_epoch = score, number
            self.best_model = {
                name: value.detach().cpu().clone() for name, value in self.candidate.state_dict().items()
            }

    def finish(self) -> Run:
        """The run, its model with the best weights, on the CPU."""
        self.model.load_state_dict(self.best_model)
        self.run.model = self.model.cpu().to(memory_format=torch.contiguous_format).eval()
        return self.run

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors to continue from."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self._schedule.state_dict() if self._schedule else None,
            "average": self.average.state_dict() if self.average else None,
            "scaler": self.precision.state_dict(),  # empty but for 16-mixed
            "best_model": self.best_model,
            "bad_in_a_row": self.bad_in_a_row,
            "run": {name: getattr(self.run, name) for name in _KEPT},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        if self._schedule:
            self._schedule.load_state_dict(saved["schedule"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.precision.load_state_dict(saved["scaler"])
        self.best_model, self.bad_in_a_row = saved["best_model"], saved["bad_in_a_row"]
        for name, value in saved["run"].items():
            setattr(self.run, name, value)
