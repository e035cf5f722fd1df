"""From photo to curve map, compiled for the CPU: area-averaged small copy, then the curve network.

The depthwise-separable curve networks (Zero-DCE++ and its students) run without PyTorch, whose import takes longer than
enhancing a hundred photos and more memory than twenty of them.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from kdlib.checks import check_choice, check_number, require_shapes
from kdlib.enhance.kernels.compiled import compiled
from kdlib.threads import over_rows

# For fewer multiply-adds in a layer, handing rows to other threads takes longer than computing them.
_WORTH_THREADS = 4_000_000
# Of tanh, by the curve activation: 2·sigmoid(z) − 1 is tanh(z / 2).
_SLOPES = {"tanh": 1.0, "sigmoid": 0.5}


@cache
def _area_kernel(line: type, window: type) -> Callable[..., None]:
    """Compile the area average; integers are summed as integers, which is exact and several times faster."""

    @compiled
    def rows(photo: Any, channels: int, colours: int, top: float, out: Any, first: int, last: int) -> None:
        height, width = photo.shape[0], photo.shape[1] // channels
        h, w = out.shape[1], out.shape[2]
        total = np.zeros(photo.shape[1], dtype=line)
        for i in range(first, last):
            total[:] = 0
            upper, lower = i * height // h, -((i + 1) * height // -h)
            for y in range(upper, lower):
                for k in range(total.size):
                    total[k] += line(photo[y, k])
            for j in range(w):
                left, right = j * width // w, -((j + 1) * width // -w)
                area = (lower - upper) * (right - left)
                for c in range(colours):
                    value = window(0)
                    for x in range(left, right):
                        value += window(total[x * channels + c])
                    out[c, i, j] = value / (area * top)

    return rows


def small_copy(photo: np.ndarray, size: tuple[int, int], *, threads: int = 1) -> np.ndarray:
    """Downsample a photo by averaging areas, which reduces noise.

    If the photo's size is not a multiple of the copy's, neighbouring windows share a row or column, as in adaptive
    average pooling.

    Args:
        photo: H×W×C, C-contiguous, uint8, uint16 or float32 in [0, 1]; alpha is ignored, grey is repeated.
        size: height and width, at most those of the photo.

    Returns:
        3×h×w, float32 in [0, 1].
    """
    height, _, channels = photo.shape
    colours = 3 if channels >= 3 else 1
    small = np.empty((colours, *size), dtype=np.float32)
    flat = photo.reshape(height, -1)
    tallest = -(height // -size[0]) + 1
    if photo.dtype.kind == "f":
        kernel, top = _area_kernel(np.float32, np.float64), 1.0
    else:
        top = float(np.iinfo(photo.dtype).max)
        # A vector instruction adds more sums at once the narrower they are.
        line = np.uint16 if tallest * top < 2**16 else np.uint32 if tallest * top < 2**32 else np.uint64
        kernel = _area_kernel(line, np.uint64)
    over_rows(lambda a, b: kernel(flat, channels, colours, top, small, a, b), size[0], threads)
    return small if colours == 3 else np.repeat(small, 3, axis=0)


@compiled
def _separable_layer(
    source: Any, depth_weight: Any, depth_bias: Any, point_weight: Any, point_bias: Any, relu: bool, out: Any,
    first: int, last: int,
) -> None:  # fmt: skip
    """Compute the rows first … last of a 3×3 depthwise and a 1×1 convolution.

    source and out have a border of one pixel.
    """
    width = source.shape[2] - 2
    planes = np.empty((source.shape[0], width), dtype=np.float32)
    for y in range(first, last):
        for c in range(source.shape[0]):
            above, here, below = source[c, y], source[c, y + 1], source[c, y + 2]
            k = depth_weight[c]
            for x in range(width):
                planes[c, x] = (
                    depth_bias[c]
                    + k[0, 0] * above[x] + k[0, 1] * above[x + 1] + k[0, 2] * above[x + 2]
                    + k[1, 0] * here[x] + k[1, 1] * here[x + 1] + k[1, 2] * here[x + 2]
                    + k[2, 0] * below[x] + k[2, 1] * below[x + 1] + k[2, 2] * below[x + 2]
                )  # fmt: skip
        for o in range(out.shape[0]):
            line = out[o, y + 1]
            for x in range(width):
                line[x + 1] = point_bias[o]
            for c in range(source.shape[0]):
                weight = point_weight[o, c]
                for x in range(width):
                    line[x + 1] += weight * planes[c, x]
            if relu:
                for x in range(width):
                    line[x + 1] = max(line[x + 1], np.float32(0))


def _straight(architecture: Mapping[str, Any]) -> int:
    """Return the number of layers whose only input is the layer before."""
    depth: int = architecture["depth"]
    return depth // 2 + 1 if architecture["skips"] else depth


class SeparableNetwork:
    """A network of the Zero-DCE++ kind in plain arrays.

    Its curve maps are those of :class:`kdlib.models.zero_dce.ZeroDCE`.
    """

    def __init__(self, state: Mapping[str, np.ndarray], architecture: Mapping[str, Any]) -> None:
        shapes = self.shapes(architecture)
        # Compiled code does not check array bounds.
        require_shapes({name: tensor.shape for name, tensor in state.items()}, shapes)
        self.iterations: int = architecture["iterations"]
        self.scale_factor: int = architecture["scale_factor"]
        self._width: int = architecture["width"]
        self._depth: int = architecture["depth"]
        self._straight = _straight(architecture)
        self._slope = np.float32(_SLOPES[architecture["curve_activation"]])
        tensors = [np.array(state[name], dtype=np.float32, order="C") for name in shapes]
        self._layers = [
            (depth_weight[:, 0], depth_bias, point_weight[:, :, 0, 0], point_bias)
            for depth_weight, depth_bias, point_weight, point_bias in zip(*[iter(tensors)] * 4, strict=True)
        ]

    @staticmethod
    def shapes(architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the tensors of an architecture, in order, four for each layer.

        Raises:
            ValueError: a value out of range.
        """
        for name in ("iterations", "scale_factor", "width", "depth"):
            check_number(name, architecture[name], 1, whole=True)
        check_number("network_side", architecture["network_side"], whole=True)
        check_choice("curve_activation", architecture["curve_activation"], _SLOPES)
        width, depth, straight = architecture["width"], architecture["depth"], _straight(architecture)
        maps = 1 if architecture["shared_map"] else architecture["iterations"]
        shapes: dict[str, tuple[int, ...]] = {}
        for i in range(depth):
            c_in = 3 if i == 0 else width if i < straight else 2 * width
            c_out = width if i < depth - 1 else 3 * maps
            shapes[f"e_conv{i + 1}.depth_conv.weight"] = (c_in, 1, 3, 3)
            shapes[f"e_conv{i + 1}.depth_conv.bias"] = (c_in,)
            shapes[f"e_conv{i + 1}.point_conv.weight"] = (c_out, c_in, 1, 1)
            shapes[f"e_conv{i + 1}.point_conv.bias"] = (c_out,)
        return shapes

    def __call__(self, small: np.ndarray, threads: int) -> np.ndarray:
        """Return the curve maps of a small copy.

        Args:
            small: 3×h×w in [0, 1].
            threads: number of parts that are computed at once.

        Returns:
            K×h×w float32 in (-1, 1); K is 3 or 3·iterations.
        """
        _, height, width = small.shape

        def empty(channels: int) -> np.ndarray:
            return np.zeros((channels, height + 2, width + 2), dtype=np.float32)

        # A layer of the second half reads the outputs of its predecessor and of its mirror in the first half. Both are
        # written to the halves of one array, so that nothing needs to be concatenated.
        pairs = {i: empty(2 * self._width) for i in range(self._straight, self._depth)}
        current = empty(3)
        current[:, 1:-1, 1:-1] = small
        for i, layer in enumerate(self._layers):
            following, mirrored = i + 1, self._depth - 1 - i
            if following in pairs:
                out = pairs[following][self._width :]
            elif mirrored in pairs:
                out = pairs[mirrored][: self._width]
            else:
                out = empty(len(layer[3]))
            if i in pairs:
                current = pairs.pop(i)
            self._run(layer, current, out, relu=following < self._depth, threads=threads)
            current = out
        return np.tanh(self._slope * current[:, 1:-1, 1:-1])

    def _run(
        self, layer: tuple[np.ndarray, ...], source: np.ndarray, out: np.ndarray, *, relu: bool, threads: int
    ) -> None:
        height = source.shape[1] - 2
        work = (layer[0].size + layer[2].size) * height * source.shape[2]
        over_rows(
            lambda a, b: _separable_layer(source, *layer, relu, out, a, b),
            height,
            threads if work > _WORTH_THREADS else 1,
        )
