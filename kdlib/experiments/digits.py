"""Distillation on scikit-learn's digits: what the lesson "Distillation from zero" cites.

Run as ``python -m kdlib.experiments.digits --out results/distillation.json``; an interrupted run continues. Each seed
has its own split, its own teacher and its own initial weights, and all of its variants share them, so that differences
are taken seed by seed.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from kdlib.experiments.descent import descend
from kdlib.experiments.measurement import Compared, Measurement
from kdlib.experiments.number_words import WAYS, Words
from kdlib.losses.classification import (
    attention_transfer_loss,
    hint_loss,
    logit_loss,
    relation_loss,
    soft_target_loss,
    soften,
)

CLASSES, TEST_IMAGES, BATCH = 10, 597, 50
TEACHER_WIDTH, STUDENT_WIDTH = 32, 2
TEACHER_STEPS, TEACHER_RATE = 800, 0.005
STEPS, RATE = 400, 0.01
PER_CLASS, TEMPERATURE, WITHHELD = 5, 8, 3
TEMPERATURES = (1, 2, 4, 8, 16, 32)
COUNTS = {
    STUDENT_WIDTH: (2, 10, 20, 50, 0),
    TEACHER_WIDTH: (5, 20, 0),
}  # images per class, by width; 0: all of the pool
SEEDS = tuple(range(10))

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Split:
    """Images N×1×8×8 in [0, 1] with labels N: ``pool`` to learn from, ``test`` to score on."""

    pool: Tensor
    pool_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def few(self, per_class: int) -> Tensor:
        """The indices in the pool of the first images of each class."""
        return torch.cat([(self.pool_labels == digit).nonzero()[:per_class, 0] for digit in range(CLASSES)])


def split_digits(seed: int) -> Split:
    """Divide the 1,797 digits of scikit-learn at random into a pool of 1,200 and 597 for the test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target, dtype=torch.long)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    test, pool = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return Split(images[pool], labels[pool], images[test], labels[test])


def digit_network(width: int, seed: int, bottleneck: int = 0) -> nn.Sequential:
    """Make a classifier of 8×8 images with ``width`` and ``2 · width`` channels.

    ``network[:4]`` computes its features, B×2·width×4×4.

    Args:
        seed: of the initial weights.
        bottleneck: if not 0, the logits are a linear function of so many numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = [nn.Linear(32 * width, bottleneck), nn.Linear(bottleneck, CLASSES)] if bottleneck else []
        return nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
            nn.Flatten(), *(head or [nn.Linear(32 * width, CLASSES)]),
        )  # fmt: skip


def fit(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    loss: Loss,
    *,
    steps: int = STEPS,
    rate: float = RATE,
    seed: int = 0,
) -> None:
    """Train a model in place on random batches of 50.

    Args:
        images: N×1×8×8.
        targets: what the loss compares with, one for each image.
        loss: of the model, a batch of images, and their targets.
        rate: peak of the learning rate.
        seed: of the batches.
    """
    order = torch.Generator().manual_seed(seed)

    def batch_loss() -> Tensor:
        batch = torch.randint(len(images), (BATCH,), generator=order)
        return loss(model, images[batch], targets[batch])

    descend(model, batch_loss, steps=steps, rate=rate)


@torch.no_grad()
def accuracy(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    """Percentage of images whose highest logit is that of their label."""
    return 100 * (model(images).argmax(1) == labels).float().mean().item()


def label_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with labels, or with probabilities."""
    return F.cross_entropy(model(images), labels)


def soft_loss(temperature: float) -> Loss:
    """Make the loss of :func:`fit` for soft targets; its targets are the teacher's logits."""
    return lambda model, images, logits: soft_target_loss(model(images), logits, temperature)


def feature_loss(compare: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Make a loss that compares a network's features with its targets, the teacher's."""
    return lambda network, images, features: compare(network[:4](images), features)  # type: ignore[index]


def missing_class_shift(logits: Tensor, withheld: int, share: float) -> float:
    """Return what to add to a class's logit so that it wins for a share of the images.

    Args:
        logits: N×C, of images without labels.
        share: of the images, in (0, 1): how frequent the class is known to be.
    """
    others = logits.clone()
    others[:, withheld] = -torch.inf
    return float((others.amax(1) - logits[:, withheld]).quantile(share))


def number_generator(seed: int) -> nn.Sequential:
    """Make a network that turns noise and a class, B×32, into an image B×1×8×8 in (0, 1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))


