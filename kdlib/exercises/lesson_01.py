"""Lesson 01: the light-enhancement curve and the network that estimates it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdlib.exercises import Wrong, close_to, exercise, same
from kdlib.models import apply_curve, create_model
from kdlib.models.zero_dce import SeparableConv


def brightened(value: float, r: float) -> float:
    """A pixel's brightness after eight steps of the curve with the same r."""
    pixel = torch.full((1, 3, 1, 1), float(value), dtype=torch.float64)
    return float(apply_curve(pixel, torch.full_like(pixel, r), 8)[0, 0, 0, 0])


@exercise("01.1", "Half the r", solution=1.15**8)
def check_half(answer: float) -> None:
    hint = "each of the eight iterations multiplies by 1 − r near black, so half the r does not give half the factor"
    close_to(answer, 1.15**8, within=0.35, mistakes={1.3**8 / 2: hint})


def needed_r(dark_value: float, bright_value: float) -> float:
    """The solution: halve the interval, because the result falls as r rises."""
    low, high = -1.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if brightened(dark_value, middle) > bright_value:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@exercise("01.2", "Which r does it take?", solution=needed_r)
def check_needed_r(answer):  # type: ignore[no-untyped-def]
    for dark_value, bright_value in ((0.05, 0.3), (0.1, 0.6), (0.3, 0.3), (0.7, 0.5)):
        r = float(answer(dark_value, bright_value))
        call = f"needed_r({dark_value}, {bright_value})"
        if not -1 <= r <= 1:
            raise Wrong(f"{call} is {r:.3g}, expected a value from -1 to 1")
        reached = brightened(dark_value, r)
        if not abs(reached - bright_value) < 1e-3:
            raise Wrong(f"{call} is {r:.3f}, with which {dark_value} becomes {reached:.3f}, expected {bright_value}")


def layer_parameters(c_in: int, c_out: int) -> int:
    """The solution: nine weights and a bias for each input channel, then c_in weights and a bias for each output."""
    return 10 * c_in + (c_in + 1) * c_out


@exercise("01.3", "Count a layer", solution=layer_parameters)
def check_layer_parameters(answer):  # type: ignore[no-untyped-def]
    for sizes in ((3, 32), (32, 32), (64, 3), (1, 1)):
        count = sum(parameter.numel() for parameter in SeparableConv(*sizes).parameters())
        c_in, c_out = sizes
        mistakes = {
            "lacks the biases: each layer has one for each of its output channels": 9 * c_in + c_in * c_out,
            "lacks the bias of the depthwise layer, one for each input channel": 9 * c_in + (c_in + 1) * c_out,
            "lacks the bias of the pointwise layer, one for each output channel": 10 * c_in + c_in * c_out,
            "counts a depthwise layer without groups: each of its kernels reads one channel": (
                (9 * c_in + 1) * c_in + (c_in + 1) * c_out
            ),
            "is that of a plain 3×3 layer": (9 * c_in + 1) * c_out,
        }
        same(answer(*sizes), count, "layer_parameters({}, {})".format(*sizes), mistakes=mistakes)


@torch.no_grad()
def fold(layer: nn.Module) -> nn.Conv2d:
    """The solution: depthwise kernels times pointwise weights; the depthwise bias passes through the latter."""
    depth, point = layer.depth_conv, layer.point_conv
    assert isinstance(depth, nn.Conv2d)
    assert isinstance(point, nn.Conv2d)
    assert depth.bias is not None
    assert point.bias is not None
    plain = nn.Conv2d(depth.in_channels, point.out_channels, kernel_size=3, padding=1)
    mix = point.weight[:, :, 0, 0]  # output × input
    plain.weight.copy_(mix[:, :, None, None] * depth.weight[None, :, 0])
    plain.bias.copy_(point.bias + mix @ depth.bias)  # type: ignore[union-attr]
    return plain


