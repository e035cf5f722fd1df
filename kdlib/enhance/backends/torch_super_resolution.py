"""Super-resolution in PyTorch: bicubic upsampling, then the network at the full size, tile by tile."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlib.enhance.backends.backend import DAMAGED
from kdlib.enhance.backends.torch_base import TorchBackend, at_most
from kdlib.enhance.kernels.plain_torch import WHITE, as_samples
from kdlib.models import MSAFN
from kdlib.models.msafn import COARSEST
from kdlib.resampling import enlarge
from kdlib.threads import over_rows

# Side of a tile in pixels of the result. Smaller tiles repeat more work at their borders; larger ones no longer fit the
# processor's cache, and were measured to be slower.
_TILE = 192
# Side of the tiles that represent a large photo. Many small ones would cover more places, but convolutions take what
# lies beyond a tile for black.
_SAMPLE = 128
# Memory in bytes for the tiles that are computed at the same time, and the measured number of feature tensors of a tile
# that exist at once. Without the limit, 16 threads with a tile each took more than 2 GiB for 12 megapixels.
_MEMORY, _TENSORS = 1 << 30, 10
# Pixels of the small photo on each side that bicubic interpolation reads.
_TAPS = 2


class PhotoGates(NamedTuple):
    """The channel weights that a network derives from a whole photo.

    Attributes:
        gates: factors as :meth:`kdlib.models.MSAFN.gates` returns them, each 1×C×1×1.
        restored: the network's output for the whole photo, 1×3×H×W, if it has been computed already.
    """

    gates: tuple[Tensor, ...]
    restored: Tensor | None = None


class TorchSuperResolution(TorchBackend):
    """MSAFN and LightMSAFN.

    The curve map holds what the network derives from the whole photo: the factors of all gates in a row, 1×1×K.
    """

    worth_threads = 0  # convolutions at full size

    def __init__(self, model: MSAFN, device: torch.device) -> None:
        super().__init__(model, device)
        self.model = self.model.to(memory_format=torch.channels_last)
        self.upscale = model.upscale
        self.gate_widths = tuple(gate.width for gate in model.gate_modules())
        # In pixels of the small photo: tiles begin at multiples of the step, and need the border around them.
        self._step = COARSEST // math.gcd(COARSEST, self.upscale)
        self._border = _up(model.reach / self.upscale, self._step)
        side = (self._most() + 2 * self._border) * self.upscale
        self._at_once = max(1, _MEMORY // (_TENSORS * side**2 * 2 * model.width * 4))

    def budget(self, limit: int) -> int:
        """Return the number of pixels of the enlarged photo from which the gates are computed."""
        return limit**2 // 4

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless 1×1×K in [0, 1]."""
        wanted = (1, 1, sum(self.gate_widths))
        if tuple(curve_map.shape) != wanted:
            raise ValueError(
                f"a curve map of this network has shape {'×'.join(map(str, wanted))}, "
                f"not {'×'.join(map(str, curve_map.shape))}"
            )
        if not ((curve_map >= 0) & (curve_map <= 1)).all():  # also refuses NaN
            raise ValueError("the curve map has values outside [0, 1]")

    def own(self, maps: np.ndarray) -> PhotoGates:
        return PhotoGates(super().own(maps).view(1, -1, 1, 1).split(self.gate_widths, dim=1))

    def as_array(self, maps: PhotoGates) -> np.ndarray:
        return torch.cat(maps.gates, dim=1)[0].cpu().numpy()

    def estimate(self, photo: Any, limit: int, threads: int) -> PhotoGates:
        image = self.on_device(photo)
        height, width, _ = image.shape
        tiles = gate_tiles(height, width, self.budget(limit), self.upscale)
        with torch.inference_mode(), at_most(threads):
            seen = torch.cat([_for_network(self._enlarged(image, *tile)) for tile in tiles])
            if seen.shape[-2:] == (height * self.upscale, width * self.upscale):
                return PhotoGates(*self.model.with_own_gates(seen)[::-1])
            return PhotoGates(self.model.gates(seen, together=True))

    def apply(
        self, photo: Any, maps: PhotoGates | None, out: Any, *, strength: float, denoise: float, threads: int
    ) -> None:
        """See :class:`~kdlib.enhance.backends.backend.Backend`.

        ``out`` is ``upscale`` times as large, ``denoise`` is 0, and ``maps`` may be None with a strength of 0.
        """
        image = self.on_device(photo)
        target = out if isinstance(out, Tensor) else torch.from_numpy(out)
        tiles = [(*rows, *columns) for rows in self._parts(image.shape[0]) for columns in self._parts(image.shape[1])]
        # Each thread gets tiles of its own: several threads on one tile would wait for each other after every layer.
        together = min(threads, len(tiles), self._at_once) if self.device.type == "cpu" else 1

        def work(first: int, last: int) -> None:
            with torch.inference_mode(), at_most(threads // together):
                for top, bottom, left, right in tiles[first:last]:
                    y = self._part(image, maps, strength, (top, bottom, left, right))
                    target[self._at(top, bottom), self._at(left, right)] = as_samples(y[0], image.dtype)

        # PyTorch hands the number that the last thread restores to new threads, so that it is limited here as well.
        with at_most(threads // together):
            over_rows(work, len(tiles), together)

    def _part(self, image: Tensor, maps: PhotoGates | None, strength: float, part: tuple[int, int, int, int]) -> Tensor:
        """Return one part of the result, 1×C×h×w in [0, 1]."""
        top, bottom, left, right = part
        known = maps is None or not strength or maps.restored is not None
        around = 0 if known else self._border
        above, before = max(0, top - around), max(0, left - around)
        x = self._enlarged(
            image, above, min(bottom + around, image.shape[0]), before, min(right + around, image.shape[1])
        )
        inside = (..., self._at(top - above, bottom - above), self._at(left - before, right - before))
        y = x[inside]
        if maps is None or not strength:
            return y
        if maps.restored is not None:
            restored = maps.restored[..., self._at(top, bottom), self._at(left, right)]
        else:
            restored = self.model(_for_network(x), maps.gates)[0][inside]
        if not restored.isfinite().all():
            raise ValueError(DAMAGED)
        colours = _colours(y)
        if colours == 1:
            restored = restored.mean(1, keepdim=True)
        blended = torch.lerp(y[:, :colours], restored, strength).clamp_(0, 1)
        return torch.cat([blended, y[:, colours:]], dim=1)

    def _parts(self, side: int) -> list[tuple[int, int]]:
        """Cut a side of the small photo into pieces of about the same size, none larger than a tile."""
        piece = _up(side / math.ceil(side / self._most()), self._step)
        return [(first, min(first + piece, side)) for first in range(0, side, piece)]

    def _most(self) -> int:
        """Return the side of the largest tile in pixels of the small photo, without its border."""
        return max(self._step, _TILE // self.upscale // self._step * self._step)

    def _at(self, first: int, last: int) -> slice:
        return slice(first * self.upscale, last * self.upscale)

    def _enlarged(self, image: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Return a part of a small photo (H×W×C) as it looks in the enlarged whole: 1×C×h×w float32 in [0, 1]."""
        above, before = max(0, top - _TAPS), max(0, left - _TAPS)
        part = image[above : bottom + _TAPS, before : right + _TAPS].float() / WHITE[image.dtype]
        large = enlarge(part.permute(2, 0, 1)[None], self.upscale)
        return large[..., self._at(top - above, bottom - above), self._at(left - before, right - before)].clamp(0, 1)


def gate_tiles(height: int, width: int, pixels: int, upscale: int) -> list[tuple[int, int, int, int]]:
    """Choose the parts of a photo from which the gates are computed.

    Args:
        height, width: size of the small photo.
        pixels: number of pixels of the enlarged photo that the network may see.
        upscale: factor by which the photo is enlarged.

    Returns:
        (top, bottom, left, right) in the small photo: the whole photo if it is small enough, otherwise tiles of one
        size in rows and columns with even gaps.
    """
    pixels = max(pixels // upscale**2, 1)
    if height * width <= pixels:
        return [(0, height, 0, width)]
    side = max(1, min(_SAMPLE // upscale, math.isqrt(pixels)))
    tall, wide = min(side, height), min(side, width)
    count = max(1, pixels // (tall * wide))
    rows = min(max(1, round(math.sqrt(count * height / width))), height // tall, count)
    columns = min(count // rows, width // wide)
    rows = min(count // columns, height // tall)
    tops = [int((i + 0.5) * height / rows - tall / 2) for i in range(rows)]
    lefts = [int((i + 0.5) * width / columns - wide / 2) for i in range(columns)]
    return [(top, top + tall, left, left + wide) for top in tops for left in lefts]


def _for_network(enlarged: Tensor) -> Tensor:
    """Return 1×C×H×W as 1×3×H×W, grey repeated, in the memory layout on which convolutions are fastest."""
    return enlarged[:, : _colours(enlarged)].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _colours(image: Tensor) -> int:
    return 3 if image.shape[1] >= 3 else 1


def _up(number: float, step: int) -> int:
    """Return the next multiple of ``step``, at least ``step``."""
    return max(1, math.ceil(number / step)) * step
