"""The backend for families that bring none of their own: the network runs in PyTorch on the whole photo at once.

Memory use grows with the photo. A network that can work from a small copy or tile by tile deserves a backend that does.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.enhance.backends.backend import DAMAGED, check_shape
from kdlib.enhance.backends.torch_base import TorchBackend, at_most
from kdlib.enhance.kernels.plain_torch import as_planes, as_samples


class TorchImage(TorchBackend):
    """Any network that returns an enhanced photo; it has no curve map, so that its map is a single 0 (1×1×1)."""

    upscale = 1
    worth_threads = 0  # the network runs at full resolution

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless 1×1×1: the network decides from the photo itself."""
        check_shape(curve_map, 1)

    def estimate(self, photo: Any, limit: int, threads: int) -> Tensor:
        return self.own(np.zeros((1, 1, 1), np.float32))

    def apply(self, photo: Any, maps: Any, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        image = self.on_device(photo)
        with at_most(threads):
            self.into(out, image, lambda target: self._apply(image, strength, target))

    def _apply(self, image: Tensor, strength: float, out: Tensor) -> None:
        x = as_planes(image)[None]
        y = self.model(x.expand(-1, 3, -1, -1))[0]
        if not y.isfinite().all():
            raise ValueError(DAMAGED)
        colours = x.shape[1]
        if colours == 1:
            y = y.mean(1, keepdim=True)
        out[..., :colours] = as_samples(torch.lerp(x, y, strength).clamp_(0, 1)[0], image.dtype)
        if image.shape[2] > colours:
            out[..., colours:] = image[..., colours:]
