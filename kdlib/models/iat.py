"""Illumination Adaptive Transformer (IAT), with a local branch for each pixel and a global branch for the whole photo.

The local branch predicts two maps and computes multiply · photo + add. The global branch attends to features of the
downsampled photo with ten learned queries, which yield a gamma and the nine entries of a colour matrix; both are then
applied to every pixel of the local branch's result.

Source: Cui et al., "You Only Need 90K Parameters to Adapt Light: a Light Weight Transformer for Image Enhancement and
Exposure Correction", BMVC 2022. Layers are named as in the published weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.models.network import Network, check_photos
from kdlib.stages import Stages, compose, guard_colour


class StochasticDepth(nn.Module):
    """During training, zeroes a residual branch for a random ``share`` of the photos and rescales it for the others."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.share
        return x * kept / (1 - self.share)


class ChannelMix(nn.Module):
    """IAT's normalisation: a learned channel matrix, scale and shift, without statistics of the photo."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, width))
        self.color = nn.Parameter(torch.eye(width))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.alpha.view(-1, 1) * self.color
        return F.conv2d(x, weight[:, :, None, None], self.beta.flatten())


class Mlp(nn.Module):
    """Two pointwise layers with four times as many hidden channels, for feature maps (``conv``) or B×N×C tokens."""

    def __init__(self, width: int, *, conv: bool) -> None:
        super().__init__()
        hidden = 4 * width
        self.fc1 = nn.Conv2d(width, hidden, 1) if conv else nn.Linear(width, hidden)
        self.fc2 = nn.Conv2d(hidden, width, 1) if conv else nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LocalBlock(nn.Module):
    """A transformer block with a 5×5 depthwise convolution in place of attention (B×C×H×W → B×C×H×W)."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        # Both residual branches start close to zero.
        self.gamma_1 = nn.Parameter(torch.full((1, width, 1, 1), 1e-4))
        self.gamma_2 = nn.Parameter(torch.full((1, width, 1, 1), 1e-4))
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = ChannelMix(width)
        self.conv1 = nn.Conv2d(width, width, 1)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.attn = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.drop_path = StochasticDepth(drop_path)
        self.norm2 = ChannelMix(width)
        self.mlp = Mlp(width, conv=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.gamma_1 * self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return x + self.drop_path(self.gamma_2 * self.mlp(self.norm2(x)))


class LocalNet(nn.Module):
    """The local branch: predicts a multiply map (≥ 0) and an add map (in [-1, 1]) from a photo, all B×3×H×W."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.mul_blocks, self.add_blocks = (
            nn.Sequential(*(LocalBlock(width, share) for share in (0.01, 0.05, 0.1))) for _ in range(2)
        )
        self.mul_end = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1), nn.ReLU())
        self.add_end = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1), nn.Tanh())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                start_conv(module)
        start_at_identity(self.mul_end, self.add_end)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = F.leaky_relu(self.conv1(image), 0.2)
        multiply = self.mul_end(self.mul_blocks(features) + features)
        return multiply, self.add_end(self.add_blocks(features) + features)


def start_conv(conv: nn.Conv2d) -> None:
    """Initialise weights to preserve the variance of gradients (He et al., 2015), as published, and biases to zero."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.groups > 1:  # PyTorch ignores groups when it computes the fan-out
        with torch.no_grad():
            conv.weight *= math.sqrt(conv.groups)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def start_at_identity(mul_end: nn.Sequential, add_end: nn.Sequential) -> None:
    """Initialise the last layers so that training starts from multiply ≈ 1 and add ≈ 0.

    With the published initialisation, multiply is zero at every second pixel, where its ReLU passes no gradient.
    """
    for end, value in ((mul_end[0], 1.0), (add_end[0], 0.0)):
        assert isinstance(end, nn.Conv2d)
        assert end.bias is not None
        nn.init.normal_(end.weight, std=1e-3)
        nn.init.constant_(end.bias, value)


class QueryAttention(nn.Module):
    """Ten learned queries attend to the tokens of a photo, with four heads (B×N×C → B×10×C)."""

    heads = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q = nn.Parameter(torch.ones(1, 10, width))
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2) for tokens in (self.q, self.k(x), self.v(x)))
        attention = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).flatten(2))


