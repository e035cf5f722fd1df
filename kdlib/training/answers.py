"""The objective that compares what a student and its frozen teacher, of any kind, make of the same batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.checks import check_choice, check_number
from kdlib.losses.distillation import LayerFeatures
from kdlib.models.network import Network
from kdlib.training.augmentation import AUGMENTATIONS, augment
from kdlib.training.task import columns_of

# (student's output, teacher's output, the batch's columns) → loss; likewise for the features of two layers.
OutputLoss = Callable[[Any, Any, tuple[Tensor, ...]], Tensor]
FeatureLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Answer:
    """What a network makes of a batch.

    Attributes:
        output: what the network returns.
        features: outputs of the compared layers, by name.
        past: what the moving average of the weights makes of the same batch; for students whose run keeps one.
    """

    output: Any
    features: Mapping[str, Tensor]
    past: Callable[[], Answer] | None = None


Compare = Callable[[Answer, Answer, tuple[Tensor, ...]], Tensor]


class AnswersObjective:
    """The weighted terms of a batch, which compare the answers of student and teacher.

    Both networks see the batch's first column. Columns of 8 bits are photos, and are brought to [0, 1].

    Args:
        teacher: frozen, on the batch's device.
        terms: by name, a weight and a function (student's answer, teacher's answer, the batch's columns) → loss.
        layers: pairs (student layer, teacher layer) whose features the terms compare.
        pool: applied to all features.
        augmentation: of the first column, see :func:`~kdlib.training.augmentation.augment`.
    """

    def __init__(
        self,
        teacher: nn.Module,
        terms: Mapping[str, tuple[float, Compare]],
        layers: Iterable[tuple[str, str]] = (),
        *,
        pool: Callable[[Tensor], Tensor] = lambda features: features,
        augmentation: str = "none",
    ) -> None:
        self.teacher, self.terms, self.pool = teacher, terms, pool
        pairs = list(layers)
        self.student_layers, self.teacher_layers = [s for s, _ in pairs], [t for _, t in pairs]
        check_choice("augmentation", augmentation, AUGMENTATIONS)
        self.augmentation = augmentation

    def __call__(self, model: nn.Module, batch: Any, average: Any, generator: torch.Generator) -> dict[str, Tensor]:
        columns = [column.float() / 255 if column.dtype == torch.uint8 else column for column in columns_of(batch)]
        seen = self.prepare(columns[0], generator), *columns[1:]
        teacher, student = self.ask(seen), self.look(model, seen[0], self.student_layers)
        if average is not None:
            student.past = torch.no_grad()(lambda: self.look(average.module, seen[0], self.student_layers))
        return {name: weight * compare(student, teacher, seen) for name, (weight, compare) in self.terms.items()}

    def prepare(self, column: Tensor, generator: torch.Generator) -> Tensor:
        """The first column as both networks see it."""
        return augment(column, self.augmentation, generator)

    @torch.no_grad()
    def ask(self, columns: tuple[Tensor, ...]) -> Answer:
        """The teacher's answer to a batch."""
        return self.look(self.teacher, columns[0], self.teacher_layers)

    def look(self, model: nn.Module, seen: Tensor, layers: Iterable[str]) -> Answer:
        """What a network makes of the first column."""
        if isinstance(model, Network) and seen.ndim == 4:  # see State, which gives its weights this order of memory
            seen = seen.contiguous(memory_format=torch.channels_last)
        with LayerFeatures(model, layers) as tap:
            return Answer(model(seen), {name: self.pool(features) for name, features in tap.features.items()})


def terms_of(
    losses: Mapping[str, tuple[float, OutputLoss]], features: Mapping[str, tuple[float, tuple[str, str], FeatureLoss]]
) -> dict[str, tuple[float, Compare]]:
    """The terms that compare outputs, followed by those that compare the features of a layer pair.

    Raises:
        ValueError: no loss at all, a name in both, or a weight that is not a number from 0 up.
    """
    if not losses and not features:
        raise ValueError("there is nothing to compare: losses and features are both empty")
    if both := losses.keys() & features.keys():
        raise ValueError(f"{', '.join(sorted(both))}: losses and features need names of their own")

    def of_outputs(loss: OutputLoss) -> Compare:
        return lambda student, teacher, columns: loss(student.output, teacher.output, columns)

    def of_features(pair: tuple[str, str], loss: FeatureLoss) -> Compare:
        return lambda student, teacher, columns: loss(student.features[pair[0]], teacher.features[pair[1]])

    terms = {name: (weight, of_outputs(loss)) for name, (weight, loss) in losses.items()}
    terms |= {name: (weight, of_features(pair, loss)) for name, (weight, pair, loss) in features.items()}
    for name, (weight, _) in terms.items():
        check_number(f"the weight of {name!r}", weight)
    return terms
