"""A run while it lasts: its progress bar and its printed lines."""

from collections.abc import Mapping

from tqdm.auto import tqdm

from kdlib.training.config import LoopConfig
from kdlib.training.epoch import Epoch
from kdlib.training.state import Run


class Display:
    """Shows the loss terms of the current epoch, and the scores of the preceding one.

    Args:
        description: precedes the bar and every printed line.
        batches: per epoch.
        done: batches done before, by a run that is continued.
        shown: False on every process but the first.
    """

    def __init__(self, description: str, config: LoopConfig, run: Run, batches: int, done: int, *, shown: bool) -> None:
        self.description, self.config, self.run, self.shown = description, config, run, shown
        self.scores: Mapping[str, float] = {}
        self.bar = tqdm(
            total=config.epochs * batches, initial=done, desc=description, unit="batch", leave=False,
            disable=not (config.progress and shown),
        )  # fmt: skip

    def batch(self, epoch: Epoch, processes: int) -> None:
        """Move the bar on; every ten batches also show the terms."""
        self.bar.update()
        if epoch.counted and epoch.counted % 10 == 0:
            so_far = {name: value * processes / epoch.counted for name, value in epoch.sums.items()}
            self.bar.set_postfix(self._brief({**so_far, **self.scores}))

    def epoch(self, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
        """Show what an epoch has reached, and print it if a line is due."""
        self.scores = scores
        brief = self._brief({**means, **scores})
        self.bar.set_postfix(brief)
        number = len(self.run.history)
        if self.shown and self.config.due(self.config.report_every, number):
            values = ", ".join(f"{name} {value}" for name, value in brief.items())
            print(f"{self.description}, epoch {number} of {self.config.epochs}: {values}", flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()

    def _brief(self, values: Mapping[str, float]) -> dict[str, str]:
        shown = {name: f"{value:.3g}" for name, value in values.items()}
        return {**shown, "skipped": str(self.run.skipped_batches)} if self.run.skipped_batches else shown
