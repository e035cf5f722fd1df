"""Losses that need no ground truth: they say what a well-exposed photo looks like.

Every loss returns a scalar, averages over the batch and has finite gradients everywhere, black, white and constant
images included. Images are B×3×H×W in [0, 1], curve maps B×C×H×W in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def patch_means(image: Tensor, patch: int) -> Tensor:
    """Brightness (mean over channels) averaged over patches: B×C×H×W → B×1×⌈H/patch⌉×⌈W/patch⌉.

    Patches at the lower and right border may be smaller; they average only what lies inside the image, so that an
    image smaller than a patch is one patch rather than an error.
    """
    return F.avg_pool2d(image.mean(dim=1, keepdim=True), patch, ceil_mode=True, count_include_pad=False)


class SpatialConsistencyLoss(nn.Module):
    """Neighbouring regions keep their difference in brightness.

    L = 1/K · Σᵢ Σⱼ∈Ω(i) ((Yᵢ − Yⱼ) − (Iᵢ − Iⱼ))², with I and Y the brightness of 4×4 regions before and after and Ω(i)
    the up to four neighbours of region i (Zero-DCE, eq. 4). The paper takes absolute differences, the published
    code signed ones; signed ones are used here, because only they notice that two regions changed places. Regions
    at the border have fewer neighbours; the published code compares them with a black frame instead.

    Args:
        region: side of a region in pixels.
    """

    def __init__(self, region: int = 4) -> None:
        super().__init__()
        self.region = region

    def forward(self, enhanced: Tensor, original: Tensor) -> Tensor:
        """Compare two images of the same shape, B×3×H×W."""
        change = patch_means(enhanced, self.region) - patch_means(original, self.region)
        regions = change.numel()
        # Each pair of neighbours counts twice, once from either side.
        return 2 * (change.diff(dim=-1).square().sum() + change.diff(dim=-2).square().sum()) / regions


class ExposureControlLoss(nn.Module):
    """The brightness of each patch comes close to a target: L = 1/M · Σ (Yₖ − E)² (Zero-DCE, eq. 5).

    The paper writes |Y − E|, as does a re-implementation (``absolute``); the published code squares it.

    Args:
        target: the target E, in [0, 1].
        patch: side of a patch in pixels.
        absolute: the paper's form.
    """

    def __init__(self, target: float = 0.6, patch: int = 16, absolute: bool = False) -> None:
        super().__init__()
        self.target, self.patch, self.absolute = target, patch, absolute

    def forward(self, enhanced: Tensor) -> Tensor:
        """Take an image, B×3×H×W."""
        distance = patch_means(enhanced, self.patch) - self.target
        return (distance.abs() if self.absolute else distance.square()).mean()


class GlobalExposureLoss(nn.Module):
    """The brightness of the whole photo comes close to a target, and no photo gets darker.

    L = (Ȳ − max(E, Ī))², with Ȳ and Ī the mean brightness after and before. Exposure control asks the same of every
    patch, and thereby for a photo without lights and shadows; this leaves their balance to spatial consistency. A photo
    that is bright enough stays as it is. Own variation on Zero-DCE, eq. 5.

    Args:
        target: the target E, in [0, 1].
    """

    def __init__(self, target: float = 0.6) -> None:
        super().__init__()
        self.target = target

    def forward(self, enhanced: Tensor, original: Tensor) -> Tensor:
        """Compare two images of the same shape, B×3×H×W."""
        before, after = original.mean(dim=(1, 2, 3)), enhanced.mean(dim=(1, 2, 3))
        return (after - before.clamp_min(self.target)).square().mean()


class ColourConstancyLoss(nn.Module):
    """The mean colour comes close to grey (grey-world assumption).

    L = √(Σ (Jᵖ − J^q)⁴) over the pairs (R, G), (R, B), (G, B) of channel means, averaged over the batch: the form of
    the published code, to which the published weight of 5 belongs (Zero-DCE, eq. 6, has Σ (Jᵖ − J^q)²). The root's
    gradient at zero, infinite when written naively, is taken as zero: a grey image is not pulled anywhere.

    Args:
        squared: the paper's form instead, as a re-implementation has it.
    """

    def __init__(self, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, enhanced: Tensor) -> Tensor:
        """Take an image, B×3×H×W."""
        red, green, blue = enhanced.mean(dim=(2, 3)).unbind(dim=1)
        squares = torch.stack([red - green, red - blue, green - blue], dim=1).square()
        return squares.sum(dim=1).mean() if self.squared else torch.linalg.vector_norm(squares, dim=1).mean()


class IlluminationSmoothnessLoss(nn.Module):
    """The curve map varies slowly from pixel to pixel (total variation of the map; Zero-DCE, eq. 7).

    L = 2 · Σ_c (mean (∇ₓA)² + mean (∇ᵧA)²), the means over pixels, the sum over channels: the published code's
    normalisation, to which its weights (1600 for Zero-DCE++) belong.

    Args:
        absolute: a re-implementation's L = Σ_c (mean |∇ₓA| + mean |∇ᵧA|) / (C / 3) instead.
    """

    def __init__(self, absolute: bool = False) -> None:
        super().__init__()
        self.absolute = absolute

    def forward(self, curve_map: Tensor) -> Tensor:
        """Take a curve map, B×C×H×W."""
        batch, channels = curve_map.shape[:2]
        loss = curve_map.new_zeros(())
        for dim in (-1, -2):
            steps = curve_map.diff(dim=dim)
            pixels = max(1, steps.shape[-1] * steps.shape[-2]) * batch
            loss = loss + (steps.abs().sum() * 3 / channels if self.absolute else 2 * steps.square().sum()) / pixels
        return loss


class SaturationLoss(nn.Module):
    """No pixel strays far from the image's mean colour: the mean over pixels of ‖x − mean(x)‖₂ over RGB.

    From the published two-stage distillation code, where it holds colours back after strong brightening. The
    norm's gradient at zero is taken as zero.
    """

    def forward(self, enhanced: Tensor) -> Tensor:
        """Take an image, B×3×H×W."""
        offset = enhanced - enhanced.mean(dim=(2, 3), keepdim=True)
        return torch.linalg.vector_norm(offset, dim=1).mean()


class MultiRegionExposureLoss(nn.Module):
    """Dark, middle and bright regions each have an exposure target of their own.

    Three soft masks over the brightness m of the *original* photo's patches, normalised to sum to one::

        dark    σ((t_dark − m) / w_dark)
        middle  σ((m − t_dark) / w_dark) · σ((t_middle − m) / w_middle)
        bright  σ((m − t_bright) / w_bright)

    mix three targets: ``dark_target``, ``middle_target`` and ``bright_factor`` · m. The loss is the mean squared
    distance of the enhanced patches from that target, plus ``contrast_weight`` times the mean absolute change of local
    contrast (each pixel's distance from its patch's mean).

    From the published two-stage distillation code, stage 1 (bright factor 0.6; its stage 2 uses 0.65). There the two
    contrasts were taken from different things, a pixel's own channel and the grey photo; here both are brightness
    against the pooled brightness of the same image. It also overwrites the bright region's width with 0.08.

    Like exposure control, it sees only the mean over channels. Alone, it is content with a photo of one colour; a
    colour term beside it prevents that.

    Args:
        dark_target, middle_target: exposure targets in [0, 1].
        bright_factor: what is left of a bright patch's brightness.
        thresholds: t_dark, t_middle, t_bright, rising.
        widths: w_dark, w_middle, w_bright, positive.
        patch: side of a patch in pixels.
        contrast_weight: weight of the local-contrast term.
    """

    def __init__(
        self,
        dark_target: float = 0.95,
        middle_target: float = 0.4,
        bright_factor: float = 0.6,
        thresholds: tuple[float, float, float] = (0.12, 0.4, 0.8),
        widths: tuple[float, float, float] = (0.05, 0.05, 0.12),
        patch: int = 8,
        contrast_weight: float = 0.2,
    ) -> None:
        super().__init__()
        if min(widths) <= 0 or list(thresholds) != sorted(thresholds):
            raise ValueError(f"widths must be positive and thresholds rise, got {widths} and {thresholds}")
        self.dark_target, self.middle_target, self.bright_factor = dark_target, middle_target, bright_factor
        self.thresholds, self.widths = thresholds, widths
        self.patch, self.contrast_weight = patch, contrast_weight

    def masks(self, brightness: Tensor) -> Tensor:
        """Soft membership of each brightness (any shape) in dark, middle, bright: stacked first, summing to one."""
        dark, middle, bright = self.thresholds
        w_dark, w_middle, w_bright = self.widths
        masks = torch.stack(
            [
                F.logsigmoid((dark - brightness) / w_dark),
                F.logsigmoid((brightness - dark) / w_dark) + F.logsigmoid((middle - brightness) / w_middle),
                F.logsigmoid((brightness - bright) / w_bright),
            ]
        )
        return masks.softmax(dim=0)

    def target(self, brightness: Tensor) -> Tensor:
        """The exposure target for patches of the given original brightness (any shape)."""
        dark, middle, bright = self.masks(brightness)
        return dark * self.dark_target + middle * self.middle_target + bright * self.bright_factor * brightness

    def local_contrast(self, image: Tensor) -> Tensor:
        """Each pixel's distance from the brightness around it, B×1×H×W."""
        surround = F.interpolate(
            patch_means(image, self.patch), size=image.shape[-2:], mode="bilinear", align_corners=False
        )
        return (image.mean(dim=1, keepdim=True) - surround).abs()

    def forward(self, enhanced: Tensor, original: Tensor) -> Tensor:
        """Compare two images of the same shape, B×3×H×W."""
        target = self.target(patch_means(original, self.patch))
        exposure = (patch_means(enhanced, self.patch) - target).square().mean()
        contrast = (self.local_contrast(enhanced) - self.local_contrast(original)).abs().mean()
        return exposure + self.contrast_weight * contrast


