"""Enhancing in PyTorch: the reference for the compiled kernels, the fallback, and the way to a GPU.

On CUDA the two steps that touch the full photo run as Triton kernels (:mod:`kdlib.enhance.kernels.triton`); elsewhere
plain tensor operations give the same result, a few rows at a time so that memory stays small.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.backends.backend import CurveFamily, Engine, GlanceFamily
from kdlib.models import MSAFN, GlanceNet, Model, ZeroDCE, apply_curve
from kdlib.noise import measure_noise

TOP = {torch.uint8: 255, torch.uint16: 65535, torch.float32: 1}
_STRIP = 1 << 16  # samples, of which a dozen float32 copies are about
# Smoothing reads 7 rows beyond a strip again, so that strips are larger. Pixels, and rows.
_GLANCE_STRIP, _GLANCE_ROWS = 1 << 18, 64


def small_copy(photo: Tensor, size: tuple[int, int]) -> Tensor:
    """H×W×C → 3×h×w float32 in [0, 1]: area averages, as :func:`kdlib.enhance.kernels.separable.small_copy`."""
    height, _, channels = photo.shape
    colours = 3 if channels >= 3 else 1
    h, w = size
    rows = [
        F.adaptive_avg_pool1d(
            photo[i * height // h : -((i + 1) * height // -h), :, :colours].float().mean(0).movedim(1, 0), w
        )
        for i in range(h)
    ]
    averaged = torch.stack(rows, dim=1) / TOP[photo.dtype]
    return averaged.expand(3, h, w)


def _between(size: int, count: int, first: int, last: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For full-size positions first … last: the two map positions around each, and the weight of the second."""
    step = (count - 1) / (size - 1) if size > 1 else 0.0
    # float64 on the host: every device gets the same weights, also one without float64.
    position = torch.arange(first, last, dtype=torch.float64) * step
    lower = position.long().clamp(0, max(count - 2, 0))
    weight = (position - lower).to(like.dtype)
    return lower.to(like.device), (lower + 1).clamp(max=count - 1).to(like.device), weight.to(like.device)


