"""What several families do around their networks, as parts of a graph: thumbnails, noise, smoothing, upsampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdlib.export.graph import Value
from kdlib.noise import BLOCK, BLOCKS, BORDER, DARKEST, FLATTEST, LEAST, LEAST_TOLERATED, LIGHTEST, MOST

_SIDE = BLOCK + 2 * BORDER
_FAR = 1e9  # sorts blocks that do not count behind all others
_BEYOND = 2**24  # a pixel beyond every window


def sides(image: Value) -> tuple[Value, Value]:
    """Return height and width of B×C×H×W."""
    return image.size(2), image.size(3)


def cropped(image: Value, height: Value, width: Value) -> Value:
    """Return the first rows and columns of B×C×H×W."""
    graph = image.graph
    start, axes = (graph.constant(np.array(pair)) for pair in ((0, 0), (2, 3)))
    part: Value = graph.op("Slice", image, start, graph.join(height, width, axis=0), axes)
    return part


def opponents(image: Value) -> tuple[Value, Value, Value]:
    """Return luminance, red − blue, and green − magenta, in 255ths, of B×3×H×W in [0, 1]."""
    red, green, blue = (image * 255).channels()
    return (red + 2 * green + blue) / 4, red - blue, green - (red + blue) / 2


def from_opponents(luminance: Value, opponent: Value, tint: Value) -> Value:
    """Return the image whose :func:`opponents` are given."""
    opponent, tint = opponent / 2, tint / 2
    shared = luminance - tint
    return luminance.graph.join(shared + opponent, luminance + tint, shared - opponent) / 255


def averages(image: Value, rows: tuple[Value, Value], columns: tuple[Value, Value], *, repeat: bool = False) -> Value:
    """Return the means of windows of an image, B×C×h×w, as two matrix products.

    Args:
        image: B×C×H×W.
        rows, columns: first and last (exclusive) pixel of each window, whole numbers, vectors of length h and w.
        repeat: whether windows may reach beyond the image, whose last row and column are then repeated.
    """
    tall, wide = (
        _shares(windows, size, repeat=repeat) for windows, size in zip((rows, columns), sides(image), strict=True)
    )
    return tall @ (image @ wide.transpose(1, 0))


def _shares(windows: tuple[Value, Value], size: Value, *, repeat: bool) -> Value:
    """Return the share of each pixel in the mean of each window, windows×size."""
    graph = size.graph
    first, last = (bound.insert_axes(1) for bound in windows)
    pixel = graph.count(size)
    end = pixel + 1
    if repeat:
        end = pixel.op("Equal", size - 1).where(_BEYOND, end)
    overlap = (last.at_most(end) - first.at_least(pixel)).at_least(0)
    return overlap.as_float() / (last - first).as_float()


def thumbnail(image: Value, side: int) -> Value:
    """Return an image of at most ``side`` pixels a side, area-averaged; see :func:`adaptive_averages`."""
    return adaptive_averages(image, *(size.at_most(side) for size in sides(image)))


def adaptive_averages(image: Value, height: Value, width: Value) -> Value:
    """Return an image at another size, as ``torch.nn.functional.adaptive_avg_pool2d`` does."""

    def windows(size: Value, count: Value) -> tuple[Value, Value]:
        number = size.graph.count(count)
        return number * size / count, ((number + 1) * size + count - 1) / count

    tall, wide = sides(image)
    return averages(image, windows(tall, height), windows(wide, width))


def measured_noise(image: Value) -> Value:
    """Return the noise of each photo of B×3×H×W in 255ths, B×1×1×1, as :func:`kdlib.noise.measure_noise` does."""
    graph, (height, width) = image.graph, sides(image)
    rows, columns = (_block_count(size) for size in (height, width))
    for axis, size, count in ((2, height, rows), (3, width, columns)):
        start = graph.count(count) * (size - _SIDE).at_least(0) / (count - 1).at_least(1)
        places = start.insert_axes(1) + graph.constant(np.arange(_SIDE))
        # In a photo that is smaller than a block, which has no measured noise, places are moved inside.
        image = image.op("Gather", places.reshape(-1).at_most(size - 1), axis=axis)
    red, green, blue = image.channels()
    luminance = (red + 2 * green + blue) * (255 / 4)
    window = 2 * BORDER + 1
    means = luminance.op("AveragePool", kernel_shape=[window] * 2)
    means = means.op("Pad", np.array([0] * 4 + [0, 0, 2 * BORDER, 2 * BORDER]))

    def blocks(plane: Value, first: int) -> Value:
        """Return B×rows×8×columns×8, which begin at this position of each of the 12×12 pixels."""
        side = graph.constant(np.array([_SIDE]))
        shape = graph.join(image.size(0), rows, side, columns, side, axis=0)
        return plane.op("Reshape", shape).part(first, first + BLOCK, 2).part(first, first + BLOCK, 4)

    inner = blocks(luminance, BORDER)
    level = (inner.mean(2, 4) / 255).reshape(0, -1)
    deviation = (inner - blocks(means, 0)).square().mean(2, 4).op("Sqrt").reshape(0, -1)
    counts = level.op("Greater", DARKEST).op("And", level.op("Less", LIGHTEST))
    found = counts.as_float().sum(1)
    number = deviation.size(1)
    ranked, _ = graph.op("TopK", counts.where(deviation, _FAR), number, axis=1, largest=0, sorted=1, outputs=2)
    last = (found - 1).at_least(0)
    place = last * FLATTEST
    low = place.op("Floor")
    below, above = (ranked.op("GatherElements", at.as_whole(), axis=1) for at in (low, (low + 1).at_most(last)))
    quantile = (below + (place - low) * (above - below)).clip(LEAST, MOST)
    large = height.at_most(width).op("GreaterOrEqual", _SIDE)
    measured = found.op("Greater", 0.5).op("And", large).where(quantile, LEAST)
    return measured.insert_axes(2, 3)


def _block_count(size: Value) -> Value:
    return (size / BLOCK).at_most(BLOCKS).at_least(1)


def shifted(planes: Value, step: int, taps: Sequence[tuple[int, int]]) -> list[Value]:
    """Return copies of B×C×H×W, moved by multiples of ``step`` pixels; the border is repeated.

    Args:
        taps: row and column of each copy, 0 to 2, with 1 for the middle.
    """
    graph = planes.graph
    around = planes.op("Pad", np.array([0, 0, step, step] * 2), mode="edge")
    size, axes = graph.join(*sides(planes), axis=0), graph.constant(np.array([2, 3]))
    copies = []
    for row, column in taps:
        first = graph.constant(np.array([row * step, column * step]))
        copies.append(graph.op("Slice", around, first, size + first, axes))
    return copies


def precision_of(noise: Value) -> Value:
    """Return 1 / σ² of the noise that a filter tolerates, in 255ths."""
    return 1 / noise.at_least(LEAST_TOLERATED).square()


def enlarged(image: Value, factor: int) -> Value:
    """Enlarge B×3×H×W by bicubic interpolation, as :func:`kdlib.resampling.enlarge` does.

    Every pixel of the result is a mean of 5×5 pixels with weights that depend only on its place within the pixel that
    it comes from. Beyond the border there is nothing, and weights are divided by the sum of those that are left.
    """
    graph, squared = image.graph, factor**2
    distance = np.arange(-2, 3)[None] - ((np.arange(factor) + 0.5) / factor - 0.5)[:, None]
    one = _bicubic(np.abs(distance))  # factor×5
    weights = np.einsum("ay,bx->abyx", one, one).reshape(squared, 1, 5, 5).astype(np.float32)
    planes = graph.convolve(image, np.tile(weights, (3, 1, 1, 1)), None, groups=3)
    inside = (image.part(0, 1) * 0) + 1
    total = graph.convolve(inside, weights, None)
    total = graph.join(total, total, total)
    result: Value = (planes / total).op("DepthToSpace", blocksize=factor, mode="CRD")
    return result


def _bicubic(distance: np.ndarray) -> np.ndarray:
    """Return Keys' kernel with a = −0.5."""
    a, x = -0.5, distance
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
