"""Checks of lesson 11: a network with 650 parameters."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.exercises import Wrong, close_to, exercise, same
from kdlib.models.glance import apply_power_curve, noise_of
from kdlib.power_curve import BLACK, GAMMA_RANGE


@exercise("11.1", "A power curve that keeps black", solution=apply_power_curve)
def check_power_curve(answer: Callable[..., Any]) -> None:
    image = torch.linspace(0, 1, 30).view(1, 3, 2, 5)
    log_gain = torch.tensor([0.5, -0.2, 1.0]).view(1, 3, 1, 1)
    exponent = torch.tensor([0.4, 1.0, 1.7]).view(1, 3, 1, 1)
    same(answer(image, torch.zeros(()), torch.ones(())), image, "power_curve with the logarithm 0 and γ = 1")
    if float(answer(torch.zeros(3), torch.ones(()), torch.tensor(0.5)).abs().max()) > 1e-6:
        raise Wrong("power_curve does not keep black: subtract b^γ inside the bracket")
    found = answer(image, log_gain, exponent)
    expected = apply_power_curve(image, log_gain, exponent)

    def made_with(b: float) -> Tensor:
        return log_gain.exp() * ((image + b) ** exponent - b**exponent)

    mistakes = {
        "is made with b = 1/255, expected half of it, 1/510": made_with(2 * BLACK),
        "is made without b": made_with(0.0),
        "multiplies by log_gain: the gain is exp(log_gain)": log_gain * made_with(BLACK),
        "is limited to [0, 1], which is not asked for": expected.clamp(0, 1),
    }
    same(found, expected, "power_curve with a gain and a γ for each channel", mistakes=mistakes)


@exercise("11.2", "The gain that undoes darkness", solution=2 ** (3.5 / 2.2))
def check_gain(answer: float) -> None:
    if abs(answer - 2**3.5) < 0.1:
        raise Wrong(f"{answer:g} is the factor of the light; the stored values are a power of it")
    mistakes = {
        2**3.5 / 2.2: "the light is taken to the power of 1/2.2, not divided by 2.2",
        2 ** (3.5 * 2.2): "the camera stores the power 1/2.2 of the light, not 2.2",
        3.5: "a stop is a factor of 2 in the light",
    }
    close_to(answer, 2 ** (3.5 / 2.2), 0.1, mistakes=mistakes)


def weight_of(difference: Tensor, tolerance: float) -> Tensor:
    """The solution of 11.3."""
    return F.relu(1 - (difference / tolerance) ** 2) ** 2


@exercise("11.3", "The weight of a neighbour", solution=weight_of)
def check_weight(answer: Callable[..., Any]) -> None:
    differences = torch.tensor([[-30.0, -3.0, -1.0, 0.0], [0.5, 2.0, 4.0, 9.0]])
    found = answer(differences, 4.0)
    beyond = found[differences.abs() >= 4] if found.shape == differences.shape else found
    if found.shape == differences.shape and float(beyond.abs().max()) > 0:
        raise Wrong("weight_of gives neighbours beyond the tolerance a weight, expected 0")
    same(found, weight_of(differences, 4.0), "weight_of(difference, 4)")
    same(answer(differences, 0.7), weight_of(differences, 0.7), "weight_of(difference, 0.7)")


def parity() -> Tensor:
    """A solution of 11.4: a chessboard of low contrast."""
    place = torch.arange(64)
    return (0.5 + 0.01 * ((place[:, None] + place) % 2)).expand(3, 64, 64).clone()


@exercise("11.4", "A pattern that passes for noise", solution=parity())
def check_pattern(answer: Any) -> None:
    if not isinstance(answer, torch.Tensor) or answer.shape != (3, 64, 64):
        shape = "×".join(map(str, answer.shape)) if hasattr(answer, "shape") else type(answer).__name__
        raise Wrong(f"a tensor of the shape 3×64×64 is expected, not {shape}")
    if not 0 <= float(answer.min()) <= float(answer.max()) <= 1:
        raise Wrong("the values of a photo lie in [0, 1]")
    down, right = answer[:, 2:] - answer[:, :-2], answer[..., 2:] - answer[..., :-2]
    if max(float(down.abs().max()), float(right.abs().max())) > 1e-6:
        raise Wrong("the pattern does not repeat every two rows and every two columns, so it may hold noise")
    measured = float(noise_of(answer[None].float()))
    if measured < 1:
        raise Wrong(f"noise_of measures {measured:.2f} levels of 255, at least 1 is expected")


def scaled(maps: Tensor, strength: float) -> Tensor:
    """The solution of 11.5."""
    return strength * maps


@exercise("11.5", "A slider for the strength", solution=scaled)
def check_scaled(answer: Callable[..., Any]) -> None:
    maps = torch.rand(2, 7, 3, 5) - 0.5
    same(answer(maps, 0.0), torch.zeros_like(maps), "scaled(maps, 0)")
    same(answer(maps, 1.0), maps, "scaled(maps, 1)")
    same(answer(maps, 0.3), 0.3 * maps, "scaled(maps, 0.3)")
    stops = {"stops at the given maps: strengths above 1 go further in the same steps": maps}
    same(answer(maps, 1.5), 1.5 * maps, "scaled(maps, 1.5)", mistakes=stops)


def split_by_scene(numbers: Tensor, share: float) -> tuple[list[int], list[int]]:
    """The solution of 11.6."""
    sizes = sorted((int((numbers == scene).sum()), int(scene)) for scene in numbers.unique())
    held: dict[int, int] = {}
    count = 0
    for photos, scene in sizes:
        if count < share * len(numbers):
            held[scene] = photos
            count += photos
    for scene, photos in list(held.items()):
        if count - photos >= share * len(numbers):
            count -= held.pop(scene)
    validation = [k for k, scene in enumerate(numbers.tolist()) if scene in held]
    return [k for k in range(len(numbers)) if k not in validation], validation


@exercise("11.6", "Keep the scenes apart", solution=split_by_scene)
def check_split(answer: Callable[..., Any]) -> None:
    mixed, in_order = torch.tensor([3, 3, 7, 7, 7, 7, 1, 0, 0, 3]), torch.tensor([0, 1, 1, 1, 1, 1, 2, 2, 2, 2])
    cases = [(mixed, 0.05), (mixed, 0.3), (mixed, 0.5), (in_order, 0.4)]
    found = []
    for numbers, share in cases:
        lists = answer(numbers, share)
        if not isinstance(lists, list | tuple) or len(lists) != 2:
            raise Wrong("split_by_scene returns something else than two lists, training and validation")
        found.append([[int(index) for index in indices] for indices in lists])
    wrong = [_what_is_wrong(numbers, share, *lists) for (numbers, share), lists in zip(cases, found, strict=True)]
    swapped = [_what_is_wrong(*case, *lists[::-1]) for case, lists in zip(cases, found, strict=True)]
    if any(wrong) and not any(swapped):
        raise Wrong("the two lists are swapped: training comes first, then validation")
    for sentence in filter(None, wrong):
        raise Wrong(sentence)


def _what_is_wrong(numbers: Tensor, share: float, train: list[int], held: list[int]) -> str:
    """A sentence, or nothing for a right division."""
    asked, least = f"with the scenes {numbers.tolist()} and the share {share:g},", share * len(numbers)
    if sorted([*train, *held]) != list(range(len(numbers))):
        return f"{asked} not every photo is in exactly one of the two lists"
    of_train, of_held = ({int(numbers[k]) for k in indices} for indices in (train, held))
    if both := of_train & of_held:
        return f"{asked} scene {min(both)} is in training and in validation"
    if len(held) < least:
        return f"{asked} validation has {len(held)} of {len(numbers)} photos, which is too few"
    left, scene = max((len(held) - int((numbers == scene).sum()), -scene) for scene in of_held)
    if left >= least:
        return f"{asked} validation has a scene more than it takes: without scene {-scene} it has {left} photos, enough"
    return ""


def rule(photos: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The solution of 11.7."""
    brightness = F.adaptive_avg_pool2d(photos, 32).mean(1) + 1 / 255
    m = brightness.log().mean((1, 2)).view(-1, 1, 1, 1) + 3
    return numbers[0] + numbers[1] * m, (numbers[2] + numbers[3] * m).clamp(*GAMMA_RANGE)


