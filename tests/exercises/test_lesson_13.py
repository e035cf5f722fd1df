"""Wrong answers to the exercises of lesson 13."""

import copy
import statistics

import torch
import torch.nn.functional as F
from torch import nn

from kdlib.exercises.lesson_13 import balance, compare, gradient_size, paired_interval, spoil
from kdlib.experiments.ablation import T_95


def broadcasting(student, teacher, batch):
    return (student - teacher).square().mean()


def detached(student, teacher, batch):
    return compare(student.detach(), teacher, batch)


def another_error(student, teacher, batch):
    if student.shape != teacher.shape:
        raise IndexError("no")
    return F.mse_loss(student, teacher)


def by_backward(loss, model):
    loss.backward(retain_graph=True)
    return float(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm())


def names_no_shape(student, teacher, batch):
    if student.shape != teacher.shape:
        raise ValueError("shapes differ")
    return F.mse_loss(student, teacher)


def names_one_shape(student, teacher, batch):
    if student.shape != teacher.shape:
        raise ValueError(f"the student gives {tuple(student.shape)}")
    return F.mse_loss(student, teacher)


def clears_gradients(loss, model):
    model.zero_grad()
    found = by_backward(loss, model)
    model.zero_grad()
    return found


def sum_of_norms(loss, model):
    return sum(float(g.norm()) for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True))


def another_width(width_of):
    def interval(alone, taught):
        gains = [after - before for before, after in zip(alone, taught, strict=True)]
        return statistics.fmean(gains), width_of(gains, len(gains))

    return interval


def with_noise(teacher, seed):
    spoilt = copy.deepcopy(teacher)
    torch.manual_seed(seed)
    for parameter in spoilt.parameters():
        parameter.data += 1e-5 * torch.randn_like(parameter)
    return spoilt


def negated(teacher, seed):
    spoilt = copy.deepcopy(teacher)
    for parameter in spoilt.parameters():
        parameter.data.neg_()
    return spoilt


def without_graph(loss, model):
    return float(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).norm())


def without_unused(loss, model):
    gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    return float(torch.cat([g.flatten() for g in gradients]).norm())


def of_the_last_layer(loss, model):
    return float(torch.autograd.grad(loss, list(model.parameters())[-1], retain_graph=True)[0].norm())


def unpaired(alone, taught):
    mean, _ = paired_interval(alone, taught)
    one, other = (torch.tensor(scores).var() for scores in (alone, taught))
    return mean, T_95[len(alone) - 2] * float((one + other) / len(alone)) ** 0.5


def in_place(teacher, seed):
    for module in teacher.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return teacher


def first_layer_only(teacher, seed):
    spoilt = copy.deepcopy(teacher)
    next(iter(spoilt.children())).reset_parameters()
    return spoilt


def of_zeros(teacher, seed):
    spoilt = copy.deepcopy(teacher)
    for parameter in spoilt.parameters():
        nn.init.zeros_(parameter)
    return spoilt


WRONG = {
    "13.1": [
        (broadcasting, "accepts a student's 4×1 and a teacher's 4"),
        (detached, "has no gradient"),
        (another_error, "IndexError"),
        (names_no_shape, "says 'shapes differ': it must name both shapes"),
        (names_one_shape, "it must name both shapes"),
        (lambda student, teacher, batch: compare(student, batch[0], batch), "the loss of a perfect student"),
        (lambda student, teacher, batch: F.l1_loss(student, teacher), "the loss for 2×3×5×7"),
    ],
    "13.2": [
        (by_backward, "use torch.autograd.grad"),
        (without_graph, "set retain_graph"),
        (without_unused, "of without_unused raises RuntimeError"),
        (of_the_last_layer, "the last layer's bias only"),
        (clears_gradients, "and it is lost: use torch.autograd.grad"),
        (sum_of_norms, "the sum of a norm for each parameter"),
        (lambda loss, model: loss.item(), "the value of the loss"),
        (lambda loss, model: gradient_size(loss, model) ** 2, "take the root"),
    ],
    "13.3": [
        (lambda sizes, shares: shares, "the weights for sizes 0.01 and 4"),
        (lambda sizes, shares: {name: shares[name] * sizes[name] for name in sizes}, "sizes 0.01 and 4"),
        (lambda sizes, shares: {name: shares[name] / sizes[name] for name in sizes}, "ZeroDivisionError"),
        (lambda sizes, shares: list(balance(sizes, shares).values()), "expected a dictionary"),
    ],
    "13.4": [
        (lambda alone, taught: paired_interval(taught, alone), "wrong sign"),
        (unpaired, "does not compare seed by seed"),
        (another_width(lambda gains, n: T_95[n - 2] * statistics.pstdev(gains) / n**0.5), "expected n − 1"),
        (another_width(lambda gains, n: T_95[n - 2] * statistics.stdev(gains)), "is not divided by √n"),
        (another_width(lambda gains, n: T_95[n - 2] * statistics.stdev(gains) / n), "divided by n, expected √n"),
        (another_width(lambda gains, n: T_95[n - 1] * statistics.stdev(gains) / n**0.5), "of one seed more"),
        (another_width(lambda gains, n: 1.96 * statistics.stdev(gains) / n**0.5), "1.96 of the normal distribution"),
        (another_width(lambda gains, n: 2 * T_95[n - 2] * statistics.stdev(gains) / n**0.5), "the whole width"),
        (lambda alone, taught: paired_interval(alone, taught)[0], "returns two numbers"),
        (lambda alone, taught: (paired_interval(alone, taught)[0], 0.1), "half the width of the interval"),
    ],
    "13.5": [
        ("a", "healthy"),
        ("B", "steps were too large"),
        ("c", "too few photos"),
        ("e", "there is no curve 'E': answer with one of the letters A to D"),
        (4, "a text in quotes is expected, such as 'A'"),
    ],
    "13.6": [
        (in_place, "changes the teacher itself"),
        (first_layer_only, "2 of the 4 tensors are as they were"),
        (of_zeros, "a tensor is constant"),
        (with_noise, "follow the teacher's"),
        (negated, "a cosine of -1"),
        (lambda teacher, seed: spoil(teacher, 0), "seeds 1 and 2 give the same weights"),
        (lambda teacher, seed: in_place(copy.deepcopy(teacher), seed), "two calls with the seed 1"),
        (lambda teacher, seed: copy.deepcopy(teacher), "4 of the 4 tensors"),
        (lambda teacher, seed: list(spoil(teacher, seed)), "expected a network"),
        (lambda teacher, seed: nn.Linear(3, 2), "other parameters than the teacher"),
    ],
}

ALSO_RIGHT = {"13.5": ["d", "D", "(D)"]}
