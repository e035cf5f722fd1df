"""Classical methods that correct exposure in both directions, as rivals for networks that do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kdlib.data.brackets import fuse_exposures
from kdlib.enhance.photos.rgb import to_array, to_tensor
from kdlib.evaluation.classical import Method, clahe_in_lab, gamma_to_mean

FUSION_MEAN = 0.466
# Gammas of the copies that are fused; below 1 they are brighter than the photo, above 1 darker.
COPIES = (0.3, 0.5, 0.75, 1.0, 1.5, 2.2)


@dataclass(frozen=True)
class SixNumbers:
    """Gain and gamma as functions of the photo's mean brightness m alone: y = exp(g(m)) · x^exp(e(m)).

    Each of the two is a parabola, c₀ + c₁·m + c₂·m². It is the least that can be learned from data, and therefore what
    a network has to be better than.

    Attributes:
        gain: coefficients of g.
        gamma: coefficients of e.
    """

    gain: tuple[float, float, float]
    gamma: tuple[float, float, float]

    def __call__(self, photo: Tensor) -> Tensor:
        """Correct a photo, 3×H×W in [0, 1]; the result may exceed 1."""
        mean = float(photo.double().mean())
        powers = (1.0, mean, mean * mean)
        gain, gamma = (
            float(np.exp(sum(c * p for c, p in zip(own, powers, strict=True)))) for own in (self.gain, self.gamma)
        )
        return gain * photo**gamma


# Fitted on light and photos under free licences: results/six_numbers.json, to four digits.
SIX_NUMBERS = SixNumbers(gain=(0.4569, -1.0365, -0.0824), gamma=(-0.9874, 1.7215, 0.4861))


def fused_copies(photo: Tensor, gammas: Sequence[float] = COPIES) -> Tensor:
    """Fuse copies of one photo (3×H×W in [0, 1]) with several gammas, as if they were a bracket."""
    return to_tensor(fuse_exposures([to_array(photo**gamma) for gamma in gammas]))


def exposure_rivals(six_numbers: SixNumbers = SIX_NUMBERS) -> dict[str, Method]:
    """Return by name: the unchanged input, a gamma to the mean of fusions, six numbers, CLAHE, and fused copies."""
    return {
        "input": lambda photo: photo,
        f"gamma to mean {FUSION_MEAN:g}": gamma_to_mean(FUSION_MEAN),
        "six numbers": six_numbers,
        "CLAHE": lambda photo: to_tensor(clahe_in_lab(to_array(photo))),
        "fused copies": fused_copies,
    }
