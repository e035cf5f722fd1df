"""Enhancing on the CPU with compiled kernels; PyTorch is imported only for networks that need it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from kdlib.catalogue import find_weights
from kdlib.inference.curve import apply_curve_map
from kdlib.inference.network import SeparableNetwork, small_copy

if TYPE_CHECKING:
    from kdlib.models import ZeroDCE


# Of the architecture in a weights file. Where there are others, :func:`kdlib.load_model` says what is wrong.
_ARGUMENTS = {"width", "depth", "iterations", "separable", "shared_map", "skips", "scale_factor", "curve_activation"}


class CpuEngine:
    """Runs network and fused pass on the CPU."""

    backend = "numba"

    def __init__(self, model: str | Path | ZeroDCE) -> None:
        network = _open_without_torch(model) if isinstance(model, str | Path) else None
        self._network: Callable[[np.ndarray, int], np.ndarray]
        if network is not None:
            self.iterations, self.scale_factor, self._network = network.iterations, network.scale_factor, network
            return
        from kdlib.weights import resolve_model

        loaded = resolve_model(model)
        self.iterations, self.scale_factor = loaded.iterations, loaded.scale_factor
        if loaded.separable:
            state = {key: tensor.numpy(force=True) for key, tensor in loaded.state_dict().items()}
            self._network = SeparableNetwork(state, loaded.config)
        else:
            self._network = _in_torch(loaded)

    def estimate(self, photo: np.ndarray, size: tuple[int, int], threads: int) -> np.ndarray:
        """The curve maps, K×h×w, of a photo (H×W×C)."""
        return self._network(small_copy(photo, size, threads=threads), threads)

    def own(self, maps: np.ndarray) -> np.ndarray:
        """Curve maps as this engine takes them."""
        return maps

    def apply(self, photo: np.ndarray, maps: np.ndarray, out: np.ndarray, threads: int) -> None:
        """Enhance a photo with given maps into ``out``."""
        apply_curve_map(photo, maps, self.iterations, out=out, threads=threads)


def _open_without_torch(model: str | Path) -> SeparableNetwork | None:
    """A network whose file says all about it; None where :func:`kdlib.load_model` has to look, or to complain."""
    path = find_weights(model)
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="np") as file:
            architecture = json.loads((file.metadata() or {})["architecture"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        if set(architecture) != _ARGUMENTS or not architecture["separable"]:
            return None
        return SeparableNetwork(state, architecture)
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None


def _in_torch(model: ZeroDCE) -> Callable[[np.ndarray, int], np.ndarray]:
    """A network that has no compiled form."""
    import copy

    import torch

    # A copy: the model may be in training, on another device, and in another precision.
    model = copy.deepcopy(model).cpu().float().eval()

    def run(small: np.ndarray, threads: int) -> np.ndarray:
        with torch.inference_mode():
            return model.estimate_curve(torch.from_numpy(small)[None])[0].numpy()

    return run