# Published weights of (spatial consistency, exposure control, colour constancy, illumination smoothness).
ZERO_DCE_PP_WEIGHTS = {"spatial": 1.0, "exposure": 10.0, "colour": 5.0, "smoothness": 1600.0}
# Zero-DCE's own: smoothness sums over channels, and a map for each of 8 iterations pays 8 times.
ZERO_DCE_OFFICIAL_WEIGHTS = {**ZERO_DCE_PP_WEIGHTS, "smoothness": 200.0}
# From a re-implementation whose terms have other magnitudes: with the formulas here its smoothness counts far less.
ZERO_DCE_WEIGHTS = {"spatial": 8.0, "exposure": 1.75, "colour": 1.0, "smoothness": 7.0}
# The same weights on that re-implementation's own terms.
ZERO_DCE_ABSOLUTE_WEIGHTS = {
    "spatial": 8.0,
    "absolute exposure": 1.75,
    "squared colour": 1.0,
    "absolute smoothness": 7.0,
}
# The two-stage distillation code weighs its stage 1 so.
MULTI_REGION_WEIGHTS = {"multi-region exposure": 7.0, "smoothness": 200.0}

# Own: the published weights, with exposure asked of the photo instead of its patches.
GLOBAL_WEIGHTS = {"spatial": 1.0, "global exposure": 10.0, "colour": 5.0, "smoothness": 1600.0}

