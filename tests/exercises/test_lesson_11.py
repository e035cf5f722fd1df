"""Wrong answers to the exercises of lesson 11."""

import torch
import torch.nn.functional as F

from kdlib.exercises.lesson_11 import parity, rule, split_by_scene, weight_of
from kdlib.power_curve import BLACK


def ignores_scenes(numbers, share):
    count = round(share * len(numbers) + 0.5)
    return list(range(count, len(numbers))), list(range(count))


def holds_all_but_one_scene(numbers, share):
    validation = [k for k, scene in enumerate(numbers.tolist()) if scene != 7]
    return [k for k in range(len(numbers)) if k not in validation], validation


WRONG = {
    "11.1": [
        (lambda x, log_gain, gamma: log_gain.exp() * (x + BLACK) ** gamma - gamma * BLACK, "subtract b^γ"),
        (
            lambda x, log_gain, gamma: log_gain * ((x + BLACK) ** gamma - BLACK**gamma),
            "power_curve with the logarithm 0",
        ),
        (lambda x, log_gain, gamma: log_gain.exp() * x**gamma, "power_curve with a gain and a γ"),
        (lambda x, log_gain, gamma: (log_gain.exp() * ((x + BLACK) ** gamma - BLACK**gamma)).clamp(0, 1), "expected"),
    ],
    "11.2": [(2**3.5, "the factor of the light"), (2.0, "too low"), (3.5, "too high")],
    "11.3": [
        (lambda difference, tolerance: (1 - (difference / tolerance) ** 2) ** 2, "beyond the tolerance"),
        (lambda difference, tolerance: F.relu(1 - difference / tolerance) ** 2, "expected"),
        (lambda difference, tolerance: weight_of(difference, tolerance).sqrt(), "weight_of(difference, 4)"),
        (lambda difference, tolerance: weight_of(difference, tolerance).sum(), "shape"),
    ],
    "11.4": [
        (torch.rand(3, 64, 64), "does not repeat"),
        (torch.full((3, 64, 64), 0.5), "at least 1 is expected"),
        (20 * parity(), "lie in [0, 1]"),
        (parity()[0], "a tensor of the shape 3×64×64"),
    ],
    "11.5": [
        (lambda maps, strength: maps, "scaled(maps, 0)"),
        (lambda maps, strength: strength**2 * maps, "scaled(maps, 0.3)"),
        (lambda maps, strength: maps.mul_(strength), "changes its input"),
    ],
    "11.6": [
        (ignores_scenes, "is in training and in validation"),
        (holds_all_but_one_scene, "a scene more than it takes"),
        (lambda numbers, share: (split_by_scene(numbers, share)[0], []), "not every photo is in exactly one"),
        (lambda numbers, share: (list(range(len(numbers))), []), "which is too few"),
    ],
    "11.7": [
        (lambda photos, numbers: tuple(part.mean() for part in rule(photos, numbers)), "the gain for"),
        (lambda photos, numbers: rule(photos, numbers)[::-1], "the gain for"),
        (lambda photos, numbers: rule(photos.sqrt(), numbers), "the gain for"),
        (lambda photos, numbers: (rule(photos, numbers)[0], numbers[2] + 0 * rule(photos, numbers)[1]), "gamma for"),
    ],
}
