"""GlanceNet: a 650-parameter network that chooses gain, gamma and smoothing from a thumbnail of the photo.

The design addresses three limitations of the curve networks of the Zero-DCE family:

*The curve.* A loss of light is nearly a multiplication before the camera's encoding, which is itself nearly a power
function. A power curve with a gain, y = g·x^γ, therefore restores a darkened sRGB photo almost exactly. Iterating
x + r·(x² − x) gives a different shape for any r: even fitted to the ground truth, the best such curve scores several dB
less.

*The context.* Seven 3×3 layers on a 12-megapixel photo downsampled by 12 see only a twentieth of its width, although
the right exposure depends on the whole photo. GlanceNet pools its features over a thumbnail of at most 32×32 pixels.

*The noise.* A per-pixel curve cannot remove the noise that it amplifies. GlanceNet filters the photo before the curve,
where shot and read noise have nearly the same standard deviation in shadows and highlights. An edge-avoiding à-trous
filter averages neighbours that differ by less than a tolerance, the measured noise of the photo times learned factors.

Apart from the filter and the curve, everything is computed on the thumbnail. The combination is this project's own; its
parts are known: global features from a thumbnail (Gharbi et al., "Deep Bilateral Learning for Real-Time Image
Enhancement", SIGGRAPH 2017), à-trous filtering (Dammertz et al., HPG 2010) and the sigma filter (Lee, 1983).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.checks import check_number
from kdlib.models.network import Network, check_photos
from kdlib.noise import LEAST_TOLERATED, measure_noise
from kdlib.power_curve import BLACK, GAMMA_RANGE

# Initial tolerances in multiples of the noise, suited to photos darkened with shot and read noise
# (kdlib.enhance.kernels.denoise): for luminance, for luminance when averaging colour, and for colour. They decrease
# from round to round, because each round leaves less noise.
_TOLERANCES = ((7.0, 18.0, 30.0), (3.5, 12.0, 20.0), (1.75, 8.0, 13.3))
_DIAGONAL = 0.5


def apply_power_curve(image: Tensor, gain: Tensor, gamma: Tensor) -> Tensor:
    """Apply the power curve y = exp(gain) · ((x + b)^γ − b^γ) with b = 1/510.

    Black stays black, and gain 0 with γ 1 is the identity.

    Args:
        image: B×3×H×W, values ≥ 0.
        gain: logarithm of the gain, B×3×H×W.
        gamma: exponent, B×3×H×W, positive.

    Returns:
        B×3×H×W, values ≥ 0, not clipped at 1.
    """
    log_black = math.log(BLACK)
    return torch.exp(gain) * (torch.exp(gamma * torch.log(image + BLACK)) - torch.exp(gamma * log_black))


class NoiseAwareSmoothing(nn.Module):
    """Three rounds of a 3×3 mean, with taps 1, 2 and 4 pixels apart, over neighbours whose difference may be noise.

    This is the filter of :mod:`kdlib.enhance.kernels.denoise` with learned tolerances, in which it is differentiable.

    Attributes:
        log_tolerance: 3 rounds × (luminance, luminance when averaging colour, colour), logarithms of multiples of the
            noise. A neighbour that differs by more has weight 0.
        tolerances: their initial values, no logarithms.
        steps: distance of the taps of each round, in pixels.
    """

    tolerances: tuple[tuple[float, ...], ...] = _TOLERANCES
    steps: tuple[int, ...] = (1, 2, 4)

    def __init__(self) -> None:
        super().__init__()
        self.log_tolerance = nn.Parameter(torch.tensor(self.tolerances).log())

    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        """Smooth a photo.

        Args:
            image: B×3×H×W in [0, 1].
            noise: noise to be tolerated, B×1×H×W or B×1×1×1, in 255ths; 0 disables the smoothing.
        """
        red, green, blue = (image * 255).split(1, dim=1)
        luminance = (red + 2 * green + blue) / 4
        colour = torch.cat([red - blue, green - (red + blue) / 2], dim=1)
        precision = 1 / noise.clamp_min(LEAST_TOLERATED).square()
        for n, limits in enumerate(torch.exp(-2 * self.log_tolerance)):
            luminance, colour = self._round(n, luminance, colour, precision, limits)
        half_opponent, tint = colour[:, :1] / 2, colour[:, 1:] / 2
        shared = luminance - tint
        return torch.cat([shared + half_opponent, luminance + tint, shared - half_opponent], dim=1) / 255

    def _round(
        self, n: int, luminance: Tensor, colour: Tensor, precision: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run one round; ``limits`` scale squared differences to fractions of the squared tolerance."""
        step, (height, width) = self.steps[n], luminance.shape[-2:]
        around, around_colour = (F.pad(plane, (step,) * 4, mode="replicate") for plane in (luminance, colour))
        # The pixel itself has weight 2 and a difference of zero.
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
    """Estimates gain, gamma and noise tolerance from a thumbnail, then smooths and brightens the photo at full size.

    Args:
        width: channels of the convolutions.
        hidden: units of the hidden layer after pooling.
        side: maximum side of the thumbnail in pixels.
    """

    family = "glance"
    arguments = ("width", "hidden", "side")

    def __init__(self, width: int = 8, hidden: int = 10, side: int = 32) -> None:
        super().__init__()
        for name, value in (("width", width), ("hidden", hidden), ("side", side)):
            check_number(name, value, 1)
        self.width, self.hidden, self.side = width, hidden, side
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.depth_conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.point_conv = nn.Conv2d(width, width, 1)
        self.decide = nn.Linear(2 * width, hidden)
        self.globals = nn.Linear(hidden, 7)
        self.local = nn.Conv2d(width, 2, 1)
        self.smoothing = NoiseAwareSmoothing()
        # Training starts from the same curve for every photo, with a gain of 1.3 and a gamma of 0.5.
        for layer in (self.globals, self.local):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.globals.bias.copy_(torch.tensor([0.3] * 3 + [-0.5] * 3 + [0.0]))

    def thumbnail_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the thumbnail's height and width, which do not keep the aspect ratio and never exceed the photo's."""
        return min(height, self.side), min(width, self.side)

    def estimate_curve(self, thumbnail: Tensor) -> Tensor:
        """Run only the network.

        Args:
            thumbnail: B×3×h×w in [0, 1], area-averaged.

        Returns:
            B×7×h×w: logarithm of the gain (3), gamma − 1 (3), and the noise tolerance as a multiple of the measured
            noise (1, at least 0, spatially constant). Zeros leave a photo unchanged.
        """
        # Exposure is multiplicative, so the network sees logarithms, from about −0.9 for black to 1 for white.
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
        """Upsample :meth:`estimate_curve` of the thumbnail to ``image`` (B×3×H×W), bilinearly with aligned corners."""
        size = image.shape[-2:]
        maps = self.estimate_curve(F.adaptive_avg_pool2d(image, self.thumbnail_size(*size)))
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)

    def enhance(self, image: Tensor, curve_map: Tensor, noise: Tensor | None = None) -> Tensor:
        """Apply the smoothing and the power curve with given maps.

        Args:
            image: B×3×H×W in [0, 1].
            curve_map: B×7×H×W.
            noise: noise of each photo, B×1×1×1 in 255ths; None skips the smoothing.
        """
        gain, gamma, tolerance = curve_map.split([3, 3, 1], dim=1)
        if noise is not None:
            image = self.smoothing(image, noise * tolerance).clamp(0, 1)
        return apply_power_curve(image, gain, 1 + gamma).clamp(0, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Enhance a batch of photos.

        Returns:
            The enhanced photos, B×3×H×W in [0, 1], and their maps, B×7×H×W (see :meth:`estimate_curve`).
        """
        check_photos(image)
        curve_map = self.curve_map(image).to(image.dtype)
        return self.enhance(image, curve_map, noise_of(image)), curve_map


def noise_of(image: Tensor) -> Tensor:
    """Measure the noise of each photo of a batch (B×3×H×W in [0, 1]): B×1×1×1, in 255ths."""
    photos = image.detach().float().permute(0, 2, 3, 1).cpu().numpy()
    return image.new_tensor([measure_noise(photo) for photo in photos]).view(-1, 1, 1, 1)
