"""Zero-reference losses, which describe a well-exposed photo without any ground truth.

Every loss returns a scalar, averages over the batch and has finite gradients everywhere, including black, white and
constant images. Images are B×3×H×W in [0, 1], curve maps B×C×H×W in [-1, 1].
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.checks import check_choice, check_number


def patch_means(image: Tensor, patch: int) -> Tensor:
    """Average brightness (mean over channels) over patches: B×C×H×W → B×1×⌈H/patch⌉×⌈W/patch⌉.

    Patches at the lower and right border average only the pixels inside the image. An image smaller than a patch is
    therefore a single patch.
    """
    return F.avg_pool2d(image.mean(dim=1, keepdim=True), patch, ceil_mode=True, count_include_pad=False)


class SpatialConsistencyLoss(nn.Module):
    """Preserve the differences in brightness between neighbouring regions.

    L = 1/K · Σᵢ Σⱼ∈Ω(i) ((Yᵢ − Yⱼ) − (Iᵢ − Iⱼ))², where I and Y are the brightness of 4×4 regions before and after, and
    Ω(i) contains the up to four neighbours of region i (Zero-DCE, eq. 4). The paper uses absolute differences and the
    published code signed ones; signed differences are used here, because only they change when two regions swap their
    brightness. Regions at the border have fewer neighbours; the published code compares them with a black frame.

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
        # The formula counts each pair of neighbours twice, once for either region.
        return 2 * (change.diff(dim=-1).square().sum() + change.diff(dim=-2).square().sum()) / regions


class ExposureControlLoss(nn.Module):
    """Pull the brightness of each patch towards a target: L = 1/M · Σ (Yₖ − E)² (Zero-DCE, eq. 5).

    The paper and a re-implementation use |Y − E| (``absolute``); the published code uses the square.

    Args:
        target: exposure target E in [0, 1].
        patch: side of a patch in pixels.
        absolute: use the paper's form.
    """

    def __init__(self, target: float = 0.6, patch: int = 16, absolute: bool = False) -> None:
        super().__init__()
        self.target, self.patch, self.absolute = target, patch, absolute

    def forward(self, enhanced: Tensor) -> Tensor:
        """Compute the loss of an image, B×3×H×W."""
        distance = patch_means(enhanced, self.patch) - self.target
        return (distance.abs() if self.absolute else distance.square()).mean()


class GlobalExposureLoss(nn.Module):
    """Pull the mean brightness of the whole photo towards a target without darkening any photo.

    L = (Ȳ − max(E, Ī))², where Ȳ and Ī are the mean brightness after and before. Exposure control applies the same
    target to every patch and so favours a photo without highlights and shadows; this loss leaves their balance to
    spatial consistency. A photo that is already bright enough keeps its brightness. A variation of this project on
    Zero-DCE, eq. 5.

    Args:
        target: exposure target E in [0, 1].
    """

    def __init__(self, target: float = 0.6) -> None:
        super().__init__()
        self.target = target

    def forward(self, enhanced: Tensor, original: Tensor) -> Tensor:
        """Compare two images of the same shape, B×3×H×W."""
        before, after = original.mean(dim=(1, 2, 3)), enhanced.mean(dim=(1, 2, 3))
        return (after - before.clamp_min(self.target)).square().mean()


class ColourConstancyLoss(nn.Module):
    """Pull the mean colour towards grey (grey-world assumption).

    L = √(Σ (Jᵖ − J^q)⁴) over the pairs (R, G), (R, B), (G, B) of channel means, averaged over the batch. This is the
    form of the published code, for which the published weight of 5 was chosen; Zero-DCE, eq. 6, has Σ (Jᵖ − J^q)². The
    gradient of the square root at zero, infinite in a direct implementation, is defined as zero, so that a grey image
    receives no gradient.

    Args:
        squared: use the paper's form, as a re-implementation does.
    """

    def __init__(self, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, enhanced: Tensor) -> Tensor:
        """Compute the loss of an image, B×3×H×W."""
        red, green, blue = enhanced.mean(dim=(2, 3)).unbind(dim=1)
        squares = torch.stack([red - green, red - blue, green - blue], dim=1).square()
        return squares.sum(dim=1).mean() if self.squared else torch.linalg.vector_norm(squares, dim=1).mean()


