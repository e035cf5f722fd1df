"""One process or many: how they are found, how they share batches, and how they stay in step."""

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import Sampler, default_collate

# The others wait while the first process validates and writes; the launcher, not this timeout, notices a dead process.
PATIENCE = timedelta(hours=12)

Result = TypeVar("Result")


def launcher() -> ClusterEnvironment | None:
    """The launcher that started this process among others: torchrun, or srun of Slurm; None for a single process.

    Raises:
        ValueError: Slurm was asked for tasks, but not for their number on each node.
    """
    environment: ClusterEnvironment | None = None
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
    elif "SLURM_STEP_ID" in os.environ and SLURMEnvironment.detect():  # within an allocation, but without srun: alone
        try:
            environment = SLURMEnvironment()
        except RuntimeError as error:
            raise ValueError(str(error)) from None
    return environment if environment and environment.world_size() > 1 else None


def rank() -> int:
    """The number of this process among all; 0 is the first one, which writes and prints."""
    environment = launcher()
    return environment.global_rank() if environment else 0


def make_fabric(device: str = "auto", precision: str = "auto") -> Fabric:
    """One device for each process that torchrun or Slurm has started (otherwise there is one process), in a precision
    that it supports.

    Raises:
        ValueError: the device is not available, or not for every process, or does not support the precision.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        there = ", ".join(name for name in available if available[name])
        raise ValueError(f"device {device!r} is not available here; choose auto or one of {there}")
    if precision == "auto":
        # On CPUs 32 bits are the reference: bfloat16 is faster on some of them, but gives other numbers.
        precision = "bf16-mixed" if device == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
    if precision == "16-mixed" and device != "cuda":
        raise ValueError(f"precision '16-mixed' needs a CUDA device, this is {device!r}; choose bf16-mixed or 32-true")
    environment = launcher()
    if environment is None:
        alone = LightningEnvironment()  # else Fabric would look for Slurm's other tasks within any allocation
        return Fabric(accelerator=device, devices=1, precision=precision, plugins=[alone])  # type: ignore[arg-type]
    world = environment.world_size()
    elastic = isinstance(environment, TorchElasticEnvironment)
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if elastic else world // int(os.environ["SLURM_NNODES"])
    if not here or world % here:
        raise ValueError(f"{world} processes with {here} of them on this node: start equally many on every node")
    if device != "cpu" and (devices := torch.cuda.device_count() if device == "cuda" else 1) < here:
        raise ValueError(
            f"{here} processes on this node, but each sees {devices} {device} device(s), and every process needs its "
            "own: start fewer, use device cpu, or under Slurm ask with --gres for GPUs that all tasks of a node see"
        )
    fabric = Fabric(
        accelerator=device, devices=here, num_nodes=world // here, precision=precision,  # type: ignore[arg-type]
        strategy=DDPStrategy(cluster_environment=environment, timeout=PATIENCE),
    )  # fmt: skip
    fabric.launch()
    return fabric


def leave() -> None:
    """Leave the group of processes, at the end of a program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class GlobalBatches(Sampler[list[int]]):
    """One process's part of each batch.

    All processes draw the same order of the photos. Batch k is the k-th ``batch_size`` of them; the process of rank r
    takes every ``world``-th photo, starting with the r-th. Nothing is padded: no photo is lost or used twice, and if
    the last batch has fewer photos than there are processes, some get an empty list.

    Args:
        count: photos.
        batch_size: photos in a batch of all processes together.
        order: the source of the order, in the same state on every process.

    Attributes:
        first: the batch with which the next iteration begins; those before it are skipped without loading a photo.

    Raises:
        ValueError: the batches are so small that some process would never have a photo.
    """

    def __init__(self, count: int, batch_size: int, order: torch.Generator, rank: int = 0, world: int = 1) -> None:
        if min(count, batch_size) < world:
            raise ValueError(
                f"{world} processes share batches of {min(count, batch_size)} photos: start at most that many, "
                "or raise batch_size, which counts the photos of all processes together"
            )
        self.count, self.batch_size, self.order, self.rank, self.world = count, batch_size, order, rank, world
        self.first = 0

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.count, generator=self.order).tolist()
        for start in range(self.first * self.batch_size, self.count, self.batch_size):
            yield order[start : start + self.batch_size][self.rank :: self.world]

    def share(self, index: int) -> float:
        """This process's share of a batch's photos, from 0 to 1."""
        size = min(self.batch_size, self.count - index * self.batch_size)
        return len(range(self.rank, size, self.world)) / size


