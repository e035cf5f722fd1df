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


def in_order_of_appearance(numbers, share):
    held = []
    for scene in dict.fromkeys(numbers.tolist()):
        if sum(numbers.tolist().count(one) for one in held) < share * len(numbers):
            held.append(scene)
    validation = [k for k, scene in enumerate(numbers.tolist()) if scene in held]
    return [k for k in range(len(numbers)) if k not in validation], validation


def smallest_first_without_dropping(numbers, share):
    held = []
    for scene in sorted(numbers.unique().tolist(), key=numbers.tolist().count):
        if sum(numbers.tolist().count(one) for one in held) < share * len(numbers):
            held.append(scene)
    validation = [k for k, scene in enumerate(numbers.tolist()) if scene in held]
    return [k for k in range(len(numbers)) if k not in validation], validation


def rule_with(m_of):
    def rule(photos, numbers):
        m = m_of(photos).view(-1, 1, 1, 1)
        return numbers[0] + numbers[1] * m, (numbers[2] + numbers[3] * m).clamp(0.1, 2)

    return rule


def thumbnail(photos):
    return F.adaptive_avg_pool2d(photos, 32).mean(dim=1)


WRONG = {
    "11.1": [
        (lambda x, log_gain, gamma: log_gain.exp() * (x + BLACK) ** gamma - gamma * BLACK, "subtract b^γ"),
        (
            lambda x, log_gain, gamma: log_gain * ((x + BLACK) ** gamma - BLACK**gamma),
            "power_curve with the logarithm 0",
        ),
        (lambda x, log_gain, gamma: log_gain.exp() * x**gamma, "is made without b"),
        (
            lambda x, log_gain, gamma: log_gain.exp() * ((x + 1 / 255) ** gamma - (1 / 255) ** gamma),
            "expected half of it, 1/510",
        ),
        (lambda x, log_gain, gamma: (log_gain.exp() * ((x + BLACK) ** gamma - BLACK**gamma)).clamp(0, 1), "is limited"),
    ],
    "11.2": [(2**3.5, "the factor of the light"), (2.0, "too low"), (3.5, "a factor of 2"), (5.14, "not divided by")],
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
        (lambda maps, strength: maps * min(strength, 1), "strengths above 1 go further"),
        (lambda maps, strength: maps.mul_(strength), "changes its input"),
    ],
    "11.6": [
        (ignores_scenes, "is in training and in validation"),
        (in_order_of_appearance, "validation has a scene more than it takes"),
        (smallest_first_without_dropping, "without scene 1 it has 5 photos, enough"),
        (lambda numbers, share: split_by_scene(numbers, share)[::-1], "the two lists are swapped"),
        (lambda numbers, share: split_by_scene(numbers, share)[1], "two lists"),
        (holds_all_but_one_scene, "a scene more than it takes"),
        (lambda numbers, share: (split_by_scene(numbers, share)[0], []), "not every photo is in exactly one"),
        (lambda numbers, share: (list(range(len(numbers))), []), "which is too few"),
    ],
    "11.7": [
        (lambda photos, numbers: tuple(part.mean() for part in rule(photos, numbers)), "the mean over the batch"),
        (lambda photos, numbers: rule(photos, numbers)[::-1], "the logarithm of the gain for"),
        (lambda photos, numbers: rule(photos.sqrt(), numbers), "the logarithm of the gain for"),
        (rule_with(lambda photos: (thumbnail(photos).mean((1, 2)) + 1 / 255).log() + 3), "the mean of the logarithms"),
        (rule_with(lambda photos: (thumbnail(photos) + 1 / 255).log().mean((1, 2))), "lacks the 3"),
        (rule_with(lambda photos: (thumbnail(photos) + 1 / 255).log().mean() + 3), "the mean over the batch"),
        (rule_with(lambda photos: thumbnail(photos).log().mean((1, 2)) + 3), "lacks the 1/255"),
        (rule_with(lambda photos: (photos.mean(1) + 1 / 255).log().mean((1, 2)) + 3), "not from its thumbnail"),
        (
            rule_with(lambda photos: (F.adaptive_avg_pool2d(photos, 32) + 1 / 255).log().mean((1, 2, 3)) + 3),
            "average the channels first",
        ),
        (lambda photos, numbers: (rule(photos, numbers)[0], numbers[2] + 0 * rule(photos, numbers)[1]), "gamma for"),
    ],
}
