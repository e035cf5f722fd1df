"""Knots and limits of the bilateral grid of gains, and taps of the smoothing, for the network and all backends.

Like :mod:`kdlib.noise`, the module uses only NumPy.
"""

import numpy as np

from kdlib.noise import TOP

# Luminances, from 0 to 1, at which a cell of the grid holds a gain. They are denser in the shadows, roughly as
# logarithms are.
KNOTS = (0.0, 0.02, 0.05, 0.11, 0.22, 0.4, 0.66, 1.0)
# Limit of the logarithm of a gain, and of the photo's chroma: factors from 1/20 to 20, and from 0.74 to 1.35.
MOST_GAIN, MOST_CHROMA = 3.0, 0.3
# Likewise for gains below 1 at the last knot: nothing is left where a photo is white, and it must not turn grey.
MOST_LOSS_OF_WHITE = 0.15
# Added to luminance before the logarithm. It keeps the shadows' noise from dominating the thumbnail.
FLOOR = 1 / 64
# Luminance below which chroma decreases with gains above 1. sRGB's curve is nearly straight there and exaggerates what
# channels differ by, casts of the camera's black level included.
DEEP = 0.22
# Least divisor of chroma where a gain lifts; only weights that were not trained get there.
LEAST_DIVISOR = 1e-3
# Least sum of luminance and noise by which luminance is divided, in 255ths: black without noise has neither.
LEAST_SIGNAL = 1e-6
# Rounds of smoothing: distance of the four taps, whether they are diagonal neighbours, and whether only colour is
# averaged, which is implemented for taps that are not diagonal. The nearest neighbours are needed: without them, pixels
# of the two colours of a chessboard would never be averaged.
TAPS = ((1, False, False), (1, True, False), (2, False, False), (4, False, True))

# A photo is over-exposed if its brightest channel is clipped somewhere: the share of clipped pixels at which this is
# certain. White paper, snow and fog do not reach white in a photo that is well exposed. White itself is darkened only
# if it falls off gradually, because a drawn page is white, and then dark at once: shares of nearly clipped pixels, as
# multiples of the clipped ones, between which this becomes certain.
CLIPPED, NEARLY_CLIPPED = 249.5 / 255, 229.5 / 255
CERTAIN_CLIPPED, FALLING_OFF = 0.01, (0.05, 0.1)
# Rows and columns, at most, at whose crossings a photo is looked at.
SAMPLES = 256


def measure_over_exposure(photo: np.ndarray) -> np.ndarray:
    """Measure how far a photo is over-exposed, for each of the knots: from 0, where nothing may be darkened, to 1.

    Args:
        photo: H×W×C, uint8, uint16, or float32 in [0, 1]; alpha is ignored.
    """
    rows, columns = (np.arange(min(side, SAMPLES)) * side // min(side, SAMPLES) for side in photo.shape[:2])
    samples, top = photo[rows][:, columns], TOP[photo.dtype.name]
    brightest = samples[..., 0]
    if photo.shape[2] >= 3:
        brightest = np.maximum(np.maximum(brightest, samples[..., 1]), samples[..., 2])
    clipped = float((brightest > CLIPPED * top).mean())
    nearly = float((brightest > NEARLY_CLIPPED * top).mean()) - clipped
    first, last = FALLING_OFF
    falling = (nearly - first * clipped) / ((last - first) * clipped) if clipped else 0.0
    limits = np.full(len(KNOTS), min(clipped / CERTAIN_CLIPPED, 1.0), np.float32)
    limits[-1] *= min(max(falling, 0.0), 1.0)
    return limits
