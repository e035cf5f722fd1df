"""GlanceNet in PyTorch, for GPUs and where numba is missing."""

from typing import Any

import torch
from torch import Tensor

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.backends.power_curves import PowerCurveMaps
from kdlib.enhance.backends.torch_base import TorchBackend, smoothing_strips
from kdlib.enhance.kernels.plain_torch import as_planes, as_samples, between, small_copy
from kdlib.models.glance import GlanceNet
from kdlib.noise import measure_noise


class TorchGlance(TorchBackend, PowerCurveMaps):
    """GlanceNet through the model's own operations, one strip of the photo after another."""

    def __init__(self, model: GlanceNet, device: torch.device) -> None:
        TorchBackend.__init__(self, model, device)
        PowerCurveMaps.__init__(self, model.side)
        self._reach = sum(model.smoothing.steps)

    def estimate(self, photo: Any, limit: int, threads: int) -> Tensor:
        image = self.on_device(photo)
        with torch.inference_mode():
            small = small_copy(image, self.copy_size(image.shape[0], image.shape[1], limit))
            return self.model.estimate_curve(small[None])[0]

    def apply(self, photo: Any, maps: Tensor, out: Any, *, strength: float, denoise: float, threads: int) -> None:
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
        left, right, across = between(width, maps.shape[2], 0, width, maps)
        reach = self._reach if noise is not None else 0
        level = None if noise is None else torch.full((1, 1, 1, 1), noise, device=image.device)
        for first, last, start, rows in smoothing_strips(image, reach):
            above, below, down = between(height, maps.shape[1], start, start + len(rows), maps)
            lines = torch.lerp(maps[:, above], maps[:, below], down[:, None])
            full = torch.lerp(lines[..., left], lines[..., right], across)
            x = as_planes(rows)
            y = self.model.enhance(x.expand(3, -1, -1)[None], full[None], level)[0, :colours]
            out[first:last, :, :colours] = as_samples(y[:, first - start : last - start], image.dtype)
            if channels > colours:
                out[first:last, :, colours:] = image[first:last, :, colours:]
