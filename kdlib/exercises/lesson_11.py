"""Checks of lesson 11: a network with 650 parameters."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.exercises import Wrong, close_to, exercise, same
from kdlib.models.glance import apply_power_curve, noise_of
from kdlib.power_curve import GAMMA_RANGE


@exercise("11.1", "A power curve that keeps black", solution=apply_power_curve)
def check_power_curve(answer: Callable[..., Any]) -> None:
    image = torch.linspace(0, 1, 30).view(1, 3, 2, 5)
    log_gain = torch.tensor([0.5, -0.2, 1.0]).view(1, 3, 1, 1)
    exponent = torch.tensor([0.4, 1.0, 1.7]).view(1, 3, 1, 1)
    same(answer(image, torch.zeros(()), torch.ones(())), image, "power_curve with the logarithm 0 and γ = 1")
    if float(answer(torch.zeros(3), torch.ones(()), torch.tensor(0.5)).abs().max()) > 1e-6:
        raise Wrong("power_curve does not keep black: subtract b^γ inside the bracket")
    found = answer(image, log_gain, exponent)
    same(found, apply_power_curve(image, log_gain, exponent), "power_curve with a gain and a γ for each channel")


@exercise("11.2", "The gain that undoes darkness", solution=2 ** (3.5 / 2.2))
def check_gain(answer: float) -> None:
    if abs(answer - 2**3.5) < 0.1:
        raise Wrong(f"{answer:g} is the factor of the light; the stored values are a power of it")
    close_to(answer, 2 ** (3.5 / 2.2), 0.1)


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
    numbers = torch.tensor([3, 3, 7, 7, 7, 7, 1, 0, 0, 3])
    for share in (0.05, 0.3, 0.5):
        asked = f"with the share {share:g},"
        train, held = ([int(index) for index in indices] for indices in answer(numbers, share))
        if sorted([*train, *held]) != list(range(10)):
            raise Wrong(f"{asked} not every photo is in exactly one of the two lists")
        of_train, of_held = ({int(numbers[k]) for k in indices} for indices in (train, held))
        if both := of_train & of_held:
            raise Wrong(f"{asked} scene {min(both)} is in training and in validation")
        if len(held) < share * 10:
            raise Wrong(f"{asked} validation has {len(held)} of 10 photos, which is too few")
        if len(held) - min(int((numbers == scene).sum()) for scene in of_held) >= share * 10:
            raise Wrong(f"{asked} validation has a scene more than it takes")


def rule(photos: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The solution of 11.7."""
    brightness = F.adaptive_avg_pool2d(photos, 32).mean(1) + 1 / 255
    m = brightness.log().mean((1, 2)).view(-1, 1, 1, 1) + 3
    return numbers[0] + numbers[1] * m, (numbers[2] + numbers[3] * m).clamp(*GAMMA_RANGE)


@exercise("11.7", "Four numbers instead of 650", solution=rule)
def check_rule(answer: Callable[..., Any]) -> None:
    photos = torch.rand(2, 3, 64, 96) * torch.tensor([0.05, 1.0]).view(2, 1, 1, 1)
    for numbers in ([0.3, 0.0, 0.5, 0.0], [0.2, -0.4, 0.6, 0.1], [0.0, 0.0, 0.5, 3.0]):
        log_gain, exponent = answer(photos, torch.tensor(numbers))
        expected = rule(photos, torch.tensor(numbers))
        same(log_gain + torch.zeros(2, 1, 1, 1), expected[0] + torch.zeros(2, 1, 1, 1), f"the gain for {numbers}")
        same(exponent + torch.zeros(2, 1, 1, 1), expected[1] + torch.zeros(2, 1, 1, 1), f"gamma for {numbers}")
