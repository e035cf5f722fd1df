"""The one training loop: devices, precision, schedule, checkpoints, resume, NaN guard, progress and log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric, seed_everything
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from kdlib.training.checkpoint import load_checkpoint, save_checkpoint, write_history
from kdlib.training.config import OPTIMISERS, LoopConfig, centralise_gradients, make_schedule, set_batch_norm
from kdlib.training.preview import Preview, write_preview

BAD_BATCHES_IN_A_ROW = 10


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient was NaN or infinite too many times in a row."""


@dataclass
class Run:
    """What a training run leaves behind.

    Attributes:
        model: with the weights of the best epoch, on the CPU, ready for inference.
        history: one dict for each epoch: epoch, learning rate, each loss term, the validation scores, seconds.
        best_epoch: counted from 1.
        best_score: the monitored validation score of that epoch.
        skipped_batches: how many batches had a non-finite loss or gradient.
        seconds: spent training, earlier parts of a resumed run included.
        device, precision: what was used.
    """

    model: Any
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    skipped_batches: int = 0
    seconds: float = 0.0
    device: str = ""
    precision: str = ""


class Objective(Protocol):
    """What a run minimises. Returns the weighted terms by name; their sum is the loss."""

    def __call__(
        self, model: nn.Module, batch: Any, average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]: ...


