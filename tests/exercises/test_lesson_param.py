"""Wrong answers to the exercises of Param_check."""

import math

from kdlib.exercises.lesson_param import break_even, widest

WRONG = {
    "Param.1": [
        (lambda budget: widest(budget) + 1, "widest(600) is"),
        (lambda budget: widest(4 * budget), "widest(600) is"),
        (lambda budget: (math.sqrt(105**2 - 28 * (33 - budget / 4)) - 105) / 14, "a whole number is expected"),
        (lambda budget: widest(budget + 1), "widest(2259) is 4, expected 3"),
    ],
    "Param.2": [(99_532_800, "too high"), (-1, "too low")],
    "Param.3": [
        (lambda count: int((count / 60) ** 0.5), "break_even(10561) is 13, expected 14"),
        (lambda count: break_even(count) + (count in (240, 60)), "break_even(240) is 3, expected 2"),
        (lambda count: math.ceil((count / 60) ** 0.5) if count > 60 else 0, "break_even(60) is 0, expected 1"),
    ],
    "Param.4": [(18.7, "too high"), (1, "too low")],
}
