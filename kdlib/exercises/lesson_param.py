"""Lesson Param_check: parameters, bytes and multiply-adds."""

from kdlib.exercises import Wrong, close_to, exercise, same

# Multiply-adds for each pixel of the photo, outside the network: eight iterations of the curve, and the upsampled map.
FULL_SIZE = 2 * 3 * 8 + 4 * 3


def parameters_of_width(width: int) -> int:
    """Parameters of seven separable layers with skip connections, as in Zero-DCE++."""
    return 7 * width**2 + 105 * width + 33


def widest(budget: int) -> int:
    """The solution: widen while the next width fits; 0 if none does."""
    width = 0
    while 4 * parameters_of_width(width + 1) <= budget:
        width += 1
    return width


@exercise("Param.1", "The widest student that fits", solution=widest)
def check_widest(answer):  # type: ignore[no-untyped-def]
    for budget in (600, 2_260, 2_259, 10_000, 42_244, 580, 579, 100):
        width = answer(budget)
        if isinstance(width, float) and not width.is_integer():
            raise Wrong(f"widest({budget}) is {width:.4g}, a whole number is expected")
        if not widest(budget) and width is None:
            raise Wrong(f"widest({budget}) is None: no width fits, for which 0 is expected")
        if not widest(budget) and width != 0:
            raise Wrong(f"widest({budget}) is {width:g}, but a width of 1 takes 580 bytes: 0 is expected if none fits")
        mistakes = {
            f"is {widest(4 * budget)}, for a budget of parameters: each takes 4 bytes": widest(4 * budget),
            f"is {widest(budget // 2)}, for parameters of 8 bytes: a float32 takes 4": widest(budget // 2),
        }
        same(width, widest(budget), f"widest({budget})", mistakes=mistakes, rtol=0)


@exercise("Param.2", "The curve, as torchinfo counts it", solution=0)
def check_curve(answer: float) -> None:
    needed = "the curve does need them, but it has no layer that torchinfo could count"
    close_to(answer, 0, within=0.5, mistakes={48 * 1920 * 1080: needed})


def break_even(count: int) -> int:
    """The solution: reduce until the network costs no more than the rest."""
    scale = 1
    while count / scale**2 > FULL_SIZE:
        scale += 1
    return scale


@exercise("Param.3", "The break-even scale factor", solution=break_even)
def check_break_even(answer):  # type: ignore[no-untyped-def]
    for count in (10_561, 565, 240, 60, 7):
        same(answer(count), break_even(count), f"break_even({count})", rtol=0)


TEACHER, STUDENT = (count / 144 + FULL_SIZE for count in (10_561, 565))


@exercise("Param.4", "Nineteen times smaller", solution=TEACHER / STUDENT)
def check_ratio(answer: float) -> None:
    alone = "that holds for the network alone; upsampling and curve cost the same for teacher and student"
    close_to(answer, TEACHER / STUDENT, within=0.3, mistakes={10_561 / 565: alone, 19: alone})
