"""Multi-level distillation: the student is trained on each intermediate stage of its teacher's enhancement.

The levels are those of IAT and its student (:mod:`kdlib.stages`): two maps, the local image computed with them, a
colour matrix, a gamma and the final image, as well as the ground truth. Each level is a separately weighted term.
"""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.checks import check_choice, check_number
from kdlib.losses.distillation import SSIMLoss
from kdlib.losses.perceptual import PerceptualLoss
from kdlib.stages import Stages

Distance = Callable[[Tensor, Tensor], Tensor]

# Smooth L1 is quadratic below this difference: 5% of the range, where differences become visible.
SMOOTH_BELOW = 0.05
DISTANCES: dict[str, Distance] = {
    "l1": F.l1_loss,
    "smooth-l1": lambda have, want: F.smooth_l1_loss(have, want, beta=SMOOTH_BELOW),
    "mse": F.mse_loss,
}
TO_TRUTH = ("truth", "truth ssim", "truth perceptual")
TO_TEACHER = ("image", "image perceptual", *Stages._fields)
LEVELS = (*TO_TRUTH, *TO_TEACHER)


def check_levels(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights if every name is one of :data:`LEVELS` and every number is finite and at least 0.

    Raises:
        ValueError: a level is unknown or a weight is out of range.
    """
    for level, weight in weights.items():
        check_choice("level", level, LEVELS)
        check_number(f"the weight of {level!r}", weight)
    return dict(weights)


class LevelLosses(nn.Module):
    """Distances of a student from the ground truth and from its teacher, one for each level.

    Args:
        distance: ``l1``, ``smooth-l1`` or ``mse``, used for images, maps and scalars.
        backbone: backbone of the perceptual levels, loaded when the first of them is computed.
    """

    def __init__(self, distance: str = "l1", backbone: str = "squeezenet1_1") -> None:
        super().__init__()
        check_choice("distance", distance, DISTANCES)
        self.distance, self.backbone = distance, backbone
        self.ssim = SSIMLoss()
        self.perceptual: PerceptualLoss | None = None

    def forward(
        self,
        weights: Mapping[str, float],
        student: tuple[Tensor, Stages],
        teacher: tuple[Tensor, Stages],
        truth: Tensor,
    ) -> dict[str, Tensor]:
        """Return the weighted terms by name; levels of weight 0 are not computed.

        Args:
            weights: weight of each level, see :data:`LEVELS`.
            student, teacher: enhanced photo B×3×H×W and its stages, as the models return them.
            truth: B×3×H×W in [0, 1].
        """
        between = DISTANCES[self.distance]
        terms: dict[str, Tensor] = {}
        for level, weight in check_levels(weights).items():
            if not weight:
                continue
            if level in Stages._fields:
                have, want = getattr(student[1], level), getattr(teacher[1], level)
            else:
                have, want = student[0], truth if level in TO_TRUTH else teacher[0]
            if level.endswith("perceptual"):
                term = self._perceptual(have)(have, want)
            else:
                term = self.ssim(have, want) if level.endswith("ssim") else between(have, want)
            terms[level] = weight * term
        return terms

    def _perceptual(self, like: Tensor) -> PerceptualLoss:
        if self.perceptual is None:
            self.perceptual = PerceptualLoss(self.backbone).to(like.device)
        return self.perceptual


class ProgressiveWeights:
    """Weights that change during training in three phases: warm-up, ramp and late.

    The early weights apply during warm-up and the late weights in the late phase; on the ramp each weight is
    interpolated linearly. A level missing from one of the two mappings has weight 0 there.

    Args:
        early: weights by level at the start, typically emphasising the teacher's stages.
        late: weights by level at the end, typically emphasising the ground truth.
        warm_up: fraction of the training at which the warm-up ends.
        late_from: fraction of the training at which the late phase begins.

    Raises:
        ValueError: a level is unknown, a weight or fraction is out of range, or all weights are 0.
    """

    def __init__(
        self, early: Mapping[str, float], late: Mapping[str, float], *, warm_up: float = 0.1, late_from: float = 0.7
    ) -> None:
        if not 0 <= warm_up <= late_from <= 1:
            raise ValueError(f"0 ≤ warm_up ≤ late_from ≤ 1 is required, got {warm_up} and {late_from}")
        self.early, self.late = check_levels(early), check_levels(late)
        if not any(self.early.values()) or not any(self.late.values()):
            raise ValueError("early and late weights each need at least one weight above 0; otherwise there is no loss")
        self.warm_up, self.late_from = warm_up, late_from

    def __call__(self, progress: float) -> dict[str, float]:
        """Return the weights after the fraction ``progress``, in [0, 1], of the training."""
        if progress < self.warm_up:
            way = 0.0
        elif progress >= self.late_from:
            way = 1.0
        else:
            way = (progress - self.warm_up) / (self.late_from - self.warm_up)
        levels = [level for level in LEVELS if level in self.early or level in self.late]
        return {level: (1 - way) * self.early.get(level, 0.0) + way * self.late.get(level, 0.0) for level in levels}

    def phase(self, progress: float) -> str:
        """Return the phase at ``progress``: ``warm-up``, ``ramp`` or ``late``."""
        return "warm-up" if progress < self.warm_up else "late" if progress >= self.late_from else "ramp"

    def __repr__(self) -> str:
        return f"ProgressiveWeights({self.early}, {self.late}, warm_up={self.warm_up!r}, late_from={self.late_from!r})"


# Weights of the recipe for IAT's convolutional student: early training follows every stage of the teacher, and late
# training mainly the ground truth.
EARLY_WEIGHTS = {
    "truth": 0.5,
    "truth ssim": 0.1,
    "image": 1.0,
    "multiply": 0.05,
    "add": 1.0,
    "local": 1.0,
    "colour": 0.5,
    "gamma": 0.5,
}
LATE_WEIGHTS = {"truth": 1.0, "truth ssim": 0.2, "image": 0.5, "local": 0.1, "colour": 0.1, "gamma": 0.1}
