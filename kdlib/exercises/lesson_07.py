"""The checks of lesson 07, what matters."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.data.samples import sample_crops
from kdlib.exercises.compare import close_to, same
from kdlib.exercises.registry import Wrong, exercise
from kdlib.experiments.ablation import interval
from kdlib.models import create_model
from kdlib.training.task import at_scale


def compare_gradients(terms: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[str, tuple[float, float]]:
    """The norm of each term's gradient, and its cosine to the gradient of ``"alignment"``."""
    gradients = {}
    for name, term in terms.items():
        parts = torch.autograd.grad(term, parameters, retain_graph=True, materialize_grads=True)
        gradients[name] = torch.cat([part.flatten() for part in parts])
    toward = gradients["alignment"]
    return {name: (float(g.norm()), float(torch.cosine_similarity(g, toward, dim=0))) for name, g in gradients.items()}


@exercise("07.1", "Size and direction of a gradient", solution=compare_gradients)
def check_compare_gradients(answer: Callable[..., Any]) -> None:
    """Terms along, against and across the gradient of output alignment; the last reaches one parameter only."""
    weights, bias = (torch.tensor(values, requires_grad=True) for values in ([[1.0, -2.0]], [3.0]))
    shared = 2 * weights
    terms = {"alignment": (shared.square().sum() + bias.square().sum()) / 2, "against": -3 * weights.sum()}
    terms |= {"task": 0.5 * shared[0, 0] - bias.sum(), "map": 4 * bias.sum()}
    expected = compare_gradients(terms, [weights, bias])
    found = answer(terms, [weights, bias])
    if not isinstance(found, Mapping) or any(
        not hasattr(value, "__len__") or len(value) != 2 for value in found.values()
    ):
        raise Wrong("compare_gradients returns something else than a dictionary of pairs (norm, cosine)")
    if set(found) == set(expected):
        if all(math.isclose(float(found[name][0]), norm**2, rel_tol=1e-4) for name, (norm, _) in expected.items()):
            raise Wrong("the first values are the squares of the norms: take the root")
        if any(abs(float(found[name][1])) > 1 + 1e-4 for name in expected):
            raise Wrong("a cosine lies between −1 and 1: divide the product of the gradients by both norms")
    found = {name: tuple(map(float, value)) for name, value in found.items()}
    same(found, expected, "compare_gradients(…)")


@exercise("07.2", "A confidence interval by hand", solution=interval)
def check_interval(answer: Callable[..., Any]) -> None:
    """Three differences of either sign, and three equal ones."""
    for differences in ([0.6, -0.1, 0.4], [-2.0, -1.0, -6.0], [0.5, 0.5, 0.5]):
        mean, margin = interval(differences)
        found = answer(list(differences))
        if not isinstance(found, list | tuple) or len(found) != 2:
            raise Wrong(f"interval returns {found!r}, expected the mean and the half-width")
        same(found[0], mean, f"the mean of {differences}", atol=1e-9)
        common = {
            statistics.stdev(differences): "the standard deviation: divide it by √3 and multiply it by t",
            margin / math.sqrt(3): "too small by √3: divide the standard deviation by √3, not by 3",
            margin * math.sqrt(3): "too large by √3: divide the standard deviation by √3",
            margin * math.sqrt(2 / 3): "made with pstdev: of a sample, take stdev, which divides by n − 1",
            2 * margin: "the whole width: return half of it",
        }
        for value, sentence in common.items():
            if margin and math.isclose(found[1], value, rel_tol=1e-3):
                raise Wrong(f"the half-width for {differences} is {sentence}")
        same(found[1], margin, f"the half-width for {differences}", rtol=1e-3)


def seeds_needed(effect: float, spread: float) -> int:
    """The smallest number of seeds, at least two, with 2 · spread / √n below the size of the effect."""
    return max(2, math.floor((2 * spread / effect) ** 2) + 1)


@exercise("07.3", "How many seeds?", solution=seeds_needed)
def check_seeds_needed(answer: Callable[..., Any]) -> None:
    """An interval that just reaches zero, a harm, a large effect, and one between two whole numbers."""
    for effect, spread in ((0.5, 1.0), (-0.5, 1.0), (4.0, 0.5), (0.3, 1.0)):
        found, expected = answer(effect, spread), seeds_needed(effect, spread)
        what = f"seeds_needed({effect:g}, {spread:g})"
        if found == expected - 1 == (2 * spread / effect) ** 2:
            raise Wrong(f"{what} is {found}, with which the interval just reaches zero: one more is needed")
        if effect > 2 * spread and found < 2:
            raise Wrong(f"{what} is {found}, but a single seed has no spread: at least two are needed")
        same(found, expected, what, rtol=0)


@exercise("07.4", "How many gains?", solution=1)
def check_gains(answer: float) -> None:
    """The number of variants that are shown to be better, in results/what_matters.json."""
    close_to(answer, 1, 0.5)


def varies(network: nn.Module, photos: Tensor) -> float:
    """How much the mean of the curve map changes from photo to photo (N×3×H×W uint8)."""
    with torch.no_grad(), at_scale(1, network):
        maps = network.curve_map(photos.float() / 255)  # type: ignore[operator]
    return float(maps.mean(dim=(2, 3)).std(dim=0).mean())


@exercise("07.5", "Is it one curve?", solution=varies)
def check_varies(answer: Callable[..., Any]) -> None:
    """A network whose map depends on the photo, and photos that are all equal."""
    torch.manual_seed(0)
    network = create_model("student-565")
    with torch.no_grad():  # a map that differs clearly from photo to photo and within a photo
        for parameter in network.parameters():
            parameter.mul_(2)
    photos = sample_crops(6, 24)
    found, expected = answer(network, photos), varies(network, photos)
    with torch.no_grad(), at_scale(1, network):
        of_bytes = network.curve_map(photos.float()).mean(dim=(2, 3)).std(dim=0).mean()
    if isinstance(found, float) and math.isclose(found, float(of_bytes), rel_tol=1e-3):
        raise Wrong("the network got bytes: divide the photos by 255")
    # Either convention of the standard deviation is right; they differ by √(5/6) for six photos.
    if not (isinstance(found, float) and math.isclose(found, expected * math.sqrt(5 / 6), rel_tol=1e-3)):
        same(found, expected, "the variation over six photos", rtol=1e-3)
    same(answer(network, photos[:1].repeat(4, 1, 1, 1)), 0.0, "the variation over four equal photos", atol=1e-5)
