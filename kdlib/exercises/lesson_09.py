"""The checks of lesson 09, IAT and its student."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from kdlib.exercises.compare import same
from kdlib.exercises.registry import Wrong, exercise
from kdlib.stages import apply_colour_and_gamma, guard_colour

Weights = Mapping[str, float]


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Mixtures of the values, and the shares of the tokens in them."""
    shares = (queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5).softmax(dim=-1)
    return shares @ values, shares


@exercise("09.1", "Attention", solution=attend)
def check_attend(answer: Callable[..., Any]) -> None:
    """Two heads with three queries and five tokens, then a single token."""
    draw = torch.Generator().manual_seed(0)
    for tokens in (5, 1):
        queries, keys, values = (2 * torch.randn(1, 2, count, 4, generator=draw) for count in (3, tokens, tokens))
        mixtures, shares = attend(queries, keys, values)
        found = answer(queries, keys, values)
        if not isinstance(found, list | tuple) or len(found) != 2:
            raise Wrong("attend returns something else than two tensors, the mixtures and the shares")
        if isinstance(found[1], Tensor) and found[1].shape == shares.shape:
            comparisons = queries @ keys.transpose(-2, -1)
            if tokens > 1 and torch.allclose(found[1], comparisons.softmax(dim=-1), atol=1e-4):
                raise Wrong("the comparisons are not divided by √d, the root of the number of features of a head")
            if not torch.allclose(found[1].sum(dim=-1), torch.ones(()), atol=1e-4):
                raise Wrong(
                    "the shares of a query do not sum to 1 over the tokens: softmax runs over the last dimension"
                )
        what = f"{tokens} tokens" if tokens > 1 else "a single token"
        same(found[1], shares, f"the tensor of shares for {what}")
        same(found[0], mixtures, f"the tensor of mixtures for {what}")


