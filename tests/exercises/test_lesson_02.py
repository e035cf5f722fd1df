"""Wrong answers to the exercises of lesson 02."""

import torch
import torch.nn.functional as F


def patches(photo, side=16):
    return F.avg_pool2d(photo.mean(dim=1, keepdim=True), side)


def naive_colour(photo, inside=0.0, outside=0.0):
    red, green, blue = photo.mean(dim=(2, 3)).unbind(dim=1)
    powers = (red - green) ** 4 + (red - blue) ** 4 + (green - blue) ** 4
    return ((powers + inside).sqrt() + outside).mean()


def with_graph(teacher, photos):
    return teacher.eval()(photos)


@torch.no_grad()
def in_training_mode(teacher, photos):
    return teacher.train()(photos)


@torch.no_grad()
def photo_alone(teacher, photos):
    return teacher.eval()(photos)[0]


def detached(teacher, photos):
    return tuple(target.detach() for target in teacher.eval()(photos))


@torch.no_grad()
def with_frozen_parameters(teacher, photos):
    return teacher.requires_grad_(False).eval()(photos)


def aligned(student, teacher, own, theirs, scale=lambda own, theirs: own / theirs, weight=0.1):
    return F.mse_loss(student[0], teacher[0]) + weight * F.mse_loss(student[1] * scale(own, theirs), teacher[1])


def pooled(features, size=8):
    return F.adaptive_avg_pool2d(features.mean(dim=1, keepdim=True), size)


def interpolated(features, size=8):
    return F.interpolate(features.mean(1, keepdim=True), (size, size), mode="bilinear")[:, 0]


def matched(student, teacher, pairs, weights=(0.2, 0.3, 0.5), skip=False):
    if skip:
        pairs = [(s, t) for s, t in pairs if s in student]
    terms = [w * F.mse_loss(pooled(student[s]), pooled(teacher[t])) for w, (s, t) in zip(weights, pairs, strict=False)]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def effect_by_backward(term, parameters):
    parameters = list(parameters)
    if not term.requires_grad:
        return False
    term.backward(retain_graph=True)
    return any(p.grad is not None and bool(p.grad.any()) for p in parameters)


def effect(term, parameters, retain_graph=True, of=torch.Tensor.any):
    if not term.requires_grad:
        return False
    found = torch.autograd.grad(term, list(parameters), retain_graph=retain_graph, allow_unused=True)
    return any(gradient is not None and bool(of(gradient)) for gradient in found)


