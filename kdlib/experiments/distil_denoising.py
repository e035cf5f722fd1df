"""Distillation of a denoiser: what the lesson "Distil your own" cites.

Run as ``python -m kdlib.experiments.distil_denoising --out results/distil_denoising.json``; an interrupted run
continues. All students of a seed have the same first weights, the same number of steps and the same test photos, so
that differences are taken seed by seed.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from tqdm import tqdm

from kdlib.data.datasets import load_photos
from kdlib.data.samples import HELD_OUT, random_crops, sample_photos
from kdlib.enhance.photos.rgb import to_tensor
from kdlib.experiments.measurement import Compared, Measurement
from kdlib.training.answers import OutputLoss
from kdlib.training.distill import distill
from kdlib.training.state import Run

NOISE = 25 / 255
"""Standard deviation of the synthetic noise, for photos in [0, 1]."""
SIDE, MANY, FEW, TESTED, SELECTED = 24, 512, 2, 64, 32
TEACHER, STUDENT = (16, 5), (8, 3)  # width and depth
TEACHER_EPOCHS, EPOCHS, BATCH, RATE = 10, 8, 8, 0.01
SEEDS = tuple(range(6))


class Denoiser(nn.Module):
    """A small residual denoiser: 3×3 convolutions estimate the noise, which is subtracted.

    Zhang et al., "Beyond a Gaussian denoiser", 2017, without batch norm.

    Args:
        width: channels between two convolutions.
        depth: number of convolutions, at least 2.
        seed: of the first weights.
    """

    def __init__(self, width: int, depth: int, seed: int) -> None:
        super().__init__()
        channels = [3, *[width] * (depth - 1), 3]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for before, after in itertools.pairwise(channels):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            self.noise = nn.Sequential(*layers[:-1])

    def forward(self, photos: Tensor) -> Tensor:
        """Photos B×3×H×W to photos of the same shape."""
        denoised: Tensor = photos - self.noise(photos)
        return denoised


def add_noise(photos: Tensor, seed: int) -> Tensor:
    """Add Gaussian noise of standard deviation :data:`NOISE`, without clipping."""
    return photos + NOISE * torch.randn(photos.shape, generator=torch.Generator().manual_seed(seed))


def photos_in_two_parts(data_dir: str | Path | None = None, side: int = 256) -> tuple[list[Tensor], list[Tensor]]:
    """Return photos to learn from and photos to score on, each 3×H×W in [0, 1].

    Args:
        data_dir: a folder of at least three photos, of which every third is scored on; None for the embedded photos,
            of which the two held-out ones are.
        side: photos of a folder are cropped to the central square and resized to so many pixels.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: the folder does not exist, or has fewer than three readable
            photos.
    """
    if data_dir is None:
        photos = {name: to_tensor(photo) for name, photo in sample_photos().items()}
        return [p for name, p in photos.items() if name not in HELD_OUT], [photos[name] for name in HELD_OUT]
    found = load_photos(data_dir, size=side, limit=60).photos.float() / 255
    if len(found) < 3:
        raise ValueError(f"{data_dir} has {len(found)} readable photos: at least 3 are needed, one of them to score on")
    return [photo for at, photo in enumerate(found) if at % 3], list(found[::3])


def mean_squared(student: Tensor, teacher: Tensor, batch: Sequence[Tensor]) -> Tensor:
    """The loss to the teacher."""
    return F.mse_loss(student, teacher)


def to_truth(student: Tensor, teacher: Tensor, batch: Sequence[Tensor]) -> Tensor:
    """The loss to the batch's second tensor, the clean photos; ignores the teacher."""
    return F.mse_loss(student, batch[1])


def fit(
    student: nn.Module,
    teacher: nn.Module,
    data: TensorDataset,
    losses: Mapping[str, tuple[float, OutputLoss]],
    judged: tuple[Tensor, Tensor],
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    rate: float = RATE,
) -> Run:
    """Train a student in place; of all epochs the best on the ``judged`` pairs (noisy, clean) is kept."""
    return distill(
        student, teacher, data=data, losses=losses, validate=lambda model: {"psnr": score(model, judged)},
        monitor="psnr", epochs=epochs, batch_size=BATCH, learning_rate=rate, seed=seed, device="cpu",
        progress=False,
    )  # fmt: skip


def score(model: nn.Module, pairs: tuple[Tensor, Tensor]) -> float:
    """Mean PSNR in dB over pairs (noisy, clean), each N×3×H×W."""
    noisy, clean = pairs
    with torch.no_grad():
        errors = (model(noisy) - clean).square().mean(dim=(1, 2, 3))
    return float(-10 * errors.log10().mean())