class Bench:
    """What the variants of one seed share: the split, the teachers and the first weights of the students.

    Args:
        seed: of all of it.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.split = seed, split_digits(seed)
        self.pool, self.labels = self.split.pool, self.split.pool_labels
        self.few = self.split.few(PER_CLASS)
        self._teachers: dict[tuple[int, float], nn.Sequential] = {}

    def teacher(self, width: int = TEACHER_WIDTH, smoothing: float = 0.0) -> nn.Sequential:
        """A network that has learned the labels of the whole pool, frozen."""
        if (width, smoothing) not in self._teachers:
            network = digit_network(width, 1000 + self.seed)

            def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
                return F.cross_entropy(model(images), labels, label_smoothing=smoothing)

            fit(network, self.pool, self.labels, loss, steps=TEACHER_STEPS, rate=TEACHER_RATE, seed=self.seed)
            self._teachers[width, smoothing] = network.requires_grad_(False)
        return self._teachers[width, smoothing]

    @cached_property
    def logits(self) -> Tensor:
        """The teacher's for the pool."""
        return self.teacher()(self.pool)

    def student(
        self, images: Tensor, targets: Tensor, loss: Loss, width: int = STUDENT_WIDTH, bottleneck: int = 0
    ) -> nn.Sequential:
        """Train a student from the first weights of this seed."""
        return self.train(digit_network(width, self.seed, bottleneck), images, targets, loss)

    def train(self, network: nn.Sequential, images: Tensor, targets: Tensor, loss: Loss) -> nn.Sequential:
        """Train a network that may have learned something before."""
        fit(network, images, targets, loss, seed=self.seed)
        return network

    def score(self, model: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Accuracy on the test set, in %."""
        return {"accuracy": accuracy(model, self.split.test, self.split.test_labels)}

    def on(self, chosen: Tensor, targets: Tensor, loss: Loss, **network: int) -> dict[str, float]:
        """Score a student that has learned from some images of the pool; ``targets`` are those of the whole pool."""
        return self.score(self.student(self.pool[chosen], targets[chosen], loss, **network))


def _teacher(bench: Bench) -> dict[str, float]:
    sure = soften(bench.logits[bench.few]).amax(1).mean()
    return {**bench.score(bench.teacher()), "confidence": 100 * float(sure)}


def _changed(bench: Bench, change: Callable[[Tensor, Tensor, Bench], Tensor]) -> dict[str, float]:
    """Score a student whose soft targets are changed for all classes but the most probable one."""
    logits = bench.logits[bench.few]
    best = F.one_hot(logits.argmax(1), CLASSES).bool()
    wrong = soften(logits, TEMPERATURE)[~best].unflatten(0, (-1, CLASSES - 1))
    changed = soften(logits, TEMPERATURE)
    changed[~best] = change(wrong, best, bench).flatten()
    return bench.score(bench.student(bench.pool[bench.few], TEMPERATURE * changed.log(), soft_loss(TEMPERATURE)))


def _even(wrong: Tensor, best: Tensor, bench: Bench) -> Tensor:
    return wrong.mean(1, keepdim=True).expand_as(wrong)


def _shuffled(wrong: Tensor, best: Tensor, bench: Bench) -> Tensor:
    order = torch.rand(wrong.shape, generator=torch.Generator().manual_seed(bench.seed)).argsort(1)
    return wrong.gather(1, order)


def _mixed(bench: Bench, factor: float) -> dict[str, float]:
    """Half the labels' loss, half that of soft targets, the latter with another factor than T²."""
    targets = torch.cat([bench.logits, bench.labels[:, None]], dim=1)

    def loss(model: nn.Module, images: Tensor, both: Tensor) -> Tensor:
        found = model(images)
        soft = soft_target_loss(found, both[:, :-1], TEMPERATURE) * factor / TEMPERATURE**2
        return (F.cross_entropy(found, both[:, -1].long()) + soft) / 2

    return bench.on(bench.few, targets, loss)


def _withheld(bench: Bench, targets: Tensor, loss: Loss) -> dict[str, float]:
    """Score a student that has seen no image of one class: as it is, and with that class's logit shifted."""
    kept = (bench.labels != WITHHELD).nonzero()[:, 0]
    student = bench.student(bench.pool[kept], targets[kept], loss)
    there = bench.split.test_labels == WITHHELD
    with torch.no_grad():
        shift = missing_class_shift(student(bench.pool), WITHHELD, 1 / CLASSES)

    def shifted(images: Tensor) -> Tensor:
        return student(images) + shift * F.one_hot(torch.tensor(WITHHELD), CLASSES)

    row = bench.score(student)
    for name, model in (("recognised", student), ("recognised_shifted", shifted)):
        row[name] = accuracy(model, bench.split.test[there], bench.split.test_labels[there])
    return {**row, "accuracy_shifted": bench.score(shifted)["accuracy"], "shift": shift}


def _sized(bench: Bench, count: int, width: int, soft: bool) -> dict[str, float]:
    chosen = bench.split.few(count) if count else torch.arange(len(bench.pool))
    targets, loss = (bench.logits, soft_loss(TEMPERATURE)) if soft else (bench.labels, label_loss)
    return bench.on(chosen, targets, loss, width=width)


def _features_first(bench: Bench, compare: Callable[[Tensor, Tensor], Tensor]) -> dict[str, float]:
    """Learn the teacher's features, then the labels, each for the usual number of steps."""
    images, student = bench.pool[bench.few], digit_network(STUDENT_WIDTH, bench.seed)
    bench.train(student, images, bench.teacher()[:4](images), feature_loss(compare))
    return bench.score(bench.train(student, images, bench.labels[bench.few], label_loss))


def _hints_first(bench: Bench) -> dict[str, float]:
    images, student = bench.pool[bench.few], digit_network(STUDENT_WIDTH, bench.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bench.seed)
        projection = nn.Conv2d(2 * STUDENT_WIDTH, 2 * TEACHER_WIDTH, 1)

    def loss(_: nn.Module, images: Tensor, features: Tensor) -> Tensor:
        return hint_loss(student[:4](images), features, projection)

    fit(nn.ModuleList([student, projection]), images, bench.teacher()[:4](images), loss, seed=bench.seed)
    return bench.score(bench.train(student, images, bench.labels[bench.few], label_loss))


def _born_again(bench: Bench, images: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    first = digit_network(STUDENT_WIDTH, 2000 + bench.seed)
    bench.train(first, images, labels, label_loss)
    with torch.no_grad():
        logits = first(images)
    return bench.score(bench.student(images, logits, soft_loss(temperature)))


def _ensemble(bench: Bench) -> dict[str, float]:
    """Score five small networks, their mean, and one that has learned from the mean."""
    members = [digit_network(STUDENT_WIDTH, 3000 + 10 * bench.seed + number) for number in range(5)]
    for member in members:
        bench.train(member, bench.pool, bench.labels, label_loss)

    @torch.no_grad()
    def mean(images: Tensor) -> Tensor:
        return torch.stack([member(images).log_softmax(1) for member in members]).mean(0)

    single = statistics.fmean(bench.score(member)["accuracy"] for member in members)
    taught = bench.score(bench.student(bench.pool, mean(bench.pool), soft_loss(4)))
    return {**taught, "ensemble": bench.score(mean)["accuracy"], "member": single}


def _without_data(bench: Bench, images: Tensor) -> dict[str, float]:
    return bench.score(bench.student(images, bench.teacher()(images), soft_loss(TEMPERATURE)))


def noise_images(count: int, seed: int) -> Tensor:
    """Images of uniform noise, count×1×8×8 in [0, 1)."""
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def invent_images(teacher: nn.Module, count: int, seed: int) -> Tensor:
    """Train a generator to make images that a frozen teacher is sure about, and return count×1×8×8 in (0, 1).

    The images are conditioned on the class and kept smooth (total variation); no real image is used.
    """
    draw = torch.Generator().manual_seed(seed)
    generator = number_generator(seed)

    def inputs(labels: Tensor) -> Tensor:
        noise = torch.randn(len(labels), 32 - CLASSES, generator=draw)
        return torch.cat([2.0 * F.one_hot(labels, CLASSES), noise], dim=1)

    def loss() -> Tensor:
        labels = torch.randint(CLASSES, (2 * BATCH,), generator=draw)
        images = generator(inputs(labels))
        rough = images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()
        return F.cross_entropy(teacher(images), labels) + rough / 2

    descend(generator, loss, steps=STEPS, rate=RATE)
    with torch.no_grad():
        return generator(inputs(torch.arange(count) % CLASSES))


@dataclass(frozen=True)
class Variant(Compared):
    """A network to train and score.

    Attributes:
        measure: its scores, in % but for ``shift``.
    """

    measure: Callable[[Bench], Mapping[str, float]]


def _soft(temperature: float) -> Callable[[Bench], Mapping[str, float]]:
    return lambda bench: bench.on(bench.few, bench.logits, soft_loss(temperature))


def _from(width: int = TEACHER_WIDTH, smoothing: float = 0.0) -> Callable[[Bench], Mapping[str, float]]:
    def measure(bench: Bench) -> Mapping[str, float]:
        teacher = bench.teacher(width, smoothing)
        taught = bench.on(bench.few, teacher(bench.pool), soft_loss(TEMPERATURE))
        return {**taught, "teacher": bench.score(teacher)["accuracy"]}

    return measure


def _narrow(temperature: float) -> Callable[[Bench], Mapping[str, float]]:
    everything = slice(None)

    def measure(bench: Bench) -> Mapping[str, float]:
        if temperature:
            return bench.on(everything, bench.logits, soft_loss(temperature), bottleneck=2)  # type: ignore[arg-type]
        return bench.on(everything, bench.labels, label_loss, bottleneck=2)  # type: ignore[arg-type]

    return measure


def _name(count: int, width: int, soft: bool) -> str:
    images = f"{count} per class" if count else "all images"
    return f"{images}, width {width}, {'soft targets' if soft else 'labels'}"


ALONE, SOFT, ALL = "labels alone", f"soft targets, T = {TEMPERATURE}", _name(0, STUDENT_WIDTH, False)


def by_images(width: int, soft: bool) -> dict[int, str]:
    """Return the variants of a width by the number of images per class; 120 stands for all of the pool."""
    found = {count or 120: _name(count, width, soft) for count in COUNTS[width]}
    if width == STUDENT_WIDTH:
        found[PER_CLASS] = SOFT if soft else ALONE
    return dict(sorted(found.items()))


VARIANTS: Sequence[Variant] = (
    Variant("teacher", "targets", _teacher, against=ALONE),
    Variant(ALONE, "targets", lambda bench: bench.on(bench.few, bench.labels, label_loss), against=ALONE),
    Variant(
        "hard targets", "targets", lambda bench: bench.on(bench.few, bench.logits.argmax(1), label_loss), against=ALONE
    ),
    *(Variant(f"soft targets, T = {t}", "targets", _soft(t), against=ALONE) for t in TEMPERATURES),
    Variant(
        "logits", "targets",
        lambda bench: bench.on(bench.few, bench.logits, lambda model, x, z: logit_loss(model(x), z)), against=SOFT,
    ),
    Variant("wrong classes even", "dark knowledge", lambda bench: _changed(bench, _even), against=SOFT),
    Variant("wrong classes shuffled", "dark knowledge", lambda bench: _changed(bench, _shuffled), against=SOFT),
    Variant("labels and soft targets", "mixture", lambda bench: _mixed(bench, TEMPERATURE**2), against=SOFT),
    Variant(
        "labels and soft targets without T²", "mixture", lambda bench: _mixed(bench, 1),
        against="labels and soft targets",
    ),
    Variant("no 3, labels", "withheld", lambda bench: _withheld(bench, bench.labels, label_loss), against=ALL),
    Variant(
        f"no 3, T = {TEMPERATURE}", "withheld",
        lambda bench: _withheld(bench, bench.logits, soft_loss(TEMPERATURE)), against=ALL,
    ),
    *(
        Variant(
            _name(count, width, soft), "images",
            lambda bench, count=count, width=width, soft=soft: _sized(bench, count, width, soft),  # type: ignore[misc]
            against=_name(count, width, False),
        )
        for width, counts in COUNTS.items() for count in counts for soft in (False, True)
    ),
    Variant("hints, then labels", "family", _hints_first, against=ALONE),
    Variant(
        "attention, then labels", "family", lambda bench: _features_first(bench, attention_transfer_loss), against=ALONE
    ),
    Variant("relations, then labels", "family", lambda bench: _features_first(bench, relation_loss), against=ALONE),
    Variant(
        "born again, few images", "family",
        lambda bench: _born_again(bench, bench.pool[bench.few], bench.labels[bench.few], 2), against=ALONE,
    ),
    Variant(
        "born again, all images", "family", lambda bench: _born_again(bench, bench.pool, bench.labels, 4), against=ALL
    ),
    Variant("ensemble into one", "family", _ensemble, against=ALL),
    Variant(
        "noise", "family", lambda bench: _without_data(bench, noise_images(1000, bench.seed)), against=SOFT
    ),
    Variant(
        "generator", "family",
        lambda bench: _without_data(bench, invent_images(bench.teacher(), 1000, bench.seed)), against="noise",
    ),
    *(Variant(f"teacher of width {width}", "failures", _from(width), against=SOFT) for width in (2, 8)),
    Variant("teacher with smoothed labels", "failures", _from(smoothing=0.1), against=SOFT),
    Variant("two numbers, labels", "failures", _narrow(0), against="two numbers, labels"),
    *(Variant(f"two numbers, T = {t}", "failures", _narrow(t), against="two numbers, labels") for t in (1, 8)),
)  # fmt: skip
"""Every variant on digits. Their score for :func:`~kdlib.experiments.ablation.summarise` is ``accuracy``."""

SEQUENCES = tuple(Compared(f"words: {way}", "sequences", against="words: data") for way in WAYS)
"""Every variant of the toy language. Their scores are ``valid`` and ``distinct``."""


def measure(path: Path, seeds: Sequence[int] = SEEDS, variants: Sequence[Variant] = VARIANTS) -> dict[str, Any]:
    """Train and score every variant with every seed, and return the file's content.

    Args:
        path: a new file, or one with a part of the rows.
    """
    settings = {
        "test_images": TEST_IMAGES, "batch": BATCH, "steps": STEPS, "rate": RATE, "per_class": PER_CLASS,
        "temperature": TEMPERATURE, "teacher": [TEACHER_WIDTH, TEACHER_STEPS, TEACHER_RATE],
        "student_width": STUDENT_WIDTH, "withheld": WITHHELD,
        "words": [Words.STEPS, Words.RATE, Words.BATCH, Words.FIRST],
    }  # fmt: skip
    file = Measurement(path, settings, command=f"python -m kdlib.experiments.digits --out results/{path.name}")
    done = file.done("variant", "seed")
    torch.set_num_threads(1)  # the sums, and so the results, do not depend on the number of cores
    for seed in tqdm(seeds, desc="seed"):
        bench, words = Bench(seed), Words(seed)
        rows: dict[str, Callable[[], Mapping[str, float]]] = {
            variant.name: partial(variant.measure, bench) for variant in variants
        }
        if variants is VARIANTS:
            rows |= {f"words: {way}": partial(words.score, way) for way in WAYS}
        for name, scores in rows.items():
            if (name, seed) not in done:
                file.add({"variant": name, "seed": seed, **{key: round(value, 2) for key, value in scores().items()}})
    return file.content


def main() -> None:
    """Measure everything, or what a file still lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/distillation.json"))
    measure(parser.parse_args().out)


if __name__ == "__main__":
    main()
