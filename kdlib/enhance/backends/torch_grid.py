"""GridNet in PyTorch, for GPUs and where numba is missing.

On CUDA the area average and the gains run as Triton kernels (:mod:`kdlib.enhance.kernels.triton_grid`); the smoothing
in front of them is the model's own everywhere.
"""

from typing import Any

import torch
from torch import Tensor

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.backends.grid_maps import GridMaps
from kdlib.enhance.backends.torch_base import TorchBackend, at_most, pixel_kernels, smoothing_strips
from kdlib.enhance.kernels.plain_torch import as_planes, as_samples, between, precise
from kdlib.models.grid import GridNet, crossings, limit_darkening, over_exposure_of, within_white
from kdlib.noise import measure_noise


class TorchGrid(TorchBackend, GridMaps):
    """GridNet: the smoothing and the gains, one strip of the photo after another.

    Attributes:
        name: ``"triton"`` on CUDA where Triton is installed, else ``"torch"``.
    """

    def __init__(self, model: GridNet, device: torch.device) -> None:
        TorchBackend.__init__(self, model, device)
        GridMaps.__init__(self, model.side)
        self._reach = sum(model.smoothing.steps)
        self.name, self._kernels = pixel_kernels(device)
        self._fused: Any = None
        if self.name == "triton":
            from kdlib.enhance.kernels.triton_grid import apply_gains

            self._fused = apply_gains
        self._chroma, self._floor = tuple(model.chroma.tolist()), max(float(model.floor.detach()), 0.0)

    def estimate(self, photo: Any, limit: int, threads: int) -> Tensor:
        image = self.on_device(photo)
        with torch.inference_mode(), at_most(threads):
            small = self._kernels.small_copy(image, self.copy_size(image.shape[0], image.shape[1], limit))
            rows, columns = crossings(image.shape[0], image.shape[1], image.device)
            over_exposure = over_exposure_of(as_planes(image[rows][:, columns]).expand(3, -1, -1)[None])
            return limit_darkening(self.model.estimate_grid(small[None]), over_exposure)[0]

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
        if channels > colours:
            out[..., colours:] = image[..., colours:]
        if self._fused and noise is None:
            self._fused(image[..., :colours], gains, self._chroma, None, out[..., :colours])
            return
        left, right, across = between(width, gains.shape[2], 0, width, gains, centres=True)
        reach = self._reach if noise is not None else 0
        level = None if noise is None else torch.full((1, 1, 1, 1), noise, dtype=gains.dtype, device=image.device)
        for first, last, start, rows in smoothing_strips(image, reach):
            x = as_planes(rows, gains.dtype).expand(3, -1, -1)[None]
            x = self.model.smoothed(x, level)[..., first - start : last - start, :]
            target = out[first:last, :, :colours]
            if self._fused and noise is not None:
                planes, floor = x[0].permute(1, 2, 0), self._floor * noise / 255
                self._fused(planes, gains, self._chroma, floor, target, first=first, height=height)
                continue
            above, below, down = between(height, gains.shape[1], first, last, gains, centres=True)
            lines = torch.lerp(gains[:, above], gains[:, below], down[:, None])
            full = torch.lerp(lines[..., left], lines[..., right], across)
            y = within_white(self.model.apply_gains(x, full[None], level))[0, :colours]
            target.copy_(as_samples(y, image.dtype))
