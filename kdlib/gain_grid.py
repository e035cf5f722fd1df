"""Knots and limits of the bilateral grid of gains, and taps of the smoothing, for the network and all backends."""

# Luminances, from 0 to 1, at which a cell of the grid holds a gain. They are denser in the shadows, roughly as
# logarithms are.
KNOTS = (0.0, 0.02, 0.05, 0.11, 0.22, 0.4, 0.66, 1.0)
# Limit of the logarithm of a gain, and of the photo's chroma: factors from 1/20 to 20, and from 0.6 to 1.6.
MOST_GAIN, MOST_CHROMA = 3.0, 0.5
# Likewise for gains below 1 at the last knot: nothing is left where a photo is white, and it must not turn grey.
MOST_LOSS_OF_WHITE = 0.15
# Added to luminance before the logarithm. It keeps the shadows' noise from dominating the thumbnail.
FLOOR = 1 / 64
# Least divisor of chroma where a gain lifts; only weights that were not trained get there.
LEAST_DIVISOR = 1e-3
# Least sum of luminance and noise by which luminance is divided, in 255ths: black without noise has neither.
LEAST_SIGNAL = 1e-6
# Rounds of smoothing: distance of the four taps, whether they are diagonal neighbours, and whether only colour is
# averaged, which is implemented for taps that are not diagonal. The nearest neighbours are needed: without them, pixels
# of the two colours of a chessboard would never be averaged.
TAPS = ((1, False, False), (1, True, False), (2, False, False), (4, False, True))
