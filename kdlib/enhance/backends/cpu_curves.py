"""The Zero-DCE family on the CPU: network and fused curve compiled."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from kdlib.enhance.backends.backend import NoCompiledFormError
from kdlib.enhance.backends.cpu_base import CpuBackend
from kdlib.enhance.backends.curves import CurveMaps
from kdlib.enhance.kernels.curve import apply_curve_map
from kdlib.enhance.kernels.separable import SeparableNetwork, small_copy
from kdlib.models.families.zero_dce import DEFAULTS


class CpuCurves(CpuBackend, CurveMaps):
    """Zero-DCE++ and its students without PyTorch; the plain convolutions of Zero-DCE itself run in PyTorch."""

    network = SeparableNetwork
    defaults = DEFAULTS

    def __init__(self, network: Callable[[np.ndarray, int], np.ndarray], architecture: Mapping[str, Any]) -> None:
        CurveMaps.__init__(self, *(architecture[name] for name in ("iterations", "scale_factor", "network_side")))
        self._network = network

    @classmethod
    def complete(cls, architecture: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        arguments = {**DEFAULTS, **architecture}
        if not arguments["separable"]:
            raise NoCompiledFormError
        return super().complete(arguments, shapes)

    @classmethod
    def from_model(cls, model: Any) -> Self:
        return super().from_model(model) if model.separable else cls(_in_torch(model), model.config)

    def estimate(self, photo: np.ndarray, limit: int, threads: int) -> np.ndarray:
        size = self.copy_size(photo.shape[0], photo.shape[1], limit)
        return self._network(small_copy(photo, size, threads=threads), threads)

    def apply(
        self, photo: np.ndarray, maps: np.ndarray, out: np.ndarray, *, strength: float, denoise: float, threads: int
    ) -> None:
        maps = self.settle(maps, photo.shape[2], strength)
        apply_curve_map(photo, maps, self.iterations, out=out, threads=threads)
        if denoise:
            from kdlib.enhance.kernels.denoise import smooth_lifted

            smooth_lifted(out, maps, self.iterations, denoise, threads)


def _in_torch(model: Any) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return a function that estimates the curve map of a small copy with a network that has no compiled form."""
    import torch

    # A copy, because the model may be in training, on another device, and in another precision.
    model = copy.deepcopy(model).cpu().float().eval()

    def run(small: np.ndarray, threads: int) -> np.ndarray:
        with torch.inference_mode():
            return model.estimate_curve(torch.from_numpy(small)[None])[0].numpy()

    return run
