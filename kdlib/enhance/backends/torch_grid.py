"""GridNet in PyTorch, for GPUs and where numba is missing."""

from typing import Any

import torch
from torch import Tensor

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.backends.grid_maps import GridMaps
from kdlib.enhance.backends.torch_base import TorchBackend, at_most, smoothing_strips
from kdlib.enhance.kernels.plain_torch import as_planes, as_samples, between, precise, small_copy
from kdlib.models.grid import GridNet, within_white
from kdlib.noise import measure_noise


class TorchGrid(TorchBackend, GridMaps):
    """GridNet through the model's own operations, one strip of the photo after another."""

    def __init__(self, model: GridNet, device: torch.device) -> None:
        TorchBackend.__init__(self, model, device)
        GridMaps.__init__(self, model.side)
        self._reach = sum(model.smoothing.steps)

    def estimate(self, photo: Any, limit: int, threads: int) -> Tensor:
        image = self.on_device(photo)
        with torch.inference_mode(), at_most(threads):
            small = small_copy(image, self.copy_size(image.shape[0], image.shape[1], limit))
            return self.model.estimate_grid(small[None])[0]

    def apply(self, photo: Any, maps: Tensor, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        image = self.on_device(photo)
        gains = self.settle(maps.to(precise(image)), strength)
        noise = denoise * measure_noise(kinds.on_host(photo)) if denoise else None
        with at_most(threads):
            if denoise or (gains != 1).any():
                self.into(out, image, lambda target: self._apply(image, gains, noise, target))
            else:  # shares of knots would not add up to 1 to the last bit
                self.into(out, image, lambda target: target.copy_(image))

    def _apply(self, image: Tensor, gains: Tensor, noise: float | None, out: Tensor) -> None:
        height, width, channels = image.shape
        colours = 3 if channels >= 3 else 1
        left, right, across = between(width, gains.shape[2], 0, width, gains, centres=True)
        reach = self._reach if noise is not None else 0
        level = None if noise is None else torch.full((1, 1, 1, 1), noise, dtype=gains.dtype, device=image.device)
        for first, last, start, rows in smoothing_strips(image, reach):
            above, below, down = between(height, gains.shape[1], start, start + len(rows), gains, centres=True)
            lines = torch.lerp(gains[:, above], gains[:, below], down[:, None])
            full = torch.lerp(lines[..., left], lines[..., right], across)
            x = as_planes(rows, gains.dtype).expand(3, -1, -1)[None]
            y = within_white(self.model.apply_gains(x, full[None], level))[0, :colours]
            out[first:last, :, :colours] = as_samples(y[:, first - start : last - start], image.dtype)
            if channels > colours:
                out[first:last, :, colours:] = image[first:last, :, colours:]
