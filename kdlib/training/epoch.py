"""An epoch under way: its random draws and its sums, from which an interrupted run can continue."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kdlib.training.processes import gather


class Draws:
    """All random draws of an epoch, which follow from the seed, the epoch and the process.

    Training does not use the global generators of Python and NumPy. ``DataLoader(data, batch_size, shuffle=True,
    generator=draws.order)`` gives the batches of a training by one process.

    Attributes:
        order: of the photos, the same on every process.
        noise: for augmentations, on the device. The first process draws what a single process would.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu", rank: int = 0) -> None:
        self.seed, self.device, self.rank = seed, torch.device(device), rank
        self.order, self.noise = torch.Generator(), torch.Generator(device=device)

    def begin(self, epoch: int) -> None:
        """Seed by epoch, so that a resumed run repeats the draws of one that was never interrupted."""
        seed = self.seed * 100_003 + epoch
        self.order.manual_seed(seed)
        own = seed + self.rank * 1_000_000_007
        torch.manual_seed(own)  # for draws of the network itself, such as stochastic depth
        self.noise.manual_seed(own)

    def state_dict(self) -> dict[str, Any]:
        """The state of the draws within the epoch, without the order, which is drawn again when a run continues."""
        state = {"device": self.device.type, "noise": self.noise.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["network"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            state["network"] = torch.mps.get_rng_state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the draws; those on the device only if it is of the same kind as before."""
        torch.set_rng_state(state["torch"])
        if state["device"] != self.device.type:
            return
        self.noise.set_state(state["noise"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["network"], self.device)
        elif self.device.type == "mps":
            torch.mps.set_rng_state(state["network"])


class Epoch:
    """The part of an epoch that a process has done so far.

    Attributes:
        batches: the number of batches done.
        counted: the number of those whose loss and gradient were finite.
        sums: of each loss term over the latter, weighted by the share of the batch's photos that this process had.
    """

    def __init__(self) -> None:
        self.batches, self.counted = 0, 0
        self.sums: dict[str, float] = {}
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the epoch began, including the time before an interruption."""
        return time.perf_counter() - self.began

    def count(self, terms: Mapping[str, Tensor], share: float) -> None:
        """Add the loss terms of a batch with a finite loss and gradient."""
        self.counted += 1
        for name, term in terms.items() if share else ():
            self.sums[name] = self.sums.get(name, 0.0) + share * float(term.detach())

    def means(self, fabric: Fabric) -> dict[str, float]:
        """The mean of each loss term over the batches of all processes."""
        sums = _added(gather(fabric, self.sums))
        return {name: value / max(1, self.counted) for name, value in sums.items()}

    def snapshot(self, fabric: Fabric, draws: Draws, model: nn.Module) -> dict[str, Any]:
        """Everything that is needed, besides weights and optimiser, to continue here: plain values and tensors."""
        buffers = {name: buffer.detach().cpu().clone() for name, buffer in model.named_buffers()}
        own = {"sums": dict(self.sums), "draws": draws.state_dict(), "buffers": buffers}
        done = {"batches": self.batches, "counted": self.counted, "seconds": self.seconds}
        return {**done, "processes": gather(fabric, own)}

    @torch.no_grad()
    def restore(self, snapshot: Mapping[str, Any], fabric: Fabric, draws: Draws, model: nn.Module) -> None:
        """Continue from a snapshot, after the epoch has begun again; the number of processes may differ."""
        self.batches, self.counted = snapshot["batches"], snapshot["counted"]
        self.began -= snapshot["seconds"]
        processes = snapshot["processes"]
        # Each process takes over the sums of one; fewer processes take over several each, and of more, some have none.
        self.sums = _added([had["sums"] for had in processes[fabric.global_rank :: fabric.world_size]])
        own = processes[min(fabric.global_rank, len(processes) - 1)]
        if fabric.global_rank < len(processes):
            draws.load_state_dict(own["draws"])
        for name, buffer in model.named_buffers():
            buffer.copy_(own["buffers"][name])


def _added(parts: list[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total
