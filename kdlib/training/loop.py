"""The one training loop: schedule, checkpoints, resume, NaN guard, progress and log, on one process or many."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import seed_everything
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from kdlib.training.checkpoint import alone_in_its_folder, open_folder, save_best, save_checkpoint, write_history
from kdlib.training.config import OPTIMISERS, LoopConfig, centralise_gradients, make_schedule, set_batch_norm
from kdlib.training.epoch import Draws, Epoch
from kdlib.training.preview import Preview, write_preview
from kdlib.training.processes import (
    GlobalBatches,
    average_buffers,
    average_gradients,
    collate,
    first,
    make_fabric,
    nothing,
)

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


@alone_in_its_folder
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

    Started by torchrun or Slurm, every process calls this with the same arguments. They share each batch and have the
    same weights at any time; the first one alone validates, writes, prints and reads the checkpoint to go on from.

    Args:
        model: trained in place.
        objective: the loss terms of a batch, as means over its photos.
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
        ValueError: unknown device, more processes than a batch has photos, or a checkpoint of a run with other
            settings.
        OSError: another process trains into the folder, or a file could not be written; the message says what to go
            on from.
    """
    if config.resume and output_dir is None:
        raise ValueError("resume=True needs the output_dir of the run that is to go on")
    if config.preview_every and (output_dir is None or preview is None):
        raise ValueError(f"preview_every={config.preview_every} needs an output_dir, and photos to show: set it to 0")
    same = {**config.identity(), **(identity or {})}
    fabric = make_fabric(config.device, config.precision)
    seed_everything(config.seed, verbose=False)
    # Convolutions over channels_last tensors are two to three times faster on CPUs and no slower on GPUs.
    model = fabric.to_device(model.to(memory_format=torch.channels_last))
    model.load_state_dict(first(fabric, model.state_dict))
    optimiser = OPTIMISERS[config.optimiser](
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    stepper: Any = fabric.setup_optimizers(optimiser)
    average = None
    if config.ema_decay:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    draws = Draws(config.seed, fabric.device, fabric.global_rank)
    batches = GlobalBatches(len(data), config.batch_size, draws.order, fabric.global_rank, fabric.world_size)  # type: ignore[arg-type]
    loader = fabric.setup_dataloaders(
        DataLoader(data, batch_sampler=batches, generator=draws.order, collate_fn=collate, num_workers=config.workers),
        use_distributed_sampler=False,
    )
    schedule, every_batch = make_schedule(config, optimiser, len(batches))
    run = Run(model, device=str(fabric.device), precision=str(fabric._precision.precision))
    folder = Path(output_dir) if output_dir is not None else None
    best_state: dict[str, Tensor] = {}
    bad_in_a_row = 0

    def save(within: Mapping[str, Any] | None) -> None:
        assert folder
        content = {
            "config": same,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict() if schedule else None,
            "average": average.state_dict() if average else None,
            "scaler": fabric._precision.state_dict(),  # empty but for 16-mixed
            "best_model": best_state,
            "bad_in_a_row": bad_in_a_row,
            "within": within,  # the epoch that is under way
            "run": {
                f.name: getattr(run, f.name) for f in fields(run) if f.name not in {"model", "device", "precision"}
            },
        }
        save_checkpoint(content, folder / "last.ckpt")

    def keep(epoch: int, candidate: nn.Module) -> None:
        if not folder:
            return
        folder.mkdir(parents=True, exist_ok=True)
        # Before the checkpoint: a run that is stopped between the two and goes on would lack the picture.
        if preview and config.due(config.preview_every, epoch):
            write_preview(preview, candidate, folder, epoch)
        write_history(folder / "history.csv", run.history)
        save(None)
        if run.best_epoch == epoch:
            save_best(folder, best_state, epoch)

    def judge(candidate: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return dict(validate(candidate))

    saved = first(fabric, partial(open_folder, folder, same, resume=config.resume)) if folder else None
    if saved:
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        if schedule:
            schedule.load_state_dict(saved["schedule"])
        if average:
            average.load_state_dict(saved["average"])
        fabric._precision.load_state_dict(saved["scaler"])
        best_state, bad_in_a_row = saved["best_model"], saved["bad_in_a_row"]
        for name, value in saved["run"].items():
            setattr(run, name, value)
    under_way = saved["within"] if saved else None

    bar = tqdm(
        total=config.epochs * len(batches),
        initial=len(run.history) * len(batches) + (under_way["batches"] if under_way else 0),
        desc=description,
        unit="batch",
        leave=False,
        disable=not (config.progress and fabric.is_global_zero),
    )
    saved_at = time.monotonic()
    scores: dict[str, float] = {}
    for number in range(len(run.history), config.epochs):
        draws.begin(number)
        if advance:
            advance(number / config.epochs)
        model.train()
        set_batch_norm(model, number, config)
        epoch = Epoch()
        if under_way:
            epoch.restore(under_way, fabric, draws, model)
            under_way = None
        batches.first = epoch.batches
        for batch in loader:
            share = batches.share(epoch.batches)
            # Autocast without a wrapper's forward, which would round the photos themselves to half precision.
            with fabric.autocast():
                terms = objective(model, batch, average, draws.noise) if share else nothing(model)
            loss = torch.stack([term.float() for term in terms.values()]).sum()
            optimiser.zero_grad()
            finite = bool(loss.isfinite())
            due = 0 < 60 * config.checkpoint_minutes <= time.monotonic() - saved_at
            if finite or fabric.world_size > 1:  # the others wait for this one's gradient, whatever it is
                fabric.backward(loss)
                due = average_gradients(fabric, model.parameters(), share if finite else math.nan, due)
                if config.centralise:
                    centralise_gradients(model.parameters())
                norm = fabric.clip_gradients(
                    model, stepper, max_norm=config.clip_norm or math.inf, error_if_nonfinite=False
                )
                finite = bool(torch.as_tensor(norm).isfinite())
                if finite or config.precision == "16-mixed":
                    # Half precision's scaler skips the step itself if anything overflowed, and lowers its scale.
                    stepper.step()
            epoch.batches += 1
            if finite:
                if average:
                    average.update_parameters(model)
                bad_in_a_row = 0
                epoch.count({**terms, "total": loss}, share)
            else:
                run.skipped_batches, bad_in_a_row = run.skipped_batches + 1, bad_in_a_row + 1
                if bad_in_a_row == BAD_BATCHES_IN_A_ROW:
                    bar.close()
                    raise NonFiniteLossError(_diagnosis(terms, number))
            if schedule and every_batch:
                schedule.step()
            bar.update()
            if epoch.counted and epoch.counted % 10 == 0:
                so_far = {name: value * fabric.world_size / epoch.counted for name, value in epoch.sums.items()}
                bar.set_postfix(_brief({**so_far, **scores}, run))  # the scores are those of the epoch before
            if due and folder and epoch.batches < len(batches):
                first(fabric, partial(save, epoch.snapshot(fabric, draws, model)))
                saved_at = time.monotonic()
        candidate = average.module if average and config.averaged else model
        candidate.eval()
        average_buffers(fabric, model, average)
        scores = first(fabric, partial(judge, candidate))
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.step(scores[monitor])
        elif schedule and not every_batch:
            schedule.step()
        run.seconds += (seconds := epoch.seconds)
        means = epoch.means(fabric)
        rate = optimiser.param_groups[0]["lr"]
        run.history.append({"epoch": number + 1, "learning_rate": rate, **means, **scores, "seconds": seconds})
        score = scores[monitor] if math.isfinite(scores[monitor]) else -math.inf
        if score > run.best_score or not best_state:
            run.best_score, run.best_epoch = score, number + 1
            best_state = {name: value.detach().cpu().clone() for name, value in candidate.state_dict().items()}
        first(fabric, partial(keep, number + 1, candidate))
        saved_at = time.monotonic()
        bar.set_postfix(_brief({**means, **scores}, run))
        if fabric.is_global_zero and config.due(config.report_every, number + 1):
            shown = ", ".join(f"{name} {value}" for name, value in _brief({**means, **scores}, run).items())
            print(f"{description}, epoch {number + 1} of {config.epochs}: {shown}", flush=True)
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
