"""An epoch while it lasts: its random draws, and what it has come to, so that a run can go on in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kdlib.training.processes import gather


class Draws:
    """All that is random in an epoch, decided by the seed, the epoch and the process.

    Python's and NumPy's global generators take no part in training.

    Attributes:
        order: of the photos, the same on every process.
        noise: of augmentations, on the device. The first process draws what one alone would.
    """

    def __init__(self, seed: int, device: torch.device, rank: int) -> None:
        self.seed, self.device, self.rank = seed, device, rank
        self.order, self.noise = torch.Generator(), torch.Generator(device=device)

    def begin(self, epoch: int) -> None:
        """Seeding by epoch makes a resumed run repeat the draws of one that was never interrupted."""
        seed = self.seed * 100_003 + epoch
        self.order.manual_seed(seed)
        own = seed + self.rank * 1_000_000_007
        torch.manual_seed(own)  # of what a network draws itself: stochastic depth
        self.noise.manual_seed(own)

    def state_dict(self) -> dict[str, Any]:
        """Where the draws are within the epoch. The order is drawn at its beginning, and drawn again to go on."""
        state = {"device": self.device.type, "noise": self.noise.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["network"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            state["network"] = torch.mps.get_rng_state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; of a run that was on another kind of device, whose draws are others, as far as it fits."""
        torch.set_rng_state(state["torch"])
        if state["device"] != self.device.type:
            return
        self.noise.set_state(state["noise"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["network"], self.device)
        elif self.device.type == "mps":
            torch.mps.set_rng_state(state["network"])


class Epoch:
    """What a process has of an epoch so far.

    Attributes:
        batches: that are done.
        counted: of these, whose loss and gradient were finite.
        sums: of each loss term over those, weighted by the share of the batch's photos that this process had.
    """

    def __init__(self) -> None:
        self.batches, self.counted = 0, 0
        self.sums: dict[str, float] = {}
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the epoch began, the time before an interruption included."""
        return time.perf_counter() - self.began

    def count(self, terms: Mapping[str, Tensor], share: float) -> None:
        """Add the loss terms of a batch that went well."""
        self.counted += 1
        for name, term in terms.items() if share else ():
            self.sums[name] = self.sums.get(name, 0.0) + share * float(term.detach())

    def means(self, fabric: Fabric) -> dict[str, float]:
        """Each loss term's mean over the batches, of all processes together."""
        sums = _added(gather(fabric, self.sums))
        return {name: value / max(1, self.counted) for name, value in sums.items()}

    def snapshot(self, fabric: Fabric, draws: Draws, model: nn.Module) -> dict[str, Any]:
        """All that is needed, beside weights and optimiser, to go on here: plain values and tensors."""
        buffers = {name: buffer.detach().cpu().clone() for name, buffer in model.named_buffers()}
        own = {"sums": dict(self.sums), "draws": draws.state_dict(), "buffers": buffers}
        done = {"batches": self.batches, "counted": self.counted, "seconds": self.seconds}
        return {**done, "processes": gather(fabric, own)}

    @torch.no_grad()
    def restore(self, snapshot: Mapping[str, Any], fabric: Fabric, draws: Draws, model: nn.Module) -> None:
        """Go on from a snapshot, after the epoch has begun anew; also with another number of processes."""
        self.batches, self.counted = snapshot["batches"], snapshot["counted"]
        self.began -= snapshot["seconds"]
        processes = snapshot["processes"]
        # As many processes as before take up what each had; fewer share it out; of more, some begin with nothing.
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
