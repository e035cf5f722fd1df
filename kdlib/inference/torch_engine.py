"""Enhancing in PyTorch: the reference for the compiled kernels, the fallback, and the way to a GPU.

On CUDA the two steps that touch the full photo run as Triton kernels (:mod:`kdlib.inference.triton_kernels`); elsewhere
plain tensor operations give the same result, a few rows at a time so that memory stays small.
"""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.models import ZeroDCE, apply_curve

TOP = {torch.uint8: 255, torch.uint16: 65535, torch.float32: 1}
_STRIP = 1 << 16  # samples, of which a dozen float32 copies are about


def small_copy(photo: Tensor, size: tuple[int, int]) -> Tensor:
    """H×W×C → 3×h×w float32 in [0, 1]: area averages, as :func:`kdlib.inference.network.small_copy`."""
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
    """The plain form of :func:`kdlib.inference.curve.apply_curve_map`, into ``out``.

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


class TorchEngine:
    """Runs network and fused pass on a PyTorch device.

    Attributes:
        backend: ``"triton"`` on CUDA where Triton is installed, else ``"torch"``.
    """

    def __init__(self, model: ZeroDCE, device: torch.device) -> None:
        # A copy: the model may be in training, on another device, and in another precision.
        self.model = copy.deepcopy(model).to(device).float().eval()
        self.device = device
        self.iterations, self.scale_factor = model.iterations, model.scale_factor
        self.backend = "torch"
        self._small_copy, self._apply_curve_map = small_copy, apply_curve_map
        if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
            from kdlib.inference import triton_kernels as kernels

            self.backend = "triton"
            self._small_copy, self._apply_curve_map = kernels.small_copy, kernels.apply_curve_map

    def estimate(self, photo: Any, size: tuple[int, int], threads: int) -> Tensor:
        """The curve maps, K×h×w on the device, of a photo (NumPy array or tensor)."""
        image = self._to_device(photo)
        with torch.inference_mode():
            return self.model.estimate_curve(self._small_copy(image, size)[None])[0].float()

    def own(self, maps: np.ndarray) -> Tensor:
        """Curve maps as this engine takes them."""
        return torch.from_numpy(np.array(maps, order="C")).to(self.device)

    def apply(self, photo: Any, maps: Tensor, out: Any, threads: int) -> None:
        """Enhance a photo with given maps into ``out``, an array or a tensor like ``photo``."""
        image = self._to_device(photo)
        given = out if isinstance(out, Tensor) else torch.from_numpy(out)
        target = given if given.device == image.device else torch.empty_like(image)
        with torch.inference_mode():
            self._apply_curve_map(image, maps, self.iterations, target)
        if target is not given:
            given.copy_(target)

    def _to_device(self, photo: Any) -> Tensor:
        if isinstance(photo, np.ndarray):
            # PyTorch knows neither negative strides, which a side of 1 may have, nor arrays that are read-only.
            photo = torch.from_numpy(photo if photo.flags.writeable and min(photo.strides) >= 0 else np.array(photo))
        return photo.to(self.device)
