"""Wrong answers to the exercises of lesson 10."""

import math

import torch
import torch.nn.functional as F

from kdlib.exercises.lesson_10 import balanced, gate, refine, student_loss


def forgets_the_state(unit, features, steps):
    state = torch.zeros_like(features)
    for _ in range(steps):
        both = torch.cat([features, torch.zeros_like(state)], dim=1)
        share, candidate = unit.conv_z(both).sigmoid(), unit.conv_h(both).tanh()
        state = (1 - share) * state + share * candidate
    return state


def mean_over_flips(method, photo):
    return torch.stack([method(photo.flip(way)).flip(way) for way in ((), (-1,), (-2,), (-1, -2))]).mean(dim=0)


def never_turns_back(method, photo):
    ways = [photo.flip(way) for way in ((), (-1,), (-2,), (-1, -2))]
    return torch.stack([method(way) for way in ways]).mean(dim=0)


WRONG = {
    "10.1": [(-10 * math.log10(0.02), "a mean squared error of σ"), (40.0, "too high"), (0.02, "too low")],
    "10.2": [
        (lambda black_share: 10 * math.log10(1 - black_share), "wrong sign"),
        (lambda black_share: -20 * math.log10(1 - black_share), "rise(0.1)"),
        (lambda black_share: black_share, "rise(0.1)"),
    ],
    "10.3": [
        (lambda fc, x: fc(x.mean(dim=(2, 3))), "shape"),
        (lambda fc, x: x * fc(x.amax(dim=(2, 3)))[:, :, None, None], "expected"),
        (lambda fc, x: x + fc(x.mean(dim=(2, 3)))[:, :, None, None], "expected"),
        (lambda fc, x: gate(fc, x).mean(dim=1, keepdim=True), "shape"),
    ],
    "10.4": [
        (forgets_the_state, "refine after 2 steps"),
        (lambda unit, features, steps: refine(unit, features, 1), "refine after 2 steps"),
        (lambda unit, features, steps: -refine(unit, features, steps), "wrong sign"),
    ],
    "10.5": [
        (lambda a, taught, truth, alpha, decay=0, progress=0: student_loss(a, truth, taught, alpha), "expected"),
        (lambda a, taught, truth, alpha, decay=0, progress=0: student_loss(a, taught, truth, alpha), "decay=0.5"),
        (
            lambda a, taught, truth, alpha, decay=0, progress=0: (
                alpha * F.l1_loss(a, truth) + (1 - alpha) * (1 - decay * progress) * F.l1_loss(a, taught)
            ),
            "the truth's part",
        ),
    ],
    "10.6": [
        (lambda hard, soft_term, alpha: 1 - alpha, "of the loss, expected 50%"),
        (lambda hard, soft_term, alpha: hard / soft_term, "expected 50%"),
        (lambda hard, soft_term, alpha: balanced(soft_term, hard, alpha), "expected 50%"),
    ],
    "10.7": [
        (lambda photo: photo + 0.05, "at least 0.1 is expected"),
        (lambda photo: 1.5 * photo + 0.2, "KL finds a difference"),
        (lambda photo: photo[:1] + 0.2, "same shape"),
    ],
    "10.8": [
        (mean_over_flips, "sees 4 orientations"),
        (never_turns_back, "changes nothing"),
        (lambda method, photo: method(photo), "sees 1 orientations"),
    ],
}
