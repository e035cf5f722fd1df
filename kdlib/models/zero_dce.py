"""Zero-DCE and the Zero-DCE++ family: networks that brighten a photo with per-pixel curves.

Sources: Guo et al., "Zero-Reference Deep Curve Estimation for Low-Light Image Enhancement", CVPR 2020
(Zero-DCE), and Li et al., "Learning to Enhance Low-Light Image via Zero-Reference Deep Curve Estimation",
TPAMI 2022 (Zero-DCE++).
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.checks import check_choice, check_number
from kdlib.models.network import Network, check_photos

CurveActivation = Literal["tanh", "sigmoid"]

CURVE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    # 2·sigmoid(z) − 1 = tanh(z / 2) has half the slope, so weights trained with tanh give a weaker curve with it.
    "sigmoid": lambda z: 2 * torch.sigmoid(z) - 1,
}


def apply_curve(image: Tensor, curve_map: Tensor, iterations: int) -> Tensor:
    """Iterate the light-enhancement curve x ← x + r·(x² − x).

    A negative r brightens and a positive r darkens. 0 and 1 are fixed points, and for r in [-1, 1] the curve is
    monotonic and maps [0, 1] to [0, 1] (Zero-DCE, eq. 2 and 3, with the sign of the published code).

    Args:
        image: B×3×H×W, values in [0, 1].
        curve_map: B×3×H×W, one map shared by all iterations, or B×(3·iterations)×H×W, one map per iteration; values in
            [-1, 1].
        iterations: number of times the curve is applied.

    Returns:
        The enhanced image, B×3×H×W.

    Raises:
        ValueError: the map does not have 3 or 3·iterations channels.
    """
    maps = curve_map.split(3, dim=1)
    if len(maps) == 1:
        maps = maps * iterations
    if len(maps) != iterations or curve_map.shape[1] % 3:
        raise ValueError(
            f"a curve map for {iterations} iterations must have 3 or {3 * iterations} channels, "
            f"got {curve_map.shape[1]}"
        )
    for r in maps:
        image = torch.addcmul(image, r, image * image - image)
    return image


class SeparableConv(nn.Module):
    """A 3×3 depthwise convolution followed by a pointwise one (B×Cin×H×W → B×Cout×H×W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depth_conv = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels)
        self.point_conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(x))


def plain_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return the 3×3 convolution used in Zero-DCE."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ZeroDCE(Network):
    """Curve network: estimates a curve map, usually from a downsampled photo, and applies it to the photo.

    The layers are named ``e_conv1`` … ``e_conv{depth}``, as in the published weights. The first half is a plain
    sequence; with ``skips`` each layer of the second half also receives the output of its counterpart in the first.

    Args:
        width: channels of the hidden layers (32 as published, 4 in the students).
        depth: number of layers; odd and at least 3 with ``skips``.
        iterations: number of times the curve is applied.
        separable: depthwise-separable convolutions (Zero-DCE++) instead of plain ones (Zero-DCE).
        shared_map: one 3-channel map for all iterations (Zero-DCE++) instead of one per iteration (Zero-DCE).
        skips: symmetric concatenations, as published; the 161-parameter student has none.
        scale_factor: factor by which the photo is downsampled for the network, whose cost falls with its square.
        network_side: maximum side in pixels of the downsampled photo, so that a network trained on small photos has the
            same relative field of view on large ones. 0 means no limit, as published.
        curve_activation: ``"tanh"``, or ``"sigmoid"`` for 2·sigmoid(z) − 1, which exists only to reproduce a published
            student that was trained with it.
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
        check_number("width", width, 1)
        check_number("iterations", iterations, 1)
        if depth < 2 or (skips and (depth < 3 or depth % 2 == 0)):
            raise ValueError(f"depth must be at least 2 without skips, and odd and at least 3 with skips, got {depth}")
        for name, value, least in (("scale_factor", scale_factor, 1), ("network_side", network_side, 0)):
            check_number(name, int(value) if value == int(value) else value, least, whole=True)
        check_choice("curve_activation", curve_activation, CURVE_ACTIVATIONS)
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
        """Run only the network, at the resolution of ``x`` (B×3×h×w in [0, 1]).

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
        """Return the factor by which a photo of this size is downsampled for the network."""
        return max(self.scale_factor, math.ceil(max(height, width) / self.network_side) if self.network_side else 1)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width to which a photo of this size is downsampled for the network."""
        factor = self.shrink(height, width)
        return math.ceil(height / factor), math.ceil(width / factor)

    def curve_map(self, image: Tensor) -> Tensor:
        """Return the curve map at the size of ``image``: downsample, run the network, upsample the map.

        Downsampling is bilinear, as published, or area-averaged if ``network_side`` is set. The map is upsampled
        bilinearly with aligned corners.

        If a side is not a multiple of the factor, the network's copy of the photo is padded at the lower and right
        border and the map is cropped accordingly; the photo itself is neither cropped nor resampled.
        """
        height, width = image.shape[-2:]
        factor = self.shrink(height, width)
        if factor == 1:
            return self.estimate_curve(image)
        small_size = self.network_size(height, width)
        full_size = (small_size[0] * factor, small_size[1] * factor)
        padded = F.pad(image, (0, full_size[1] - width, 0, full_size[0] - height), mode="replicate")
        small = (
            F.avg_pool2d(padded, factor)  # the factor can be so large that single samples would be mostly noise
            if self.network_side
            else F.interpolate(padded, size=small_size, mode="bilinear", align_corners=False)
        )
        full = F.interpolate(self.estimate_curve(small), size=full_size, mode="bilinear", align_corners=True)
        return full[..., :height, :width]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Enhance a batch of photos.

        Returns:
            The enhanced photos, B×3×H×W in [0, 1], and their curve maps at the same size.
        """
        check_photos(image)
        # Under mixed precision the map has lower precision; the curve is always applied in the photo's precision.
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