class IlluminationSmoothnessLoss(nn.Module):
    """Penalise differences between neighbouring pixels of the curve map (total variation; Zero-DCE, eq. 7).

    L = 2 · Σ_c (mean (∇ₓA)² + mean (∇ᵧA)²), with means over pixels and the sum over channels. This is the form of the
    published code, for which its weights (1600 for Zero-DCE++) were chosen; the paper squares |∇ₓA| + |∇ᵧA|.

    Args:
        absolute: use L = Σ_c (mean |∇ₓA| + mean |∇ᵧA|) / (C / 3), as a re-implementation does.
    """

    def __init__(self, absolute: bool = False) -> None:
        super().__init__()
        self.absolute = absolute

    def forward(self, curve_map: Tensor) -> Tensor:
        """Compute the loss of a curve map, B×C×H×W."""
        batch, channels = curve_map.shape[:2]
        loss = curve_map.new_zeros(())
        for dim in (-1, -2):
            steps = curve_map.diff(dim=dim)
            pixels = max(1, steps.shape[-1] * steps.shape[-2]) * batch
            loss = loss + (steps.abs().sum() * 3 / channels if self.absolute else 2 * steps.square().sum()) / pixels
        return loss


class SaturationLoss(nn.Module):
    """Penalise pixels far from the image's mean colour: the mean over pixels of ‖x − mean(x)‖₂ over RGB.

    The loss comes from the published two-stage distillation code, where it limits saturation after strong brightening.
    The gradient of the norm at zero is defined as zero.
    """

    def forward(self, enhanced: Tensor) -> Tensor:
        """Compute the loss of an image, B×3×H×W."""
        offset = enhanced - enhanced.mean(dim=(2, 3), keepdim=True)
        return torch.linalg.vector_norm(offset, dim=1).mean()


class MultiRegionExposureLoss(nn.Module):
    """Pull dark, middle and bright regions towards separate exposure targets.

    Three soft masks over the brightness m of the *original* photo's patches, normalised to sum to one, ::

        dark    σ((t_dark − m) / w_dark)
        middle  σ((m − t_dark) / w_dark) · σ((t_middle − m) / w_middle)
        bright  σ((m − t_bright) / w_bright)

    blend three targets: ``dark_target``, ``middle_target`` and ``bright_factor`` · m. The loss is the mean squared
    distance of the enhanced patches from the blended target, plus ``contrast_weight`` times the mean absolute change of
    local contrast (each pixel's distance from the mean of its patch).

    The loss comes from the published two-stage distillation code, stage 1 (bright factor 0.6; its stage 2 uses 0.65).
    That code computes the two contrasts from different quantities, a pixel's own channel and the grey photo; here both
    compare brightness with the pooled brightness of the same image. It also overwrites the bright region's width with
    0.08.

    Like exposure control, the loss depends only on the mean over channels. It does not penalise a photo of a single
    colour and should therefore be combined with a colour term.

    Args:
        dark_target, middle_target: exposure targets in [0, 1].
        bright_factor: target of a bright patch as a fraction of its brightness.
        thresholds: t_dark, t_middle, t_bright, ascending.
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
            raise ValueError(f"widths must be positive and thresholds ascending, got {widths} and {thresholds}")
        self.dark_target, self.middle_target, self.bright_factor = dark_target, middle_target, bright_factor
        self.thresholds, self.widths = thresholds, widths
        self.patch, self.contrast_weight = patch, contrast_weight

    def masks(self, brightness: Tensor) -> Tensor:
        """Return the weights of dark, middle and bright for each brightness (any shape): 3×shape, summing to one."""
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
        """Return the exposure target of patches with the given original brightness (any shape)."""
        dark, middle, bright = self.masks(brightness)
        return dark * self.dark_target + middle * self.middle_target + bright * self.bright_factor * brightness

    def local_contrast(self, image: Tensor) -> Tensor:
        """Return each pixel's absolute difference from the brightness around it, B×1×H×W."""
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


# Published weights of Zero-DCE++.
ZERO_DCE_PP_WEIGHTS = {"spatial": 1.0, "exposure": 10.0, "colour": 5.0, "smoothness": 1600.0}
# Published weights of Zero-DCE. Smoothness is summed over channels, so its 8 separate maps count 8 times.
ZERO_DCE_OFFICIAL_WEIGHTS = {**ZERO_DCE_PP_WEIGHTS, "smoothness": 200.0}
# From a re-implementation with differently scaled terms; with the formulas here, smoothness has far less influence.
ZERO_DCE_WEIGHTS = {"spatial": 8.0, "exposure": 1.75, "colour": 1.0, "smoothness": 7.0}
# The same weights, applied to the terms as that re-implementation defines them.
ZERO_DCE_ABSOLUTE_WEIGHTS = {
    "spatial": 8.0,
    "absolute exposure": 1.75,
    "squared colour": 1.0,
    "absolute smoothness": 7.0,
}
# Published weights of stage 1 of the two-stage distillation code.
MULTI_REGION_WEIGHTS = {"multi-region exposure": 7.0, "smoothness": 200.0}

