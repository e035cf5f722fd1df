"""Lesson 02: losses without ground truth, and the pieces of a distillation step."""

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.exercises import Wrong, close_to, exercise, same
from kdlib.losses import (
    ColourConstancyLoss,
    ExposureControlLoss,
    FeatureMatchingLoss,
    OutputAlignmentLoss,
    mean_activation_map,
    mean_activation_maps,
)
from kdlib.losses.distillation import LAYER_WEIGHTS
from kdlib.training.recipes import Recipe


def uniform(*colour: float, height: int = 32, width: int = 48) -> Tensor:
    """A photo of one colour, 1×3×H×W."""
    return torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, height, width).clone()


@exercise("02.1", "The exposure loss of a yellow photo", solution=0.0)
def check_yellow(answer: float) -> None:
    mistakes = {0.16: "the loss takes the mean over the channels before it compares"}
    close_to(answer, float(ExposureControlLoss()(uniform(1.0, 0.8, 0.0))), within=0.001, mistakes=mistakes)


def absolute_exposure(enhanced: Tensor) -> Tensor:
    """The solution: mean |Y − 0.6| over patches of 16×16."""
    loss: Tensor = ExposureControlLoss(absolute=True)(enhanced)
    return loss


@exercise("02.2", "Exposure, as the paper writes it", solution=absolute_exposure)
def check_absolute_exposure(answer):  # type: ignore[no-untyped-def]
    same(answer(uniform(0.2, 0.2, 0.2)), torch.tensor(0.4), "the loss of a photo of brightness 0.2")
    same(answer(uniform(0.9, 0.9, 0.9)), torch.tensor(0.3), "the loss of a photo of brightness 0.9")
    same(
        answer(uniform(1.0, 0.8, 0.0)), torch.tensor(0.0), "the loss of a yellow photo whose channels have the mean 0.6"
    )
    chess = torch.arange(16).remainder(2).expand(1, 3, 16, 16).float()
    same(answer(chess), torch.tensor(0.1), "the loss of one patch, half of its pixels black and half white")
    stripes = torch.cat([uniform(0, 0, 0, height=16, width=16), uniform(1, 1, 1, height=16, width=16)], dim=3)
    same(answer(stripes), torch.tensor(0.5), "the loss of a black patch beside a white one")
    two = torch.cat([uniform(0.2, 0.2, 0.2), uniform(0.9, 0.9, 0.9)])
    same(answer(two), torch.tensor(0.35), "the loss of a batch of two photos, brightness 0.2 and 0.9")


def safe_colour(enhanced: Tensor) -> Tensor:
    """The solution: kdlib's loss, whose norm has the gradient zero at zero."""
    loss: Tensor = ColourConstancyLoss()(enhanced)
    return loss


@exercise("02.3", "A colour loss that survives the lens cap", solution=safe_colour)
def check_safe_colour(answer):  # type: ignore[no-untyped-def]
    photos = torch.rand(4, 3, 16, 16) * torch.tensor([1.0, 0.5, 0.2]).view(1, 3, 1, 1)
    red, blue = uniform(0.9, 0.1, 0.1), uniform(0.1, 0.1, 0.9)
    cases = {"four coloured photos": photos, "a red photo": red, "a red and a blue photo": torch.cat([red, blue])}
    for name, photo in cases.items():
        of_the_mean = {"is that of their mean: average the losses of the photos": safe_colour(photo.mean(0, True))}
        what = f"the loss of {name}"
        same(answer(photo), safe_colour(photo), what, mistakes=of_the_mean, rtol=0, atol=1.001e-3)
    for name, photo in {"a black photo": uniform(0, 0, 0), "a grey photo": uniform(0.5, 0.5, 0.5)}.items():
        photo.requires_grad_()
        loss = answer(photo)
        same(loss, torch.tensor(0.0), f"the loss of {name}", atol=1.001e-3)
        if loss.grad_fn is None:
            raise Wrong(f"the loss of {name} has no gradient: compute it from the photo's values")
        if not torch.autograd.grad(loss, photo)[0].isfinite().all():
            raise Wrong(f"the gradient on {name} is not finite: the root must never be taken at zero")


def rising_target(brightness: Tensor) -> Tensor:
    """The solution: steep up to 0.55, then flat, then a little below the photo's own brightness."""
    shadows = (2.75 * brightness).clamp(max=0.55)
    return torch.maximum(shadows, 0.55 + 0.8 * (brightness - 0.7)).clamp(max=0.79)


