"""Wrong answers to the exercises of lesson 07."""

import statistics

import torch

from kdlib.exercises.lesson_07 import seeds_needed
from kdlib.training.task import at_scale


def gradients(terms, parameters):
    for name, term in terms.items():
        yield name, torch.cat([
            part.flatten()
            for part in torch.autograd.grad(term, parameters, retain_graph=True, materialize_grads=True)
        ])  # fmt: skip


def products(terms, parameters):
    found = dict(gradients(terms, parameters))
    return {name: (float(g.norm()), float(g @ found["alignment"])) for name, g in found.items()}


def squares(terms, parameters):
    found = dict(gradients(terms, parameters))
    return {
        name: (float(g @ g), float(torch.cosine_similarity(g, found["alignment"], dim=0))) for name, g in found.items()
    }


def without_zeros(terms, parameters):
    return {name: torch.autograd.grad(term, parameters, retain_graph=True) for name, term in terms.items()}


def accumulated(terms, parameters):
    found = {}
    for name, term in terms.items():
        term.backward(retain_graph=True)
        found[name] = torch.cat([
            (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()
            for parameter in parameters
        ])  # fmt: skip
    return {
        name: (float(g.norm()), float(torch.cosine_similarity(g, found["alignment"], dim=0)))
        for name, g in found.items()
    }


def norms_of_layers(terms, parameters):
    return {
        name: (
            sum(
                float(part.norm())
                for part in torch.autograd.grad(term, parameters, retain_graph=True, materialize_grads=True)
            ),
            1.0,
        )
        for name, term in terms.items()
    }


def of_a_smaller_copy(network, photos):
    with torch.no_grad():
        return float(network.curve_map(photos / 255).mean(dim=(2, 3)).std(dim=0).mean())


def maps_of(network, photos):
    with torch.no_grad(), at_scale(1, network):
        return network.curve_map(photos.float() / 255)


def of_bytes(network, photos):
    with torch.no_grad(), at_scale(1, network):
        return float(network.curve_map(photos.float()).mean(dim=(2, 3)).std(dim=0).mean())


WRONG = {
    "07.1": [
        (products, "a cosine lies between −1 and 1"),
        (squares, "take the root"),
        (accumulated, "add up from term to term"),
        (norms_of_layers, "a norm for each parameter"),
        (without_zeros, "raises RuntimeError"),
        (lambda terms, parameters: dict.fromkeys(terms, 1.0), "pairs (norm, cosine)"),
        (lambda terms, parameters: [1.0], "dictionary of pairs"),
    ],
    "07.2": [
        (lambda d: (statistics.fmean(d), statistics.stdev(d)), "is the standard deviation"),
        (lambda d: (statistics.fmean(d), 4.303 * statistics.stdev(d) / 3), "by √3, not by 3"),
        (lambda d: (statistics.fmean(d), 4.303 * statistics.pstdev(d) / 3**0.5), "pstdev"),
        (lambda d: (statistics.fmean(d), 1.96 * statistics.stdev(d) / 3**0.5), "t is 4.303"),
        (lambda d: (statistics.median(d), 0.0), "the mean of"),
        (lambda d: statistics.fmean(d), "the mean and the half-width"),
    ],
    "07.3": [
        (lambda effect, spread: max(2, round((2 * spread / effect) ** 2)), "just reaches zero"),
        (lambda effect, spread: int((2 * spread / effect) ** 2) + 1, "at least two are needed"),
        (lambda effect, spread: max(2, int(2 * spread / effect) + 1), "expected 17"),
        (lambda effect, spread: seeds_needed(effect, spread) if effect > 0 else 100_000, "abs(effect)"),
    ],
    "07.4": [(0, "too low"), (2, "by chance alone"), (12, "too high"), ("one", "without quotes")],
    "07.5": [
        (of_bytes, "divide the photos by 255"),
        (of_a_smaller_copy, "a smaller copy of the photos"),
        (lambda network, photos: float(maps_of(network, photos).std()), "of all values"),
        (lambda network, photos: float(maps_of(network, photos).std(dim=0).mean()), "at each pixel"),
        (lambda network, photos: float(maps_of(network, photos).mean(dim=(2, 3)).var(dim=0).mean()), "variance"),
        (lambda network, photos: float(maps_of(network, photos).mean(dim=(2, 3)).std(dim=1).mean()), "dim=0"),
        (lambda network, photos: 0.0, "expected"),
    ],
}

ALSO_RIGHT = {
    "07.5": [lambda network, photos: float(maps_of(network, photos).mean(dim=(2, 3)).std(dim=0, correction=0).mean())]
}