@exercise("11.7", "Four numbers instead of 650", solution=rule)
def check_rule(answer: Callable[..., Any]) -> None:
    photos = torch.rand(2, 3, 64, 96) * torch.tensor([0.05, 1.0]).view(2, 1, 1, 1)
    thumbnail, tiny = F.adaptive_avg_pool2d(photos, 32), 1 / 255
    brightness = thumbnail.mean(dim=1, keepdim=True)

    def mean_of(values: Tensor, dim: tuple[int, ...] = (1, 2, 3)) -> Tensor:
        return values.mean(dim=dim, keepdim=True) + torch.zeros(2, 1, 1, 1)

    logarithm = (brightness + tiny).log()
    m = mean_of(logarithm) + 3
    mistakes = {
        "is made from the logarithm of the mean: m is the mean of the logarithms": mean_of(brightness).add(tiny).log()
        + 3,
        "lacks the 3 that is added to the mean": mean_of(logarithm),
        "is made from the mean over the batch: each photo has its own m": mean_of(logarithm, (0, 1, 2, 3)) + 3,
        "is made from the channels' logarithms: average the channels first": mean_of((thumbnail + tiny).log()) + 3,
        "is made from the photo, not from its thumbnail": mean_of((photos.mean(dim=1, keepdim=True) + tiny).log()) + 3,
        "lacks the 1/255 within the logarithm": mean_of(brightness.log()) + 3,
    }
    for numbers in ([0.3, 0.0, 0.5, 0.0], [0.2, -0.4, 0.6, 0.1], [0.0, 0.0, 0.5, 3.0]):
        log_gain, exponent = answer(photos, torch.tensor(numbers))
        expected, (a, b, c, d) = rule(photos, torch.tensor(numbers)), numbers
        gains = {sentence: a + b * m for sentence, m in mistakes.items()}
        gains["is the gain itself: its logarithm is asked for"] = expected[0].exp()
        same(
            log_gain + torch.zeros(2, 1, 1, 1), expected[0], f"the logarithm of the gain for {numbers}", mistakes=gains
        )
        gammas = {sentence: (c + d * m).clamp(*GAMMA_RANGE) for sentence, m in mistakes.items()}
        gammas |= {
            "is not limited to [0.1, 2]": c + d * m,
            "is exp(c + d·m): only the gain is a logarithm": (c + d * m).exp(),
        }
        same(exponent + torch.zeros(2, 1, 1, 1), expected[1], f"gamma for {numbers}", mistakes=gammas)
