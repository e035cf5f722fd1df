"""GlanceNet on the CPU without PyTorch: the network in NumPy on the thumbnail, smoothing and power curve compiled.

The reference is :class:`kdlib.models.glance.GlanceNet`, whose module explains the design; results agree with it.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from kdlib.checks import check_number, require_shapes
from kdlib.enhance.kernels.denoise import filter_photo
from kdlib.noise import measure_noise
from kdlib.power_curve import GAMMA_LIMITS


class GlanceFactors:
    """What applying gain and gamma takes besides them.

    Args:
        state: the model's tensors.

    Attributes:
        limits: 3×3, for the rounds of smoothing, as :func:`~kdlib.enhance.kernels.denoise_rows.filter_rows` takes them.
    """

    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]] = {"smoothing.log_tolerance": (3, 3)}

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self.limits: np.ndarray = np.exp(-2 * np.array(state["smoothing.log_tolerance"], np.float32))


class GlanceNetwork(GlanceFactors):
    """The network in plain arrays.

    Args:
        state: the model's tensors.
        architecture: its ``width``, ``hidden`` and ``side``.

    Attributes:
        side: the thumbnail has at most this many pixels a side.

    Raises:
        ValueError: tensors and architecture do not fit each other.
    """

    def __init__(self, state: Mapping[str, np.ndarray], architecture: Mapping[str, Any]) -> None:
        require_shapes({name: tensor.shape for name, tensor in state.items()}, self.shapes(architecture))
        super().__init__(state)
        self.side: int = architecture["side"]
        self._tensors = {key: np.array(tensor, dtype=np.float32, order="C") for key, tensor in state.items()}

    @staticmethod
    def shapes(architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the tensors of an architecture.

        Raises:
            ValueError: a value out of range.
        """
        for name in ("width", "hidden", "side"):
            check_number(name, architecture[name], 1, whole=True)
        width, hidden = architecture["width"], architecture["hidden"]
        return {
            "conv.weight": (width, 3, 3, 3),
            "conv.bias": (width,),
            "depth_conv.weight": (width, 1, 3, 3),
            "depth_conv.bias": (width,),
            "point_conv.weight": (width, width, 1, 1),
            "point_conv.bias": (width,),
            "decide.weight": (hidden, 2 * width),
            "decide.bias": (hidden,),
            "globals.weight": (7, hidden),
            "globals.bias": (7,),
            "local.weight": (2, width, 1, 1),
            "local.bias": (2,),
            **GlanceFactors.SHAPES,
        }

    def __call__(self, thumbnail: np.ndarray) -> np.ndarray:
        """Return the maps of a thumbnail, as :meth:`kdlib.models.glance.GlanceNet.estimate_curve` does.

        Args:
            thumbnail: 3×h×w in [0, 1].

        Returns:
            7×h×w float32: logarithm of the gain (3), gamma − 1 (3) and tolerance (1).
        """
        t = self._tensors
        _, height, width = thumbnail.shape
        # The 3×3 neighbours of each position: channels × (h·w) × 9.
        seen = neighbours(np.log(thumbnail + np.float32(1 / 255)) / 3 + 1)
        weights = t["conv.weight"].reshape(-1, 3, 1, 9)
        features = np.stack([(seen * own).sum((0, 2)) for own in weights]) + t["conv.bias"][:, None]
        features = np.maximum(features, 0).reshape(-1, height, width)
        features = (neighbours(features) * t["depth_conv.weight"].reshape(-1, 1, 9)).sum(2)
        features = mix(t["point_conv.weight"], features + t["depth_conv.bias"][:, None], t["point_conv.bias"])
        features = np.maximum(features, 0)
        pooled = np.concatenate([features.mean(1), np.sqrt(features.var(1) + np.float32(1e-4))])
        hidden = np.tanh((t["decide.weight"] * pooled).sum(1) + t["decide.bias"])
        decision = ((t["globals.weight"] * hidden).sum(1) + t["globals.bias"])[:, None]
        curve = decision[:6] + np.repeat(mix(t["local.weight"], features, t["local.bias"]), 3, axis=0)
        gamma = np.clip(curve[3:], *GAMMA_LIMITS)
        tolerance = np.broadcast_to(np.exp(decision[6:].clip(-6, 2)), (1, height * width))
        return np.concatenate([curve[:3], gamma, tolerance]).astype(np.float32).reshape(7, height, width)


def neighbours(planes: np.ndarray, stride: int = 1) -> np.ndarray:
    """Return the 3×3 neighbourhood of each position, C×h×w → C×(h·w)×9, with zeros beyond the border.

    With a stride, only every second, third … row and column has a position.
    """
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return windows[:, ::stride, ::stride].reshape(len(planes), -1, 9)


def mix(weight: np.ndarray, features: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Apply a 1×1 convolution, as sums in NumPy, because a matrix library may start threads of its own."""
    return (weight.reshape(*weight.shape[:2], 1) * features).sum(1) + bias[:, None]


def apply_power_curve(
    photo: np.ndarray,
    gain: np.ndarray,
    gamma: np.ndarray,
    tolerance: np.ndarray,
    limits: np.ndarray,
    *,
    out: np.ndarray,
    threads: int = 1,
) -> None:
    """Smooth a photo within the noise measured in it and apply the power curve, in one pass, into ``out``.

    Args:
        photo: H×W×C, C-contiguous, uint8, uint16, or float32 in [0, 1].
        gain, gamma: logarithm of the gain, and gamma − 1, each colours×h×w with any h×w.
        tolerance: multiple of the noise that is smoothed, h×w; nothing is smoothed if it is 0 everywhere.
        limits: of the rounds of smoothing, 3×3.
        out: array with the shape and dtype of ``photo``, which may be ``photo`` itself.
        threads: number of parts that are processed at once. The result does not depend on it.
    """
    smooths = bool(tolerance.any())
    if not (smooths or gain.any() or gamma.any()):
        out[...] = photo
        return
    # Nearly always one value everywhere, which need not be upsampled.
    tolerance = tolerance[:1, :1] if np.ptp(tolerance) == 0 else tolerance
    filter_photo(
        photo,
        out,
        tolerance * measure_noise(photo) if smooths else tolerance,
        limits if smooths else limits[:0],
        curve=np.stack([gain / math.log(2), 1 + gamma]),
        threads=threads,
    )
