"""Checks of the lesson "Distillation from zero"."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdlib.exercises.compare import close_to, same
from kdlib.exercises.registry import Wrong, exercise
from kdlib.losses import classification as reference


def _logits(rows: int = 3, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, 10, generator=torch.Generator().manual_seed(seed))


@exercise("00.1", "Softmax with a temperature", solution=reference.soften)
def check_soften(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Check values at three temperatures, one image, and large logits."""
    for temperature in (1.0, 4.0, 0.5):
        expected = reference.soften(_logits(), temperature)
        found = answer(_logits(), temperature)
        if isinstance(found, Tensor) and found.shape == expected.shape and not torch.allclose(found, expected):
            total = found.sum(-1)
            if not torch.allclose(total, torch.ones_like(total)):
                raise Wrong(
                    f"the probabilities of the first of three images sum to {total[0]:.3g} at T = {temperature:g}, "
                    "expected 1: divide by the sum over the classes, dim=-1 with keepdim=True"
                )
        mistakes = {
            "ignores the temperature: divide the logits by T first": reference.soften(_logits()),
            "multiplies the logits by T: divide them": reference.soften(_logits(), 1 / temperature),
        }
        same(found, expected, f"soften(logits, {temperature:g})", mistakes=mistakes)
    large = {
        "the logits 1000, 999 and 0": (
            [[1000.0, 999.0, 0.0]],
            "because exp(1000) overflows: subtract the largest logit of each image first, which does not change the "
            "result",
        ),
        "two images, one with much larger logits": (
            [[1000.0, 999.0, 0.0], [2.0, 1.0, 0.0]],
            "because the others become 0: subtract from the logits of each image their own largest, amax(dim=-1, "
            "keepdim=True)",
        ),
    }
    for what, (logits, reason) in large.items():
        found = answer(torch.tensor(logits), 1.0)
        if isinstance(found, Tensor) and not torch.isfinite(found).all():
            raise Wrong(f"soften gives NaN for {what}, {reason}")
        same(found, reference.soften(torch.tensor(logits)), f"soften of {what}")


