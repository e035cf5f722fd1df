"""The Zero-DCE family on the CPU: network and fused curve compiled."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from kdlib.enhance.backends.backend import NoCompiledFormError
from kdlib.enhance.backends.cpu_base import CpuBackend, Estimate, in_torch
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
    def around(cls, estimate: Estimate, parameters: Mapping[str, np.ndarray], architecture: Mapping[str, Any]) -> Self:
        return cls(estimate, {**DEFAULTS, **architecture})

    @classmethod
    def from_model(cls, model: Any) -> Self:
        return super().from_model(model) if model.separable else cls(in_torch(model, "estimate_curve"), model.config)

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