def apply_curve_map(photo: Tensor, maps: Tensor, iterations: int, out: Tensor) -> None:
    """The plain form of :func:`kdlib.enhance.kernels.curve.apply_curve_map`, into ``out``.

    Args:
        photo: H×W×C, uint8, uint16 or float32 in [0, 1].
        maps: K×h×w.
        iterations: how often the curve is applied.
        out: like ``photo``; may be ``photo``.
    """
    height, width, channels = photo.shape
    colours = 3 if channels >= 3 else 1
    # 16 bits need more digits than float32 has; Apple's GPUs have no more.
    wide = photo.dtype == torch.uint16 and photo.device.type != "mps"
    compute, top = torch.float64 if wide else torch.float32, TOP[photo.dtype]
    maps = maps.to(photo.device, compute)
    left, right, across = _between(width, maps.shape[2], 0, width, maps)
    strip = max(1, _STRIP // width)
    for first in range(0, height, strip):
        last = min(first + strip, height)
        above, below, down = _between(height, maps.shape[1], first, last, maps)
        rows = torch.lerp(maps[:, above], maps[:, below], down[:, None])
        full = torch.lerp(rows[..., left], rows[..., right], across)
        x = photo[first:last, :, :colours].to(compute).permute(2, 0, 1) / top
        # One map for grey is three times the same to the curve, which expects three colours.
        if colours == 1:
            x, full = x.expand(3, -1, -1), full.repeat_interleave(3, dim=0)
        y = apply_curve(x[None], full[None], iterations)[0, :colours].clamp(0, 1) * top
        if photo.dtype != torch.float32:
            y = y.add_(0.5).floor_()
        out[first:last, :, :colours] = y.permute(1, 2, 0).to(photo.dtype)
        if channels > colours:
            out[first:last, :, colours:] = photo[first:last, :, colours:]


def torch_engine(model: Model, device: torch.device) -> Engine:
    """The engine for a model's family."""
    if isinstance(model, GlanceNet):
        return TorchGlance(model, device)
    if isinstance(model, ZeroDCE):
        return TorchCurves(model, device)
    if isinstance(model, MSAFN):
        from kdlib.enhance.backends.torch_super_resolution import TorchUpscale

        return TorchUpscale(model, device)
    from kdlib.enhance.backends.torch_stages import TorchStages

    return TorchStages(model, device)


class InTorch:
    """What engines in PyTorch share."""

    backend = "torch"

    def __init__(self, model: Model, device: torch.device) -> None:
        # A copy: the model may be in training, on another device, and in another precision.
        self.model: Any = copy.deepcopy(model).to(device).float().eval()
        self.device = device

    def own(self, maps: np.ndarray) -> Any:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        return torch.from_numpy(np.array(maps, order="C")).to(self.device)

    def as_array(self, maps: Any) -> np.ndarray:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        return kinds.on_host(maps)

    def on_device(self, photo: Any) -> Tensor:
        """An array or tensor as a tensor on the device."""
        if isinstance(photo, np.ndarray):
            # PyTorch knows neither negative strides, which a side of 1 may have, nor arrays that are read-only.
            photo = torch.from_numpy(photo if photo.flags.writeable and min(photo.strides) >= 0 else np.array(photo))
        return photo.to(self.device)

    def into(self, out: Any, image: Tensor, work: Callable[[Tensor], object]) -> None:
        """Have ``work`` fill ``out``, an array or a tensor anywhere, by way of a tensor where ``image`` is."""
        given = out if isinstance(out, Tensor) else torch.from_numpy(out)
        target = given if given.device == image.device else torch.empty_like(image)
        with torch.inference_mode():
            work(target)
        if target is not given:
            given.copy_(target)


class TorchCurves(InTorch, CurveFamily):
    """The Zero-DCE family.

    Attributes:
        backend: ``"triton"`` on CUDA where Triton is installed, else ``"torch"``.
    """

    def __init__(self, model: ZeroDCE, device: torch.device) -> None:
        InTorch.__init__(self, model, device)
        CurveFamily.__init__(self, model.iterations, model.scale_factor, model.network_side)
        self._small_copy, self._apply_curve_map = small_copy, apply_curve_map
        if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
            from kdlib.enhance.kernels import triton as kernels

            self.backend = "triton"
            self._small_copy, self._apply_curve_map = kernels.small_copy, kernels.apply_curve_map

    def estimate(self, photo: Any, limit: int, threads: int) -> Tensor:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        image = self.on_device(photo)
        with torch.inference_mode():
            small = self._small_copy(image, self.copy_size(image.shape[0], image.shape[1], limit))
            return self.model.estimate_curve(small[None])[0].float()

    def apply(self, photo: Any, maps: Tensor, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        image, maps = self.on_device(photo), self.settle(maps, photo.shape[2], strength)
        self.into(out, image, lambda target: self._apply_curve_map(image, maps, self.iterations, target))
        if denoise:  # compiled for the CPU, wherever the photo lies
            from kdlib.enhance.backends.cpu import smooth_lifted

            enhanced = kinds.on_host(out)
            smooth_lifted(enhanced, kinds.on_host(maps), self.iterations, denoise, threads)
            if isinstance(out, Tensor):
                out.copy_(torch.from_numpy(enhanced))


class TorchGlance(InTorch, GlanceFamily):
    """GlanceNet, by the model's own operations, on strips of the photo."""

    def __init__(self, model: GlanceNet, device: torch.device) -> None:
        InTorch.__init__(self, model, device)
        GlanceFamily.__init__(self, model.side)
        self._reach = 2 ** len(model.smoothing.log_tolerance) - 1

    def estimate(self, photo: Any, limit: int, threads: int) -> Tensor:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        image = self.on_device(photo)
        with torch.inference_mode():
            small = small_copy(image, self.copy_size(image.shape[0], image.shape[1], limit))
            return self.model.estimate_curve(small[None])[0]

    def apply(self, photo: Any, maps: Tensor, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        """See :class:`~kdlib.enhance.backends.backend.Engine`."""
        image = self.on_device(photo)
        gain, gamma, tolerance = self.settle(maps, image.shape[2], strength, denoise)
        noise = measure_noise(kinds.on_host(photo)) if tolerance.any() else None
        settled = torch.cat([gain, gamma, tolerance[None]])
        if settled.any():
            self.into(out, image, lambda target: self._apply(image, settled, noise, target))
        else:
            self.into(out, image, lambda target: target.copy_(image))

    def _apply(self, image: Tensor, maps: Tensor, noise: float | None, out: Tensor) -> None:
        height, width, channels = image.shape
        colours = 3 if channels >= 3 else 1
        if colours == 1:  # the model expects three colours
            maps = maps[[0, 0, 0, 1, 1, 1, 2]]
        left, right, across = _between(width, maps.shape[2], 0, width, maps)
        top, reach = TOP[image.dtype], self._reach if noise is not None else 0
        strip = max(_GLANCE_ROWS, _GLANCE_STRIP // width)
        level = None if noise is None else torch.full((1, 1, 1, 1), noise, device=image.device)
        before = image[:0]
        for first in range(0, height, strip):
            last = min(first + strip, height)
            rows = torch.cat([before, image[first : last + reach]])
            start = first - len(before)
            before = image[last - reach : last].clone()  # out may be the photo
            above, below, down = _between(height, maps.shape[1], start, start + len(rows), maps)
            lines = torch.lerp(maps[:, above], maps[:, below], down[:, None])
            full = torch.lerp(lines[..., left], lines[..., right], across)
            x = rows[..., :colours].float().permute(2, 0, 1) / top
            y = self.model.enhance(x.expand(3, -1, -1)[None], full[None], level)[0, :colours] * top
            if image.dtype != torch.float32:
                y = y.add_(0.5).floor_()
            out[first:last, :, :colours] = y[:, first - start : last - start].permute(1, 2, 0).to(image.dtype)
            if channels > colours:
                out[first:last, :, colours:] = image[first:last, :, colours:]
