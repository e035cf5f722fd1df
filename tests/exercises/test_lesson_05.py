"""Wrong answers to the exercises of lesson 05."""

import math
from statistics import fmean

import numpy as np
import torch

from kdlib.evaluation import psnr


def rms(photo, truth):
    return float((photo - truth).square().mean().sqrt())


def without_infinity(photo, truth):
    return float(-10 * math.log10((photo - truth).square().mean() + 1e-10))


def mean_over_channels(photo, truth):
    return fmean(psnr(*pair) for pair in zip(photo.split(1), truth.split(1), strict=True))


def best_of_each(pairs, exponents):
    return fmean(max(psnr(dark**e, truth) for e in exponents) for _, dark, truth in pairs)


def mean_of_best(pairs, exponents):
    return fmean(float(max(exponents, key=lambda e: psnr(dark**e, truth))) for _, dark, truth in pairs)


def by_squared_error(pairs, exponents):
    pairs = list(pairs)
    return min(map(float, exponents), key=lambda e: sum(float((d**e - t).square().mean()) for _, d, t in pairs))


def read_twice(pairs, exponents):
    return max(exponents, key=lambda e: sum(psnr(dark**e, truth) for _, dark, truth in pairs))


def median_table(before, after):
    levels = [after[before == v] for v in range(256)]
    return np.array([np.median(found) if found.size else np.nan for found in levels])


def in_bytes(before, after):
    return np.array(
        [found.sum(dtype=np.uint8) / max(len(found), 1) for found in (after[before == v] for v in range(256))]
    )


def table_of_zeros(before, after):
    count = np.bincount(before.ravel(), minlength=256)
    return np.bincount(before.ravel(), weights=after.ravel(), minlength=256) / np.maximum(count, 1)


WRONG = {
    "05.1": [
        (rms, "expected 20"),
        (lambda photo, truth: -psnr(photo, truth), "with the wrong sign"),
        (lambda photo, truth: psnr(photo, truth) / 10 * math.log(10), "an error of 0.1 in each value"),
        (mean_over_channels, "is the mean of the channels' PSNR"),
        (lambda photo, truth: torch.tensor(psnr(photo, truth)), "end with .item()"),
        (without_infinity, "two equal photos is 100, expected inf"),
        (lambda photo, truth: torch.tensor([20.0]), "is a Tensor, expected a number"),
    ],
    "05.2": [
        (lambda dark: dark * 4, "outside [0, 1]"),
        (lambda dark: dark**0.5, "all pixels of a channel must be equal"),
        (torch.zeros_like, "no more than the dark photo's"),
        (lambda dark: torch.tensor(0.4), "has the shape"),
    ],
    "05.3": [
        (best_of_each, "expected 0."),
        (mean_of_best, "one exponent serves all"),
        (by_squared_error, "compare the mean of the PSNR"),
        (lambda pairs, exponents: min(map(float, exponents)), "the best exponent"),
        (read_twice, "the better one of 0.9 and 0.5"),
    ],
    "05.4": [
        (median_table, "the table of a noisy gamma"),
        (table_of_zeros, "expected nan"),
        (lambda before, after: table_of_zeros(before, after).tolist(), "an array of 256 numbers"),
        (in_bytes, "does not fit into a byte"),
        (lambda before, after: after.mean() * np.ones(256), "the table at 3 and 200"),
    ],
    "05.5": [(3, "too low"), (0.74, "too low"), (150, "too high")],
}
