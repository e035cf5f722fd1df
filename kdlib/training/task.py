"""What all trainings have in common: how they begin, and the task that they hand to the loop."""

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from kdlib.checks import check_names
from kdlib.models import ZeroDCE, create_model
from kdlib.training.config import LoopConfig, LoopSettings
from kdlib.training.loop import Objective, fit
from kdlib.training.preview import Preview
from kdlib.training.processes import make_fabric
from kdlib.training.state import Run
from kdlib.weights import resolve_model

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task:
    """One training: who learns, from what, and how the result is judged.

    Attributes:
        student: trained in place.
        objective: the loss terms of a batch, as means over its photos. If it has an attribute ``teacher``, that is
            the task's.
        data: a map-style data set; batches are collated from its items and moved to the device.
        validation: scores of the student in evaluation mode, called after every epoch.
        monitored: the score that selects the best epoch; higher is better.
        description: shown before the progress bar.
        identity: what else must be equal, besides the configuration and the teacher, for a run to be continued; plain
            values.
        teacher: a :func:`frozen` copy of the caller's, or None.
        preview: a picture of the student's output in evaluation mode, H×W×3 uint8, written every
            ``config.preview_every`` epochs.
        advance: called before every epoch with the share of the training that is done, from 0 to less than 1.

    Raises:
        ValueError: the teacher is not frozen, or the objective has another one.
    """

    student: nn.Module
    objective: Objective
    data: Dataset[Any]
    validation: Callable[[nn.Module], Mapping[str, float]]
    monitored: str
    description: str = "training"
    identity: Mapping[str, Any] = field(default_factory=dict)
    teacher: nn.Module | None = None
    preview: Preview | None = None
    advance: Callable[[float], None] | None = None

    def __post_init__(self) -> None:
        if getattr(self.objective, "teacher", self.teacher) is not self.teacher:
            raise ValueError("the objective has another teacher than its task: give both the same frozen copy")
        if self.teacher is not None and (
            any(parameter.requires_grad for parameter in self.teacher.parameters())
            or any(module.training for module in self.teacher.modules())
        ):
            raise ValueError("the teacher would change: give objective and task a copy from kdlib.training.task.frozen")

    def same(self, config: LoopConfig) -> dict[str, Any]:
        """All that must be equal for a run to be continued."""
        teacher = None if self.teacher is None else digest(*self.teacher.state_dict().values())
        return {**config.identity(), **self.identity, "teacher": teacher}

    def train(self, config: LoopConfig, output_dir: str | Path | None = None) -> Run:
        """Train the student, or continue its interrupted run: see :func:`~kdlib.training.loop.fit`."""
        return fit(self, config, output_dir)


def training(train: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator of every training: refuse misspelt settings before any work is done, and seed PyTorch.

    Whatever was drawn before, the same ``seed`` then gives the same weights.

    Raises:
        TypeError: an unknown setting; the message names it and suggests the nearest known one.
        NonFiniteLossError, OSError: from the training itself, see :func:`~kdlib.training.loop.fit`.
    """
    own = [name for name, it in inspect.signature(train).parameters.items() if it.kind is not it.VAR_KEYWORD]
    known = list(dict.fromkeys([*own, *LoopSettings.__annotations__]))

    @wraps(train)
    def seeded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        check_names("setting", kwargs, known, f"{train.__name__} takes")
        torch.manual_seed(kwargs.get("seed", LoopConfig.seed))
        return train(*args, **kwargs)

    return seeded


def device_of(config: LoopConfig) -> torch.device:
    """The device on which this process trains."""
    return make_fabric(config.device, config.precision).device


def frozen(teacher: str | Path | nn.Module, config: LoopConfig) -> nn.Module:
    """A copy of a teacher on the training's device, in evaluation mode and without gradients.

    The caller's model stays as it is.

    Args:
        teacher: a shipped name, the path of a weights file, or a model.
    """
    return copy.deepcopy(resolve_model(teacher)).eval().requires_grad_(False).to(device_of(config))


def student_and_teacher(
    student: str | nn.Module, teacher: str | Path | nn.Module | None, config: LoopConfig, kind: Any, lack: str
) -> tuple[Any, Any]:
    """The student, new where it is given by name, and the :func:`frozen` teacher, if there is one.

    Raises:
        ValueError: one of them is not of this ``kind``; the message says what it ``lack``s.
    """
    pupil = create_model(student) if isinstance(student, str) else student
    master = None if teacher is None else frozen(teacher, config)
    for role, network in (("student", pupil), ("teacher", master)):
        if network is not None and not isinstance(network, kind):
            raise ValueError(f"the {role} {lack}: {type(network).__name__}; distil it with `distill`")
    return pupil, master


def split(count: int, fraction: float, seed: int, what: str = "photos") -> tuple[Tensor, Tensor]:
    """Shuffle ``count`` indices and cut them into training and validation; each part has at least one.

    Raises:
        ValueError: fewer than two; ``what`` says in the message what is counted.
    """
    if count < 2:
        raise ValueError(f"training needs at least 2 {what}, one of them for validation; there is {count}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = min(count - 1, max(1, round(count * fraction)))
    return order[held:], order[:held]


def columns_of(batch: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The columns of a batch; a data set of single tensors has one."""
    return (batch,) if isinstance(batch, Tensor) else tuple(batch)


def validate_objective(
    objective: Objective, data: Dataset[Any], held: Tensor, seed: int
) -> Callable[[nn.Module], dict[str, float]]:
    """A validation with one score, ``validation_objective``: minus the objective on the ``held`` items of a data set.

    Augmentations are drawn alike after every epoch, so that epochs compare.
    """
    kept_back = Subset(data, held.tolist())

    def validate(model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        generator = torch.Generator(device=device).manual_seed(seed)
        sums: dict[str, float] = {}
        for batch in DataLoader(kept_back, 64, generator=torch.Generator()):
            columns = tuple(column.to(device) for column in columns_of(batch))
            for name, term in objective(model, columns, None, generator).items():
                sums[name] = sums.get(name, 0.0) + float(term) * len(columns[0]) / len(held)
        return {"validation_objective": -sum(sums.values())}

    return validate


def validate_pictures(
    enhance: Callable[[Any, Tensor], Tensor], given: Tensor, wanted: Tensor, batch: int
) -> Callable[[nn.Module], dict[str, float]]:
    """A validation with one score, ``validation_psnr``: mean PSNR in dB between pictures and what they should be.

    Args:
        enhance: (model, photos on its device) → pictures.
        given, wanted: N×3×H×W in [0, 1].
        batch: photos at a time.
    """

    def validate(model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        errors = [
            (enhance(model, photos.to(device)).cpu() - truth).square().mean(dim=(1, 2, 3))
            for photos, truth in zip(given.split(batch), wanted.split(batch), strict=True)
        ]
        return {"validation_psnr": float(-10 * torch.cat(errors).clamp_min(1e-10).log10().mean())}

    return validate


def digest(*tensors: Tensor) -> str:
    """A short fingerprint of some tensors, by which a run recognises the ones that it began with."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


@contextmanager
def at_scale(scale: int, *models: nn.Module | None) -> Iterator[None]:
    """Within the block the curve networks among the models see photos at 1/scale; afterwards at their own."""
    scaled = [model for model in models if isinstance(model, ZeroDCE)]
    saved = [model.scale_factor for model in scaled]
    for model in scaled:
        model.scale_factor = scale
    try:
        yield
    finally:
        for model, own in zip(scaled, saved, strict=True):
            model.scale_factor = own
