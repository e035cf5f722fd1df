"""The exercises of lesson 13: the template for distilling a network of one's own."""

import copy
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.exercises import Wrong, exercise, same
from kdlib.experiments import ablation


def compare(student: Tensor, teacher: Tensor, batch: Sequence[Tensor]) -> Tensor:
    if student.shape != teacher.shape:
        raise ValueError(f"the student gives {tuple(student.shape)}, the teacher {tuple(teacher.shape)}")
    return F.mse_loss(student, teacher)


@exercise("13.1", "What is compared", solution=compare)
def check_compare(answer: Callable[..., Any]) -> None:
    draw = torch.Generator().manual_seed(0)
    for shape in ((2, 3, 5, 7), (1, 3, 4, 4), (4, 10)):
        student, teacher = (torch.rand(shape, generator=draw) for _ in range(2))
        batch = (torch.rand(shape, generator=draw), torch.rand(shape, generator=draw))
        same(answer(teacher, teacher, batch), torch.tensor(0.0), "the loss of a perfect student")
        student.requires_grad_()
        found, expected = answer(student, teacher, batch), compare(student, teacher, batch)
        same(found, expected, f"the loss for {'×'.join(map(str, shape))}")
        if not found.requires_grad:
            raise Wrong("the loss has no gradient: neither detach nor float() belongs to the student's answer")
    for one, other in (((4, 1), (4,)), ((2, 3, 8, 8), (2, 1, 8, 8))):
        shapes = f"a student's {'×'.join(map(str, one))} and a teacher's {'×'.join(map(str, other))}"
        student, teacher = torch.rand(one, generator=draw), torch.rand(other, generator=draw)
        # A reader's own error arrives as Wrong, with its type in the message.
        try:
            answer(student, teacher, (student,))
        except Wrong as refused:
            _, raised, said = str(refused).partition(" raises ValueError: ")
            if not raised:
                raise
            sizes = Counter(re.findall(r"\d+", said))
            if not Counter(map(str, [*one, *other])) <= sizes:
                raise Wrong(f"the ValueError for {shapes} says {said!r}: it must name both shapes") from None
        else:
            raise Wrong(f"compare accepts {shapes}, which PyTorch broadcasts: raise a ValueError with both shapes")


def gradient_size(loss: Tensor, model: nn.Module) -> float:
    gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
    parts = [gradient.flatten() for gradient in gradients if gradient is not None]
    return float(torch.cat(parts).norm()) if parts else 0.0


