"""Enhancing on the CPU with compiled kernels; PyTorch is imported only for networks that need it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from kdlib.enhance.backends.backend import CurveFamily, Engine, GlanceFamily
from kdlib.enhance.kernels.curve import apply_curve_map
from kdlib.enhance.kernels.separable import SeparableNetwork, small_copy
from kdlib.weights.catalogue import find_weights
from kdlib.weights.header import read_header, require_shapes

if TYPE_CHECKING:
    from kdlib.enhance.kernels.glance import GlanceNetwork
    from kdlib.models import Model, ZeroDCE


# Of the architecture in a weights file. Where there are others, :func:`kdlib.load_model` says what is wrong.
_ARGUMENTS = {"width", "depth", "iterations", "separable", "shared_map", "skips", "scale_factor", "curve_activation"}
_NEWER = {"network_side": 0}  # absent in older files
_IN_TORCH = {"iat", "iat-student", "msafn", "light-msafn"}
_GLANCE_ARGUMENTS = {"width", "hidden", "side"}


def cpu_engine(model: str | Path | Model) -> Engine:
    """The engine for a model's family, from a file without PyTorch where that is possible; IAT, MSAFN and their
    students run in PyTorch."""
    engine = _open_without_torch(model) if isinstance(model, str | Path) else None
    if engine is not None:
        return engine
    from kdlib.weights import resolve_model

    loaded: Any = resolve_model(model)
    config = loaded.config
    if config.get("family") in _IN_TORCH:
        import torch

        from kdlib.enhance.backends.torch_curves import torch_engine

        return torch_engine(loaded, torch.device("cpu"))
    if "family" not in config and not loaded.separable:
        return CpuCurves(_in_torch(loaded), loaded.iterations, loaded.scale_factor, loaded.network_side)
    return _from_arrays({key: tensor.numpy(force=True) for key, tensor in loaded.state_dict().items()}, config)


class _Cpu:
    """What engines on the CPU share."""

    backend = "numba"

    def own(self, maps: np.ndarray) -> np.ndarray:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        return maps

    def as_array(self, maps: np.ndarray) -> np.ndarray:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        return maps


class CpuCurves(_Cpu, CurveFamily):
    """The Zero-DCE family; ``network`` makes K×h×w of 3×h×w, with so many threads."""

    def __init__(
        self,
        network: Callable[[np.ndarray, int], np.ndarray],
        iterations: int,
        scale_factor: int,
        network_side: int,
    ) -> None:
        super().__init__(iterations, scale_factor, network_side)
        self._network = network

    def estimate(self, photo: np.ndarray, limit: int, threads: int) -> np.ndarray:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        size = self.copy_size(photo.shape[0], photo.shape[1], limit)
        return self._network(small_copy(photo, size, threads=threads), threads)

    def apply(
        self, photo: np.ndarray, maps: np.ndarray, out: np.ndarray, *, strength: float, denoise: float, threads: int
    ) -> None:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        maps = self.settle(maps, photo.shape[2], strength)
        apply_curve_map(photo, maps, self.iterations, out=out, threads=threads)
        if denoise:
            smooth_lifted(out, maps, self.iterations, denoise, threads)


class CpuGlance(_Cpu, GlanceFamily):
    """GlanceNet."""

    def __init__(self, network: GlanceNetwork) -> None:
        super().__init__(network.side)
        self._network = network

    def estimate(self, photo: np.ndarray, limit: int, threads: int) -> np.ndarray:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        size = self.copy_size(photo.shape[0], photo.shape[1], limit)
        return self._network(small_copy(photo, size, threads=threads))

    def apply(
        self, photo: np.ndarray, maps: np.ndarray, out: np.ndarray, *, strength: float, denoise: float, threads: int
    ) -> None:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        from kdlib.enhance.kernels.glance import apply_power_curve

        settled = self.settle(maps, photo.shape[2], strength, denoise)
        apply_power_curve(photo, *settled, self._network.limits, out=out, threads=threads)


def smooth_lifted(photo: np.ndarray, maps: np.ndarray, iterations: int, denoise: float, threads: int) -> None:
    """Smooth a photo in place that was enhanced with these maps (K×h×w)."""
    from kdlib.enhance.kernels.denoise import denoise_photo

    curve_map = np.moveaxis(maps, 0, -1)
    denoise_photo(photo, denoise, curve_map=curve_map, iterations=iterations, out=photo, threads=threads)


def _open_without_torch(model: str | Path) -> Engine | None:
    """An engine for a network whose file says all about it; None where :func:`kdlib.load_model` has to look, or to
    complain."""
    path = find_weights(model)
    if path.suffix != ".safetensors":
        return None
    try:
        header = read_header(path)
        network, arguments = _compiled_form(header.architecture or {})
        require_shapes({name: claim.shape for name, claim in header.tensors.items()}, network.shapes(arguments))
        with safe_open(path, framework="np") as file:
            state = {name: file.get_tensor(name) for name in header.tensors}
        with np.errstate(over="ignore"):
            if not all(np.isfinite(tensor.astype(np.float32)).all() for tensor in state.values()):
                return None
        return _from_arrays(state, header.architecture or {})
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None


def _compiled_form(architecture: dict[str, Any]) -> tuple[type[SeparableNetwork] | type[GlanceNetwork], dict[str, Any]]:
    """The compiled form of a network, and its arguments; ValueError or KeyError where there is none."""
    arguments = dict(architecture)
    family = arguments.pop("family", "zero-dce")
    if family == "glance" and set(arguments) == _GLANCE_ARGUMENTS:
        from kdlib.enhance.kernels.glance import GlanceNetwork

        return GlanceNetwork, arguments
    arguments = {**_NEWER, **arguments}
    if family != "zero-dce" or set(arguments) != _ARGUMENTS | set(_NEWER) or not arguments["separable"]:
        raise ValueError("no compiled form of this network")
    return SeparableNetwork, arguments


def _from_arrays(state: dict[str, np.ndarray], architecture: dict[str, Any]) -> Engine:
    """The engine for a network that has a compiled form; ValueError, KeyError or TypeError where it has none."""
    form, arguments = _compiled_form(architecture)
    network = form(state, arguments)
    if isinstance(network, SeparableNetwork):
        return CpuCurves(network, network.iterations, network.scale_factor, network.network_side)
    return CpuGlance(network)


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
