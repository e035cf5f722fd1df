"""Any network that returns an enhanced photo, in PyTorch, on the whole photo at once.

Memory grows with photo and network. A family whose network needs less of the photo than all its pixels, or that can
work on tiles, deserves a backend of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.enhance.backends.backend import DAMAGED, check_shape
from kdlib.enhance.backends.torch_base import TorchBackend, at_most
from kdlib.enhance.kernels.plain_torch import WHITE


class TorchImage(TorchBackend):
    """A network without a curve map of its own: its map, 1×1×1, is a 0 that stands for "nothing beside the photo"."""

    denoise: float | None = None
    upscale = 1
    worth_threads = 0  # the network runs at full resolution

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless 1×1×1: the network decides from the photo itself."""
        check_shape(curve_map, 1)

    def estimate(self, photo: Any, limit: int, threads: int) -> Tensor:
        """See :class:`~kdlib.enhance.backends.backend.Backend`."""
        return self.own(np.zeros((1, 1, 1), np.float32))

    def apply(self, photo: Any, maps: Any, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        """See :class:`~kdlib.enhance.backends.backend.Backend`; ``denoise`` is 0."""
        image = self.on_device(photo)
        with at_most(threads):
            self.into(out, image, lambda target: self._apply(image, strength, target))

    def _apply(self, image: Tensor, strength: float, out: Tensor) -> None:
        colours = 3 if image.shape[2] >= 3 else 1
        x = (image[..., :colours].float() / WHITE[image.dtype]).permute(2, 0, 1)[None]
        y = self.model(x.expand(-1, 3, -1, -1))[0]
        if not y.isfinite().all():
            raise ValueError(DAMAGED)
        if colours == 1:
            y = y.mean(1, keepdim=True)
        y = torch.lerp(x, y, strength).clamp_(0, 1) * WHITE[image.dtype]
        if image.dtype != torch.float32:
            y = y.add_(0.5).floor_()
        out[..., :colours] = y[0].permute(1, 2, 0).to(image.dtype)
        if image.shape[2] > colours:
            out[..., colours:] = image[..., colours:]