def fold(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that includes the batch norm after it."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    folded = fuse_conv_bn_weights(weight, None, mean, variance, norm.eps, norm.weight, norm.bias)
    return folded[0].detach(), folded[1].detach()


@exercise("09.2", "Fold batch norm", solution=fold)
def check_fold(answer: Callable[..., Any]) -> None:
    """More outputs than inputs, and a channel whose variance is nearly zero, where ε matters."""
    norm = nn.BatchNorm2d(3).eval()
    norm.load_state_dict(
        {
            "weight": torch.tensor([1.5, -0.5, 1.0]), "bias": torch.tensor([0.1, 0.2, -0.3]),
            "running_mean": torch.tensor([0.4, -1.0, 0.0]), "running_var": torch.tensor([4.0, 0.25, 1e-6]),
            "num_batches_tracked": torch.tensor(1),
        }
    )  # fmt: skip
    weight = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    wanted_weight, wanted_bias = fold(weight, norm)
    found = answer(weight, norm)
    if not isinstance(found, list | tuple) or len(found) != 2:
        raise Wrong("fold returns something else than two tensors, weight and bias")
    have_weight, have_bias = (part.detach() if isinstance(part, Tensor) else part for part in found)
    if isinstance(have_weight, Tensor) and have_weight.shape == weight.shape:
        close = torch.isclose(have_weight, wanted_weight, rtol=1e-3).flatten(1).all(dim=1).tolist()
        if close == [True, True, False]:
            raise Wrong("a channel with hardly any variance is scaled wrongly: ε belongs under the root")
    variance, mean, bias = norm.running_var, norm.running_mean, norm.bias.detach()
    assert variance is not None
    assert mean is not None
    no_root = weight * (norm.weight.detach() / (variance + norm.eps))[:, None, None, None]
    mistakes = {"is divided by σ² + ε, expected the root of it": no_root}
    same(have_weight, wanted_weight, "the weight", mistakes=mistakes, rtol=1e-3)
    if isinstance(have_bias, Tensor) and torch.equal(have_bias, norm.bias):
        raise Wrong("the bias is that of the norm: the mean of its input, scaled, must be subtracted")
    mistakes = {
        "has the scaled mean added: y = (x − μ) · scale + b subtracts it": 2 * bias - wanted_bias,
        "has the mean subtracted as it is: y = (x − μ) · scale + b scales it as well": bias - mean,
        "lacks b, the bias of the norm": wanted_bias - bias,
    }
    same(have_bias, wanted_bias, "the bias", mistakes=mistakes, rtol=1e-3, atol=1e-5)


def soft_ramp(early: Weights, late: Weights) -> Callable[[float], dict[str, float]]:
    """A schedule from early weights (until 0.1) to late ones (from 0.7) along half a cosine."""

    def weights(progress: float) -> dict[str, float]:
        done = min(1.0, max(0.0, (progress - 0.1) / 0.6))
        way = (1 - math.cos(math.pi * done)) / 2
        return {level: (1 - way) * early[level] + way * late[level] for level in early}

    return weights


@exercise("09.3", "A softer ramp", solution=soft_ramp)
def check_soft_ramp(answer: Callable[..., Any]) -> None:
    """The ends, which hold, the middle, and the quarter, where a straight ramp differs."""
    early, late = {"image": 1.0, "truth": 0.2}, {"image": 0.0, "truth": 1.0}

    def at(way: float) -> dict[str, float]:
        return {level: (1 - way) * early[level] + way * late[level] for level in early}

    def mistakes_at(progress: float) -> dict[str, dict[str, float]]:
        t = (progress - 0.1) / 0.6
        done = min(1.0, max(0.0, t))
        whole = "is that of a ramp over the whole training: it lasts from 0.1 to 0.7"
        return {
            whole: at((1 - math.cos(math.pi * progress)) / 2),
            f"{whole}, along half a cosine": at(progress),
            "goes on outside of the ramp: limit t to [0, 1], so that the ends hold": at(
                (1 - math.cos(math.pi * t)) / 2
            ),
            "goes on outside of the ramp, which is straight: limit t to [0, 1], and take half a cosine": at(t),
            "has the two ends swapped: it begins with early and ends with late": soft_ramp(late, early)(progress),
            "follows a quarter of a cosine, which is steep at one end: half a cosine is slow at both": at(
                1 - math.cos(math.pi * done / 2)
            ),
            "follows a quarter of a sine, which is steep at one end: half a cosine is slow at both": at(
                math.sin(math.pi * done / 2)
            ),
            "follows 3t² − 2t³, which is similar: half a cosine is asked for": at(3 * done**2 - 2 * done**3),
        }

    found, expected = answer(early, late), soft_ramp(early, late)
    if not callable(found):
        raise Wrong("soft_ramp returns no function: it must return a schedule, a function of the progress")
    for progress, where in ((0.0, "at the start"), (0.1, "at 0.1"), (0.7, "at 0.7"), (1.0, "at the end")):
        what, mistakes = f"the schedule {where}", mistakes_at(progress)
        same(found(progress), expected(progress), what, mistakes=mistakes, atol=1e-6)
    if abs(found(0.25)["image"] - 0.75) < 1e-6:
        raise Wrong(
            "the ramp is straight: a quarter of the way along half a cosine is less than a quarter of the change"
        )
    for progress in (0.25, 0.4, 0.55):
        what, mistakes = f"the schedule at {progress}", mistakes_at(progress)
        same(found(progress), expected(progress), what, mistakes=mistakes, atol=1e-6)


def count(width: int, photo_height: int, photo_width: int) -> int:
    """Multiply-adds of two 3×3 convolutions from ``width`` to ``width`` channels."""
    return 2 * 9 * width * width * photo_height * photo_width


@exercise("09.4", "Count multiply-adds", solution=count)
def check_count(answer: Callable[..., Any]) -> None:
    """A block of three channels at 40×60, and the student's at 600×400."""
    for case in ((3, 40, 60), (16, 400, 600)):
        found, expected = answer(*case), count(*case)
        for factor, sentence in {
            2: "there are two convolutions in a block",
            9: "each output value takes 9 multiply-adds for each input channel",
            case[0]: "each of the width outputs reads all width inputs",
        }.items():
            if found * factor == expected:
                raise Wrong(f"count{case} is {found:,}, too small by a factor of {factor}: {sentence}")
        same(found, expected, f"count{case}", rtol=0)


# The last column has no positive entry, so that blue becomes black; the rows still sum to 1.
BREAKING = torch.tensor([[1.5, 0.0, -0.5], [0.0, 1.5, -0.5], [0.5, 0.5, 0.0]])


@exercise("09.5", "Break the guard", solution=BREAKING)
def check_breaking(answer: Any) -> None:
    """The guard leaves the matrix alone, and a saturated colour becomes black."""
    if not isinstance(answer, Tensor) or answer.shape != (3, 3):
        raise Wrong(f"a tensor of the shape 3×3 is expected, not {tuple(getattr(answer, 'shape', ())) or answer!r}")
    matrix = answer.detach().float()
    if not bool(matrix.isfinite().all()) or matrix.abs().max() > 2:
        raise Wrong("the entries must lie between −2 and 2")
    if not torch.equal(guard_colour(matrix[None])[0], matrix):
        lowest = float(matrix.sum(dim=1).min())
        raise Wrong(f"the guard changes the matrix: a row sums to {lowest:.2f}, at least 0.25 is needed")
    steps = torch.linspace(0, 1, 11)
    colours = torch.cartesian_prod(steps, steps, steps)
    colours = colours[colours.amax(dim=1) == 1].T[None, :, None]
    darkest = apply_colour_and_gamma(colours, matrix[None], torch.ones(1, 1)).amax(dim=1).min()
    if darkest > 0.5 / 255:
        raise Wrong("no colour becomes black: for some colour all three products must be zero or below")


def bounded(colour: Tensor) -> Tensor:
    """Matrices (B×3×3) of which no entry is further than 0.25 from the identity."""
    identity = torch.eye(3).to(colour)
    return identity + 0.25 * torch.tanh((colour - identity) / 0.25)


@exercise("09.6", "Another guard", solution=bounded)
def check_bounded(answer: Callable[..., Any]) -> None:
    """Matrices near the identity, wild ones, and the gradient of one whose rows sum to −2."""
    near = torch.eye(3) + 0.05 * torch.tensor([[[1.0, -1, 0], [0, 1, -1], [-1, 0, 1]]])
    found = answer(near)
    if isinstance(found, Tensor) and found.shape == near.shape:
        given, left = near - torch.eye(3), found.detach() - torch.eye(3)
        factor = float((left * given).sum() / given.square().sum())
        if 0 < factor < 0.8 and torch.allclose(left, factor * given, atol=0.002):
            raise Wrong(
                "a matrix near the identity must hardly change, but its distances from the identity become "
                f"{factor:.2g} times as large: divide by the limit inside tanh"
            )
    same(found, bounded(near), "a matrix near the identity", atol=0.01)
    wild = 3 * torch.randn(500, 3, 3, generator=torch.Generator().manual_seed(0))
    lowest = float(answer(wild).sum(dim=2).min())
    if not lowest > 0.2 - 1e-6:  # a limit of 0.8 / 3 reaches 0.2, but for rounding
        raise Wrong(f"a row sums to {lowest:.2f}, at least 0.2 is needed")
    given = (torch.eye(3) - 1.0)[None].requires_grad_()
    result = answer(given)
    if not result.requires_grad:
        raise Wrong("the result has lost the graph: a gradient must pass to the matrix")
    if not torch.autograd.grad(result.sum(), given)[0].abs().min() > 0:
        raise Wrong("an entry has a gradient of zero: clipping passes none, a smooth bound does")
