"""IAT and its student in PyTorch: the local branch tile by tile at full resolution, the global branch once."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlib.enhance.backends.backend import shrunk
from kdlib.enhance.backends.torch_base import TorchBackend, at_most
from kdlib.enhance.kernels.plain_torch import as_planes, as_samples, small_copy
from kdlib.models import IAT, IATStudent
from kdlib.stages import apply_colour_and_gamma

# Side in pixels: large enough that few pixels are computed twice, small enough that the features stay in the
# processor's cache. Half the side and twice the side were both measured to be slower.
_TILE = 256


class PhotoStages(NamedTuple):
    """The stages of one photo, as far as they are known.

    Attributes:
        colour: matrix, 1×3×3.
        gamma: 1×1.
        local: the local branch's output for the whole photo, 1×3×H×W, if it has been computed already.
    """

    colour: Tensor
    gamma: Tensor
    local: Tensor | None = None


class TorchStages(TorchBackend):
    """IAT and its student.

    The curve map holds only what applies to the photo as a whole, 1×1×10. The local maps fit one photo alone: another
    frame cannot use them, and maps of a downsampled copy would be blurred.
    """

    upscale = 1
    worth_threads = 0  # convolutions at full resolution

    def __init__(self, model: IAT | IATStudent, device: torch.device) -> None:
        super().__init__(model, device)
        # Photos lie in memory like this, and convolutions are faster on it.
        self.model = self.model.to(memory_format=torch.channels_last)

    def copy_size(self, height: int, width: int, limit: int) -> tuple[int, int]:
        """Return height and width of the copy that the global branch sees, in the photo's proportions."""
        return shrunk(height, width, max(1, max(height, width) / limit))

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless 1×1×10 and finite: colour matrix, row by row, and gamma."""
        if curve_map.shape != (1, 1, 10):
            raise ValueError(f"a curve map of this network has shape 1×1×10, not {'×'.join(map(str, curve_map.shape))}")
        if not np.isfinite(np.asarray(curve_map)).all():
            raise ValueError("the curve map has values that are NaN or infinite")

    def own(self, maps: np.ndarray) -> PhotoStages:
        values = super().own(maps).view(1, 10)
        return PhotoStages(values[:, :9].view(1, 3, 3), values[:, 9:])

    def as_array(self, maps: PhotoStages) -> np.ndarray:
        return torch.cat([maps.colour.flatten(), maps.gamma.flatten()]).view(10, 1, 1).cpu().numpy()

    def estimate(self, photo: Any, limit: int, threads: int) -> PhotoStages:
        image = self.on_device(photo)
        height, width, _ = image.shape
        size = self.copy_size(height, width, limit)
        with torch.inference_mode(), at_most(threads):
            if size == (height, width):
                return PhotoStages(*self.model.decide(_seen(image)))
            small = small_copy(image, size)[None].contiguous(memory_format=torch.channels_last)
            colour, gamma, _ = self.model.decide(small)
            return PhotoStages(colour, gamma)

    def apply(self, photo: Any, maps: PhotoStages, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        image = self.on_device(photo)
        with at_most(threads):
            self.into(out, image, lambda target: self._apply(image, maps, strength, target))

    def _apply(self, image: Tensor, maps: PhotoStages, strength: float, out: Tensor) -> None:
        height, width, channels = image.shape
        colours, reach = 3 if channels >= 3 else 1, self.model.reach
        before = image[:0]
        for top in range(0, height, _TILE):
            bottom = min(top + _TILE, height)
            # The rows are copied because out may be the photo, and the rows above have been overwritten already.
            rows = torch.cat([before, image[top : bottom + reach]])
            start = top - len(before)
            before = rows[max(0, bottom - reach - start) : bottom - start]
            for left in range(0, width, _TILE):
                right = min(left + _TILE, width)
                first = max(0, left - reach)
                inside = (..., slice(top - start, bottom - start), slice(left - first, right - first))
                x = _seen(rows[:, first : right + reach])
                if maps.local is None:
                    local = self.model.local_stage(x)[inside]
                else:
                    local = maps.local[..., top:bottom, left:right]
                y = apply_colour_and_gamma(local, maps.colour, maps.gamma)
                if colours == 1:
                    y = y.mean(1, keepdim=True)
                y = torch.lerp(x[inside][:, :colours], y, strength).clamp_(0, 1)
                out[top:bottom, left:right, :colours] = as_samples(y[0], image.dtype)
            if channels > colours:
                out[top:bottom, :, colours:] = rows[top - start : bottom - start, :, colours:]


def _seen(image: Tensor) -> Tensor:
    """Return H×W×C as 1×3×H×W float32 in [0, 1], grey repeated."""
    return as_planes(image).expand(3, -1, -1)[None]