# This project's variation: the weights of Zero-DCE++, with the exposure target applied to the whole photo.
GLOBAL_WEIGHTS = {"spatial": 1.0, "global exposure": 10.0, "colour": 5.0, "smoothness": 1600.0}

# Each term's loss for an exposure target, and the tensors that it compares.
_TERMS: dict[str, tuple[Callable[[float], nn.Module], tuple[str, ...]]] = {
    "spatial": (lambda _: SpatialConsistencyLoss(), ("enhanced", "original")),
    "exposure": (lambda target: ExposureControlLoss(target), ("enhanced",)),
    "global exposure": (lambda target: GlobalExposureLoss(target), ("enhanced", "original")),
    "colour": (lambda _: ColourConstancyLoss(), ("enhanced",)),
    "smoothness": (lambda _: IlluminationSmoothnessLoss(), ("curve map",)),
    "saturation": (lambda _: SaturationLoss(), ("enhanced",)),
    "multi-region exposure": (lambda _: MultiRegionExposureLoss(), ("enhanced", "original")),
    "absolute exposure": (lambda target: ExposureControlLoss(target, absolute=True), ("enhanced",)),
    "squared colour": (lambda _: ColourConstancyLoss(squared=True), ("enhanced",)),
    "absolute smoothness": (lambda _: IlluminationSmoothnessLoss(absolute=True), ("curve map",)),
}
TERMS = tuple(_TERMS)
OBJECTIVES: dict[str, dict[str, float]] = {
    "zero-dce++": ZERO_DCE_PP_WEIGHTS,
    "zero-dce": ZERO_DCE_WEIGHTS,
    "multi-region": MULTI_REGION_WEIGHTS,
    "global": GLOBAL_WEIGHTS,
    "zero-dce-official": ZERO_DCE_OFFICIAL_WEIGHTS,
    "zero-dce-absolute": ZERO_DCE_ABSOLUTE_WEIGHTS,
}


class ZeroReferenceLoss(nn.Module):
    """Weighted combination of the losses above, returned term by term.

    Args:
        objective: a mapping from term names to weights, or a name. The names and their weights of spatial, exposure,
            colour and smoothness are ``"zero-dce++"`` (1, 10, 5, 1600), ``"zero-dce-official"`` (1, 10, 5, 200),
            ``"global"`` (1, 10, 5, 1600 with global exposure), ``"zero-dce"`` (8, 1.75, 1, 7),
            ``"zero-dce-absolute"`` (the same with absolute exposure, squared colour and absolute smoothness), and
            ``"multi-region"`` (multi-region exposure 7, smoothness 200). A term of weight 0 is not computed.
        exposure_target: target E of the exposure control loss or the global exposure loss.

    Raises:
        ValueError: the objective or a term is unknown, or a weight is negative or not finite.
    """

    def __init__(self, objective: str | Mapping[str, float] = "zero-dce++", exposure_target: float = 0.6) -> None:
        super().__init__()
        if isinstance(objective, str):
            check_choice("objective", objective, OBJECTIVES)
            objective = OBJECTIVES[objective]
        for term, weight in objective.items():
            check_choice("loss term", term, TERMS)
            check_number(f"the weight of {term!r}", weight)
        self.weights = dict(objective)
        self.losses = nn.ModuleDict({term: make(exposure_target) for term, (make, _) in _TERMS.items()})

    def forward(self, enhanced: Tensor, curve_map: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms by name, in the order of ``weights``; the loss is their sum.

        Args:
            enhanced, original: B×3×H×W in [0, 1].
            curve_map: B×C×H×W in [-1, 1].
        """
        tensors = {"enhanced": enhanced, "curve map": curve_map, "original": original}
        return {
            term: weight * self.losses[term](*(tensors[name] for name in _TERMS[term][1]))
            for term, weight in self.weights.items()
            if weight
        }
