"""The kernels in plain PyTorch: the reference for the compiled ones, and the fallback where these do not run."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.models.zero_dce import apply_curve
from kdlib.noise import TOP

WHITE = {getattr(torch, name): value for name, value in TOP.items()}
"""The brightest value of each dtype."""
_STRIP = 1 << 16  # samples in a strip of rows, of which a dozen float32 copies exist at a time


def as_planes(photo: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the colours of H×W×C as C×H×W in [0, 1], with one plane for grey."""
    colours = 3 if photo.shape[2] >= 3 else 1
    return (photo[..., :colours].to(dtype) / WHITE[photo.dtype]).permute(2, 0, 1)


def precise(photo: Tensor) -> torch.dtype:
    """Return the type to compute with: 16 bits need more digits than float32 has; Apple's GPUs have no more."""
    return torch.float64 if photo.dtype == torch.uint16 and photo.device.type != "mps" else torch.float32


def as_samples(planes: Tensor, dtype: torch.dtype) -> Tensor:
    """Return C×H×W in [0, 1] as H×W×C of a photo's dtype, rounded half up."""
    samples = planes * WHITE[dtype]
    if dtype != torch.float32:
        samples = samples.add_(0.5).floor_()
    return samples.permute(1, 2, 0).to(dtype)


def small_copy(photo: Tensor, size: tuple[int, int]) -> Tensor:
    """H×W×C → 3×h×w float32 in [0, 1]: area averages, as in :func:`kdlib.enhance.kernels.separable.small_copy`."""
    height, _, channels = photo.shape
    colours = 3 if channels >= 3 else 1
    h, w = size
    rows = [
        F.adaptive_avg_pool1d(
            photo[i * height // h : -((i + 1) * height // -h), :, :colours].float().mean(0).movedim(1, 0), w
        )
        for i in range(h)
    ]
    averaged = torch.stack(rows, dim=1) / WHITE[photo.dtype]
    return averaged.expand(3, h, w)


def between(
    size: int, count: int, first: int, last: int, like: Tensor, *, centres: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """For the full-size positions first … last, the two map positions around each, and the weight of the second.

    Corners are aligned or, with ``centres``, map positions are the centres of cells that divide the photo.
    """
    # float64 on the host: every device gets the same weights, also one without float64.
    position = torch.arange(first, last, dtype=torch.float64)
    if centres:
        position = ((position + 0.5) * (count / size) - 0.5).clamp(0, count - 1)
    else:
        position *= (count - 1) / (size - 1) if size > 1 else 0.0
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
    compute = precise(photo)
    maps = maps.to(photo.device, compute)
    left, right, across = between(width, maps.shape[2], 0, width, maps)
    strip = max(1, _STRIP // width)
    for first in range(0, height, strip):
        last = min(first + strip, height)
        above, below, down = between(height, maps.shape[1], first, last, maps)
        rows = torch.lerp(maps[:, above], maps[:, below], down[:, None])
        full = torch.lerp(rows[..., left], rows[..., right], across)
        x = as_planes(photo[first:last], compute)
        # The curve expects three colours: grey and its map are repeated.
        if colours == 1:
            x, full = x.expand(3, -1, -1), full.repeat_interleave(3, dim=0)
        y = apply_curve(x[None], full[None], iterations)[0, :colours].clamp(0, 1)
        out[first:last, :, :colours] = as_samples(y, photo.dtype)
        if channels > colours:
            out[first:last, :, colours:] = photo[first:last, :, colours:]
