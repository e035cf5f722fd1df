"""Zero-DCE and the Zero-DCE++ family: networks that brighten a photo by a per-pixel curve.

Sources: Guo et al., "Zero-Reference Deep Curve Estimation for Low-Light Image Enhancement", CVPR 2020
(Zero-DCE), and Li et al., "Learning to Enhance Low-Light Image via Zero-Reference Deep Curve Estimation",
TPAMI 2022 (Zero-DCE++).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.models.network import Network, check_photos

CurveActivation = Literal["tanh", "sigmoid"]

CURVE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    # 2·sigmoid(z) − 1 = tanh(z / 2): half the slope, so weights trained with tanh give a weaker curve.
    "sigmoid": lambda z: 2 * torch.sigmoid(z) - 1,
}


def apply_curve(image: Tensor, curve_map: Tensor, iterations: int) -> Tensor:
    """Iterate the light-enhancement curve x ← x + r·(x² − x).

    A negative r brightens and a positive r darkens; 0 and 1 stay where they are, and for r in [-1, 1] the curve is
    monotonous and never leaves [0, 1] (Zero-DCE, eq. 2 and 3, with the sign that the published code uses).

    Args:
        image: B×3×H×W, values in [0, 1].
        curve_map: B×3×H×W, one map shared by every iteration, or B×(3·iterations)×H×W, one map for each;
            values in [-1, 1].
        iterations: how often the curve is applied.

    Returns:
        The enhanced image, B×3×H×W.

    Raises:
        ValueError: the map has neither 3 nor 3·iterations channels.
    """
    maps = curve_map.split(3, dim=1)
    if len(maps) == 1:
        maps = maps * iterations
    if len(maps) != iterations or curve_map.shape[1] % 3:
        raise ValueError(
            f"a curve map for {iterations} iterations has 3 or {3 * iterations} channels, "
            f"this one has {curve_map.shape[1]}"
        )
    for r in maps:
        image = torch.addcmul(image, r, image * image - image)
    return image


class SeparableConv(nn.Module):
    """A 3×3 convolution factored into a depthwise and a pointwise one (B×Cin×H×W → B×Cout×H×W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depth_conv = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels)
        self.point_conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(x))