def collate(items: list[Any]) -> Any:
    """PyTorch's batch of some items, or None if there are none."""
    return default_collate(items) if items else None


def nothing(model: nn.Module) -> dict[str, Tensor]:
    """The loss of a process without photos: zero, with a gradient of zero, so that it stays in step with the others."""
    return {"nothing": torch.stack([p.sum() for p in model.parameters() if p.requires_grad]).sum() * 0}


def average_gradients(fabric: Fabric, parameters: Iterable[Tensor], weight: float, wish: bool = False) -> bool:
    """Replace the gradients by those of the global batch, the same on every process.

    This takes one sum of everything after the backward pass, instead of DistributedDataParallel's wrapper. Losses here
    call the network itself, its layers and sometimes its average, which the wrapper does not see; and its advantage, to
    send gradients while others are still computed, is nil for networks of a few kilobytes.

    Args:
        weight: this process's share of the batch; 0 if it has no photo. NaN if its loss is not finite: the NaN reaches
            the gradients on all processes, which then skip the batch together.
        wish: a flag, of which the first process's value counts.

    Returns:
        The first process's flag.
    """
    if fabric.world_size == 1:
        return wish
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    used = [parameter.grad is not None and weight != 0 for parameter in trained]
    parts = [
        (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad * weight).flatten()
        for parameter in trained
    ]
    notes = parts[0].new_tensor([float(flag) for flag in (*used, wish and fabric.is_global_zero)])
    total = fabric.all_reduce(torch.cat([*parts, notes]), reduce_op="sum")
    assert isinstance(total, Tensor)
    *parts, notes = total.split([part.numel() for part in (*parts, notes)])
    *in_use, wished = (notes > 0).tolist()
    for parameter, part, anywhere in zip(trained, parts, in_use, strict=True):
        # A parameter that no process used stays without a gradient, as in one process: the optimiser skips it.
        parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape)) if anywhere else None
    return bool(wished)


@torch.no_grad()
def average_buffers(fabric: Fabric, *models: nn.Module | None) -> None:
    """Replace floating-point buffers, such as the statistics of batch norm, by their means over the processes."""
    buffers = [buffer for model in models if model is not None for buffer in model.buffers()]
    for buffer in buffers if fabric.world_size > 1 else ():
        if buffer.is_floating_point():
            mean = fabric.all_reduce(buffer.clone(), reduce_op="mean")
            assert isinstance(mean, Tensor)
            buffer.copy_(mean)


def first(fabric: Fabric, do: Callable[[], Result]) -> Result:
    """Call a function on the first process, and return its result on every process.

    Raises:
        RuntimeError: on the other processes, if it failed on the first, which raises its own error.
    """
    if fabric.world_size == 1:
        return do()
    result, failure = None, None
    if fabric.is_global_zero:
        try:
            result = do()
        except BaseException as error:  # Ctrl-C, too: otherwise the others would wait for hours
            fabric.broadcast((None, f"{type(error).__name__}: {error}"))
            raise
    result, failure = fabric.broadcast((result, None))
    if failure is not None:
        raise RuntimeError(f"the first process has failed: {failure}")
    return result  # type: ignore[return-value]


def gather(fabric: Fabric, value: Result) -> list[Result]:
    """The values of all processes, in the order of their ranks."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values
