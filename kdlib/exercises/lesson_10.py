"""Checks of lesson 10: super-resolution."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.exercises import Wrong, close_to, exercise, same
from kdlib.losses.super_resolution import softened_divergence

_NOISE = 0.02


@exercise("10.1", "The score of a perfect network", solution=-20 * math.log10(_NOISE))
def check_ceiling(answer: float) -> None:
    if abs(answer + 10 * math.log10(_NOISE)) < 0.1:
        raise Wrong(f"{answer:g} dB is for a mean squared error of σ; it is σ²")
    twice = "the mean squared error is σ², and PSNR takes 10·log₁₀ of it"
    close_to(answer, -20 * math.log10(_NOISE), 0.3, mistakes={-40 * math.log10(_NOISE): twice})


def rise(black_share: float) -> float:
    """The solution of 10.2."""
    return -10 * math.log10(1 - black_share)


@exercise("10.2", "Black pairs", solution=rise)
def check_rise(answer: Callable[..., Any]) -> None:
    for share in (0.0, 0.1, 0.5, 0.99369):
        mistakes = {
            "takes 20·log₁₀, which is for amplitudes: of an error that is squared, take 10·log₁₀": 2 * rise(share),
            "takes the natural logarithm, expected the one to base 10": rise(share) * math.log(10),
            "is not in dB: multiply the logarithm by 10": rise(share) / 10,
            "is the share itself: PSNR is −10·log₁₀ of the error": share,
        }
        same(answer(share), rise(share), f"rise({share:g})", mistakes=mistakes, atol=1e-4)


def gate(fc: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The solution of 10.3."""
    return x * fc(x.mean(dim=(2, 3)))[:, :, None, None]


@exercise("10.3", "A gate", solution=gate)
def check_gate(answer: Callable[..., Any]) -> None:
    fc = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()).requires_grad_(False)
    for shape in ((2, 4, 5, 3), (1, 4, 1, 1), (4, 4, 4, 4)):
        x = torch.rand(shape) - 0.3
        factors = fc(x.mean(dim=(2, 3)))[:, :, None, None]
        mistakes = {
            "is made from the largest values: the factors come from the means": x
            * fc(x.amax(dim=(2, 3)))[..., None, None],
            "is made from means over the batch: each photo has its own": x * fc(x.mean(dim=(0, 2, 3)))[:, None, None],
            "has a second sigmoid: what fc returns are the factors": x * factors.sigmoid(),
            "adds x once more: multiply it by the factors": x + x * factors,
            "adds the factors: multiply x by them": x + factors,
        }
        same(answer(fc, x), gate(fc, x), f"gate for x of {'×'.join(map(str, shape))}", mistakes=mistakes)


Step = Callable[[Any, Tensor, Tensor], Tensor]


def _after(step: Step, unit: Any, features: Tensor, steps: int) -> Tensor:
    """The state of a unit with another step."""
    state = torch.zeros_like(features)
    for _ in range(steps):
        state = step(unit, features, state)
    return state


