"""GridNet on the CPU: the student's network in NumPy, smoothing and gains compiled."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from kdlib.enhance.backends.backend import NoCompiledFormError
from kdlib.enhance.backends.cpu_base import CpuBackend, Elsewhere, in_torch, state_of
from kdlib.enhance.backends.grid_maps import GridMaps
from kdlib.enhance.kernels.grid import GridFactors, GridNetwork, apply_gains
from kdlib.enhance.kernels.separable import small_copy
from kdlib.gain_grid import measure_over_exposure
from kdlib.models.families.grid import DEFAULTS


class _Elsewhere(Elsewhere, GridFactors):
    """A network that runs elsewhere."""


class CpuGrid(CpuBackend, GridMaps):
    """GridNet without PyTorch; only the features of a teacher, whose body is residual, run in PyTorch."""

    network = GridNetwork
    elsewhere = _Elsewhere
    defaults = DEFAULTS

    def __init__(self, network: Any, architecture: Mapping[str, Any]) -> None:
        GridMaps.__init__(self, architecture["side"])
        self._network = network

    @classmethod
    def complete(cls, architecture: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        if architecture.get("body", DEFAULTS["body"]) != "separable":
            raise NoCompiledFormError
        return super().complete(architecture, shapes)

    @classmethod
    def from_model(cls, model: Any) -> Self:
        if model.body == "separable":
            return super().from_model(model)
        return cls.around(in_torch(model, "estimate_grid"), state_of(model), model.config)

    def estimate(self, photo: np.ndarray, limit: int, threads: int) -> np.ndarray:
        size = self.copy_size(photo.shape[0], photo.shape[1], limit)
        grid = self._network(small_copy(photo, size, threads=threads))
        gains = grid[:-1]
        np.multiply(gains, measure_over_exposure(photo)[:, None, None], out=gains, where=gains < 0)
        return grid

    def apply(
        self, photo: np.ndarray, maps: np.ndarray, out: np.ndarray, *, strength: float, denoise: float, threads: int
    ) -> None:
        gains = self.settle(maps.astype(np.float64), strength)
        apply_gains(photo, gains, self._network, denoise, out=out, threads=threads)
