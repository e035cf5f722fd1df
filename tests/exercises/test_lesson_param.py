"""Wrong answers to the exercises of Param_check."""

import math

from kdlib.exercises.lesson_param import break_even, widest

WRONG = {
    "Param.1": [
        (lambda budget: widest(budget) + 1, "widest(600) is"),
        (lambda budget: widest(4 * budget), "widest(600) is 4, for a budget of parameters: each takes 4 bytes"),
        (lambda budget: widest(budget // 2) if budget > 1200 else widest(budget), "for parameters of 8 bytes"),
        (lambda budget: max(1, widest(budget)), "widest(579) is 1, but a width of 1 takes 580 bytes"),
        (lambda budget: widest(budget) or -1, "0 is expected if none fits"),
        (lambda budget: (math.sqrt(105**2 - 28 * (33 - budget / 4)) - 105) / 14, "a whole number is expected"),
        (lambda budget: widest(budget + 1), "widest(2259) is 4, expected 3"),
    ],
    "Param.2": [(99_532_800, "no layer that torchinfo could count"), (1000, "too high"), (-1, "too low")],
    "Param.3": [
        (lambda count: int((count / 60) ** 0.5), "break_even(10561) is 13, expected 14"),
        (lambda count: break_even(count) + (count in (240, 60)), "break_even(240) is 3, expected 2"),
        (lambda count: math.ceil((count / 60) ** 0.5) if count > 60 else 0, "break_even(60) is 0, expected 1"),
    ],
    "Param.4": [
        (18.7, "holds for the network alone"),
        (19, "holds for the network alone"),
        (5, "too high"),
        (1, "too low"),
    ],
}