@exercise("00.2", "The distance between two answers", solution=reference.kl_divergence)
def check_kl(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check value, direction, mean over the batch, and a class of probability zero."""
    p, q = reference.soften(_logits()), reference.soften(_logits(seed=1))
    expected = reference.kl_divergence(p, q)
    mistakes = {
        "is KL(q ‖ p), the other direction: the weights of the sum are those of p": reference.kl_divergence(q, p),
        "sums over the three images of the batch, expected is their mean": 3 * expected,
        "averages over the ten classes, expected is their sum: sum(-1).mean()": expected / 10,
    }
    same(answer(p, q), expected, "kl_divergence(p, q)", mistakes=mistakes)
    for_each_token = [reference.soften(_logits(6, seed).view(2, 3, 10)) for seed in (0, 1)]
    expected = reference.kl_divergence(*for_each_token)
    over_images = "divides by the first size of the batch alone: average over all dimensions but that of the classes"
    same(
        answer(*for_each_token), expected, "kl_divergence of 2×3×10 probabilities", mistakes={over_images: 3 * expected}
    )
    certain = torch.tensor([[1.0, 0.0]])
    found = answer(certain, torch.tensor([[0.5, 0.5]]))
    if isinstance(found, Tensor) and not torch.isfinite(found):
        raise Wrong("kl_divergence is NaN if a probability of p is 0: such a class must add 0; torch.xlogy(p, p) does")
    same(found, torch.tensor(2.0).log(), "kl_divergence of (1, 0) and (½, ½)")


@exercise("00.3", "How fast does the gradient fall?", solution=0.25)
def check_gradient(answer: float) -> None:
    """Check the ratio."""
    hint = "q − p shrinks as well when T rises, because the probabilities come closer to each other"
    close_to(answer, 0.25, 0.05, "the factor", {0.5: hint})


@exercise("00.4", "The loss of soft targets", solution=reference.soft_target_loss)
def check_loss(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check value, factor, direction, and gradient."""
    student, teacher = _logits(), _logits(seed=1)
    for temperature in (4.0, 1.0):
        found = answer(student, teacher, temperature)
        expected = reference.soft_target_loss(student, teacher, temperature)
        mistakes = _mistakes(expected, student, teacher, temperature)
        same(found, expected, f"soft_target_loss(student, teacher, {temperature:g})", mistakes=mistakes)
    student.requires_grad_()
    found = answer(student, teacher, 2.0)
    if not found.requires_grad:
        raise Wrong("the loss has no gradient with respect to the student's logits: no detach() or no_grad() there")


def _mistakes(expected: Tensor, student: Tensor, teacher: Tensor, temperature: float) -> dict[str, Tensor]:
    """The values to which the usual mistakes lead, by what is said of them."""
    soften, kl = reference.soften, reference.kl_divergence
    (own, own_softened), (taught, taught_softened) = (
        (soften(logits), soften(logits, temperature)) for logits in (student, teacher)
    )
    factor = temperature**2
    return {
        "lacks the factor T²": expected / factor,
        "has the factor T, expected T²": expected / temperature,
        "is KL(student ‖ teacher), expected KL(teacher ‖ student): the teacher's probabilities are the weights": (
            factor * kl(own_softened, taught_softened)
        ),
        "softens the teacher alone: the student's logits are divided by T as well": factor * kl(taught_softened, own),
        "softens the student alone: the teacher's logits are divided by T as well": factor * kl(taught, own_softened),
        "leaves the logits as they are: divide both by T": factor * kl(taught, own),
        "averages over the ten classes, expected is their sum: F.kl_div needs reduction='batchmean'": expected / 10,
    }


@exercise("00.5", "Is it the confidence, or the classes?", solution="c")
def check_shuffled(answer: str) -> None:
    """Check a letter."""
    if answer == "a":
        raise Wrong("(a) is not it: the targets are as soft as before, but a 3 may now resemble a 6 most")
    if answer == "b":
        raise Wrong("(b) is not it: what the targets say about the wrong classes was drawn at random, so it is false")
    if answer != "c":
        raise Wrong(f"one of the letters a, b and c is expected, not {answer!r}")


@exercise("00.6", "The limit of high temperature", solution=reference.logit_loss)
def check_logits(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check value, factor, and that a constant added to all logits changes nothing."""
    student, teacher = _logits(), _logits(seed=1)
    expected, apart = reference.logit_loss(student, teacher), student - teacher
    mistakes = {
        "changes if all logits of the student rise by 1, the softmax does not: subtract from the logits of each image "
        "their mean over the classes": apart.square().mean() / 2,
        "subtracts one mean over the whole batch: the logits of each image have their own, mean(-1, keepdim=True)": (
            (apart - apart.mean()).square().mean() / 2
        ),
        "sums over the ten classes: the limit has their mean": 10 * expected,
        "is twice what is expected: the factor ½ of the limit is missing": 2 * expected,
    }
    same(answer(student, teacher), expected, "logit_loss(student, teacher)", mistakes=mistakes)
    same(
        answer(student[:1] + 5, teacher[:1]), reference.logit_loss(student[:1], teacher[:1]), "logit_loss of one image"
    )


@exercise("00.7", "A hint through a projection", solution=reference.hint_loss)
def check_hint(answer: Callable[[Tensor, Tensor, nn.Module], Tensor]) -> None:
    """Check value, and where the gradient goes."""
    student = torch.randn(2, 4, 4, 4, requires_grad=True)
    teacher = torch.randn(2, 6, 4, 4, requires_grad=True)
    projection = nn.Conv2d(4, 6, 1)
    found = answer(student, teacher, projection)
    same(found, reference.hint_loss(student, teacher, projection), "hint_loss(student, teacher, projection)")
    if not found.requires_grad:
        raise Wrong("hint_loss has no gradient, so the student would learn nothing: only the teacher is detached")
    found.backward()
    if student.grad is None or projection.weight.grad is None:
        raise Wrong("student and projection must both get a gradient: only the teacher is detached")
    if teacher.grad is not None:
        raise Wrong("hint_loss has a gradient for the teacher's features, which are a target: use teacher.detach()")


@exercise("00.8", "Cover everything, or only what is right?", solution="b")
def check_directions(answer: str) -> None:
    """Check a letter."""
    sentences = {
        "a": "(a) is not it: a student that cannot do everything pays for more valid samples with fewer different ones",
        "c": "(c) is not it: which of the two directions forbids what the teacher finds impossible?",
    }
    if answer in sentences:
        raise Wrong(sentences[answer])
    if answer != "b":
        raise Wrong(f"one of the letters a, b and c is expected, not {answer!r}")
