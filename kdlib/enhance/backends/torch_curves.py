"""The Zero-DCE family in PyTorch, for GPUs and where numba is missing.

On CUDA the two steps that touch the full photo run as Triton kernels (:mod:`kdlib.enhance.kernels.triton`). Elsewhere
plain tensor operations give the same result, a few rows at a time so that memory use stays small.
"""

from typing import Any

import torch
from torch import Tensor

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.backends.curves import CurveMaps
from kdlib.enhance.backends.torch_base import TorchBackend, pixel_kernels
from kdlib.models.zero_dce import ZeroDCE


class TorchCurves(TorchBackend, CurveMaps):
    """The Zero-DCE family.

    Attributes:
        name: ``"triton"`` on CUDA where Triton is installed, else ``"torch"``.
    """

    def __init__(self, model: ZeroDCE, device: torch.device) -> None:
        TorchBackend.__init__(self, model, device)
        CurveMaps.__init__(self, model.iterations, model.scale_factor, model.network_side)
        self.name, self._kernels = pixel_kernels(device)

    def estimate(self, photo: Any, limit: int, threads: int) -> Tensor:
        image = self.on_device(photo)
        with torch.inference_mode():
            small = self._kernels.small_copy(image, self.copy_size(image.shape[0], image.shape[1], limit))
            return self.model.estimate_curve(small[None])[0].float()

    def apply(self, photo: Any, maps: Tensor, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        image, maps = self.on_device(photo), self.settle(maps, photo.shape[2], strength)
        self.into(out, image, lambda target: self._kernels.apply_curve_map(image, maps, self.iterations, target))
        if denoise:  # its kernel exists for the CPU only
            from kdlib.enhance.kernels.denoise import smooth_lifted

            enhanced = kinds.on_host(out)
            smooth_lifted(enhanced, kinds.on_host(maps), self.iterations, denoise, threads)
            if isinstance(out, Tensor):
                out.copy_(torch.from_numpy(enhanced))
