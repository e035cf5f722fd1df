"""Physical darkening: simulate the photo that a camera would have recorded in less light.

The photo is converted to linear light, its exposure is reduced, a colour cast and shot and read noise are added, and
the result is encoded and quantised again. The original serves as ground truth for the dark photo.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.checks import check_number


def srgb_to_linear(image: Tensor) -> Tensor:
    """Undo the sRGB transfer curve (IEC 61966-2-1); any shape, values in [0, 1]."""
    return torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(image: Tensor) -> Tensor:
    """Apply the sRGB transfer curve (IEC 61966-2-1); any shape, values in [0, 1]."""
    image = image.clamp(0, 1)
    return torch.where(image <= 0.0031308, image * 12.92, 1.055 * image.clamp_min(1e-12) ** (1 / 2.4) - 0.055)


@dataclass(frozen=True)
class Darkening:
    """Ranges from which :func:`darken` draws its parameters, separately for each photo of a batch.

    Attributes:
        stops: minimum and maximum exposure reduction in stops (factors of two in linear light).
        cast: colour cast; each channel's gain is 2 to the power of a uniform draw from ±cast.
        full_well: photons that a white pixel collects at full exposure; shot noise has variance signal / full_well.
        read_noise: standard deviation of the read noise in linear light, where white is 1.
        unevenness: standard deviation, in stops, of a smooth random field that makes the illumination uneven.
    """

    stops: tuple[float, float] = (1.0, 5.0)
    cast: float = 0.15
    full_well: float = 20000.0
    read_noise: float = 0.0005
    unevenness: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.stops[0] <= self.stops[1]:
            raise ValueError(f"stops must be an ascending range from 0 or more, got {self.stops}")
        if not self.full_well > 0:  # infinitely many photons: no shot noise
            raise ValueError(f"full_well must be a number above 0, not {self.full_well}")
        for name in ("read_noise", "cast", "unevenness"):
            check_number(name, getattr(self, name))


DEFAULT_DARKENING = Darkening()


def darken(image: Tensor, darkening: Darkening = DEFAULT_DARKENING, *, generator: torch.Generator) -> Tensor:
    """Darken a batch of photos as reduced light would.

    Args:
        image: B×3×H×W in [0, 1], display-referred sRGB.
        darkening: ranges from which the parameters are drawn.
        generator: source of all random numbers, on the image's device.

    Returns:
        The dark photos, B×3×H×W, quantised to 8 bits.
    """
    batch = image.shape[0]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=image.device, dtype=image.dtype)

    def normal() -> Tensor:
        return torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)

    low, high = darkening.stops
    exposure = 2 ** -(low + (high - low) * uniform(batch, 1, 1, 1))
    gains = 2 ** (darkening.cast * (2 * uniform(batch, 3, 1, 1) - 1))
    light = srgb_to_linear(image) * exposure * gains
    if darkening.unevenness:
        field = torch.randn((batch, 1, 4, 4), generator=generator, device=image.device, dtype=image.dtype)
        field = F.interpolate(field, size=image.shape[-2:], mode="bicubic", align_corners=True)
        light = light * 2 ** (darkening.unevenness * field)
    shot = (light / darkening.full_well).sqrt() * normal()
    noisy = light + shot + darkening.read_noise * normal()
    return linear_to_srgb(noisy).mul(255).round() / 255