TERMS = (
    *("spatial", "exposure", "global exposure", "colour", "smoothness", "saturation", "multi-region exposure"),
    *("absolute exposure", "squared colour", "absolute smoothness"),
)
OBJECTIVES: dict[str, dict[str, float]] = {
    "zero-dce++": ZERO_DCE_PP_WEIGHTS,
    "zero-dce": ZERO_DCE_WEIGHTS,
    "multi-region": MULTI_REGION_WEIGHTS,
    "global": GLOBAL_WEIGHTS,
    "zero-dce-official": ZERO_DCE_OFFICIAL_WEIGHTS,
    "zero-dce-absolute": ZERO_DCE_ABSOLUTE_WEIGHTS,
}


class ZeroReferenceLoss(nn.Module):
    """A weighted sum of the losses above, returned term by term.

    Args:
        objective: a name (weights of spatial, exposure, colour, smoothness), or a mapping of term names to weights. A
            term of weight 0 is not computed. ``"zero-dce++"`` (1, 10, 5, 1600), ``"zero-dce-official"`` (1, 10, 5,
            200), ``"global"`` (1, 10, 5, 1600 with global exposure), ``"zero-dce"`` (8, 1.75, 1, 7),
            ``"zero-dce-absolute"`` (the same with absolute exposure, squared colour, absolute smoothness),
            ``"multi-region"`` (multi-region exposure 7, smoothness 200).
        exposure_target: the target E of the exposure control loss, or of the global one.

    Raises:
        ValueError: unknown objective or term, or a weight that is negative or not finite.
    """

    def __init__(self, objective: str | Mapping[str, float] = "zero-dce++", exposure_target: float = 0.6) -> None:
        super().__init__()
        if isinstance(objective, str):
            if objective not in OBJECTIVES:
                raise ValueError(f"unknown objective {objective!r}; choose from {', '.join(OBJECTIVES)}")
            objective = OBJECTIVES[objective]
        for term, weight in objective.items():
            if term not in TERMS:
                raise ValueError(f"unknown loss term {term!r}; choose from {', '.join(TERMS)}")
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {term!r} is a number from 0 up, not {weight}")
        self.weights = dict(objective)
        self.spatial = SpatialConsistencyLoss()
        self.exposure = ExposureControlLoss(exposure_target)
        self.global_exposure = GlobalExposureLoss(exposure_target)
        self.colour = ColourConstancyLoss()
        self.smoothness = IlluminationSmoothnessLoss()
        self.saturation = SaturationLoss()
        self.multi_region = MultiRegionExposureLoss()
        self.absolute_exposure = ExposureControlLoss(exposure_target, absolute=True)
        self.squared_colour = ColourConstancyLoss(squared=True)
        self.absolute_smoothness = IlluminationSmoothnessLoss(absolute=True)

    def forward(self, enhanced: Tensor, curve_map: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms by name, in the order of ``weights``; their sum is the loss.

        Args:
            enhanced, original: B×3×H×W in [0, 1].
            curve_map: B×C×H×W in [-1, 1].
        """
        compute = {
            "spatial": lambda: self.spatial(enhanced, original),
            "exposure": lambda: self.exposure(enhanced),
            "global exposure": lambda: self.global_exposure(enhanced, original),
            "colour": lambda: self.colour(enhanced),
            "smoothness": lambda: self.smoothness(curve_map),
            "saturation": lambda: self.saturation(enhanced),
            "multi-region exposure": lambda: self.multi_region(enhanced, original),
            "absolute exposure": lambda: self.absolute_exposure(enhanced),
            "squared colour": lambda: self.squared_colour(enhanced),
            "absolute smoothness": lambda: self.absolute_smoothness(curve_map),
        }
        return {term: weight * compute[term]() for term, weight in self.weights.items() if weight}