@exercise("02.4", "A target that keeps the order of tones", solution=rising_target)
def check_rising_target(answer):  # type: ignore[no-untyped-def]
    m = torch.linspace(0, 1, 1001)
    target = answer(m)
    if not isinstance(target, Tensor) or target.shape != m.shape:
        raise Wrong("rising_target returns one target for each brightness, a tensor of the same shape as its input")
    at = lambda wrong: f"at m = {float(m[wrong][0]):.3f} it is {float(target[wrong][0]):.3f}"  # noqa: E731
    if (outside := (target < 0) | (target > 1) | target.isnan()).any():
        raise Wrong(f"the target leaves [0, 1]: {at(outside)}")
    if (falls := F.pad(target.diff() < -1e-6, (1, 0))).any():
        raise Wrong(f"the target falls, which reverses the order of tones: {at(falls)}, less than just before")
    if (dim := (m < 0.2) & (target < 2 * m - 1e-6)).any():
        raise Wrong(f"shadows below 0.2 must become at least twice as bright: {at(dim)}")
    if (bright := (m > 0.8) & (target > m + 1e-6)).any():
        raise Wrong(f"nothing above 0.8 may become brighter: {at(bright)}")
    if target[0] > 0.1:
        raise Wrong(f"black may become 0.1 at most, it becomes {float(target[0]):.3f}: shadows must stay dark")


def ask_teacher(teacher: nn.Module, photos: Tensor) -> tuple[Tensor, Tensor]:
    """The solution: evaluation mode, no graph."""
    teacher.eval()
    with torch.no_grad():
        enhanced, curve_map = teacher(photos)
    return enhanced, curve_map


class _Moody(nn.Module):
    """A teacher whose answer depends on its mode, as with dropout or batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        self.grad_enabled = torch.is_grad_enabled()
        curve_map = self.drop(self.norm(photos)) * self.scale
        return photos + curve_map, curve_map


@exercise("02.5", "Ask a frozen teacher", solution=ask_teacher)
def check_ask_teacher(answer):  # type: ignore[no-untyped-def]
    teacher, photos = _Moody().train(), torch.rand(2, 3, 8, 8)
    statistics = teacher.norm.running_mean.clone()  # type: ignore[union-attr]
    targets = answer(teacher, photos)
    if not isinstance(targets, tuple | list) or len(targets) != 2:
        raise Wrong("ask_teacher returns two tensors, the enhanced photos and the curve maps")
    if not torch.equal(teacher.norm.running_mean, statistics):  # type: ignore[arg-type]
        raise Wrong("the teacher has changed: in training mode batch norm updates its statistics, so call eval() first")
    expected = ask_teacher(teacher, photos)
    for name, target, wanted in zip(("enhanced photo", "curve map"), targets, expected, strict=True):
        if target.requires_grad:
            raise Wrong(f"the {name} still has a graph: run the teacher under torch.no_grad()")
        same(target, wanted, f"the {name} of a teacher that was in training mode")
    answer(teacher, photos)
    if teacher.grad_enabled:
        raise Wrong("the teacher's graph is made and then thrown away: run the teacher under torch.no_grad()")
    if not teacher.scale.requires_grad:
        raise Wrong("the teacher's parameters have requires_grad=False afterwards: torch.no_grad() changes nothing")


def align_outputs(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    student_iterations: int = 8,
    teacher_iterations: int = 8,
) -> Tensor:
    """The solution: kdlib's output alignment loss."""
    loss: Tensor = OutputAlignmentLoss(0.1, student_iterations, teacher_iterations)(student, teacher)
    return loss


@exercise("02.6", "Align image and map", solution=align_outputs)
def check_align_outputs(answer):  # type: ignore[no-untyped-def]
    photo, r = torch.rand(2, 3, 6, 7), torch.rand(2, 3, 6, 7) - 0.5
    cases = {
        "the loss of a student equal to its teacher": ((photo, r), (photo, r), 8, 8),
        "the loss of photos that differ by 0.1 everywhere": ((photo + 0.1, r), (photo, r), 8, 8),
        "the loss of maps that differ by 0.2 everywhere": ((photo, r + 0.2), (photo, r), 8, 8),
        "the loss where photos and maps differ": ((1 - photo, -r), (photo, r), 8, 8),
        "the loss of a student with 4 steps of 2·r beside a teacher with 8 steps of r": (
            (photo, 2 * r),
            (photo, r),
            4,
            8,
        ),
        "the loss of a student with 8 steps beside a teacher with 4, both with the same map": (
            (photo, r),
            (photo, r),
            8,
            4,
        ),
    }
    for name, (student, teacher, own, theirs) in cases.items():
        same(answer(student, teacher, own, theirs), align_outputs(student, teacher, own, theirs), name)


@exercise("02.7", "A map that any two layers share", solution=mean_activation_map)
def check_activation_map(answer):  # type: ignore[no-untyped-def]
    for shape in ((2, 32, 16, 24), (1, 4, 22, 32), (3, 1, 5, 7)):
        features = torch.rand(shape) - 0.5
        what = f"the map of features {'×'.join(map(str, shape))}"
        usual = {
            "drops the signs: take the mean of the features themselves": features.abs().mean(1),
            "is that of the largest channel: take the mean": features.amax(1),
        }
        mistakes = {name: F.adaptive_avg_pool2d(wrong, 8) for name, wrong in usual.items()}
        small = F.interpolate(features.mean(1, keepdim=True), (8, 8), mode="bilinear")[:, 0]
        mistakes["is interpolated: adaptive_avg_pool2d takes every value into account"] = small
        same(answer(features), mean_activation_map(features), what, mistakes=mistakes)
    same(answer(features, size=3), mean_activation_map(features, 3), f"{what} with size=3")


