"""Wrong answers to the exercises of lesson 01."""

from torch import nn

from kdlib.exercises import lesson_01
from kdlib.exercises.lesson_01 import needed_r


def without_bias(layer):
    plain = lesson_01.fold(layer)
    plain.bias = nn.Parameter(layer.point_conv.bias.detach())
    return plain


def transposed(layer):
    plain = lesson_01.fold(layer)
    plain.weight = nn.Parameter(plain.weight.detach().transpose(2, 3).contiguous())
    return plain


def turned(layer):
    plain = lesson_01.fold(layer)
    plain.weight = nn.Parameter(plain.weight.detach().flip(2, 3))
    return plain


def repeating_the_border(layer):
    plain = lesson_01.fold(layer)
    plain.padding_mode = "replicate"
    plain._reversed_padding_repeated_twice = [1, 1, 1, 1]
    return plain


def not_padded(layer):
    plain = lesson_01.fold(layer)
    plain.padding = (0, 0)
    return plain


def last_pointwise(state, factor, parts=("weight", "bias")):
    return {
        name: factor * value if name in [f"e_conv7.point_conv.{p}" for p in parts] else value
        for name, value in state.items()
    }


WRONG = {
    "01.1": [(4.1, "the prediction 4.1 is too high: each of the eight iterations multiplies"), (1.2, "too low")],
    "01.2": [
        (lambda dark, bright: -needed_r(dark, bright), "expected 0.3"),
        (lambda dark, bright: dark - bright, "expected 0.3"),
        (lambda dark, bright: min(0.0, needed_r(dark, bright)), "with which 0.7 becomes 0.700, expected 0.5"),
        (lambda dark, bright: 1 - (bright / dark) ** 0.5, "expected a value from -1 to 1"),
    ],
    "01.3": [
        (lambda c_in, c_out: 9 * c_in + c_in * c_out, "layer_parameters(3, 32) lacks the biases"),
        (lambda c_in, c_out: 9 * c_in + c_in * c_out + c_out, "lacks the bias of the depthwise layer"),
        (lambda c_in, c_out: 10 * c_in + c_in * c_out, "lacks the bias of the pointwise layer"),
        (lambda c_in, c_out: 9 * c_in**2 + c_in + c_in * c_out + c_out, "counts a depthwise layer without groups"),
        (lambda c_in, c_out: 9 * c_in * c_out + c_out, "is that of a plain 3×3 layer"),
        (lambda c_in, c_out: 10 * c_in + c_in * c_out + c_in, "layer_parameters(3, 32) is 129, expected 158"),
        (lambda c_in, c_out: 158, "layer_parameters(32, 32) is 158, expected 1376"),
    ],
    "01.4": [
        (without_bias, "the kernels are right and the bias is not"),
        (transposed, "the folded layer's output is"),
        (turned, "kernels that are turned around"),
        (repeating_the_border, "differs at the border alone"),
        (not_padded, "has the shape 2×4×7×9, expected 2×4×9×11"),
        (lambda layer: layer, "fold returns one plain nn.Conv2d"),
    ],
    "01.5": [
        ((33, 49), "does not have 33 rows"),
        ((50, 34), "rows and columns are swapped"),
        ((400 / 12, 50), "does not have 33.33 rows: what happens to a side that 12 does not divide? The"),
        ((34, 49), "49 columns"),
        (34, "two numbers are expected"),
    ],
    "01.6": [
        (18.7, "too high: this is the factor of the networks alone"),
        (2.33, "too high: resampling has a cost"),
        (1.0, "too low"),
    ],
    "01.7": [
        (lambda state: dict(state), "with 2·sigmoid(z) − 1 is still that of the unchanged weights"),
        (lambda state: last_pointwise(state, 0.5), "a z that is half as large"),
        (lambda state: last_pointwise(state, 2, ("weight",)), "needs the bias of the last pointwise convolution"),
        (lambda state: {n: 2 * v if "e_conv7" in n else v for n, v in state.items()}, "four times as large"),
        (lambda state: {name: 2 * value for name, value in state.items()}, "the map of zero-dce++"),
        (lambda state: list(state), "the state dict does not fit"),
        (lambda state: {n: value for n, value in state.items() if "e_conv7" not in n}, "does not fit zero-dce++"),
    ],
}
