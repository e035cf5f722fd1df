"""Convolutional student of the Illumination Adaptive Transformer, with less than half its parameters.

Both local branches start from a shared convolution. Residual blocks with batch normalisation replace the teacher's
blocks, and linear heads on pooled features replace its queries for gamma and colour matrix. The structure and the layer
names are those of the published weights (github.com/gibsonlee01/IAT_Student).

Batch normalisation adds no cost at inference, because :meth:`IATStudent.folded` merges it into the convolutions.
"""

import copy
import math
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdlib.checks import check_number
from kdlib.models.iat import start_at_identity
from kdlib.models.network import Network, check_photos
from kdlib.stages import Stages, compose, guard_colour


def _norm(width: int, folded: bool) -> nn.Module:
    return nn.Identity() if folded else nn.BatchNorm2d(width)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, with batch normalisation unless ``folded``, and a shortcut (B×C×H×W → B×C×H×W)."""

    def __init__(self, width: int, folded: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=folded)
        self.bn1 = _norm(width, folded)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=folded)
        self.bn2 = _norm(width, folded)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))


class IATStudent(Network):
    """The student, which computes the same :class:`~kdlib.stages.Stages` as its teacher with convolutions only.

    Its methods are those of :class:`~kdlib.models.iat.IAT`.

    Photos of any size are accepted, because convolutions pad with zeros and features are pooled to 64×64.

    Training starts near the identity: multiply ≈ 1, add ≈ 0, gamma 1 (0.95 if gamma cannot reach 1), and an identity
    colour matrix. The published code starts from PyTorch's random weights, with gamma near 0.5.

    Args:
        width: channels of the local branches.
        global_width: channels of the global branch.
        blocks: residual blocks in each local branch.
        centred: use 2 · photo − 1 as the input and as the factor of the multiply map, as the published weights require;
            a multiply map of 1 is then not the identity.
        guarded: apply :func:`~kdlib.stages.guard_colour`; without it, as published, the colour matrix may turn a photo
            black.
        most_gamma: maximum gamma, which is a sigmoid times this. With the published value of 1, gamma can brighten but
            not darken, so the student cannot reproduce its teacher, which does both.
        folded: build the network without batch normalisation, see :meth:`folded`.
    """

    family = "iat-student"
    arguments = ("width", "global_width", "blocks", "centred", "guarded", "most_gamma")
    identity: Tensor

    def __init__(
        self,
        width: int = 16,
        global_width: int = 32,
        blocks: int = 2,
        *,
        centred: bool = False,
        guarded: bool = True,
        most_gamma: float = 2.0,
        folded: bool = False,
    ) -> None:
        super().__init__()
        for name, size in (("width", width), ("global_width", global_width), ("blocks", blocks)):
            check_number(name, size, 1)
        check_number("most_gamma", most_gamma, above=0)
        self.width, self.global_width, self.blocks = width, global_width, blocks
        self.centred, self.guarded, self.is_folded = centred, guarded, folded
        self.most_gamma = float(most_gamma)
        self.shared_conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.mul_blocks = nn.Sequential(*(ResidualBlock(width, folded) for _ in range(blocks)))
        self.add_blocks = nn.Sequential(*(ResidualBlock(width, folded) for _ in range(blocks)))
        self.mul_end = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1), nn.ReLU())
        self.add_end = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1), nn.Tanh())
        self.global_refine = nn.Sequential(
            nn.AdaptiveAvgPool2d(64),
            nn.Conv2d(3 * width, global_width, 3, padding=1, bias=folded),
            _norm(global_width, folded),
            nn.ReLU(),
            nn.Conv2d(global_width, global_width, 3, padding=1, bias=folded),
            _norm(global_width, folded),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        gamma, self.color_head = nn.Linear(global_width, 1), nn.Linear(global_width, 9)
        self.gamma_head = nn.Sequential(gamma, nn.Sigmoid())
        self.register_buffer("identity", torch.eye(3))
        start_at_identity(self.mul_end, self.add_end)
        share = min(0.95, 1 / most_gamma)
        for head, value in ((gamma, math.log(share / (1 - share))), (self.color_head, 0.0)):
            nn.init.zeros_(head.weight)
            nn.init.constant_(head.bias, value)

    @property
    def config(self) -> dict[str, Any]:
        """The family and the arguments that rebuild this architecture."""
        return {**super().config, "folded": self.is_folded}

    def folded(self) -> Self:
        """Return a copy in evaluation mode with every batch normalisation folded into the preceding convolution.

        Apart from rounding, the copy computes the same as this network in evaluation mode. It is meant for inference;
        further training would proceed without batch normalisation.
        """
        twin = copy.deepcopy(self).eval()
        if not self.is_folded:
            for block in (*twin.mul_blocks, *twin.add_blocks):
                assert isinstance(block, ResidualBlock)
                for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
                    setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
                    setattr(block, norm, nn.Identity())
            layers = twin.global_refine
            for n in (1, 4):
                conv_layer, norm_layer = layers[n], layers[n + 1]
                assert isinstance(conv_layer, nn.Conv2d)
                assert isinstance(norm_layer, nn.BatchNorm2d)
                layers[n], layers[n + 1] = fuse_conv_bn_eval(conv_layer, norm_layer), nn.Identity()
            twin.is_folded = True
        return twin

    def for_inference(self) -> Self:
        return self.folded()

    def forward(self, image: Tensor) -> tuple[Tensor, Stages]:
        """Enhance a batch of photos.

        Returns:
            The enhanced photos, B×3×H×W in (0, 1], and their intermediate stages.
        """
        check_photos(image)
        seen = self._seen(image)
        return compose(seen, *self._maps(seen))

    @property
    def reach(self) -> int:
        return 2 + 2 * self.blocks

    def local_stage(self, image: Tensor) -> Tensor:
        seen = self._seen(image)
        _, for_multiply, for_add = self._features(seen)
        return self.mul_end(for_multiply) * seen + self.add_end(for_add)

    def decide(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        # The global head reads the features of the local branches, so that these give the local stage as well.
        seen = self._seen(image)
        multiply, add, colour, gamma = self._maps(seen)
        return colour, gamma, multiply * seen + add

    def _seen(self, image: Tensor) -> Tensor:
        return 2 * image - 1 if self.centred else image

    def _features(self, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shared = F.leaky_relu(self.shared_conv1(seen), 0.2)
        return shared, self.mul_blocks(shared) + shared, self.add_blocks(shared) + shared

    def _maps(self, seen: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the multiply map, the add map, the colour matrix as applied, and gamma."""
        shared, for_multiply, for_add = self._features(seen)
        features = self.global_refine(torch.cat([shared, for_multiply, for_add], dim=1))
        colour = self.color_head(features).view(-1, 3, 3) + self.identity
        return (
            self.mul_end(for_multiply),
            self.add_end(for_add),
            guard_colour(colour) if self.guarded else colour,
            self.most_gamma * self.gamma_head(features),
        )
