"""Wrong answers to the exercises of lesson 08."""

import torch

from kdlib.models import apply_curve


def only_signs(sequence, visible=0.02):
    return min(sequence) < 0 < max(sequence)


def fixed_limit(sequence, visible=0.02):
    x = torch.linspace(0, 1, 101).expand(1, 3, 1, -1)
    r = torch.tensor(sequence).repeat_interleave(3).view(1, 24, 1, 1).expand(1, 24, 1, 101)
    change = apply_curve(x, r, 8) - x
    return bool(change.max() > 0.02 and change.min() < -0.02)


def of_levels(count):
    def crosses(sequence, visible=0.02):
        x = torch.linspace(0, 1, count).expand(1, 3, 1, -1)
        r = torch.tensor(sequence).repeat_interleave(3).view(1, 24, 1, 1).expand(1, 24, 1, count)
        change = apply_curve(x, r, 8) - x
        return bool(change.max() > visible and change.min() < -visible)

    return crosses


WRONG = {
    "08.1": [
        (only_signs, "the reverse order darkens by 0.01 at most"),
        (fixed_limit, "use the argument visible"),
        *((of_levels(count), "look at more levels") for count in (5, 6, 11)),
        (lambda sequence, visible=0.02: True, "every step brightens"),
        (lambda sequence, visible=0.02: torch.tensor(False), "expected True"),
    ],
    "08.2": [(0.25, "not independent"), (0.8, "too high"), (20_000, "between 0 and 1"), ("none", "without quotes")],
    "08.3": [
        (lambda squared, absolute: absolute / squared, "not their slopes"),
        (lambda squared, absolute: squared / (2 * absolute), "has the weights swapped"),
    ],
    "08.4": [
        (lambda maps: torch.stack(maps.split(3, dim=1)).mean(dim=0), "the gains 1 − r multiply"),
        (lambda maps: 1 - (1 - maps.unflatten(1, (3, 8))).log().mean(dim=2).exp(), "channels of different colours"),
        (lambda maps: maps[:, :3], "expected"),
        (lambda maps: 1 - (1 - maps).log().mean(dim=1, keepdim=True).exp(), "shape"),
        (lambda maps: 1 - (1 - torch.stack(maps.split(3, dim=1))).prod(dim=0), "take its eighth root"),
        (lambda maps: (1 - torch.stack(maps.split(3, dim=1))).log().mean(dim=0).exp(), "holds the factors 1 − r"),
        (lambda maps: (1 + torch.stack(maps.split(3, dim=1))).log().mean(dim=0).exp() - 1, "is made from 1 + r"),
    ],
}
