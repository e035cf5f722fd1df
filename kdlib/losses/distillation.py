"""Distillation losses, which compare a student with its teacher.

Outputs are pairs (enhanced image B×3×H×W in [0, 1], curve map B×C×H×W in [-1, 1]), as the models return them. Features
are dicts from layer name to B×C×h×w tensors, as :class:`LayerFeatures` collects them. Tensors of the teacher carry no
gradient.
"""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.checks import check_number

# Pairs of (student layer, teacher layer), from shallow to deep.
SAME_DEPTH_LAYERS = (("e_conv2", "e_conv2"), ("e_conv4", "e_conv4"), ("e_conv6", "e_conv6"))
SHALLOW_STUDENT_LAYERS = (("e_conv1", "e_conv2"), ("e_conv2", "e_conv4"), ("e_conv3", "e_conv7"))
LAYER_WEIGHTS = (0.2, 0.3, 0.5)


def total_curve(curve_map: Tensor, iterations: int) -> Tensor:
    """Sum the maps over the iterations, B×3×H×W: the strength of the whole curve to first order.

    Unlike the maps themselves, the sum is comparable between networks with different numbers of iterations, and between
    a shared map and separate maps.
    """
    maps = curve_map.unflatten(1, (-1, 3))
    return maps.sum(dim=1) * (iterations / maps.shape[1])


class OutputAlignmentLoss(nn.Module):
    """Mean squared error of the enhanced image, plus ``map_weight`` times that of the curve map.

    These are regression targets: without class probabilities to soften, there is no temperature. Maps are compared as
    the total curve divided by the teacher's iterations, which is the map itself if both networks iterate equally often.
    For a teacher without a curve map, only the images are compared.

    Args:
        map_weight: weight of the curve map's error (0.1 for the published students).
        student_iterations, teacher_iterations: number of curve iterations of each network.
    """

    def __init__(self, map_weight: float = 0.1, student_iterations: int = 8, teacher_iterations: int = 8) -> None:
        super().__init__()
        self.map_weight = map_weight
        self.student_iterations, self.teacher_iterations = student_iterations, teacher_iterations

    def forward(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor | None]) -> Tensor:
        """Compare two outputs of the same spatial size."""
        if teacher[1] is None:
            return F.mse_loss(student[0], teacher[0])
        student_curve = total_curve(student[1], self.student_iterations) / self.teacher_iterations
        teacher_curve = total_curve(teacher[1], self.teacher_iterations) / self.teacher_iterations
        return F.mse_loss(student[0], teacher[0]) + self.map_weight * F.mse_loss(student_curve, teacher_curve)


class LayerFeatures:
    """Collect the outputs of named layers in each forward pass through hooks, which leaving the context removes.

    Args:
        model: any module.
        layers: names as in ``model.named_modules()``.

    Raises:
        ValueError: the model has no layer with one of these names.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str]) -> None:
        self.features: dict[str, Tensor] = {}
        modules = dict(model.named_modules())
        self._handles = []
        for name in layers:
            if name not in modules:
                self.close()
                raise ValueError(f"the model has no layer {name!r}; it has {', '.join(n for n in modules if n)}")
            self._handles.append(modules[name].register_forward_hook(self._keep(name)))

    def _keep(self, name: str):  # type: ignore[no-untyped-def]  # torch's hook protocol is untyped
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self.features[name] = output

        return hook

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def mean_activation_map(features: Tensor, size: int = 8) -> Tensor:
    """Average features over channels and pool them to a fixed grid: B×C×h×w → B×size×size.

    This makes layers of different width and resolution comparable without a learned projection.
    """
    return F.adaptive_avg_pool2d(features.mean(dim=1, keepdim=True), size).squeeze(1)


def mean_activation_maps(features: Mapping[str, Tensor], size: int = 8) -> dict[str, Tensor]:
    """Apply :func:`mean_activation_map` to every layer."""
    return {name: mean_activation_map(value, size) for name, value in features.items()}


class FeatureMatchingLoss(nn.Module):
    """Weighted sum over layer pairs of the mean squared error between their attention maps.

    Args:
        layer_pairs: pairs of (student layer, teacher layer), from shallow to deep.
        weights: one weight per pair (0.2, 0.3, 0.5 for the published students).
    """

    def __init__(
        self, layer_pairs: tuple[tuple[str, str], ...] = SAME_DEPTH_LAYERS, weights: tuple[float, ...] = LAYER_WEIGHTS
    ) -> None:
        super().__init__()
        if len(layer_pairs) != len(weights):
            raise ValueError(f"{len(layer_pairs)} layer pairs need as many weights, got {len(weights)}")
        self.layer_pairs, self.weights = layer_pairs, weights

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        """Compare attention maps (B×s×s for each layer name) of student and teacher.

        Raises:
            KeyError: a layer of a pair is missing; skipping it would silently make its term zero.
        """
        terms = [
            weight * F.mse_loss(student[s], teacher[t])
            for weight, (s, t) in zip(self.weights, self.layer_pairs, strict=True)
        ]
        return torch.stack(terms).sum()


class ContrastiveLoss(nn.Module):
    """Pull the student towards its teacher and away from its past: softplus((d⁺ − d⁻) / τ).

    d⁺ is the mean squared distance between the attention maps of the student and the frozen teacher (positive), and d⁻
    that between the student and its own exponential moving average (negative); the loss is averaged over batch and
    layer pairs. This is the two-sample InfoNCE loss on negative distances. With squared distances the gradient always
    points from the moving average to the teacher; with absolute distances it vanishes if both lie on the same side of
    the student. The published code uses the quotient d⁺ / (d⁻ + 10⁻⁷) of absolute distances. In the first step, when
    student and average coincide, that quotient is of the order of 10⁶, whereas softplus stays finite.

    Args:
        layer_pairs: pairs of (student layer, teacher layer).
        temperature: τ > 0, in units of the squared features.
    """

    def __init__(self, layer_pairs: tuple[tuple[str, str], ...] = SAME_DEPTH_LAYERS, temperature: float = 0.1) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        self.layer_pairs, self.temperature = layer_pairs, temperature

    def forward(
        self, student: Mapping[str, Tensor], positive: Mapping[str, Tensor], negative: Mapping[str, Tensor]
    ) -> Tensor:
        """Compare attention maps of the student, the teacher (positive) and the student's moving average (negative)."""
        terms = []
        for s, t in self.layer_pairs:
            to_teacher = (student[s] - positive[t].detach()).square().mean(dim=(1, 2))
            to_past = (student[s] - negative[s].detach()).square().mean(dim=(1, 2))
            terms.append(F.softplus((to_teacher - to_past) / self.temperature).mean())
        return torch.stack(terms).mean()


class SSIMLoss(nn.Module):
    """1 − SSIM with the usual 11×11 Gaussian window and σ = 1.5 (Wang et al., TIP 2004)."""

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Compare two images, B×3×H×W in [0, 1] with H, W ≥ 11; the result is in [0, 2].

        Raises:
            ValueError: the images are smaller than the window.
        """
        if min(image.shape[-2:]) < 11:
            raise ValueError(f"SSIM needs images of at least 11×11 pixels, got {image.shape[-2]}×{image.shape[-1]}")
        from torchmetrics.functional.image import structural_similarity_index_measure  # imports torchvision

        ssim = structural_similarity_index_measure(image, target, data_range=1.0)
        assert isinstance(ssim, Tensor)
        return 1 - ssim