class Bench:
    """What all students share: crops of the photos with and without noise, and how to train the teacher.

    Args:
        photos: to learn from and to score on, see :func:`photos_in_two_parts`.
        many: number of crops in the large training set.
        seed: of crops and noise.

    Attributes:
        many, judged, tested: pairs (noisy, clean), each N×3×24×24: to learn from, to select the epoch by, and, from
            other photos, to score on.
    """

    def __init__(self, photos: tuple[list[Tensor], list[Tensor]], *, many: int = MANY, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)

        def pairs(from_photos: list[Tensor], count: int, noise_seed: int) -> tuple[Tensor, Tensor]:
            clean = random_crops(from_photos, count, SIDE, draw).clamp(0, 1)
            return add_noise(clean, noise_seed), clean

        self.many = pairs(photos[0], many, seed)
        self.judged = pairs(photos[0], SELECTED, seed + 1)
        self.tested = pairs(photos[1], TESTED, seed + 2)

    def few(self, seed: int, count: int = FEW) -> tuple[Tensor, Tensor]:
        """Choose some pairs of ``many`` by a seed, and repeat them, each with its one noise, to the same number.

        An epoch then has as many steps as one over ``many``.
        """
        noisy, clean = self.many
        chosen = torch.randperm(len(clean), generator=torch.Generator().manual_seed(seed))[:count]
        again = chosen[torch.arange(len(clean)) % count]
        return noisy[again], clean[again]

    def teacher(self, epochs: int = TEACHER_EPOCHS) -> nn.Module:
        """Train a large denoiser on all clean crops, without a teacher."""
        losses = {"truth": (1.0, to_truth)}
        large = Denoiser(*TEACHER, seed=1000)
        return fit(large, nn.Identity(), TensorDataset(*self.many), losses, self.judged, epochs=epochs).model


@dataclass(frozen=True)
class Variant(Compared):
    """A student to train.

    Attributes:
        few: learn from a few photos instead of all.
        taught: learn from the teacher's answers instead of clean photos.
        shuffled: the answers are in another order than the photos, which is an error.
        rate: peak of the learning rate.
    """

    few: bool = False
    taught: bool = False
    shuffled: bool = False
    rate: float = RATE


ALONE, TAUGHT = "few pairs, alone", "noisy photos, taught"
MANY_ALONE = "all pairs, alone"
VARIANTS = (
    Variant(ALONE, "few", few=True, against=ALONE),
    Variant("few pairs, taught", "few", few=True, taught=True, against=ALONE),
    Variant(TAUGHT, "few", taught=True, against=ALONE),
    Variant(MANY_ALONE, "many", against=MANY_ALONE),
    Variant("all pairs, taught", "many", taught=True, against=MANY_ALONE),
)
"""The students compared. "all pairs, taught" is the run of "noisy photos, taught": it never sees a clean photo."""
FAILURES = (
    Variant("answers shuffled", "failures", taught=True, shuffled=True, against=TAUGHT),
    Variant("rate × 50", "failures", taught=True, rate=50 * RATE, against=TAUGHT),
)
"""Trained with the first seed only, for their curves."""


def to_answer(student: Tensor, teacher: Tensor, batch: Sequence[Tensor]) -> Tensor:
    """The loss to the batch's third tensor: answers of a teacher that were stored before."""
    return F.mse_loss(student, batch[2])


def train_variant(bench: Bench, teacher: nn.Module, variant: Variant, seed: int) -> tuple[nn.Module, Run]:
    """Train a student of :data:`STUDENT`; the teacher answers once, before the training."""
    noisy, clean = bench.few(seed) if variant.few else bench.many
    with torch.no_grad():
        answers = teacher(noisy)
    if variant.shuffled:
        answers = answers.flip(0)
    loss = to_answer if variant.taught else to_truth
    student = Denoiser(*STUDENT, seed=seed)
    data = TensorDataset(noisy, clean, answers)
    run = fit(student, nn.Identity(), data, {"loss": (1.0, loss)}, bench.judged, seed=seed, rate=variant.rate)
    return run.model, run


def measure(path: Path, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Train and score every variant with every seed, and return the file's content.

    Args:
        path: a new file, or one with a part of the rows.
    """
    settings = {
        "noise": NOISE, "side": SIDE, "many": MANY, "few": FEW, "tested": TESTED, "selected": SELECTED,
        "teacher": TEACHER, "student": STUDENT, "teacher_epochs": TEACHER_EPOCHS, "epochs": EPOCHS, "batch": BATCH,
        "rate": RATE,
    }  # fmt: skip
    torch.set_num_threads(1)  # the sums, and so the results, do not depend on the number of cores
    bench = Bench(photos_in_two_parts())
    file = Measurement(
        path, settings, command=f"python -m kdlib.experiments.distil_denoising --out results/{path.name}"
    )
    done = file.done("variant", "seed")
    teacher = bench.teacher()
    if not file.rows:
        for name, model in (("noisy", nn.Identity()), ("teacher", teacher)):
            file.add({"variant": name, "seed": 0, "psnr": round(score(model, bench.tested), 3)})
    for seed in tqdm(seeds, desc="seed"):
        measured: dict[Variant, dict[str, Any]] = {}
        for variant in (*VARIANTS, *(FAILURES if seed == seeds[0] else ())):
            if (variant.name, seed) in done:
                continue
            same = replace(variant, name="", group="", against="")
            if same not in measured:
                model, run = train_variant(bench, teacher, variant, seed)
                curves = {"loss": "loss", "psnr": "selection"}
                history = {to: [round(row[key], 5) for row in run.history] for key, to in curves.items()}
                measured[same] = {"psnr": round(score(model, bench.tested), 3), **history}
            file.add({"variant": variant.name, "seed": seed, **measured[same]})
    return file.content


def main() -> None:
    """Measure everything, or what a file still lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/distil_denoising.json"))
    measure(parser.parse_args().out)


if __name__ == "__main__":
    main()
