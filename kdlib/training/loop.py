"""The one training loop: schedule, checkpoints, resume, NaN guard, progress and log, on one process or many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from lightning_fabric import seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdlib.training.checkpoint import alone_in_its_folder, open_folder, save_best, save_checkpoint, write_history
from kdlib.training.config import LoopConfig, set_batch_norm
from kdlib.training.display import Display
from kdlib.training.epoch import Draws, Epoch
from kdlib.training.preview import Preview, write_preview
from kdlib.training.processes import GlobalBatches, average_buffers, collate, first, make_fabric, nothing
from kdlib.training.state import Run, State

if TYPE_CHECKING:
    from kdlib.training.task import Task

BAD_BATCHES_IN_A_ROW = 10


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient was NaN or infinite too many times in a row."""


class Objective(Protocol):
    """What a run minimises. Returns the weighted terms by name; their sum is the loss."""

    def __call__(
        self, model: nn.Module, batch: Any, average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]: ...


@alone_in_its_folder
def fit(task: Task, config: LoopConfig, output_dir: str | Path | None = None) -> Run:
    """Train a task's student, or continue its interrupted run.

    Under torchrun or Slurm, every process calls this with the same arguments. They share each batch and have the same
    weights at any time; only the first one validates, writes, prints and reads the checkpoint to continue from.

    Args:
        output_dir: gets ``history.csv``, ``last.ckpt`` and ``best.ckpt`` after every epoch, and ``previews/``; None
            writes nothing.

    Raises:
        NonFiniteLossError: ten batches in a row had a loss or gradient that was NaN or infinite.
        ValueError: unknown device, more processes than a batch has photos, or a checkpoint of a run with other
            settings.
        OSError: another process trains into the folder, or a file could not be written; the message says where to
            continue from.
    """
    if config.resume and output_dir is None:
        raise ValueError("resume=True needs the output_dir of the run that is to continue")
    if config.preview_every and (output_dir is None or task.preview is None):
        raise ValueError(f"preview_every={config.preview_every} needs an output_dir, and photos to show: set it to 0")
    fabric = make_fabric(config.device, config.precision)
    seed_everything(config.seed, verbose=False)
    draws = Draws(config.seed, fabric.device, fabric.global_rank)
    data: Any = task.data  # map-style
    objective = task.objective
    batches = GlobalBatches(len(data), config.batch_size, draws.order, fabric.global_rank, fabric.world_size)
    loader = fabric.setup_dataloaders(
        DataLoader(data, batch_sampler=batches, generator=draws.order, collate_fn=collate, num_workers=config.workers),
        use_distributed_sampler=False,
    )
    state = State(task.student, config, fabric, len(batches))
    files = RunFiles(output_dir, task.same(config), state, task.preview)
    under_way = files.open()
    done = len(state.run.history) * len(batches) + (under_way["batches"] if under_way else 0)
    display = Display(task.description, config, state.run, len(batches), done, shown=fabric.is_global_zero)

    for number in range(len(state.run.history), config.epochs):
        draws.begin(number)
        if task.advance:
            task.advance(number / config.epochs)
        state.model.train()
        set_batch_norm(state.model, number, config)
        epoch = Epoch()
        if under_way:
            epoch.restore(under_way, fabric, draws, state.model)
            under_way = None
        batches.first = epoch.batches
        for batch in loader:
            share = batches.share(epoch.batches)
            # Autocast without a wrapper's forward, which would round the photos themselves to half precision.
            with fabric.autocast():
                terms = objective(state.model, batch, state.average, draws.noise) if share else nothing(state.model)
            loss = torch.stack([term.float() for term in terms.values()]).sum()
            finite, checkpoint_due = state.step(loss, share, files.checkpoint_due())
            epoch.batches += 1
            if finite:
                epoch.count({**terms, "total": loss}, share)
            elif state.bad_in_a_row == BAD_BATCHES_IN_A_ROW:
                display.close()
                raise NonFiniteLossError(_diagnosis(terms, number))
            display.batch(epoch, fabric.world_size)
            if checkpoint_due and epoch.batches < len(batches):
                files.save(within=epoch.snapshot(fabric, draws, state.model))
        state.candidate.eval()
        average_buffers(fabric, state.model, state.average)
        with torch.no_grad():
            scores = first(fabric, lambda: dict(task.validation(state.candidate)))
        means = epoch.means(fabric)
        state.end_epoch(means, scores, task.monitored, epoch.seconds)
        files.save()
        display.epoch(means, scores)
    display.close()
    return state.finish()


class RunFiles:
    """The files of a run, which the first process writes.

    Args:
        output_dir: None writes nothing.
        same: what must be equal for the run to be continued.
    """

    def __init__(
        self, output_dir: str | Path | None, same: Mapping[str, Any], state: State, preview: Preview | None
    ) -> None:
        self.folder = Path(output_dir) if output_dir is not None else None
        self.same, self.state, self.preview = same, state, preview
        self.config, self.fabric = state.config, state.fabric
        self.saved_at = time.monotonic()

    def open(self) -> dict[str, Any] | None:
        """Continue the run in the folder, if that is wanted and there is one: the epoch that was under way, if any."""
        saved: Any = None
        if self.folder:
            saved = first(self.fabric, partial(open_folder, self.folder, self.same, resume=self.config.resume))
        if saved:
            self.state.load_state_dict(saved)
        return saved["within"] if saved else None

    def checkpoint_due(self) -> bool:
        """Whether ``checkpoint_minutes`` have passed since a checkpoint was written."""
        return self.folder is not None and 0 < 60 * self.config.checkpoint_minutes <= time.monotonic() - self.saved_at

    def save(self, within: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint, and after an epoch everything else; ``within`` is the snapshot of one under way."""
        if self.folder:
            first(self.fabric, partial(self._write, self.folder, within))
            self.saved_at = time.monotonic()

    def _write(self, folder: Path, within: Mapping[str, Any] | None) -> None:
        run, epoch = self.state.run, len(self.state.run.history)
        if within is None:
            folder.mkdir(parents=True, exist_ok=True)
            # Before the checkpoint: a run that is stopped between the two and then continued would lack the picture.
            if self.preview and self.config.due(self.config.preview_every, epoch):
                write_preview(self.preview, self.state.candidate, folder, epoch)
            write_history(folder / "history.csv", run.history)
        save_checkpoint({"config": self.same, **self.state.state_dict(), "within": within}, folder / "last.ckpt")
        if within is None and run.best_epoch == epoch:
            save_best(folder, self.state.best_model, epoch)


def _diagnosis(terms: Mapping[str, Tensor], epoch: int) -> str:
    values = ", ".join(f"{name} {float(term.detach()):.3g}" for name, term in terms.items())
    return (
        f"the loss or its gradient was not finite in {BAD_BATCHES_IN_A_ROW} batches in a row, in epoch {epoch + 1} "
        f"({values}). Lower the learning rate, or use precision='32-true'"
    )
