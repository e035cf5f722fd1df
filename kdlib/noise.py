"""How noisy a photo is, measured in its flattest blocks.

*Noise model.* What a camera's shot noise leaves after sRGB encoding, and rounding to 8 bits, hardly depend on the
brightness: in the dark photo, noise has one standard deviation σ everywhere. A curve multiplies it by its own slope.

NumPy alone, so that models, training and the kernels for the CPU measure alike.
"""

from __future__ import annotations

import numpy as np

# σ, in 255ths. Rounding to 8 bits alone leaves the lower limit; in a photo of grass all over, where no block is flat,
# the upper one saves what can be saved.
_LEAST, _MOST = 0.18, 1.5
_BLOCK, _BORDER, _BLOCKS = 8, 2, 48  # at most _BLOCKS × _BLOCKS blocks are looked at
TOP = {"uint8": 255, "uint16": 65535, "float32": 1}


def black_gain(curve_map: np.ndarray | None, iterations: int, colours: int) -> np.ndarray:
    """The curve's slope at black, h×w float32, mean of the colours; 1 without a curve."""
    if curve_map is None:
        return np.ones((1, 1), np.float32)
    depth = curve_map.shape[2]
    if depth not in {colours, colours * iterations}:
        raise ValueError(f"a curve map for {colours} colours and {iterations} iterations has no {depth} channels")
    r = curve_map.reshape(*curve_map.shape[:2], -1, colours).astype(np.float32).mean(3)
    gain = np.prod(1 - r, axis=2) ** (iterations if depth == colours else 1)
    return np.clip(gain, 1 / 8, None)  # the logistic form overrates how darkening lifts noise in highlights


def measure_noise(image: np.ndarray, *, curve_map: np.ndarray | None = None, iterations: int = 8) -> float:
    """Measure how noisy a photo was before the curve: the σ of the noise model.

    The deviation of pixels from their 5×5 mean, relative to the curve's slope, in 8×8 blocks; of the blocks, the
    20th part that has least.

    Args:
        image: H×W or H×W×C, uint8, uint16 or float32 in [0, 1]: the *enhanced* photo, or a dark one without
            ``curve_map``.
        curve_map: h×w×K in [-1, 1], with which the photo was enhanced.
        iterations: how often the curve was applied.

    Returns:
        Standard deviation of luminance in the dark photo, in 255ths of the range, from 0.18 to 1.5.
    """
    height, width = image.shape[:2]
    photo = image.reshape(height, width, -1)
    colours = 3 if photo.shape[2] >= 3 else 1
    gains = black_gain(curve_map, iterations, colours)
    side = _BLOCK + 2 * _BORDER
    if min(height, width) < side:
        return _LEAST
    tops = np.linspace(0, height - side, min(_BLOCKS, height // _BLOCK)).astype(int)
    lefts = np.linspace(0, width - side, min(_BLOCKS, width // _BLOCK)).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(photo[..., :colours], (side, side), axis=(0, 1))
    blocks = windows[tops[:, None], lefts].astype(np.float32) * np.float32(255 / TOP[image.dtype.name])
    luminance = (blocks[:, :, 0] + 2 * blocks[:, :, 1] + blocks[:, :, 2]) / 4 if colours == 3 else blocks[:, :, 0]
    window = range(2 * _BORDER + 1)
    across = sum(luminance[..., k : k + _BLOCK] for k in window)
    mean = sum(across[..., k : k + _BLOCK, :] for k in window) / len(window) ** 2
    inner = luminance[..., _BORDER:-_BORDER, _BORDER:-_BORDER]
    level = inner.mean((2, 3)) / 255
    rows, columns = (
        (starts + side / 2) * (cells - 1) / size + 0.5
        for starts, cells, size in ((tops, gains.shape[0], height), (lefts, gains.shape[1], width))
    )
    gain = gains[rows.astype(int)[:, None], columns.astype(int)]
    slope = (level + (1 - level) * gain) ** 2 / gain
    deviation = np.sqrt(((inner - mean) ** 2).mean((2, 3))) / slope
    # Black and white hide the noise: values end there.
    deviation = deviation[(level > 0.025) & (level < 0.94)]
    return min(max(float(np.quantile(deviation, 0.05)), _LEAST), _MOST) if deviation.size else _LEAST
