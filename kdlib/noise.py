"""Measuring the noise of a photo in its flattest blocks.

*Noise model.* A camera's shot noise after sRGB encoding, and rounding to 8 bits, hardly depend on the brightness.
Therefore noise has the same standard deviation σ everywhere in the dark photo, and a curve multiplies it by its slope.

The module uses only NumPy, so that models, training and the CPU kernels measure in the same way.
"""

import numpy as np

# Limits of σ, in 255ths. The lower one is the noise of rounding to 8 bits. The upper one limits the damage in photos
# without flat blocks, such as one filled with grass.
LEAST, MOST = 0.18, 1.5
BLOCK, BORDER, BLOCKS = 8, 2, 48  # at most BLOCKS × BLOCKS blocks are measured
DARKEST, LIGHTEST = 0.025, 0.94  # mean luminances of a block beyond which clipping hides the noise
FLATTEST = 0.05  # the quantile of the blocks' deviations that is the noise
# Least noise that filters tolerate, in 255ths; smaller ones count as much, because they are divided by.
LEAST_TOLERATED = 1e-3
TOP = {"uint8": 255, "uint16": 65535, "float32": 1}


def black_gain(curve_map: np.ndarray | None, iterations: int, colours: int) -> np.ndarray:
    """Return the curve's slope at black, h×w float32, as the mean over the colours; 1 without a curve.

    Raises:
        ValueError: the curve map is for another number of colours or iterations.
    """
    if curve_map is None:
        return np.ones((1, 1), np.float32)
    depth = curve_map.shape[2]
    if depth not in {colours, colours * iterations}:
        raise ValueError(f"a curve map for {colours} colours and {iterations} iterations cannot have {depth} channels")
    r = curve_map.reshape(*curve_map.shape[:2], -1, colours).astype(np.float32).mean(3)
    gain = np.prod(1 - r, axis=2) ** (iterations if depth == colours else 1)
    return np.clip(gain, 1 / 8, None)  # the logistic form overestimates the noise of darkened highlights


def measure_noise(image: np.ndarray, *, curve_map: np.ndarray | None = None, iterations: int = 8) -> float:
    """Measure the noise that a photo had before the curve, the σ of the noise model.

    In 8×8 blocks, the deviation of the pixels from their 5×5 mean is divided by the curve's slope. The result is the
    5 % quantile over the blocks.

    Args:
        image: the *enhanced* photo, or a dark one without ``curve_map``; H×W or H×W×C, uint8, uint16 or float32 in
            [0, 1].
        curve_map: h×w×K in [-1, 1], the map with which the photo was enhanced.
        iterations: number of applications of the curve.

    Returns:
        Standard deviation of the luminance in the dark photo, in 255ths of the range, from 0.18 to 1.5.

    Raises:
        ValueError: the curve map is for another number of colours or iterations.
    """
    height, width = image.shape[:2]
    photo = image.reshape(height, width, -1)
    colours = 3 if photo.shape[2] >= 3 else 1
    gains = black_gain(curve_map, iterations, colours)
    side = BLOCK + 2 * BORDER
    if min(height, width) < side:
        return LEAST
    tops, lefts = _starts(height), _starts(width)
    windows = np.lib.stride_tricks.sliding_window_view(photo[..., :colours], (side, side), axis=(0, 1))
    # C×12×12×rows×columns: with the blocks last, NumPy's inner loops are long.
    blocks = np.moveaxis(windows[tops[:, None], lefts], (0, 1), (3, 4)).astype(np.float32, order="C")
    luminance, scale = blocks[0], 255 / TOP[image.dtype.name]
    if colours == 3:
        luminance += 2 * blocks[1] + blocks[2]
        scale /= 4
    luminance *= np.float32(scale)
    window = range(2 * BORDER + 1)
    down = sum(luminance[k : k + BLOCK] for k in window)
    mean = sum(down[:, k : k + BLOCK] for k in window) / len(window) ** 2
    inner = luminance[BORDER:-BORDER, BORDER:-BORDER]
    level = inner.mean((0, 1)) / 255
    rows, columns = (
        (starts + side / 2) * (cells - 1) / size + 0.5
        for starts, cells, size in ((tops, gains.shape[0], height), (lefts, gains.shape[1], width))
    )
    gain = gains[rows.astype(int)[:, None], columns.astype(int)]
    slope = (level + (1 - level) * gain) ** 2 / gain
    deviation = np.sqrt(((inner - mean) ** 2).mean((0, 1))) / slope
    deviation = deviation[(level > DARKEST) & (level < LIGHTEST)]
    return min(max(float(np.quantile(deviation, FLATTEST)), LEAST), MOST) if deviation.size else LEAST


def _starts(size: int) -> np.ndarray:
    """Return the first pixels of the blocks along a side, evenly spread and rounded down."""
    count = min(BLOCKS, size // BLOCK)
    return np.arange(count) * (size - BLOCK - 2 * BORDER) // max(count - 1, 1)