def _two_layers(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


@exercise("13.2", "How large is a term?", solution=gradient_size)
def check_gradient_size(answer: Callable[..., Any]) -> None:
    model, points = _two_layers(), torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    loss = model(points).square().mean()
    expected = gradient_size(loss, model)
    parts = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    mistakes = {
        "is the sum of a norm for each parameter: all of them together have one norm": sum(
            float(part.norm()) for part in parts
        ),
        "is the square of it: take the root": expected**2,
        "is that of the last layer's bias only": float(parts[-1].norm()),
        "is the value of the loss: what is asked for is the size of its gradient": float(loss.detach()),
    }
    same(answer(loss, model), expected, "the norm of the gradient over all parameters", mistakes=mistakes)
    if any(parameter.grad is not None for parameter in model.parameters()):
        raise Wrong("the gradient stays in the parameters, and the next step adds its own: use torch.autograd.grad")
    try:
        same(answer(loss, model), expected, "the norm when it is asked for again")
        same(answer(10 * loss, model), 10 * expected, "the norm for ten times the loss")
    except Wrong as wrong:
        if "second time" in str(wrong):
            raise Wrong("the graph is gone after the first call, but other terms need it: set retain_graph") from None
        raise
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    same(answer(loss, model), expected, "the norm if the parameters have a gradient of an earlier step")
    if not all(
        parameter.grad is not None and torch.equal(parameter.grad, torch.ones_like(parameter))
        for parameter in model.parameters()
    ):
        raise Wrong(
            "grad of the parameters had the gradient of an earlier step, and it is lost: use torch.autograd.grad, "
            "which leaves it alone"
        )
    first = model[0](points).square().mean()
    same(answer(first, model), gradient_size(first, model), "the norm for a loss that uses the first layer only")


def balance(sizes: Mapping[str, float], shares: Mapping[str, float]) -> dict[str, float]:
    return {name: shares[name] / size if size else 0.0 for name, size in sizes.items()}


@exercise("13.3", "Terms of one size", solution=balance)
def check_balance(answer: Callable[..., Any]) -> None:
    cases: dict[str, tuple[dict[str, float], dict[str, float]]] = {
        "equal sizes": ({"teacher": 1.0, "truth": 1.0}, {"teacher": 0.5, "truth": 0.5}),
        "sizes 0.01 and 4": ({"photo": 0.01, "features": 4.0}, {"photo": 0.8, "features": 0.2}),
        "a term of size 0": ({"photo": 0.5, "features": 0.0}, {"photo": 0.7, "features": 0.3}),
    }
    for what, (sizes, shares) in cases.items():
        same(answer(sizes, shares), balance(sizes, shares), f"the weights for {what}")


def paired_interval(alone: Sequence[float], taught: Sequence[float]) -> tuple[float, float]:
    return ablation.interval([after - before for before, after in zip(alone, taught, strict=True)])


@exercise("13.4", "Is it a gain?", solution=paired_interval)
def check_paired_interval(answer: Callable[..., Any]) -> None:
    cases = {
        "three seeds": ([25.0, 26.0, 27.5], [25.5, 26.4, 28.1]),
        "six seeds": ([25.0, 24.0, 26.0, 25.5, 23.0, 24.5], [26.0, 25.5, 26.2, 27.0, 24.1, 26.0]),
        "a student that is worse": ([27.0, 26.0], [26.5, 25.8]),
    }
    for what, (alone, taught) in cases.items():
        found, expected = answer(alone, taught), paired_interval(alone, taught)
        if not isinstance(found, list | tuple) or len(found) != 2:
            raise Wrong("paired_interval returns two numbers: the mean gain and half the width of its interval")
        same(found[0], expected[0], f"the mean gain of {what}", rtol=1e-3)
        count, gains = len(alone), [after - before for before, after in zip(alone, taught, strict=True)]
        apart = sum(statistics.variance(scores) for scores in (alone, taught)) / count
        t = ablation.T_95[count - 2]
        mistakes = {
            "is not divided by √n": expected[1] * count**0.5,
            "is divided by n, expected √n": expected[1] / count**0.5,
            "is made with n in the denominator of s, expected n − 1": t * statistics.pstdev(gains) / count**0.5,
            "is made with the t of one seed more, T_95[n - 1], expected T_95[n - 2]": (
                expected[1] / t * ablation.T_95[count - 1]
            ),
            "is made with the t of two seeds more, T_95[n], expected T_95[n - 2]": expected[1]
            / t
            * ablation.T_95[count],
            "is made with 1.96 of the normal distribution, expected t": expected[1] / t * 1.96,
            "lacks the factor t": expected[1] / t,
            "is the whole width": 2 * expected[1],
            "does not compare seed by seed: take the differences first, and then their standard deviation": (
                t * apart**0.5
            ),
        }
        same(found[1], expected[1], f"half the width of the interval for {what}", mistakes=mistakes, rtol=1e-3)


CURVES = {"A": "all pairs, taught", "B": "rate × 50", "C": "few pairs, alone", "D": "answers shuffled"}
"""Which variant of results/distil_denoising.json each curve of the lesson's figure shows."""


def unnamed_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The scores of each epoch, for the first seed of each variant in :data:`CURVES`, by letter."""
    first = {row["variant"]: row["selection"] for row in reversed(rows) if "loss" in row}
    return {letter: first[variant] for letter, variant in CURVES.items()}


_NOT_IT = {
    "A": "curve A rises and settles, as a healthy training does",
    "B": "curve B stays at the score of the noisy photos, which it no longer changes: its steps were too large",
    "C": "curve C settles below A: it has too few photos, but their targets are right",
}


@exercise("13.5", "Diagnose a failure", solution="D")
def check_diagnosis(answer: str) -> None:
    if answer != "D":
        raise Wrong(_NOT_IT.get(answer, f"there is no curve {answer!r}: answer with one of the letters A to D"))


def spoil(teacher: nn.Module, seed: int) -> nn.Module:
    spoilt = copy.deepcopy(teacher)
    torch.manual_seed(seed)
    for module in spoilt.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return spoilt


@exercise("13.6", "A teacher that knows nothing", solution=spoil)
def check_spoil(answer: Callable[..., Any]) -> None:
    teacher = _two_layers(seed=29)  # no seed that an answer is likely to have
    before = [parameter.detach().clone() for parameter in teacher.parameters()]
    found = answer(teacher, 1)
    if not all(map(torch.equal, teacher.parameters(), before)):
        raise Wrong("spoil changes the teacher itself: work on copy.deepcopy(teacher)")
    if not isinstance(found, nn.Module):
        raise Wrong(f"spoil returns a {type(found).__name__}, expected a network")
    after = [parameter.detach() for parameter in found.parameters()]
    if [tensor.shape for tensor in after] != [tensor.shape for tensor in before]:
        raise Wrong("the spoilt network has other parameters than the teacher: keep its architecture")
    if kept := sum(map(torch.equal, after, before)):
        raise Wrong(f"{kept} of the {len(before)} tensors are as they were: every layer needs new weights")
    if not all(tensor.std() > 0 for tensor in after):
        raise Wrong("a tensor is constant: draw weights at random, as reset_parameters() does")
    new, old = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (after, before))
    if abs(alike := float(torch.cosine_similarity(new, old, dim=0))) > 0.9:
        raise Wrong(
            f"the new weights follow the teacher's (a cosine of {alike:.2g} between them, near 0 is expected): draw "
            "them without regard to the old ones"
        )
    again, other = ([*answer(teacher, seed).parameters()] for seed in (1, 2))
    if not all(map(torch.equal, again, found.parameters())):
        raise Wrong(
            "two calls with the seed 1 give different weights: call torch.manual_seed(seed) before they are drawn"
        )
    if any(map(torch.equal, again, other)):
        raise Wrong("the seeds 1 and 2 give the same weights: call torch.manual_seed(seed) before they are drawn")
