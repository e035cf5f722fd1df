"""Wrong answers to the exercises of lesson 03."""

from kdlib.exercises.lesson_03 import best_curves, colour_shift, with_gammas


def absolute(losses, window=3, tolerance=0.01):
    before, after = sum(losses[-2 * window : -window]), sum(losses[-window:])
    return len(losses) >= 2 * window and before - after < tolerance


def last_epoch(losses, window=3, tolerance=0.01):
    return len(losses) >= 2 * window and losses[-1] > losses[-2] * (1 - tolerance)


def smallest(losses, window=3, tolerance=0.01):
    if len(losses) < 2 * window:
        return False
    before, after = min(losses[-2 * window : -window]), min(losses[-window:])
    return before - after < tolerance * before


def largest(dark, enhanced):
    return max(colour_shift(*pair) for pair in zip(dark.split(1), enhanced.split(1), strict=True))


def with_a_guard(dark, enhanced):
    shares = [(means / (means.sum(dim=1, keepdim=True) + 1e-6)) for means in (dark.mean((2, 3)), enhanced.mean((2, 3)))]
    return 3 * (shares[1] - shares[0]).abs().amax(dim=1).mean()


WRONG = {
    "03.1": [
        (lambda photos, gammas: photos ** gammas[0], "takes the first γ for all photos"),
        (lambda photos, gammas: photos * gammas.view(-1, 1, 1, 1), "the result for γ"),
        (lambda photos, gammas: photos**gammas, "raises RuntimeError"),
        (lambda photos, gammas: with_gammas(photos, 1 / gammas), "raises to 1/γ"),
        (lambda photos, gammas: photos ** gammas.mean(), "takes the mean γ for all photos"),
    ],
    "03.2": [(24, "too high"), (0, "too low")],
    "03.3": [
        (lambda losses, window=3, tolerance=0.01: True, "halves every epoch is none"),
        (lambda losses, window=3, tolerance=0.01: losses[-1] >= losses[-2], "three epochs are too few"),
        (absolute, "the tolerance is relative"),
        (last_epoch, "the last epoch alone does not decide"),
        (smallest, "sums are compared, not the smallest losses"),
        (lambda losses, window=3, tolerance=0.01: len(losses) >= 6 and abs(losses[-1] - losses[0]) < 0.01, "noise"),
    ],
    "03.4": [
        (lambda dark, enhanced: (enhanced.mean((2, 3)) - dark.mean((2, 3))).abs().mean(), "equal gains"),
        (lambda dark, enhanced: colour_shift(dark, enhanced) / 3, "photos whose green is 0"),
        (largest, "the score of photos whose green is 0 is 1.06"),
    ],
    "03.5": [
        (lambda photos, weight: best_curves(photos, 5.0, steps=20), "one channel is given up"),
        (lambda photos, weight: best_curves(photos, 0.0, steps=20), "the colour term is missing"),
        (lambda photos, weight: best_curves(photos, weight, steps=1)[:1], "three numbers"),
        (lambda photos, weight: [3 * r for r in best_curves(photos, weight, steps=20)], "between −1 and 1"),
        (lambda photos, weight: best_curves(photos, weight, exposure=1.0), "the weight 1, expected 7"),
        (lambda photos, weight: best_curves(photos, weight, steps=5), "element 0 of best_curves(photos, 5.0) is"),
    ],
}

ALSO_RIGHT = {"03.4": [with_a_guard]}
