"""Limits of the power curve y = exp(gain) · ((x + b)^γ − b^γ), for the network and all backends."""

# The b of the formula keeps the logarithm finite and the slope at black bounded; half a step of 8 bits.
BLACK = 0.5 / 255
GAMMA_RANGE = (0.1, 2.0)
GAMMA_LIMITS = (GAMMA_RANGE[0] - 1, GAMMA_RANGE[1] - 1)  # of gamma − 1, as the maps hold it