WRONG = {
    "02.1": [(0.16, "too high: the loss takes the mean over the channels"), (-0.04, "is too low")],
    "02.2": [
        (lambda photo: (photo.mean(dim=1) - 0.6).abs().mean(), "half of its pixels black and half white"),  # no patches
        (lambda photo: (F.avg_pool2d(photo, 16) - 0.6).abs().mean(), "a yellow photo"),  # each channel by itself
        (lambda photo: (patches(photo) - 0.6).square().mean(), "brightness 0.2 is 0.16, expected 0.4"),
        (lambda photo: (patches(photo) - 0.6).mean(), "brightness 0.2 has the wrong sign"),
        (lambda photo: (0.6 - patches(photo)).clamp(min=0).mean(), "brightness 0.9 is 0"),
        (lambda photo: (patches(photo, 8) - 0.6).abs().mean() * 2, "is 0.8, expected 0.4"),
        (lambda photo: (patches(photo) - 0.6).abs().sum(), "expected 0.4"),
        (lambda photo: (patches(photo[:1]) - 0.6).abs().mean(), "a batch of two photos"),
        (lambda photo: (patches(photo).mean() - 0.6).abs(), "a black patch beside a white one"),
    ],
    "02.3": [
        (naive_colour, "the gradient on a black photo is not finite"),
        (lambda photo: naive_colour(photo, outside=1e-6), "the gradient on a black photo is not finite"),
        (lambda photo: naive_colour(photo, inside=1e-4), "the loss of"),
        (lambda photo: naive_colour(photo.mean(0, True), inside=1e-8), "average the losses of the photos"),
        (lambda photo: naive_colour(photo, inside=1e-8) ** 2, "the loss of four coloured photos is"),
        (lambda photo: torch.zeros(()) if photo.max() == 0 else naive_colour(photo), "has no gradient"),
    ],
    "02.4": [
        (lambda m: m.sqrt(), "nothing above 0.8 may become brighter"),
        (lambda m: 0.79 * m, "shadows below 0.2 must become at least twice as bright"),
        (lambda m: 2 * m, "the target leaves [0, 1]"),
        (lambda m: 0.9 - 0.5 * m, "the target falls"),
        (lambda m: torch.full_like(m, 0.5), "black may become 0.1 at most, it becomes 0.500"),
        (lambda m: m.mean(), "one target for each brightness"),
    ],
    "02.5": [
        (with_graph, "the enhanced photo still has a graph"),
        (in_training_mode, "the teacher has changed: in training mode"),
        (photo_alone, "returns two tensors"),
        (detached, "the teacher's graph is made and then thrown away"),
        (with_frozen_parameters, "requires_grad=False afterwards"),
        (lambda teacher, photos: tuple(torch.no_grad()(teacher.eval())(photos))[::-1], "the enhanced photo of"),
    ],
    "02.6": [
        (lambda *given: aligned(*given, scale=lambda own, theirs: 1), "a student with 4 steps of 2·r"),
        (lambda *given: aligned(*given, scale=lambda own, theirs: theirs / own), "a student with 4 steps of 2·r"),
        (lambda *given: aligned(*given, weight=1.0), "maps that differ by 0.2"),
        (lambda student, teacher, *_: F.mse_loss(student[0], teacher[0]), "maps that differ by 0.2"),
        (lambda student, teacher, *_: F.l1_loss(student[0], teacher[0]), "photos that differ by 0.1"),
    ],
    "02.7": [
        (lambda features, size=8: pooled(features, size), "has the shape 2×1×8×8, expected 2×8×8"),
        (lambda features, size=8: pooled(features.abs(), size).squeeze(1), "drops the signs"),
        (lambda features, size=8: pooled(features).squeeze(1), "with size=3"),
        (lambda features, size=8: F.adaptive_avg_pool2d(features.amax(1), size), "that of the largest channel"),
        (interpolated, "is interpolated"),
        (lambda features, size=8: pooled(features, size).squeeze(), "features 1×4×22×32 has the shape 8×8"),
        (lambda features, size=8: F.avg_pool2d(features.mean(dim=1), 2), "has the shape"),
        (lambda features, size=8: pooled(features, size).squeeze(1) * features.shape[1], "32 times what is expected"),
    ],
    "02.8": [
        (lambda *given: matched(*given, skip=True), "skipping a pair hides the mistake"),
        (
            lambda student, teacher, pairs, weights=(1, 1, 1): matched(student, teacher, pairs, weights),
            "the weights 1, 1, 1",
        ),
        (lambda student, teacher, pairs, weights=0: matched(student, teacher, pairs, [1 / 3] * 3), "0.333, 0.333"),
        (lambda student, teacher, pairs, weights=0: matched(student, teacher, pairs), "one pair with the weight 1"),
        (lambda *given: matched(*given) / 3, "the loss of three pairs"),
    ],
    "02.9": [
        (
            lambda a, f, t, alpha=0.7, beta=0.2, factor=100.0: alpha * a + beta * f + (1 - alpha - beta) * t,
            "expected 70",
        ),
        (lambda a, f, t, alpha=0.7, beta=0.2, factor=100.0: factor * alpha * a + beta * f + t, "the total of task = 1"),
        (lambda a, f, t, alpha=0.7, beta=0.2, factor=100.0: 70 * a + 0.2 * f + 0.1 * t, "alpha=0.5"),
        (lambda a, f, t, alpha=0.7, beta=0.2, factor=100.0: factor * (alpha * a + beta * f) + 0.1 * t, "features = 1"),
    ],
    "02.10": [
        (lambda term, parameters: float(term.detach()) != 0, "a term whose gradient sums to zero, expected True"),
        (lambda term, parameters: term.requires_grad, "a term that is multiplied by zero, expected False"),
        (effect_by_backward, "leaves gradients in .grad"),
        (lambda *given: effect(*given, retain_graph=False), "frees the graph"),
        (lambda *given: effect(*given, of=torch.Tensor.sum), "whose gradient sums to zero, expected True"),
        (lambda term, parameters: int(effect(term, parameters)), "returns True or False, not a int"),
    ],
}
