"""Lesson 05: what scores measure, and what they do not."""

import math
from collections.abc import Iterable
from functools import cache
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from kdlib.data import Darkening, darken, sample_photos, to_tensor
from kdlib.evaluation import psnr
from kdlib.evaluation.behaviour import FixedCurve
from kdlib.exercises import Wrong, close_to, exercise, same

Pairs = Iterable[tuple[str, Tensor, Tensor]]


@cache
def small_pairs(*names: str) -> list[tuple[str, Tensor, Tensor]]:
    """Every eighth pixel of embedded photos, with the same photo 3.5 stops down."""
    generator, darker = torch.Generator().manual_seed(0), Darkening(stops=(3.5, 3.5))
    photos = sample_photos()
    truths = {name: to_tensor(photos[name])[:, ::8, ::8] for name in names}
    return [(name, darken(truth[None], darker, generator=generator)[0], truth) for name, truth in truths.items()]


@exercise("05.1", "PSNR by hand", solution=psnr)
def check_psnr(answer):  # type: ignore[no-untyped-def]
    truth = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) / 2
    for offset, expected in ((0.1, "an error of 0.1 in each value"), (-0.01, "an error of -0.01 in each value")):
        same(answer(truth + offset, truth), psnr(truth + offset, truth), f"the PSNR of {expected}", rtol=1e-3)
    half = truth.clone()
    half[:, :, 0] += 0.3
    same(answer(half, truth), psnr(half, truth), "the PSNR of a photo that is wrong in one column", rtol=1e-3)
    red = truth + torch.tensor([0.3, 0.01, 0.02]).view(3, 1, 1)
    of_each = fmean(psnr(*pair) for pair in zip(red.split(1), truth.split(1), strict=True))
    mistakes = {"is the mean of the channels' PSNR: take one mean of the squared error over all values": of_each}
    same(answer(red, truth), psnr(red, truth), "the PSNR of a photo that is too red", mistakes=mistakes, rtol=1e-3)
    if isinstance(answer(half, truth), Tensor):
        raise Wrong("the PSNR is a tensor, expected a plain number: end with .item()")
    same(answer(truth, truth), math.inf, "the PSNR of two equal photos")


def fool_psnr(dark: Tensor) -> Tensor:
    """The solution: one grey for every photo."""
    return torch.full_like(dark, 0.4)


@exercise("05.2", "Fool PSNR", solution=fool_psnr)
def check_fool_psnr(answer):  # type: ignore[no-untyped-def]
    for name, dark, truth in small_pairs("astronaut", "chelsea", "coffee", "motorcycle"):
        flat = answer(dark)
        same(flat, flat.clone() if flat.shape == dark.shape else dark, "the picture")
        if not 0 <= float(flat.min()) <= float(flat.max()) <= 1:
            raise Wrong(f"the picture for {name} has values outside [0, 1]")
        if float(flat.flatten(1).std(dim=1).max()) > 1e-6:
            raise Wrong(f"the picture for {name} still shows something: all pixels of a channel must be equal")
        if psnr(flat, truth) <= psnr(dark, truth):
            raise Wrong(
                f"the picture for {name} scores {psnr(flat, truth):.1f} dB, no more than the dark photo's "
                f"{psnr(dark, truth):.1f} dB"
            )


def best_gamma(pairs: Pairs, exponents: Iterable[float]) -> float:
    """The solution: the exponent with the highest mean over all pairs."""
    pairs = list(pairs)
    return max((float(e) for e in exponents), key=lambda e: fmean(psnr(dark**e, truth) for _, dark, truth in pairs))


def _of_least_error(pairs: Pairs, exponents: Iterable[float]) -> float:
    pairs = list(pairs)
    return min(map(float, exponents), key=lambda e: sum(float((x**e - y).square().mean()) for _, x, y in pairs))


@exercise("05.3", "The best single gamma", solution=best_gamma)
def check_best_gamma(answer):  # type: ignore[no-untyped-def]
    pairs, exponents = small_pairs("astronaut", "chelsea", "coffee", "rocket"), torch.linspace(0.2, 1, 33)
    for chosen in (pairs, pairs[:1], pairs[3:]):
        shown = " and ".join(name for name, *_ in chosen)
        best_of_each = [best_gamma([pair], exponents) for pair in chosen]
        mistakes = {
            "is the mean of the best exponents of each photo: one exponent serves all": fmean(best_of_each),
            "is that of the smallest mean squared error: compare the mean of the PSNR": (
                _of_least_error(chosen, exponents)
            ),
        }
        expected = best_gamma(chosen, exponents)
        same(answer(chosen, exponents), expected, f"the best exponent for {shown}", mistakes=mistakes)
    same(answer(iter(pairs), [0.9, 0.5]), 0.5, "the better one of 0.9 and 0.5, with pairs that are read once,")


@exercise("05.5", "Daylight through a network for dark photos", solution=74.0)
def check_daylight(answer: float) -> None:
    close_to(answer, 74.0, within=20)


def table_for(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The solution: the mean output of each level, as the package fits it for three channels."""
    curve = FixedCurve()
    curve.add(*(np.stack([channel] * 3, axis=-1) for channel in (before, after)))
    return curve.table()[0]


@exercise("05.4", "A table instead of a network", solution=table_for)
def check_table(answer):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, (40, 50), dtype=np.uint8)
    after = (255 * (before / 255) ** 0.4 + rng.normal(0, 4, before.shape)).clip(0, 255).astype(np.uint8)
    few = np.array([[3, 3, 200]], np.uint8)
    found = answer(few, np.array([[250, 255, 7]], np.uint8))
    if not isinstance(found, np.ndarray) or found.shape != (256,):
        raise Wrong("table_for returns an array of 256 numbers, one for each level")
    overflow = {"overflows: 250 + 255 does not fit into a byte, so convert before you add": np.array([124.5, 7.0])}
    same(found[[3, 200]], np.array([252.5, 7.0]), "the table at 3 and 200", mistakes=overflow)
    for one, other, what in ((few, few, "of three pixels"), (before, after, "of a noisy gamma")):
        same(answer(one, other), table_for(one, other), f"the table {what}")
