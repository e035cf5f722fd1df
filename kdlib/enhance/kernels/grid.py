"""GridNet on the CPU without PyTorch: the network in NumPy on the thumbnail, smoothing and gains compiled.

The reference is :class:`kdlib.models.grid.GridNet`, whose module explains the design; results agree with it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from kdlib.checks import check_number, require_shapes
from kdlib.enhance.kernels.denoise import over_parts
from kdlib.enhance.kernels.glance import mix, neighbours
from kdlib.enhance.kernels.grid_rows import gain_rows
from kdlib.enhance.kernels.smooth_rows import smooth_gain_rows, working_rows
from kdlib.gain_grid import FLOOR, KNOTS, MOST_CHROMA, MOST_GAIN, MOST_LOSS_OF_WHITE, TAPS
from kdlib.noise import LEAST_TOLERATED, TOP, measure_noise
from kdlib.threads import over_rows


class GridFactors:
    """What applying a grid takes besides it.

    Args:
        state: the model's tensors.

    Attributes:
        chroma: factors by which chroma decreases with gains above 1 in deep shadows, and increases with gains below 1.
        floor: luminance at which half of the gain above 1 remains, as a multiple of the noise; at least 0.
        tolerances: 4×2, for the rounds of smoothing, of luminance and of colour, as multiples of the noise.
    """

    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "chroma": (2,),
        "floor": (),
        "smoothing.log_tolerance": (len(TAPS), 2),
    }

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self.chroma: np.ndarray = np.array(state["chroma"], np.float32)
        self.floor = max(float(state["floor"]), 0.0)
        # Beyond these limits, which only weights that were not trained reach, all or no neighbours count anyway.
        self.tolerances: np.ndarray = np.exp(np.clip(np.array(state["smoothing.log_tolerance"], np.float64), -12, 12))


class GridNetwork(GridFactors):
    """The network in plain arrays.

    Args:
        state: the model's tensors.
        architecture: its ``width``, ``hidden`` and ``side``; its ``body`` is ``separable``.

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
        width, hidden, knots = architecture["width"], architecture["hidden"], len(KNOTS)
        layers: dict[str, tuple[int, ...]] = {
            "features.conv": (width, 3, 3, 3),
            "features.depth1": (width, 1, 3, 3),
            "features.point1": (width, width, 1, 1),
            "features.depth2": (width, 1, 3, 3),
            "features.point2": (width, width, 1, 1),
            "decide": (hidden, 2 * width + knots),
            "globals": (width, hidden),
            "saturate": (1, hidden),
            "knots": (knots, width, 1, 1),
        }
        parts = {f"{name}.weight": shape for name, shape in layers.items()}
        parts |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
        return {**GridFactors.SHAPES, **parts}

    def __call__(self, thumbnail: np.ndarray) -> np.ndarray:
        """Return the grid of a thumbnail, as :meth:`kdlib.models.grid.GridNet.estimate_grid` does.

        Args:
            thumbnail: 3×h×w in [0, 1].

        Returns:
            9×h'×w' float32, with h' and w' a quarter of h and w: logarithms of the gains at the knots (8), and of the
            chroma (1).
        """
        t = self._tensors
        luminance = (thumbnail[0] + 2 * thumbnail[1] + thumbnail[2]) / 4
        seen = np.stack([np.log2(luminance + np.float32(FLOOR)) / 3 + 1, *2 * (thumbnail[::2] - luminance)])
        around = neighbours(seen, 2)
        weights = t["features.conv.weight"].reshape(-1, 3, 1, 9)
        features = np.stack([(around * own).sum((0, 2)) for own in weights]) + t["features.conv.bias"][:, None]
        height, width = (-(side // -2) for side in luminance.shape)
        features = self._separable(np.maximum(features, 0).reshape(-1, height, width), "1", 2)
        features = np.maximum(features, 0)
        height, width = -(height // -2), -(width // -2)
        features = features + self._separable(features.reshape(-1, height, width), "2", 1)
        # Interpolating 0 … 0, 1, 0 … 0 over the knots gives the share of one.
        shares = np.stack([np.interp(luminance, KNOTS, share).mean() for share in np.eye(len(KNOTS))])
        pooled = np.concatenate([features.mean(1), features.max(1), 4 * shares]).astype(np.float32)
        hidden = np.maximum((t["decide.weight"] * pooled).sum(1) + t["decide.bias"], 0)
        features = features + ((t["globals.weight"] * hidden).sum(1) + t["globals.bias"])[:, None]
        gains = mix(t["knots.weight"], np.maximum(features, 0), t["knots.bias"])
        limit = np.full_like(gains, MOST_GAIN)
        limit[-1, gains[-1] < 0] = MOST_LOSS_OF_WHITE
        chroma = (t["saturate.weight"] * hidden).sum(1) + t["saturate.bias"]
        grid = np.concatenate(
            [
                limit * np.tanh(gains / limit),
                np.broadcast_to(np.float32(MOST_CHROMA) * np.tanh(chroma), (1, height * width)),
            ]
        )
        return grid.astype(np.float32).reshape(-1, height, width)

    def _separable(self, features: np.ndarray, number: str, stride: int) -> np.ndarray:
        """Run a depthwise convolution, ReLU and a 1×1 convolution: C×h×w → C×(h'·w')."""
        depth, depth_bias, point, point_bias = (
            self._tensors[f"features.{layer}{number}.{part}"]
            for layer in ("depth", "point")
            for part in ("weight", "bias")
        )
        features = (neighbours(features, stride) * depth.reshape(-1, 1, 9)).sum(2) + depth_bias[:, None]
        return mix(point, np.maximum(features, 0), point_bias)


def apply_gains(
    photo: np.ndarray,
    gains: np.ndarray,
    factors: GridFactors,
    denoise: float,
    *,
    out: np.ndarray,
    threads: int = 1,
) -> None:
    """Smooth a photo within the noise measured in it and apply the gains of a grid, in one pass, into ``out``.

    Args:
        photo: H×W×C, C-contiguous, uint8, uint16, or float32 in [0, 1].
        gains: 9×h×w with any h×w: gains at the knots, and the photo's chroma, no logarithms; interpolated linearly
            between the centres of cells and constant beyond.
        denoise: multiple of the measured noise that is smoothed; 0 for none.
        out: array with the shape and dtype of ``photo``, which may be ``photo`` itself. Alpha is copied.
        threads: number of parts that are processed at once. The result does not depend on it.

    Without smoothing, an integer result differs from the rounded float64 result by at most one level and nearly always
    equals it.
    """
    height, width, channels = photo.shape
    top = TOP[photo.dtype.name]
    half = 0.5 if top > 1 else 0
    grid = np.moveaxis(np.concatenate([gains[:1], np.diff(gains[:-1], axis=0), gains[-1:]]), 0, -1)
    # float32 is enough for 8 bits and for the smoothing; 16 bits need float64.
    compute = np.float64 if photo.dtype == np.uint16 and not denoise else np.float32
    grid = np.ascontiguousarray(grid, compute)
    if denoise:
        noise = denoise * measure_noise(photo)
        sizes = max(noise, LEAST_TOLERATED) * factors.tolerances * (top / 255)
        scales = np.concatenate([1 / sizes[:1], sizes[:-1] / sizes[1:], sizes[-1:]]).astype(np.float32)
        constants = np.array([*factors.chroma, factors.floor * noise / 255, top, half], np.float32)

        def work(*rows: Any) -> None:
            smooth_gain_rows(*rows, scales, grid, constants, working_rows(width))

        over_parts(photo, out, sum(step for step, *_ in TAPS), work, threads)
        return
    if channels in {2, 4} and out.ctypes.data != photo.ctypes.data:
        out[..., -1] = photo[..., -1]
    constants = np.array([*factors.chroma, 0, top, half], compute)
    source, target = photo.reshape(height, -1), out.reshape(height, -1)
    over_rows(lambda first, last: gain_rows(source, target, grid, constants, channels, first, last), height, threads)
