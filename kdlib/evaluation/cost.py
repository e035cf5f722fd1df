"""What a network costs: multiply-adds, and time beside other networks."""

from __future__ import annotations

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
    """Multiply-adds of a network for one photo of this size.

    One multiplication with its addition counts once, as papers mostly do when they write MACs (some call these FLOPs,
    others count two of those). Convolutions, linear layers and matrix products are counted, as PyTorch's counter does;
    elementwise steps, activations, norms and resampling are not. The result does not depend on the machine.
    """
    was_training = model.training
    model.eval()
    try:
        # Only shapes count, so nothing is computed: a photo of any size takes no time and no memory.
        state = {name: tensor.to("meta") for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        return _count(
            partial(torch.func.functional_call, model, state), torch.empty(1, 3, height, width, device="meta")
        )
    except NotImplementedError:  # a network that looks at values, as a glance network at the noise
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
    """Time networks in one process, taking turns, so that all of them meet the machine in the same mood.

    The networks run as PyTorch runs them, on the CPU, without what reads, writes and rounds photos. On a machine with
    other work, medians wander, and ratios hold.

    Args:
        models: by name, put into evaluation mode; the first is what the others are compared with.
        sizes: (width, height) of the photos.
        repeats: measured runs of each network at each size.
        threads: for PyTorch.

    Returns:
        A row for each size and network: ``method``, ``parameters``, ``width``, ``height``, ``ms`` (median),
        ``ms_quartiles`` (low, high) and ``times_faster``, the first network's median divided by this one's.

    Raises:
        ValueError: no networks, or fewer than one repetition or thread.
    """
    if not models or repeats < 1 or threads < 1:
        raise ValueError(f"at least one network, repetition and thread, not {len(models)}, {repeats} and {threads}")
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
