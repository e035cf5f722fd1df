"""Wrong answers to the exercises of lesson 10."""

import math

import torch
import torch.nn.functional as F

from kdlib.exercises.lesson_10 import balanced, gate, refine


def forgets_the_state(unit, features, steps):
    state = torch.zeros_like(features)
    for _ in range(steps):
        both = torch.cat([features, torch.zeros_like(state)], dim=1)
        share, candidate = unit.conv_z(both).sigmoid(), unit.conv_h(both).tanh()
        state = (1 - share) * state + share * candidate
    return state


def unit_with(step):
    """A recurrent unit with another step, a function of the state, z and c before its tanh."""

    def refine(unit, features, steps):
        state = torch.zeros_like(features)
        for _ in range(steps):
            both = torch.cat([state, features] if step is None else [features, state], dim=1)
            z, c = unit.conv_z(both).sigmoid(), unit.conv_h(both)
            state = (1 - z) * state + z * c.tanh() if step is None else step(state, z, c)
        return state

    return refine


def loss_of(share_of, error=F.l1_loss):
    """The loss with another share of the teacher."""

    def loss(answer, taught, truth, alpha, decay=0.0, progress=0.0):
        share = share_of(alpha, decay, progress)
        return (1 - share) * error(answer, truth) + share * error(answer, taught)

    return loss


def mean_over_flips(method, photo):
    return torch.stack([method(photo.flip(way)).flip(way) for way in ((), (-1,), (-2,), (-1, -2))]).mean(dim=0)


def never_turns_back(method, photo):
    ways = [photo.flip(way) for way in ((), (-1,), (-2,), (-1, -2))]
    return torch.stack([method(way) for way in ways]).mean(dim=0)


WRONG = {
    "10.1": [
        (-10 * math.log10(0.02), "a mean squared error of σ"),
        (40.0, "too high"),
        (68.0, "10·log₁₀ of it"),
        (0.02, "too low"),
    ],
    "10.2": [
        (lambda black_share: 10 * math.log10(1 - black_share), "wrong sign"),
        (lambda black_share: -20 * math.log10(1 - black_share), "rise(0.1) takes 20·log₁₀"),
        (lambda black_share: -10 * math.log(1 - black_share), "the natural logarithm"),
        (lambda black_share: -math.log10(1 - black_share), "multiply the logarithm by 10"),
        (lambda black_share: black_share, "is the share itself"),
    ],
    "10.3": [
        (lambda fc, x: fc(x.mean(dim=(2, 3))), "shape"),
        (lambda fc, x: x * fc(x.amax(dim=(2, 3)))[:, :, None, None], "the largest values"),
        (lambda fc, x: x * fc(x.mean(dim=(0, 2, 3)))[:, None, None], "means over the batch"),
        (lambda fc, x: x * fc(x.mean(dim=(2, 3))).sigmoid()[:, :, None, None], "a second sigmoid"),
        (lambda fc, x: x + fc(x.mean(dim=(2, 3)))[:, :, None, None], "adds the factors"),
        (lambda fc, x: x + gate(fc, x), "adds x once more"),
        (lambda fc, x: gate(fc, x).mean(dim=1, keepdim=True), "shape"),
    ],
    "10.4": [
        (forgets_the_state, "refine after 2 steps gives the convolutions zeros"),
        (lambda unit, features, steps: refine(unit, features, 1), "refine after 2 steps is the state after the first"),
        (
            lambda unit, features, steps: refine(unit, features, steps + 1),
            "after 1 step is the state after one step more",
        ),
        (lambda unit, features, steps: -refine(unit, features, steps), "refine after 1 step has the wrong sign"),
        (unit_with(lambda state, z, c: z * state + (1 - z) * c.tanh()), "z and 1 − z swapped"),
        (unit_with(None), "the features come first"),
        (unit_with(lambda state, z, c: (1 - z) * state + z * c), "lacks the tanh"),
        (unit_with(lambda state, z, c: (1 - z) * state + z * c.sigmoid()), "the sigmoid of both"),
        (unit_with(lambda state, z, c: z * c.tanh()), "loses the old state"),
        (unit_with(lambda state, z, c: state + z * c.tanh()), "keeps all of the old state"),
    ],
    "10.5": [
        (loss_of(lambda alpha, decay, progress: max(0, 1 - alpha - decay * progress)), "not by d·progress"),
        (loss_of(lambda alpha, decay, progress: (1 - alpha) * (1 - decay)), "has all of the decay from the start"),
        (loss_of(lambda alpha, decay, progress: alpha), "has the share of the teacher"),
        (loss_of(lambda alpha, decay, progress: (1 - alpha) * (1 - decay * progress), F.mse_loss), "expected L1"),
        (loss_of(lambda alpha, decay, progress: 1 - alpha), "decay=0.5"),
        (
            lambda a, taught, truth, alpha, decay=0, progress=0: (
                (1 - (1 - alpha) * (1 - decay * progress)) * F.l1_loss(a, truth) + (1 - alpha) * F.l1_loss(a, taught)
            ),
            "does not decay",
        ),
        (
            lambda a, taught, truth, alpha, decay=0, progress=0: (
                alpha * F.l1_loss(a, truth) + (1 - alpha) * (1 - decay * progress) * F.l1_loss(a, taught)
            ),
            "the truth also gets what the decay takes",
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
        (lambda method, photo: method(photo), "sees 1 orientation, 8"),
    ],
}
