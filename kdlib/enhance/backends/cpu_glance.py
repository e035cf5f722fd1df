"""GlanceNet on the CPU: the network in NumPy, smoothing and power curve compiled."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdlib.enhance.backends.cpu_base import CpuBackend, Elsewhere
from kdlib.enhance.backends.power_curves import PowerCurveMaps
from kdlib.enhance.kernels.glance import GlanceFactors, GlanceNetwork, apply_power_curve
from kdlib.enhance.kernels.separable import small_copy
from kdlib.models.families.glance import DEFAULTS


class _Elsewhere(Elsewhere, GlanceFactors):
    """A network that runs elsewhere."""


class CpuGlance(CpuBackend, PowerCurveMaps):
    """GlanceNet without PyTorch."""

    network = GlanceNetwork
    elsewhere = _Elsewhere
    defaults = DEFAULTS

    def __init__(self, network: Any, architecture: Mapping[str, Any]) -> None:
        PowerCurveMaps.__init__(self, architecture["side"])
        self._network = network

    def estimate(self, photo: np.ndarray, limit: int, threads: int) -> np.ndarray:
        size = self.copy_size(photo.shape[0], photo.shape[1], limit)
        return self._network(small_copy(photo, size, threads=threads))

    def apply(
        self, photo: np.ndarray, maps: np.ndarray, out: np.ndarray, *, strength: float, denoise: float, threads: int
    ) -> None:
        settled = self.settle(maps, photo.shape[2], strength, denoise)
        apply_power_curve(photo, *settled, self._network.limits, out=out, threads=threads)
