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
from kdlib.experiments.ablation import T_95, interval
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


def _norms_of_sums(terms: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[str, float]:
    """The norms of gradients to which those of the terms before are added."""
    names = list(terms)
    sums = {name: torch.stack([terms[one] for one in names[: at + 1]]).sum() for at, name in enumerate(names)}
    return {name: norm for name, (norm, _) in compare_gradients(sums, parameters).items()}


def _sums_of_norms(terms: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[str, float]:
    """The norms of each parameter's gradient, added."""
    by_parameter = [compare_gradients(terms, [parameter]) for parameter in parameters]
    return {name: sum(pairs[name][0] for pairs in by_parameter) for name in terms}


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
        mistakes = {
            "add up from term to term: backward() adds to grad, so use torch.autograd.grad": _norms_of_sums(
                terms, [weights, bias]
            ),
            "are sums of a norm for each parameter: all parameters together have one norm": _sums_of_norms(
                terms, [weights, bias]
            ),
        }
        norms = {name: float(found[name][0]) for name in expected}
        same(norms, {name: norm for name, (norm, _) in expected.items()}, "the norms", mistakes=mistakes)
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
            margin * statistics.NormalDist().inv_cdf(0.975) / T_95[1]: (
                "made with 1.96 of the normal distribution: for three differences, t is 4.303"
            ),
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
        if effect < 0 and found != expected:
            raise Wrong(
                f"{what} is {found:.4g}, but {expected} for the effect {-effect:g}: an effect may be negative, and its "
                "size counts, abs(effect)"
            )
        same(found, expected, what, rtol=0)


@exercise("07.4", "How many gains?", solution=1)
def check_gains(answer: float) -> None:
    """The number of variants that are shown to be better, in results/what_matters.json."""
    by_chance = "about two comparisons would exclude zero by chance alone, but one on either side"
    close_to(answer, 1, 0.5, mistakes={2: by_chance})


def varies(network: nn.Module, photos: Tensor) -> float:
    """How much the mean of the curve map changes from photo to photo (N×3×H×W uint8)."""
    return float(_maps_of(network, photos).mean(dim=(2, 3)).std(dim=0).mean())


def _maps_of(network: nn.Module, photos: Tensor) -> Tensor:
    with torch.no_grad(), at_scale(1, network):
        return network.curve_map(photos.float() / 255)  # type: ignore[operator]


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
    with torch.no_grad():
        smaller = network.curve_map(photos.float() / 255).mean(dim=(2, 3))
    maps = _maps_of(network, photos)
    means = maps.mean(dim=(2, 3))
    mistakes = {
        "the network got bytes: divide the photos by 255": [of_bytes],
        "the network saw a smaller copy of the photos: call it within at_scale(1, network)": [
            smaller.std(dim=0, correction=correction).mean() for correction in (0, 1)
        ],
        "that is the standard deviation of all values: average each map over its pixels first": [maps.std()],
        "that is the standard deviation over the channels: take it over the photos, dim=0": [means.std(dim=1).mean()],
        "that is the standard deviation at each pixel: average each map over its pixels first": [
            maps.std(dim=0).mean()
        ],
        "that is the variance: take its root": [means.var(dim=0).mean(), means.var(dim=0, correction=0).mean()],
    }
    for sentence, values in mistakes.items():
        if isinstance(found, float) and any(math.isclose(found, float(value), rel_tol=1e-3) for value in values):
            raise Wrong(sentence)
    # Either convention of the standard deviation is right; they differ by √(5/6) for six photos.
    if not (isinstance(found, float) and math.isclose(found, expected * math.sqrt(5 / 6), rel_tol=1e-3)):
        same(found, expected, "the variation over six photos", rtol=1e-3)
    same(answer(network, photos[:1].repeat(4, 1, 1, 1)), 0.0, "the variation over four equal photos", atol=1e-5)
