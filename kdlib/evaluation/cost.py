"""Measure the cost of a network: multiply-adds, and time compared with other networks."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdlib.evaluation.timing import measure, use_threads
from kdlib.models import count_parameters


@torch.no_grad()
def multiply_adds(model: nn.Module, height: int, width: int) -> int:
    """Count the multiply-adds of a network for one photo of the given size.

    A multiplication and its addition count as one operation, the usual meaning of MACs in papers (some papers call them
    FLOPs, others count two FLOPs for each). As in PyTorch's counter, convolutions, linear layers and matrix products
    count; elementwise operations, activations, normalisation and resampling do not. The result does not depend on the
    machine.
    """
    was_training = model.training
    model.eval()
    try:
        # Counting needs only shapes, and on the meta device photos of any size take neither time nor memory.
        state = {name: tensor.to("meta") for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        return _count(
            partial(torch.func.functional_call, model, state), torch.empty(1, 3, height, width, device="meta")
        )
    except NotImplementedError:  # the network depends on values, as GlanceNet does on the measured noise
        return _count(model, torch.full((1, 3, height, width), 0.1, device=next(model.parameters()).device))
    finally:
        model.train(was_training)


def _count(forward: Callable[[Any], object], photo: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        forward(photo)
    return int(counter.get_total_flops()) // 2


@torch.no_grad()
def milliseconds(
    models: Mapping[str, nn.Module], sizes: Sequence[tuple[int, int]], *, repeats: int = 9, threads: int = 1
) -> list[dict[str, Any]]:
    """Time networks in one process, in alternating blocks, so that all of them run under the same conditions.

    The networks run in PyTorch on the CPU; reading, writing and rounding photos is not included. If the machine is busy
    with other work, the medians vary, but their ratios remain stable.

    Args:
        models: networks by name, put into evaluation mode; the first is the reference.
        sizes: (width, height) of the photos.
        repeats: timed runs of each network at each size.
        threads: number of PyTorch threads.

    Returns:
        A row for each size and network: ``method``, ``parameters``, ``width``, ``height``, ``ms`` (median),
        ``ms_quartiles`` (low, high) and ``times_faster``, the first network's median divided by this one's.

    Raises:
        ValueError: there are no networks, or ``repeats`` or ``threads`` is below 1.
    """
    if not models:
        raise ValueError("there must be at least one network to time")
    rows: list[dict[str, Any]] = []
    for width, height in sizes:
        photo = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) / 4
        with use_threads(threads):
            seconds = measure({name: partial(model.eval(), photo) for name, model in models.items()}, repeats)
        medians = {name: statistics.median(times) * 1e3 for name, times in seconds.items()}
        slowest = medians[next(iter(models))]
        for name, model in models.items():
            ordered = sorted(seconds[name])
            quartiles = [round(ordered[len(ordered) * k // 4] * 1e3, 3) for k in (1, 3)]
            row = {"method": name, "parameters": count_parameters(model), "width": width, "height": height}
            row |= {"ms": round(medians[name], 3), "ms_quartiles": quartiles, "times_faster": slowest / medians[name]}
            rows.append(row)
    return rows