@exercise("01.4", "Fold a separable layer into a plain one", solution=fold)
@torch.no_grad()
def check_fold(answer):  # type: ignore[no-untyped-def]
    for sizes in ((3, 4), (8, 5)):
        layer, x = SeparableConv(*sizes), torch.rand(2, sizes[0], 9, 11)
        plain = answer(layer)
        if not isinstance(plain, nn.Conv2d) or plain.groups != 1 or plain.kernel_size != (3, 3):
            raise Wrong("fold returns one plain nn.Conv2d with 3×3 kernels and groups=1")
        found, expected = plain(x), layer(x)
        if found.shape != expected.shape:
            same(found, expected, "the folded layer's output")  # says which shape
        inner = found[..., 1:-1, 1:-1]
        wanted = expected[..., 1:-1, 1:-1]
        offset = (inner - wanted).mean(dim=(0, 2, 3), keepdim=True)
        if (inner - wanted - offset).abs().max() < 1e-4 < offset.abs().max():
            raise Wrong(
                "the kernels are right and the bias is not: the depthwise bias passes through the pointwise weights"
            )
        if (inner - wanted).abs().max() < 1e-4 < (found - expected).abs().max():
            raise Wrong(
                "the folded layer's output differs at the border alone: padding=1 pads with zeros, as the separable "
                "layer does"
            )
        turned = fold(layer)
        turned.weight.copy_(turned.weight.flip(2, 3))
        mistakes = {"has kernels that are turned around": turned(x)}
        same(found, expected, "the folded layer's output", mistakes=mistakes, rtol=1e-3, atol=1e-5)


@exercise("01.5", "What does the network see?", solution=(34, 50))
def check_size(answer):  # type: ignore[no-untyped-def]
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Wrong("two numbers are expected, (rows, columns)")
    if tuple(answer) == (50, 34):
        raise Wrong("rows and columns are swapped: the photo's height gives the rows")
    for name, found, expected in zip(("rows", "columns"), answer, (34, 50), strict=True):
        if found != expected:
            raise Wrong(
                f"the small copy does not have {found:.4g} {name}: what happens to a side that 12 does not divide?"
            )


@exercise("01.6", "How much cheaper is the student?", solution=2.1)
def check_cheaper(answer: float) -> None:
    mistakes = {
        73.3 / 3.9: "this is the factor of the networks alone",
        (73.3 + 48) / (3.9 + 48): "resampling has a cost, too",
        (73.3 + 12.1) / (3.9 + 12.1): "the curve has a cost, too",
    }
    close_to(answer, (73.3 + 12.1 + 48) / (3.9 + 12.1 + 48), within=0.2, mistakes=mistakes)


def repair(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The solution: z must be twice as large, and it is linear in the last pointwise convolution."""
    doubled = ("e_conv7.point_conv.weight", "e_conv7.point_conv.bias")
    return {name: 2 * value if name in doubled else value for name, value in state_dict.items()}


_LAST = "e_conv7"
_WRONG_REPAIRS = {
    "is still that of the unchanged weights: which layer decides the size of z?": {},
    "needs the bias of the last pointwise convolution doubled as well": {f"{_LAST}.point_conv.weight": 2.0},
    "comes from a z that is four times as large: doubling the depthwise part as well doubles twice": {
        f"{_LAST}.{part}_conv.{kind}": 2.0 for part in ("depth", "point") for kind in ("weight", "bias")
    },
    "comes from a z that is half as large, expected twice: tanh(z) = 2·sigmoid(2z) − 1": {
        f"{_LAST}.point_conv.{kind}": 0.5 for kind in ("weight", "bias")
    },
}


@exercise("01.7", "Repair the trap", solution=repair)
def check_repair(answer):  # type: ignore[no-untyped-def]
    for name in ("zero-dce++", "student-565"):
        right, wrong = (create_model(name, curve_activation=kind, scale_factor=1) for kind in ("tanh", "sigmoid"))
        state = {key: value.clone() for key, value in right.state_dict().items()}
        try:
            wrong.load_state_dict(answer(state))
        except (RuntimeError, AttributeError, TypeError) as error:
            raise Wrong(f"the state dict does not fit {name}: {' '.join(str(error).split())[:120]}") from None
        photo = torch.rand(1, 3, 30, 40)
        with torch.no_grad():
            expected = right(photo)[1]
            mistakes = {}
            for sentence, changes in _WRONG_REPAIRS.items():
                wrong_too = create_model(name, curve_activation="sigmoid", scale_factor=1)
                wrong_too.load_state_dict({key: changes.get(key, 1.0) * value for key, value in state.items()})
                mistakes[sentence] = wrong_too(photo)[1]
            found = wrong(photo)[1]
            same(found, expected, f"the map of {name} with 2·sigmoid(z) − 1", mistakes=mistakes, atol=1e-5)