def _gates(unit: Any, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """What both convolutions answer, before sigmoid and tanh."""
    both = torch.cat([first, second], dim=1)
    return unit.conv_z(both), unit.conv_h(both)


def _swapped(unit: Any, features: Tensor, state: Tensor) -> Tensor:
    z, c = _gates(unit, features, state)
    return z.sigmoid() * state + (1 - z.sigmoid()) * c.tanh()


def _state_first(unit: Any, features: Tensor, state: Tensor) -> Tensor:
    z, c = _gates(unit, state, features)
    return (1 - z.sigmoid()) * state + z.sigmoid() * c.tanh()


def _without_state(unit: Any, features: Tensor, state: Tensor) -> Tensor:
    z, c = _gates(unit, features, torch.zeros_like(state))
    return (1 - z.sigmoid()) * state + z.sigmoid() * c.tanh()


def _without_tanh(unit: Any, features: Tensor, state: Tensor) -> Tensor:
    z, c = _gates(unit, features, state)
    return (1 - z.sigmoid()) * state + z.sigmoid() * c


def _two_sigmoids(unit: Any, features: Tensor, state: Tensor) -> Tensor:
    z, c = _gates(unit, features, state)
    return (1 - z.sigmoid()) * state + z.sigmoid() * c.sigmoid()


def _forgetting(unit: Any, features: Tensor, state: Tensor) -> Tensor:
    z, c = _gates(unit, features, state)
    return z.sigmoid() * c.tanh()


def _adding(unit: Any, features: Tensor, state: Tensor) -> Tensor:
    z, c = _gates(unit, features, state)
    return state + z.sigmoid() * c.tanh()


_STEPS: dict[str, Step] = {
    "has z and 1 − z swapped: z is the share of the state that is replaced": _swapped,
    "has the state before the features: the features come first": _state_first,
    "gives the convolutions zeros in place of the state: only the first step begins at zero": _without_state,
    "lacks the tanh of c": _without_tanh,
    "takes the sigmoid of both convolutions: c is a tanh": _two_sigmoids,
    "loses the old state: (1 − z)·s of it stays": _forgetting,
    "keeps all of the old state: only (1 − z)·s of it stays": _adding,
}


def refine(unit: Any, features: Tensor, steps: int) -> Tensor:
    """The solution of 10.4."""
    state = torch.zeros_like(features)
    for _ in range(steps):
        both = torch.cat([features, state], dim=1)
        share, candidate = unit.conv_z(both).sigmoid(), unit.conv_h(both).tanh()
        state = (1 - share) * state + share * candidate
    return state


@exercise("10.4", "The recurrent unit", solution=refine)
def check_refine(answer: Callable[..., Any]) -> None:
    convolutions = (nn.Conv2d(6, 3, 3, padding=1).requires_grad_(False) for _ in range(2))
    unit = SimpleNamespace(**dict(zip(("conv_z", "conv_h"), convolutions, strict=True)))
    for convolution in (unit.conv_z, unit.conv_h):
        convolution.weight.mul_(3)  # so that mistakes differ clearly
    features = torch.rand(2, 3, 5, 4)
    for steps in (1, 2, 3):
        what, expected = f"refine after {steps} step{'s' * (steps > 1)}", refine(unit, features, steps)
        mistakes = {sentence: _after(step, unit, features, steps) for sentence, step in _STEPS.items()}
        mistakes["is the state after the first step"] = refine(unit, features, 1)
        mistakes["is the state after one step more"] = refine(unit, features, steps + 1)
        same(answer(unit, features, steps), expected, what, mistakes=mistakes, atol=1e-5)


def student_loss(
    answer: Tensor, taught: Tensor, truth: Tensor, alpha: float, decay: float = 0.0, progress: float = 0.0
) -> Tensor:
    """The solution of 10.5."""
    share = (1 - alpha) * (1 - decay * progress)
    return (1 - share) * F.l1_loss(answer, truth) + share * F.l1_loss(answer, taught)


@exercise("10.5", "The loss of the student", solution=student_loss)
def check_student_loss(answer: Callable[..., Any]) -> None:
    photo, taught, truth = torch.rand(3, 2, 3, 4, 5)
    cases = ((0.5, 0.0, 0.0), (0.7, 0.0, 0.9), (0.0, 0.5, 0.5), (0.5, 0.5, 0.4), (0.3, 1.0, 1.0))
    for alpha, decay, progress in cases:
        asked = f"student_loss with alpha={alpha:g}, decay={decay:g}, progress={progress:g}"
        settings = (alpha, decay, progress)
        to_truth, to_teacher = F.l1_loss(photo, truth), F.l1_loss(photo, taught)
        share, subtracted = (1 - alpha) * (1 - decay * progress), max(0.0, 1 - alpha - decay * progress)
        falls = "falls to (1 − α)·(1 − d·progress), not by d·progress"
        same(
            answer(photo, photo, truth, *settings),
            student_loss(photo, photo, truth, *settings),
            f"the truth's part of {asked}",
            mistakes={
                "is α times the distance: the truth also gets what the decay takes from the teacher": alpha * to_truth,
                f"does not fit the decay: the teacher's share {falls}": (1 - subtracted) * to_truth,
                "has all of the decay from the start: it grows with the progress": (
                    (1 - (1 - alpha) * (1 - decay)) * to_truth
                ),
                "has the share of the teacher": share * to_truth,
                "is made with squares, expected L1": (1 - share) * F.mse_loss(photo, truth),
            },
        )
        same(
            answer(photo, taught, photo, *settings),
            student_loss(photo, taught, photo, *settings),
            f"the teacher's part of {asked}",
            mistakes={
                "does not decay": (1 - alpha) * to_teacher,
                f"does not fit the decay: the teacher's share {falls}": subtracted * to_teacher,
                "has all of the decay from the start: it grows with the progress": (
                    (1 - alpha) * (1 - decay) * to_teacher
                ),
                "has the share of the truth": (1 - share) * to_teacher,
                "is made with squares, expected L1": share * F.mse_loss(photo, taught),
            },
        )
        same(answer(photo, taught, truth, *settings), student_loss(photo, taught, truth, *settings), asked)


def balanced(hard: float, soft_term: float, alpha: float) -> float:
    """The solution of 10.6."""
    return (1 - alpha) * hard / soft_term


@exercise("10.6", "A share that means what it says", solution=balanced)
def check_balanced(answer: Callable[..., Any]) -> None:
    for hard, soft_term, alpha in ((0.03, 0.001, 0.5), (0.02, 0.0004, 0.3), (0.05, 0.05, 0.9)):
        term = answer(hard, soft_term, alpha) * soft_term
        found = term / (alpha * hard + term)
        if not math.isclose(found, 1 - alpha, abs_tol=1e-4):
            raise Wrong(
                f"balanced({hard:g}, {soft_term:g}, {alpha:g}) gives the teacher {found:.1%} of the loss, "
                f"expected {1 - alpha:.0%}"
            )


def disguise(photo: Tensor) -> Tensor:
    """The solution of 10.7."""
    return photo + 0.2


@exercise("10.7", "What KL does not see", solution=disguise)
def check_disguise(answer: Callable[..., Any]) -> None:
    photo = torch.rand(2, 3, 8, 6)
    found = answer(photo)
    if not isinstance(found, Tensor) or found.shape != photo.shape:
        raise Wrong("disguise must return a photo of the same shape")
    if float(least := (found - photo).abs().min()) < 0.1 - 1e-6:
        raise Wrong(f"a value changes by {least:.3f} only, at least 0.1 is expected")
    divergence = abs(float(softened_divergence(found, photo)))
    if divergence > 1e-6:
        raise Wrong(f"KL finds a difference of {divergence:.2g}, expected 0")


def ensemble(method: Callable[[Tensor], Tensor], photo: Tensor) -> Tensor:
    """The solution of 10.8."""
    answers = []
    for swap in (False, True):
        for flips in ((), (-1,), (-2,), (-1, -2)):
            turned = (photo.transpose(1, 2) if swap else photo).flip(flips)
            back = method(turned).flip(flips)
            answers.append(back.transpose(1, 2) if swap else back)
    return torch.stack(answers).mean(dim=0)


@exercise("10.8", "Self-ensemble", solution=ensemble)
def check_ensemble(answer: Callable[..., Any]) -> None:
    photo, seen = torch.rand(3, 5, 8), []

    def looked_at(turned: Tensor) -> Tensor:
        seen.append(turned.clone())
        return turned

    same(answer(looked_at, photo), photo, "the ensemble of a method that changes nothing", atol=1e-5)
    if (count := len({tuple(turned.flatten().tolist()) + tuple(turned.shape) for turned in seen})) != 8:
        raise Wrong(f"the method sees {count} orientation{'s' * (count != 1)}, 8 are expected")

    def shifted(turned: Tensor) -> Tensor:
        return turned.roll(1, dims=-1)

    same(
        answer(shifted, photo), ensemble(shifted, photo), "the ensemble of a method that shifts to the right", atol=1e-5
    )