def match_features(
    student: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    pairs: tuple[tuple[str, str], ...],
    weights: tuple[float, ...] = LAYER_WEIGHTS,
) -> Tensor:
    """The solution: kdlib's feature matching loss, on the maps of the layers."""
    loss: Tensor = FeatureMatchingLoss(pairs, weights)(mean_activation_maps(student), mean_activation_maps(teacher))
    return loss


@exercise("02.8", "Match the features", solution=match_features)
def check_match_features(answer):  # type: ignore[no-untyped-def]
    pairs = (("a", "x"), ("b", "y"), ("c", "z"))
    student = {name: torch.rand(2, 4, 9, 12) for name in "abc"}
    teacher = {name: torch.rand(2, 32, 16, 16) for name in "xyz"}
    mistakes = {
        f"has the weights {', '.join([f'{weight:.3g}'] * 3)}, expected 0.2, 0.3 and 0.5": (
            match_features(student, teacher, pairs, (weight,) * 3)
        )
        for weight in (1.0, 1 / 3)
    }
    expected = match_features(student, teacher, pairs)
    same(answer(student, teacher, pairs), expected, "the loss of three pairs", mistakes=mistakes)
    one = answer(student, teacher, pairs[1:2], (1.0,))
    same(one, match_features(student, teacher, pairs[1:2], (1.0,)), "the loss of one pair with the weight 1")
    try:
        answer({f"student_{name}": features for name, features in student.items()}, teacher, pairs)
    except Wrong:  # any error will do: it stops the training
        return
    raise Wrong("a student without the layers of the pairs must raise an error; skipping a pair hides the mistake")


def weighted_total(
    alignment: Tensor, features: Tensor, task: Tensor, alpha: float = 0.7, beta: float = 0.2, factor: float = 100.0
) -> Tensor:
    """The solution: the loss of a recipe."""
    return alpha * factor * alignment + beta * features + (1 - alpha - beta) * task


@exercise("02.9", "The weighted total", solution=weighted_total)
def check_weighted_total(answer):  # type: ignore[no-untyped-def]
    one, none = torch.tensor(1.0), torch.tensor(0.0)
    default = Recipe()
    shares = {
        "alignment": (one, none, none, default.alpha * default.alignment),
        "features": (none, one, none, default.beta),
        "task": (none, none, one, 1 - default.alpha - default.beta),
    }
    for name, (*terms, expected) in shares.items():
        same(answer(*terms), torch.tensor(expected), f"the total of {name} = 1 and zero for the other terms")
    same(answer(one, one, 2 * one, alpha=0.5, beta=0.1, factor=10.0), torch.tensor(5.9), "the total of 1, 1 and 2 with "
         "alpha=0.5, beta=0.1, factor=10")  # fmt: skip


def has_effect(term: Tensor, parameters: Iterable[Tensor]) -> bool:
    """The solution: whether the gradient of a term is not zero for some parameter."""
    if not term.requires_grad:
        return False
    gradients = torch.autograd.grad(term, list(parameters), retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


@exercise("02.10", "Does this term do anything?", solution=has_effect)
def check_has_effect(answer):  # type: ignore[no-untyped-def]
    used, unused = (torch.ones(3, requires_grad=True) for _ in range(2))
    cases = {
        "a term that depends on one of two parameters": (used.square().sum(), True),
        "a term with a negative gradient": (-used.sum(), True),
        "a term whose gradient sums to zero": ((used * torch.tensor([1.0, -1.0, 0.0])).sum(), True),
        "a constant, as a loop that never runs leaves it": (torch.zeros(()), False),
        "a term that is multiplied by zero": (0 * used.sum(), False),
        "a term that depends on no parameter": (torch.ones(1, requires_grad=True).sum(), False),
    }
    for name, (term, expected) in cases.items():
        found = answer(term, [unused, used])
        if not isinstance(found, bool):
            raise Wrong(f"has_effect returns True or False, not a {type(found).__name__}")
        if found != expected:
            raise Wrong(f"has_effect says {found} of {name}, expected {expected}")
        if used.grad is not None:
            raise Wrong(
                "has_effect leaves gradients in .grad, which the next step would add to: use torch.autograd.grad"
            )
    network = nn.Linear(2, 1)
    term = network(torch.ones(1, 2)).sum()
    if not answer(term, network.parameters()):
        raise Wrong("has_effect says False of a term that depends on a layer")
    try:
        term.backward()
    except RuntimeError:
        raise Wrong("has_effect frees the graph that training still needs: pass retain_graph=True") from None