def plain_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """The 3×3 convolution of Zero-DCE."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ZeroDCE(Network):
    """Curve network: estimates a curve map from a (small copy of a) photo and applies it to the photo.

    The layers are named ``e_conv1`` … ``e_conv{depth}``, as in the published files. The first half runs straight
    down; with ``skips`` each layer of the second half also sees the output of its mirror in the first half.

    Args:
        width: channels of the hidden layers (32 as published, 4 in the students).
        depth: number of layers; odd and at least 3 when ``skips`` is on.
        iterations: how often the curve is applied.
        separable: depthwise-separable convolutions (Zero-DCE++) instead of plain ones (Zero-DCE).
        shared_map: one 3-channel map for all iterations (Zero-DCE++) instead of one for each (Zero-DCE).
        skips: symmetric concatenations, as published; the 161-parameter student has none.
        scale_factor: the network sees the photo's 1/scale_factor copy; its cost falls with the square.
        network_side: the copy has at most this many pixels a side, however large the photo: a network that was trained
            on small photos then sees as much of a large one at a glance. 0 sets no limit, as published.
        curve_activation: ``"tanh"``. ``"sigmoid"`` stands for 2·sigmoid(z) − 1 and is here only to reproduce a
            published student that was trained with it.
    """

    family = "zero-dce"
    arguments = (
        *("width", "depth", "iterations", "separable", "shared_map", "skips"),
        *("scale_factor", "network_side", "curve_activation"),
    )

    def __init__(
        self,
        width: int = 32,
        depth: int = 7,
        iterations: int = 8,
        *,
        separable: bool = True,
        shared_map: bool = True,
        skips: bool = True,
        scale_factor: int = 12,
        network_side: int = 0,
        curve_activation: CurveActivation = "tanh",
    ) -> None:
        super().__init__()
        if width < 1 or iterations < 1:
            raise ValueError(f"width and iterations are at least 1, not {width} and {iterations}")
        if depth < 2 or (skips and (depth < 3 or depth % 2 == 0)):
            raise ValueError(
                f"depth {depth} does not work: at least 2 without skips, an odd number from 3 up with them"
            )
        if scale_factor < 1 or scale_factor != int(scale_factor):
            raise ValueError(f"scale_factor is a whole number from 1 up, not {scale_factor}")
        if network_side < 0 or network_side != int(network_side):
            raise ValueError(f"network_side is a whole number from 1 up, or 0 for no limit, not {network_side}")
        if curve_activation not in CURVE_ACTIVATIONS:
            raise ValueError(
                f"curve_activation {curve_activation!r} is unknown; choose from {sorted(CURVE_ACTIVATIONS)}"
            )
        self.width, self.depth, self.iterations = width, depth, iterations
        self.separable, self.shared_map, self.skips = separable, shared_map, skips
        self.scale_factor, self.network_side = int(scale_factor), int(network_side)
        self.curve_activation = curve_activation

        conv = SeparableConv if separable else plain_conv
        straight = depth // 2 + 1 if skips else depth
        for i in range(1, depth + 1):
            c_in = 3 if i == 1 else width if i <= straight else 2 * width
            c_out = width if i < depth else (3 if shared_map else 3 * iterations)
            self.add_module(f"e_conv{i}", conv(c_in, c_out))

    @property
    def config(self) -> dict[str, int | bool | str]:
        """The arguments that rebuild this architecture."""
        # Weights files name no family where it is this one.
        return {name: getattr(self, name) for name in self.arguments}

    def estimate_curve(self, x: Tensor) -> Tensor:
        """Run the network alone, at the resolution of ``x`` (B×3×h×w in [0, 1]).

        Returns:
            The curve map, B×3×h×w (B×(3·iterations)×h×w without ``shared_map``), values in (-1, 1).
        """
        layers = [self.get_submodule(f"e_conv{i}") for i in range(1, self.depth + 1)]
        straight = self.depth // 2 + 1 if self.skips else self.depth
        outputs: list[Tensor] = []
        for i, layer in enumerate(layers):
            if i >= straight:
                x = torch.cat([outputs[self.depth - 1 - i], x], dim=1)
            x = layer(x)
            if i < self.depth - 1:
                x = F.relu(x)
                outputs.append(x)
        return CURVE_ACTIVATIONS[self.curve_activation](x)

    def shrink(self, height: int, width: int) -> int:
        """How many times smaller than a photo the copy is that the network sees."""
        return max(self.scale_factor, math.ceil(max(height, width) / self.network_side) if self.network_side else 1)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the small copy that the network sees of a photo."""
        factor = self.shrink(height, width)
        return math.ceil(height / factor), math.ceil(width / factor)

    def curve_map(self, image: Tensor) -> Tensor:
        """The curve map at the size of ``image``: down, network, bilinear up with aligned corners.

        Down is bilinear, as published, or area-averaged where ``network_side`` may shrink the copy much further.

        A photo whose sides are no multiples of the factor is continued at its lower and right border for the
        network's sake; the map is cut back to the photo, which itself is neither cropped nor resampled.
        """
        height, width = image.shape[-2:]
        factor = self.shrink(height, width)
        if factor == 1:
            return self.estimate_curve(image)
        small_size = self.network_size(height, width)
        full_size = (small_size[0] * factor, small_size[1] * factor)
        padded = F.pad(image, (0, full_size[1] - width, 0, full_size[0] - height), mode="replicate")
        small = (
            F.avg_pool2d(padded, factor)  # shrunk so far, single pixels would be mostly noise
            if self.network_side
            else F.interpolate(padded, size=small_size, mode="bilinear", align_corners=False)
        )
        full = F.interpolate(self.estimate_curve(small), size=full_size, mode="bilinear", align_corners=True)
        return full[..., :height, :width]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Enhance a batch of photos.

        Args:
            image: B×3×H×W, floating point in [0, 1]; any H, W ≥ 1.

        Returns:
            The enhanced photos, B×3×H×W in [0, 1], and their curve maps at the same size.

        Raises:
            ValueError: wrong rank, channel count or dtype.
        """
        check_photos(image)
        # The map may come in lower precision (mixed precision); the curve itself always runs in the photo's.
        curve_map = self.curve_map(image).to(image.dtype)
        return apply_curve(image, curve_map, self.iterations), curve_map


def to_published(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring the tensors of a known re-implementation of Zero-DCE into the published layout; others stay as they are.

    The re-implementation names its layers ``conv1`` … ``conv7`` and concatenates the other way round, so that the
    halves of the input channels of the last three layers change places.
    """
    if "conv1.weight" not in state_dict:
        return state_dict
    published = {}
    for key, tensor in state_dict.items():
        if tensor.ndim == 4 and tensor.shape[1] == 2 * state_dict["conv1.weight"].shape[0]:
            tensor = torch.cat(tensor.chunk(2, dim=1)[::-1], dim=1)
        published[f"e_{key}"] = tensor
    return published
