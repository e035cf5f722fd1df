"""Wrong answers to the exercises of lesson 04."""

import torch
import torch.nn.functional as F

from kdlib.exercises.lesson_04 import alignment, feature_loss, step, teacher_targets, total
from kdlib.losses.distillation import LayerFeatures


def with_a_graph(teacher, photos):
    return teacher.curve_map(photos), *teacher_targets(teacher, photos)[1:]


def photo_for_map(teacher, photos):
    with torch.no_grad():
        return teacher(photos)[0], *teacher_targets(teacher, photos)[1:]


def with_hooks_left(teacher, photos):
    with torch.no_grad():
        LayerFeatures(teacher, ["e_conv2"])
        return teacher_targets(teacher, photos)


def without_zero_grad(student, loss, optimiser, limit):
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), limit)
    optimiser.step()


def without_clipping(student, loss, optimiser, limit):
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def clipping_too_early(student, loss, optimiser, limit):
    optimiser.zero_grad()
    torch.nn.utils.clip_grad_norm_(student.parameters(), limit)
    loss.backward()
    optimiser.step()


def clipping_too_late(student, loss, optimiser, limit):
    without_clipping(student, loss, optimiser, limit)
    torch.nn.utils.clip_grad_norm_(student.parameters(), limit)


def clipping_to_one(student, loss, optimiser, limit):
    step(student, loss, optimiser, 1.0)


def zeroing_afterwards(student, loss, optimiser, limit):
    without_zero_grad(student, loss, optimiser, limit)
    optimiser.zero_grad()


def without_a_step(student, loss, optimiser, limit):
    optimiser.zero_grad()
    loss.backward()


WRONG = {
    "04.1": [
        (with_a_graph, "carry a graph"),
        (photo_for_map, "the curve map of 3 photos is the enhanced photo"),
        (lambda *given: (lambda m, *f: (m, *f[::-1]))(*teacher_targets(*given)), "is the deep feature map"),
        (with_hooks_left, "a hook stays"),
        (lambda teacher, photos: teacher_targets(teacher, photos)[0], "one tuple of four"),
        (
            lambda teacher, photos: [target[:1] for target in teacher_targets(teacher, photos)],
            "has the shape 1×3×24×24",
        ),
    ],
    "04.2": [
        (lambda e, m, t, tm: F.l1_loss(e, t) + 0.1 * F.l1_loss(m, tm), "the photo's error"),
        (lambda e, m, t, tm: F.mse_loss(e, t) + F.mse_loss(m, tm), "the loss of a student with the right photo is 0.7"),
        (lambda e, m, t, tm: F.mse_loss(e, t), "the loss of a student with the right photo is 0"),
        (lambda e, m, t, tm: -alignment(e, m, t, tm), "wrong sign"),
        (lambda e, m, t, tm: alignment(e.detach(), m.detach(), t, tm), "no gradient"),
        (lambda e, m, t, tm: alignment(e, m.detach(), t, tm), "is detached or not used"),
    ],
    "04.3": [
        (lambda own, taught: feature_loss(own[::-1], taught[::-1]), "only the shallow layer differs"),
        (lambda own, taught: sum(F.mse_loss(o, t) for o, t in zip(own, taught, strict=True)) / 3, "only the shallow"),
        (lambda own, taught: feature_loss(own, taught) * 64, "only the shallow layer differs"),
    ],
    "04.4": [
        (lambda a, f, t, alpha, beta: alpha * a + beta * f + (1 - alpha - beta) * t, "α = 1, β = 0"),
        (lambda a, f, t, alpha, beta: total(a, f, t, alpha, beta) + (alpha + beta) * t, "α = 1, β = 0"),
        (lambda a, f, t, alpha, beta: total(a, t, f, alpha, beta), "α = 0, β = 1"),
    ],
    "04.5": [
        (without_zero_grad, "gradients that add up"),
        (without_clipping, "a gradient without limit"),
        (clipping_too_early, "after backward() and before step()"),
        (clipping_too_late, "after backward() and before step()"),
        (clipping_to_one, "the limit 0.5 is that of the limit 1"),
        (without_a_step, "the optimiser's step is missing"),
    ],
    "04.7": [(1.0, "too low"), (30.0, "too high"), ("much", "a number is expected")],
    "04.9": [(-0.2, "too high"), (-0.1, "too high"), (0.4, "darkens")],
    "04.10": [
        (lambda photos, count: photos[:count], "evenly spread"),
        (lambda photos, count: photos[::count], "for 12 photos"),
        (lambda photos, count: photos[torch.randperm(len(photos))[:count]], "evenly spread"),
    ],
}

ALSO_RIGHT = {"04.5": [zeroing_afterwards]}
