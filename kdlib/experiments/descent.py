"""The training loop of the small networks of the first lesson."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def descend(model: nn.Module, loss: Callable[[], Tensor], *, steps: int, rate: float) -> None:
    """Train in place with Adam and a one-cycle schedule.

    Args:
        model: holds all parameters that learn.
        loss: draws a batch and returns its loss.
        rate: peak of the learning rate.
    """
    if not steps:
        return
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(steps):
        error = loss()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        schedule.step()