class QueryBlock(nn.Module):
    """A transformer block that maps features to the results of ten queries (B×C×h×w → B×10×C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width)
        self.attn = QueryAttention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, conv=False)

    def forward(self, x: Tensor) -> Tensor:
        x = (x + self.pos_embed(x)).flatten(2).transpose(1, 2)
        x = self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Embedding(nn.Module):
    """Computes feature maps at a quarter of the photo's size, rounded up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.proj = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=2, padding=1),
            nn.BatchNorm2d(half),
            nn.GELU(),
            nn.Conv2d(half, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)


class GlobalNet(nn.Module):
    """The global branch: gamma (B×1) and colour matrix (B×3×3), each a learned base plus the result of the queries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma_base = nn.Parameter(torch.ones(1))
        self.color_base = nn.Parameter(torch.eye(3))
        self.conv_large = Embedding(width)
        self.generator = QueryBlock(width)
        self.gamma_linear = nn.Linear(width, 1)
        self.color_linear = nn.Linear(width, 1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # As published: with zero values the queries return zero, so training starts from the bases.
        nn.init.zeros_(self.generator.attn.v.weight)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        answers = self.generator(self.conv_large(image))
        gamma = self.gamma_linear(answers[:, 0]) + self.gamma_base
        return gamma, self.color_linear(answers[:, 1:]).view(-1, 3, 3) + self.color_base


class IAT(Network):
    """Illumination Adaptive Transformer, as published for low light.

    Photos of any size from 1×1 pixel are processed without resizing, because convolutions pad with zeros and strides
    round up. Training needs sides of more than 4 pixels or several photos in a batch, because batch normalisation
    cannot compute the variance of a single value.

    Args:
        width: channels of the local branch.
        global_width: channels of the global branch, a multiple of 4.
        centred: use 2 · photo − 1 as the input and as the factor of the multiply map. The published LOL-v2 weights need
            this and those of LOL-v1 do not; the tensors do not show which is the case.
        guarded: apply :func:`~kdlib.stages.guard_colour`, which the published network does not.
    """

    family = "iat"
    arguments = ("width", "global_width", "centred", "guarded")

    def __init__(
        self, width: int = 16, global_width: int = 64, *, centred: bool = False, guarded: bool = False
    ) -> None:
        super().__init__()
        if width < 1 or global_width < 1 or global_width % QueryAttention.heads:
            raise ValueError(
                f"width must be at least 1 and global_width a multiple of {QueryAttention.heads}, "
                f"got {width} and {global_width}"
            )
        self.width, self.global_width, self.centred, self.guarded = width, global_width, centred, guarded
        self.local_net = LocalNet(width)
        self.global_net = GlobalNet(global_width)

    def forward(self, image: Tensor) -> tuple[Tensor, Stages]:
        """Enhance a batch of photos.

        Returns:
            The enhanced photos, B×3×H×W in (0, 1], and their intermediate stages.
        """
        check_photos(image)
        seen = self._seen(image)
        multiply, add = self.local_net(seen)
        colour, gamma, _ = self.decide(image)
        return compose(seen, multiply, add, colour, gamma)

    @property
    def reach(self) -> int:
        """Receptive field of the local branch: the number of pixels on each side of a pixel that its maps depend on.

        A tile that is cut out with this margin gets the same maps as the whole photo.
        """
        return 2 + 3 * len(self.local_net.mul_blocks)

    def local_stage(self, image: Tensor) -> Tensor:
        """Compute only ``local`` of :class:`~kdlib.stages.Stages`, without the global branch."""
        seen = self._seen(image)
        multiply, add = self.local_net(seen)
        return multiply * seen + add

    def decide(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute ``colour`` and ``gamma`` of :class:`~kdlib.stages.Stages`.

        The third element is ``local`` for a network that needs it to compute these two, otherwise, as here, None.
        """
        gamma, colour = self.global_net(self._seen(image))
        return guard_colour(colour) if self.guarded else colour, gamma, None

    def _seen(self, image: Tensor) -> Tensor:
        return 2 * image - 1 if self.centred else image
