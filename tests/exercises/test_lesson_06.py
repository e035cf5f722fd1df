"""Wrong answers to the exercises of lesson 06."""

import numpy as np

from kdlib.exercises.lesson_06 import gamma_row, strips


def without_rounding(photo, r, rows=8):
    x = photo / np.float32(255)
    for _ in range(8):
        x = x + r * (x * x - x)
    return (255 * x).astype(np.uint8)


def seven_iterations(photo, r, rows=8):
    x = photo / np.float32(255)
    for _ in range(7):
        x = x + r * (x * x - x)
    return (255 * x + np.float32(0.5)).astype(np.uint8)


def whole_strips_alone(photo, r, rows=8):
    out = np.zeros_like(photo)
    whole = len(photo) // rows * rows
    out[:whole] = strips(photo[:whole], r[:whole], rows)
    return out


def first_rows_of_r(photo, r, rows=8):
    repeated = np.concatenate([r[:rows]] * (len(r) // rows + 1))[: len(r)]
    return strips(photo, repeated, rows)


def nearest_row(x, upper, lower, share, out):
    gamma_row(x, upper, lower, np.float32(0), out)


def reciprocal(x, upper, lower, share, out):
    gamma_row(x, 1 / upper, 1 / lower, share, out)


def returns_the_row(x, upper, lower, share, out):
    return 255 * (x / 255) ** (upper + share * (lower - upper))


WRONG = {
    "06.1": [(390, "the form in the figure above"), (288, "the passes before and after"), (38, "too low")],
    "06.2": [
        (without_rounding, "add 0.5"),
        (seven_iterations, "levels away from float64"),
        (whole_strips_alone, "13 rows in strips of 4 is wrong in the last strip alone"),
        (lambda photo, r, rows: strips(photo, r, len(photo)), "arrays as large as the photo"),
        (first_rows_of_r, "take the same rows of r"),
        (lambda photo, r, rows: strips(photo, r, rows) / 255, "has the dtype float64, expected uint8"),
        (lambda photo, r, rows: strips(photo, r, rows)[:rows], "has the shape"),
    ],
    "06.3": [
        (nearest_row, "the share 0.25"),
        (reciprocal, "expected"),
        (returns_the_row, "is 77, expected 255"),
    ],
    "06.4": [(36, "too high: the mean of n values divides the variance by n"), (1, "too low")],
    "06.6": [
        (lambda r, iterations: iterations / 8, "the factor of eight iterations near black"),
        (lambda r, iterations: 1 - (1 - r) ** (iterations / 8), "the factor of eight iterations near black"),
        (lambda r, iterations: str(r), "is a str, expected a number"),
    ],
}