def make_fabric(device: str = "auto", precision: str = "auto") -> Fabric:
    """One device and a precision that it can do.

    Raises:
        ValueError: the device is not there, or cannot do the precision.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        there = ", ".join(name for name in available if available[name])
        raise ValueError(f"device {device!r} is not available here; choose auto or one of {there}")
    if precision == "auto":
        # On CPUs 32 bits are the reference: bfloat16 is faster on some, and gives other numbers.
        precision = "bf16-mixed" if device == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
    if precision == "16-mixed" and device != "cuda":
        raise ValueError(f"precision '16-mixed' needs a CUDA device, this is {device!r}; choose bf16-mixed or 32-true")
    return Fabric(accelerator=device, devices=1, precision=precision)  # type: ignore[arg-type]


def fit(
    model: nn.Module,
    objective: Objective,
    data: Dataset[Any],
    validate: Callable[[nn.Module], Mapping[str, float]],
    monitor: str,
    config: LoopConfig,
    output_dir: str | Path | None = None,
    description: str = "training",
    identity: Mapping[str, Any] | None = None,
    preview: Preview | None = None,
    advance: Callable[[float], None] | None = None,
) -> Run:
    """Train a model.

    Args:
        model: trained in place.
        objective: the loss terms of a batch.
        data: a map-style data set; batches are collated from its items and moved to the device.
        validate: scores of the model in evaluation mode, called after every epoch.
        monitor: the score of ``validate`` to select the best epoch by; higher is better.
        config: see :class:`~kdlib.training.config.LoopConfig`.
        output_dir: gets ``history.csv``, ``last.ckpt`` and ``best.ckpt`` after every epoch, and ``previews/``; None
            writes nothing.
        description: shown before the progress bar.
        identity: what else must be equal, besides the configuration, for a run to be continued; plain values.
        preview: what to show of the model in evaluation mode, H×W×3 uint8, every ``config.preview_every`` epochs.
        advance: called before every epoch with the share of the training that is done, from 0 to less than 1.

    Raises:
        NonFiniteLossError: ten batches in a row had a loss or gradient that was NaN or infinite.
        ValueError: unknown device, or a checkpoint of a run with other settings.
    """
    if config.resume and output_dir is None:
        raise ValueError("resume=True needs the output_dir of the run that is to go on")
    if config.preview_every and (output_dir is None or preview is None):
        raise ValueError(f"preview_every={config.preview_every} needs an output_dir, and photos to show: set it to 0")
    same = {**config.identity(), **(identity or {})}
    fabric = make_fabric(config.device, config.precision)
    seed_everything(config.seed, verbose=False)
    # Convolutions over channels_last tensors are two to three times faster on CPUs and no slower on GPUs.
    model = model.to(memory_format=torch.channels_last)
    optimiser = OPTIMISERS[config.optimiser](
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    wrapped, wrapped_optimiser = fabric.setup(model, optimiser)
    average = None
    if config.ema_decay:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    order = torch.Generator()
    loader = fabric.setup_dataloaders(DataLoader(data, config.batch_size, shuffle=True, generator=order))
    schedule, every_batch = make_schedule(config, optimiser, len(loader))
    noise = torch.Generator(device=fabric.device)
    run = Run(model, device=str(fabric.device), precision=str(fabric._precision.precision))
    folder = Path(output_dir) if output_dir is not None else None
    best_state: dict[str, Tensor] = {}

    def checkpoint() -> dict[str, Any]:
        return {
            "config": same,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict() if schedule else None,
            "average": average.state_dict() if average else None,
            "scaler": fabric._precision.state_dict(),  # empty but for 16-mixed
            "best_model": best_state,
            "run": {
                f.name: getattr(run, f.name) for f in fields(run) if f.name not in {"model", "device", "precision"}
            },
        }

    if config.resume and folder and (folder / "last.ckpt").is_file():
        saved = load_checkpoint(folder / "last.ckpt", same)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        if schedule:
            schedule.load_state_dict(saved["schedule"])
        if average:
            average.load_state_dict(saved["average"])
        fabric._precision.load_state_dict(saved["scaler"])
        best_state = saved["best_model"]
        for name, value in saved["run"].items():
            setattr(run, name, value)

    bad_in_a_row = 0
    bar = tqdm(
        total=config.epochs * len(loader),
        initial=len(run.history) * len(loader),
        desc=description,
        unit="batch",
        leave=False,
        disable=not config.progress,
    )
    for epoch in range(len(run.history), config.epochs):
        # Seeding by epoch makes a resumed run repeat the draws of one that was never interrupted.
        torch.manual_seed(config.seed * 100_003 + epoch)  # of what a network draws itself: stochastic depth
        order.manual_seed(config.seed * 100_003 + epoch)
        noise.manual_seed(config.seed * 100_003 + epoch)
        if advance:
            advance(epoch / config.epochs)
        started = time.perf_counter()
        wrapped.train()
        set_batch_norm(model, epoch, config)
        sums: dict[str, float] = {}
        counted = 0
        for batch in loader:
            # Autocast without the wrapper's forward, which would round the photos themselves to half precision.
            with fabric.autocast():
                terms = objective(model, batch, average, noise)
            loss = torch.stack([term.float() for term in terms.values()]).sum()
            optimiser.zero_grad()
            finite = bool(loss.isfinite())
            if finite:
                fabric.backward(loss)
                if config.centralise:
                    centralise_gradients(model.parameters())
                norm = fabric.clip_gradients(
                    wrapped, wrapped_optimiser, max_norm=config.clip_norm or math.inf, error_if_nonfinite=False
                )
                finite = bool(torch.as_tensor(norm).isfinite())
                if finite or config.precision == "16-mixed":
                    # Half precision's scaler skips the step itself if anything overflowed, and lowers its scale.
                    wrapped_optimiser.step()
            if finite:
                if average:
                    average.update_parameters(model)
                counted, bad_in_a_row = counted + 1, 0
                for name, term in {**terms, "total": loss}.items():
                    sums[name] = sums.get(name, 0.0) + float(term.detach())
            else:
                run.skipped_batches, bad_in_a_row = run.skipped_batches + 1, bad_in_a_row + 1
                if bad_in_a_row == BAD_BATCHES_IN_A_ROW:
                    bar.close()
                    raise NonFiniteLossError(_diagnosis(terms, epoch))
            if schedule and every_batch:
                schedule.step()
            bar.update()
            if counted and counted % 10 == 0:
                bar.set_postfix(_brief({name: value / counted for name, value in sums.items()}, run))
        candidate = average.module if average and config.averaged else model
        candidate.eval()
        with torch.no_grad():
            scores = dict(validate(candidate))
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.step(scores[monitor])
        elif schedule and not every_batch:
            schedule.step()
        seconds = time.perf_counter() - started
        run.seconds += seconds
        means = {name: value / max(1, counted) for name, value in sums.items()}
        rate = optimiser.param_groups[0]["lr"]
        run.history.append({"epoch": epoch + 1, "learning_rate": rate, **means, **scores, "seconds": seconds})
        score = scores[monitor] if math.isfinite(scores[monitor]) else -math.inf
        if score > run.best_score or not best_state:
            run.best_score, run.best_epoch = score, epoch + 1
            best_state = {name: value.detach().cpu().clone() for name, value in candidate.state_dict().items()}
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            # Before the checkpoint: a run that is stopped between the two and goes on would lack the picture.
            if preview and config.due(config.preview_every, epoch + 1):
                write_preview(preview, candidate, folder, epoch + 1)
            write_history(folder / "history.csv", run.history)
            save_checkpoint(checkpoint(), folder / "last.ckpt")
            if run.best_epoch == epoch + 1:
                save_checkpoint({"model": best_state, "epoch": epoch + 1}, folder / "best.ckpt")
        bar.set_postfix(_brief({**means, **scores}, run))
        if config.due(config.report_every, epoch + 1):
            shown = ", ".join(f"{name} {value}" for name, value in _brief({**means, **scores}, run).items())
            print(f"{description}, epoch {epoch + 1} of {config.epochs}: {shown}", flush=True)
    bar.close()
    model.load_state_dict(best_state)
    run.model = model.cpu().to(memory_format=torch.contiguous_format).eval()
    return run


def _brief(values: Mapping[str, float], run: Run) -> dict[str, str]:
    shown = {name: f"{value:.3g}" for name, value in values.items()}
    return {**shown, "skipped": str(run.skipped_batches)} if run.skipped_batches else shown


def _diagnosis(terms: Mapping[str, Tensor], epoch: int) -> str:
    values = ", ".join(f"{name} {float(term.detach()):.3g}" for name, term in terms.items())
    return (
        f"the loss or its gradient was not finite in {BAD_BATCHES_IN_A_ROW} batches in a row, in epoch {epoch + 1} "
        f"({values}). Lower the learning rate, or use precision='32-true'"
    )
