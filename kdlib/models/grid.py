"""GridNet: a network that corrects dark, backlit and over-exposed photos by gains over position and luminance.

One curve for the whole photo cannot lift a dark room and keep the bright window; a curve for each place draws halos
around everything that it lifts. A bilateral grid does neither: every cell holds a gain for each of several luminances,
and a pixel takes the gain of its own place *and its own luminance*. Cells are large and change slowly, so that edges
come from the photo alone.

*Grid.* A thumbnail of the photo decides on 8×8 cells with gains at eight luminances. At full size they are interpolated
linearly over position and luminance. The three channels share the gain, which keeps the hue.

*Chroma.* A curve that is applied to each channel reduces saturation where it lifts and increases it where it darkens.
A common gain does neither; lifted shadows would look garish and recovered highlights washed out. Chroma is therefore
reduced in lifted deep shadows and increased where the gain is below 1, with two learned factors, and scaled by one
factor for the whole photo. Lamps at night keep their colour, because they are neither dark nor lifted by much.

*Hue.* Where the largest channel would exceed white, all three are divided by it. Clipping that channel alone would
change the hue: an orange lamp would turn yellow, then white.

*White.* Paper, snow and fog are bright because they are white, not because the photo is over-exposed, and they must not
turn grey. A small network cannot tell them apart by brightness. Over-exposure leaves a trace, however: clipped pixels
(:func:`over_exposure_of`). Without them, gains below 1 are raised to 1. White itself is kept where the clipped pixels
fall off to dark at once, as on a drawn page.

*Noise.* The photo is smoothed within its measured noise before the gain (:class:`QuincunxSmoothing`). Where luminance
is not far above the noise, there is nothing to be seen, and the gain approaches 1, so that a black sky stays black.

Bilateral grids are due to Chen, Paris and Durand, "Real-time Edge-Aware Image Processing with the Bilateral Grid",
SIGGRAPH 2007; Gharbi et al., "Deep Bilateral Learning for Real-Time Image Enhancement", SIGGRAPH 2017, predict one from
a thumbnail. Gains instead of affine colour transforms, the chroma and the noise terms are this project's own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.checks import check_choice, check_number
from kdlib.gain_grid import (
    CERTAIN_CLIPPED,
    CLIPPED,
    DEEP,
    FALLING_OFF,
    FLOOR,
    KNOTS,
    LEAST_DIVISOR,
    LEAST_SIGNAL,
    MOST_CHROMA,
    MOST_GAIN,
    MOST_LOSS_OF_WHITE,
    NEARLY_CLIPPED,
    SAMPLES,
    TAPS,
)
from kdlib.models.families.grid import BODIES
from kdlib.models.glance import NoiseAwareSmoothing, noise_of
from kdlib.models.network import Network, check_photos

# Initial tolerances of the smoothing in multiples of the noise: of luminance and of colour, for each round.
_TOLERANCES = ((18.0, 57.0), (1.6, 9.2), (3.0, 9.3), (20.0, 5.0))


def split_colour(image: Tensor) -> tuple[Tensor, Tensor]:
    """Split B×3×H×W into luminance (R + 2·G + B) / 4, B×1×H×W, and the differences from it, B×3×H×W."""
    luminance = (image[:, :1] + 2 * image[:, 1:2] + image[:, 2:]) / 4
    return luminance, image - luminance


def within_white(image: Tensor) -> Tensor:
    """Limit B×3×H×W to [0, 1]; pixels whose largest channel exceeds 1 are divided by it, which keeps their hue."""
    return image.clamp_min(0) / image.amax(dim=1, keepdim=True).clamp_min(1)


def knot_weights(luminance: Tensor) -> Tensor:
    """Return the share of each knot in the linear interpolation over luminance, B×1×H×W to B×8×H×W; they sum to 1."""
    first, last, shares = KNOTS[0], KNOTS[-1], []
    for below, knot, above in zip((first, *KNOTS), KNOTS, (*KNOTS[1:], last), strict=False):
        rising = (luminance - below) / (knot - below) if knot > first else torch.ones_like(luminance)
        falling = (above - luminance) / (above - knot) if knot < last else torch.ones_like(luminance)
        shares.append(torch.minimum(rising, falling).clamp(0, 1))
    return torch.cat(shares, dim=1)


class QuincunxSmoothing(NoiseAwareSmoothing):
    """Four rounds of a mean over four neighbours whose difference may be noise.

    The filter of GlanceNet has eight neighbours in each round, with separate weights for luminance and colour. Here one
    weight serves both, and distances grow by √2 as in quincunx wavelets (Feauveau, "Analyse multirésolution avec un
    facteur de résolution √2", Traitement du Signal 1990): the nearest neighbours, the diagonal ones, and those two
    pixels away (:data:`kdlib.gain_grid.TAPS`). This takes less than half of the operations. Coloured blotches are wider
    than grain; therefore a last round, over four pixels, averages colour alone.

    Attributes:
        log_tolerance: 4 rounds × (luminance, colour), logarithms of multiples of the noise. A neighbour has weight 0 if
            its differences, divided by the tolerances, have a squared sum of 1 or more.
    """

    tolerances = _TOLERANCES
    steps = tuple(step for step, *_ in TAPS)

    def _round(
        self, n: int, luminance: Tensor, colour: Tensor, precision: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor]:
        (step, diagonal, colour_only), (height, width) = TAPS[n], luminance.shape[-2:]
        planes = torch.cat([luminance, colour], dim=1)
        around = F.pad(planes, (step,) * 4, mode="replicate")
        weights, sums = torch.full_like(luminance, 2.0), torch.zeros_like(planes)  # the pixel itself counts twice
        for row, column in ((0, 0), (0, 2), (2, 0), (2, 2)) if diagonal else ((0, 1), (2, 1), (1, 0), (1, 2)):
            apart = around[..., row * step :, column * step :][..., :height, :width] - planes
            light, colours = (apart.square() * precision).split([1, 2], dim=1)
            distance = light * limits[0] + colours.sum(dim=1, keepdim=True) * limits[1]
            weight = F.relu(1 - distance).square()
            weights, sums = weights + weight, sums + weight * apart
        planes = planes + sums / weights
        return luminance if colour_only else planes[:, :1], planes[:, 1:]


class Residual(nn.Module):
    """Two 3×3 convolutions on C×h×w, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(min(4, channels), channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        added: Tensor = self.second(F.relu(self.first(F.relu(self.norm(features)))))
        return features + added


class SeparableBody(nn.Module):
    """Features of a student, at a quarter of the thumbnail's side: one convolution and two separable ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.depth1 = nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width)
        self.point1 = nn.Conv2d(width, width, 1)
        self.depth2 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.point2 = nn.Conv2d(width, width, 1)
        self.pooled = width

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of each cell, and those from which the photo as a whole is judged."""
        features = F.relu(self.conv(seen))
        features = F.relu(self.point1(F.relu(self.depth1(features))))
        features = features + self.point2(F.relu(self.depth2(features)))
        return features, features


class ResidualBody(nn.Module):
    """Features of a teacher, at a quarter of the thumbnail's side, from three sizes down to a sixteenth."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.second = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.fine = Residual(width)
        self.down1 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = Residual(2 * width)
        self.down2 = nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1)
        self.coarse = Residual(2 * width)
        self.up1 = nn.Conv2d(2 * width, width, 1)
        self.up2 = nn.Conv2d(2 * width, width, 1)
        self.last = Residual(width)
        self.pooled = 2 * width

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of each cell, and those from which the photo as a whole is judged."""
        fine = self.fine(self.second(F.relu(self.first(seen))))
        middle = self.middle(self.down1(fine))
        coarse = self.coarse(self.down2(middle))
        for part, layer in ((middle, self.up1), (coarse, self.up2)):
            fine = fine + F.interpolate(layer(part), fine.shape[-2:], mode="bilinear", align_corners=False)
        features: Tensor = self.last(fine)
        return features, coarse


class GridNet(Network):
    """Estimates a grid of gains from a thumbnail, then smooths the photo at full size and applies the gains.

    Args:
        body: what computes the features: ``separable`` for a student, ``residual`` for a teacher.
        width: channels of the features.
        hidden: units of the hidden layer that judges the photo as a whole.
        side: maximum side of the thumbnail in pixels.

    Attributes:
        chroma: two factors, by which chroma decreases with gains above 1 in deep shadows, and increases with gains
            below 1.
        floor: luminance at which half of the gain above 1 remains, as a multiple of the noise.
        smoothing: the filter in front of the gains.
    """

    family = "grid"
    arguments = ("body", "width", "hidden", "side")

    def __init__(self, body: str = "separable", width: int = 8, hidden: int = 10, side: int = 32) -> None:
        super().__init__()
        check_choice("body", body, BODIES)
        for name, value in (("width", width), ("hidden", hidden), ("side", side)):
            check_number(name, value, 1)
        self.body, self.width, self.hidden, self.side = body, width, hidden, side
        self.features = SeparableBody(width) if body == "separable" else ResidualBody(width)
        self.decide = nn.Linear(2 * self.features.pooled + len(KNOTS), hidden)
        self.globals = nn.Linear(hidden, width)
        self.saturate = nn.Linear(hidden, 1)
        self.knots = nn.Conv2d(width, len(KNOTS), 1)
        self.chroma = nn.Parameter(torch.tensor([0.2, 0.5]))
        self.floor = nn.Parameter(torch.tensor(1.0))
        self.smoothing = QuincunxSmoothing()
        for layer in (self.knots, self.saturate):  # training starts from the unchanged photo
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def thumbnail_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the thumbnail's height and width, which do not keep the aspect ratio and never exceed the photo's."""
        return min(height, self.side), min(width, self.side)

    def estimate_grid(self, thumbnail: Tensor) -> Tensor:
        """Run only the network.

        Args:
            thumbnail: B×3×h×w in [0, 1], area-averaged.

        Returns:
            B×9×h'×w', with h' and w' a quarter of h and w: logarithms of the gains at the eight luminances ``KNOTS``,
            from −3 to 3 (from −0.15 for white), and the logarithm of the photo's chroma, from −0.3 to 0.3, which is the
            same in all cells. Zeros leave a photo unchanged, but for chroma that follows the gain.
        """
        luminance, colour = split_colour(thumbnail)
        # Exposure is multiplicative, so the network sees the logarithm of luminance, from −1 for black to 1 for white.
        seen = torch.cat([torch.log2(luminance + FLOOR) / 3 + 1, 2 * colour[:, ::2]], dim=1)
        local, whole = self.features(seen)
        histogram = knot_weights(luminance).mean(dim=(2, 3))
        pooled = torch.cat([whole.mean(dim=(2, 3)), whole.amax(dim=(2, 3)), 4 * histogram], dim=1)
        decision = F.relu(self.decide(pooled))
        features = F.relu(local + self.globals(decision)[:, :, None, None])
        gains = self.knots(features)
        limit = torch.full_like(gains, MOST_GAIN)
        limit[:, -1] = torch.where(gains[:, -1] < 0, MOST_LOSS_OF_WHITE, MOST_GAIN)
        gains = limit * torch.tanh(gains / limit)
        chroma = MOST_CHROMA * torch.tanh(self.saturate(decision))[:, :, None, None]
        return torch.cat([gains, chroma.expand_as(gains[:, :1])], dim=1)

    def grid_of(self, image: Tensor) -> Tensor:
        """Return :meth:`estimate_grid` of an image's thumbnail (B×3×H×W), which darkens only what is over-exposed."""
        grid = self.estimate_grid(F.adaptive_avg_pool2d(image, self.thumbnail_size(*image.shape[-2:])))
        return limit_darkening(grid, over_exposure_of(image))

    def apply_grid(self, image: Tensor, grid: Tensor, noise: Tensor | None = None) -> Tensor:
        """Smooth a photo and apply the gains of a grid.

        Args:
            image: B×3×H×W in [0, 1].
            grid: B×9×h×w; interpolated linearly between the centres of its cells, and constant beyond them.
            noise: noise of each photo, B×1×1×1 in 255ths; None for no noise.

        Returns:
            B×3×H×W, not limited to white (see :func:`within_white`).
        """
        return self.apply_gains(self.smoothed(image, noise), upsample_gains(grid, image.shape[-2:]), noise)

    def smoothed(self, image: Tensor, noise: Tensor | None) -> Tensor:
        """Smooth a photo (B×3×H×W) within its noise; see :meth:`apply_grid`."""
        return image if noise is None else self.smoothing(image, noise).clamp(0, 1)

    def apply_gains(self, image: Tensor, gains: Tensor, noise: Tensor | None = None) -> Tensor:
        """Apply gains at full size, B×9×H×W: eight gains and the photo's chroma, no logarithms.

        With the noise, which is that before the photo was smoothed, gains above 1 approach 1 near it.
        """
        luminance, colour = split_colour(image)
        gain = (gains[:, :-1] * knot_weights(luminance)).sum(dim=1, keepdim=True)
        lift, drop = F.relu(gain - 1), F.relu(1 - gain)
        deep = F.relu(1 - luminance / DEEP)
        lost = (1 + self.chroma[0] * lift * deep).clamp_min(LEAST_DIVISOR)
        chroma = gains[:, -1:] * (1 + self.chroma[1] * drop) / lost
        if noise is not None:
            signal = 255 * luminance / (255 * luminance + self.floor.clamp_min(0) * noise).clamp_min(LEAST_SIGNAL)
            gain = gain - lift * (1 - signal)
        return gain * (luminance + chroma * colour)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Enhance a batch of photos.

        Returns:
            The enhanced photos, B×3×H×W in [0, 1], and their grids (see :meth:`estimate_grid`).
        """
        check_photos(image)
        grid = self.grid_of(image).to(image.dtype)
        return within_white(self.apply_grid(image, grid, noise_of(image))), grid


def crossings(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows and columns, ``SAMPLES`` at most of each, at whose crossings a photo is looked at."""
    rows, columns = (
        torch.arange(min(side, SAMPLES), device=device) * side // min(side, SAMPLES) for side in (height, width)
    )
    return rows, columns


def over_exposure_of(image: Tensor) -> Tensor:
    """Measure how far each photo of a batch (B×3×H×W in [0, 1]) is over-exposed, for each knot, B×8×1×1 in [0, 1].

    This is :func:`kdlib.gain_grid.measure_over_exposure` in PyTorch.
    """
    rows, columns = crossings(image.shape[2], image.shape[3], image.device)
    brightest = image.index_select(2, rows).index_select(3, columns).amax(dim=1, keepdim=True)
    clipped, bright = (
        (brightest > level).to(image.dtype).mean(dim=(2, 3), keepdim=True) for level in (CLIPPED, NEARLY_CLIPPED)
    )
    first, last = FALLING_OFF
    # Without a clipped pixel, the first factor is 0.
    falling = ((bright - clipped) / clipped.clamp_min(1e-9) - first) / (last - first)
    darker = (clipped / CERTAIN_CLIPPED).clamp_max(1)
    return torch.cat([darker.expand(-1, len(KNOTS) - 1, -1, -1), darker * falling.clamp(0, 1)], dim=1)


def limit_darkening(grid: Tensor, over_exposure: Tensor) -> Tensor:
    """Multiply the negative logarithms of a grid's gains (B×9×h×w) by ``over_exposure`` (B×8×1×1 in [0, 1])."""
    gains, chroma = grid[:, :-1], grid[:, -1:]
    return torch.cat([torch.where(gains < 0, over_exposure * gains, gains), chroma], dim=1)


def upsample_gains(grid: Tensor, size: tuple[int, ...]) -> Tensor:
    """Turn a grid's logarithms into factors and interpolate them bilinearly between the centres of its cells."""
    return F.interpolate(grid.exp(), size=tuple(size), mode="bilinear", align_corners=False)
