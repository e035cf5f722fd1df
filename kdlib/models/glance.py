"""GlanceNet: 650 parameters take one glance at the whole photo, then set gain, gamma and smoothing.

Three things keep the curve networks of the Zero-DCE family from scoring higher, and each is answered here:

*The curve.* Losing light is nearly a multiplication before the camera's encoding, which is nearly a power itself: a
darkened sRGB photo is undone almost exactly by a power curve with a gain, y = g·x^γ. Iterating x + r·(x² − x) gives
another shape, whatever r is: with the truth in hand, the best such curve stays several dB behind.

*The context.* Seven 3×3 layers over a twelfth of a 12-megapixel photo see a twentieth of its width. How much a photo
should be lifted is a property of the whole: the network sees a thumbnail of at most 32×32 pixels, and pools it.

*The noise.* No per-pixel curve removes the noise that it lifts. Before the curve, where shot and read noise have one
deviation in shadows and lights, an edge-avoiding à-trous filter averages what differs by less than a tolerance: the
noise that was measured in the photo, times factors that are learned.

Everything but those two cheap passes over the photo happens on the thumbnail. Own design; its parts are known: global
features from a thumbnail (Gharbi et al., "Deep Bilateral Learning for Real-Time Image Enhancement", SIGGRAPH 2017),
à-trous filtering (Dammertz et al., HPG 2010), the sigma filter (Lee, 1983).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.models.families.glance import BLACK, GAMMA_RANGE
from kdlib.models.network import Network, check_photos
from kdlib.noise import measure_noise

# Tolerances start from what suits photos darkened with shot and read noise (kdlib.enhance.kernels.denoise), in
# multiples of the noise: luminance, luminance where colour is averaged, colour. Each round leaves less noise, so they
# narrow.
_TOLERANCES = ((7.0, 18.0, 30.0), (3.5, 12.0, 20.0), (1.75, 8.0, 13.3))
_DIAGONAL = 0.5


def apply_power_curve(image: Tensor, gain: Tensor, gamma: Tensor) -> Tensor:
    """The power curve y = exp(gain) · ((x + b)^γ − b^γ) with b = 1/510.

    Black stays black; gain 0 and γ 1 change nothing.

    Args:
        image: B×3×H×W, values from 0 up.
        gain: logarithm of the gain, B×3×H×W.
        gamma: the exponent, B×3×H×W, positive.

    Returns:
        B×3×H×W, from 0 up; not cut off at 1.
    """
    log_black = math.log(BLACK)
    return torch.exp(gain) * (torch.exp(gamma * torch.log(image + BLACK)) - torch.exp(gamma * log_black))


class NoiseAwareSmoothing(nn.Module):
    """Three rounds of a 3×3 mean, taps 1, 2 and 4 pixels apart, over neighbours that noise alone could explain.

    The same filter as :mod:`kdlib.enhance.kernels.denoise`, with learned tolerances, differentiable in them.

    Attributes:
        log_tolerance: 3 rounds × (luminance, luminance where colour is averaged, colour), logarithms of multiples of
            the noise. Beyond such a difference a neighbour has no weight.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_tolerance = nn.Parameter(torch.tensor(_TOLERANCES).log())

    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        """Smooth a photo.

        Args:
            image: B×3×H×W in [0, 1].
            noise: tolerance of noise, B×1×H×W or B×1×1×1, in 255ths; 0 smooths nothing.
        """
        red, green, blue = (image * 255).split(1, dim=1)
        luminance = (red + 2 * green + blue) / 4
        colour = torch.cat([red - blue, green - (red + blue) / 2], dim=1)
        precision = 1 / noise.clamp_min(1e-3).square()
        for n, limits in enumerate(torch.exp(-2 * self.log_tolerance)):
            luminance, colour = self._round(luminance, colour, 2**n, precision, limits)
        half_opponent, tint = colour[:, :1] / 2, colour[:, 1:] / 2
        shared = luminance - tint
        return torch.cat([shared + half_opponent, luminance + tint, shared - half_opponent], dim=1) / 255

    @staticmethod
    def _round(
        luminance: Tensor, colour: Tensor, step: int, precision: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One round; ``limits`` turn squared differences into shares of the squared tolerance."""
        height, width = luminance.shape[-2:]
        around, around_colour = (F.pad(plane, (step,) * 4, mode="replicate") for plane in (luminance, colour))
        # The pixel itself counts twice, with a difference of zero.
        weights = weights_colour = torch.full_like(luminance, 2.0)
        sums, sums_colour = torch.zeros_like(luminance), torch.zeros_like(colour)
        for row in range(3):
            for column in range(3):
                if row == column == 1:
                    continue
                there = (..., slice(row * step, row * step + height), slice(column * step, column * step + width))
                share = 1.0 if 1 in (row, column) else _DIAGONAL
                apart, apart_colour = around[there] - luminance, around_colour[there] - colour
                squared = apart.square() * precision
                squared_colour = apart_colour.square().sum(dim=1, keepdim=True) * precision
                weight = share * F.relu(1 - squared * limits[0]).square()
                weight_colour = share * F.relu(1 - squared * limits[1] - squared_colour * limits[2]).square()
                weights, sums = weights + weight, sums + weight * apart
                weights_colour = weights_colour + weight_colour
                sums_colour = sums_colour + weight_colour * apart_colour
        return luminance + sums / weights, colour + sums_colour / weights_colour


class GlanceNet(Network):
    """Thumbnail → gain, gamma and tolerance → smoothing and power curve at full size.

    Args:
        width: channels of the two convolutions.
        hidden: units of the layer that decides from the pooled thumbnail.
        side: the thumbnail has at most this many pixels a side.
    """

    family = "glance"
    arguments = ("width", "hidden", "side")

    def __init__(self, width: int = 8, hidden: int = 10, side: int = 32) -> None:
        super().__init__()
        if min(width, hidden, side) < 1:
            raise ValueError(f"width, hidden and side are at least 1, not {width}, {hidden} and {side}")
        self.width, self.hidden, self.side = width, hidden, side
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.depth_conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.point_conv = nn.Conv2d(width, width, 1)
        self.decide = nn.Linear(2 * width, hidden)
        self.globals = nn.Linear(hidden, 7)
        self.local = nn.Conv2d(width, 2, 1)
        self.smoothing = NoiseAwareSmoothing()
        # Training starts from one plain curve, a gain of 1.3 and a gamma of 0.5, for every photo.
        for layer in (self.globals, self.local):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.globals.bias.copy_(torch.tensor([0.3] * 3 + [-0.5] * 3 + [0.0]))

    def thumbnail_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the thumbnail; its shape is not the photo's, a small photo is its own thumbnail."""
        return min(height, self.side), min(width, self.side)

    def estimate_curve(self, thumbnail: Tensor) -> Tensor:
        """Run the network alone.

        Args:
            thumbnail: B×3×h×w in [0, 1], area-averaged.

        Returns:
            B×7×h×w: logarithm of the gain (3), gamma − 1 (3), and how many times the measured noise is to be tolerated
            (1, from 0 up, the same all over). All zero leaves a photo as it is.
        """
        # Exposure multiplies, so brightness is seen in logarithms: about −0.9 for black, 1 for white.
        seen = torch.log(thumbnail + 1 / 255) / 3 + 1
        features = F.relu(self.conv(seen))
        features = F.relu(self.point_conv(self.depth_conv(features)))
        mean = features.mean(dim=(2, 3))
        deviation = (features.var(dim=(2, 3), correction=0) + 1e-4).sqrt()
        decision = self.globals(torch.tanh(self.decide(torch.cat([mean, deviation], dim=1))))[:, :, None, None]
        local = self.local(features).repeat_interleave(3, dim=1)
        curve = decision[:, :6] + local
        gain, gamma = curve[:, :3], (curve[:, 3:] + 1).clamp(*GAMMA_RANGE) - 1
        tolerance = torch.exp(decision[:, 6:].clamp(-6, 2)).expand_as(gain[:, :1])
        return torch.cat([gain, gamma, tolerance], dim=1)

    def curve_map(self, image: Tensor) -> Tensor:
        """:meth:`estimate_curve` of the thumbnail, at the size of ``image`` (B×3×H×W): bilinear, aligned corners."""
        size = image.shape[-2:]
        maps = self.estimate_curve(F.adaptive_avg_pool2d(image, self.thumbnail_size(*size)))
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)

    def enhance(self, image: Tensor, curve_map: Tensor, noise: Tensor | None = None) -> Tensor:
        """Smoothing and power curve with given maps.

        Args:
            image: B×3×H×W in [0, 1].
            curve_map: B×7×H×W.
            noise: of each photo, B×1×1×1 in 255ths; None leaves the smoothing out.
        """
        gain, gamma, tolerance = curve_map.split([3, 3, 1], dim=1)
        if noise is not None:
            image = self.smoothing(image, noise * tolerance).clamp(0, 1)
        return apply_power_curve(image, gain, 1 + gamma).clamp(0, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Enhance a batch of photos.

        Args:
            image: B×3×H×W, floating point in [0, 1]; any H, W ≥ 1.

        Returns:
            The enhanced photos, B×3×H×W in [0, 1], and their maps, B×7×H×W (see :meth:`estimate_curve`).

        Raises:
            ValueError: wrong rank, channel count or dtype.
        """
        check_photos(image)
        curve_map = self.curve_map(image).to(image.dtype)
        return self.enhance(image, curve_map, noise_of(image)), curve_map


def noise_of(image: Tensor) -> Tensor:
    """The noise measured in each photo of a batch (B×3×H×W in [0, 1]): B×1×1×1, in 255ths."""
    photos = image.detach().float().permute(0, 2, 3, 1).cpu().numpy()
    return image.new_tensor([measure_noise(photo) for photo in photos]).view(-1, 1, 1, 1)
