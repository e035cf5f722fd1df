"""The base class of all backends that run in PyTorch."""

import copy
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.kernels import plain_torch
from kdlib.models.network import Network

# Pixels and least number of rows in a strip. Smoothing reads the rows around a strip again, so that strips are larger
# than for a curve.
_STRIP, _STRIP_ROWS = 1 << 18, 64


class TorchBackend:
    """Holds a copy of the model on a device, and moves photos and results there and back."""

    name = "torch"

    def __init__(self, model: Network, device: torch.device) -> None:
        # A copy, because the model may be in training, on another device, and in another precision.
        self.model: Any = copy.deepcopy(model).to(device).float().eval()
        if isinstance(model, Network):  # a family of one's own may build any module
            self.model = self.model.for_inference()
        self.device = device

    def own(self, maps: np.ndarray) -> Any:
        return torch.from_numpy(np.array(maps, order="C")).to(self.device)

    def as_array(self, maps: Any) -> np.ndarray:
        return kinds.on_host(maps)

    def on_device(self, photo: Any) -> Tensor:
        """Return an array or tensor as a tensor on the device."""
        if isinstance(photo, np.ndarray):
            # PyTorch takes neither negative strides, which a side of 1 may have, nor read-only arrays.
            photo = torch.from_numpy(photo if photo.flags.writeable and min(photo.strides) >= 0 else np.array(photo))
        return photo.to(self.device)

    def into(self, out: Any, image: Tensor, work: Callable[[Tensor], object]) -> None:
        """Fill ``out``, an array or a tensor on any device, through ``work``, which fills a tensor beside ``image``."""
        given = out if isinstance(out, Tensor) else torch.from_numpy(out)
        target = given if given.device == image.device else torch.empty_like(image)
        with torch.inference_mode():
            work(target)
        if target is not given:
            given.copy_(target)


def pixel_kernels(device: torch.device) -> tuple[str, Any]:
    """Return the name of a backend with kernels, and their module.

    They are ``"triton"`` on CUDA where Triton is installed; elsewhere ``"torch"``, whose plain tensor operations give
    the same result.
    """
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from kdlib.enhance.kernels import triton

        return "triton", triton
    return "torch", plain_torch


def smoothing_strips(image: Tensor, reach: int) -> Iterator[tuple[int, int, int, Tensor]]:
    """Cut a photo (H×W×C) into strips for a filter that reaches some rows beyond them.

    The caller may overwrite the rows of a strip before it asks for the next one.

    Yields:
        First and last row (exclusive) of the strip, first row of what the filter reads for it, and these rows.
    """
    height, width, _ = image.shape
    step = max(_STRIP_ROWS, _STRIP // width)
    before = image[:0]
    for first in range(0, height, step):
        last = min(first + step, height)
        rows = torch.cat([before, image[first : last + reach]])
        start = first - len(before)
        before = image[last - reach : last].clone()
        yield first, last, start, rows


@contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Limit PyTorch to this number of threads, for operations that this thread starts on the CPU."""
    before = torch.get_num_threads()
    if threads >= before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
