"""Choices in the training of a teacher: one short run for each, scored on synthetically darkened photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.data.datasets import evaluation_pairs, load_photos
from kdlib.data.degrade import darken
from kdlib.data.pairs import split_scenes, well_exposed
from kdlib.data.samples import sample_crops
from kdlib.evaluation.behaviour import daylight_change
from kdlib.evaluation.report import as_method
from kdlib.experiments.ablation import score_on_pairs
from kdlib.experiments.measurement import Measurement
from kdlib.losses.zero_reference import GLOBAL_WEIGHTS
from kdlib.training.pairs import VALIDATION_DARKENING, train_pairs
from kdlib.training.pretrain import pretrain

# Side of the validation photos: large enough that they still have noise where the network has averaged it away.
JUDGED_SIZE = 256


@dataclass(frozen=True)
class Choice:
    """One way to train a teacher.

    Attributes:
        name: in tables.
        changes: settings that differ from the base, of :func:`~kdlib.training.pretrain.pretrain`, or with ``pairs`` of
            :func:`~kdlib.training.pairs.train_pairs`.
        terms: weights of the base objective that differ.
        side: side of the training images, and of the largest copy that the network ever sees.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    side: int = 32

    def settings(self) -> dict[str, Any]:
        """All arguments of the run, apart from photos, epochs and seed."""
        shared = {"network_side": self.side, "learning_rate": 0.003, "ema_decay": 0.99}
        if "pairs" in self.changes:
            return {**shared, **self.changes}
        own = {"objective": {**GLOBAL_WEIGHTS, **self.terms}, "augmentation": "darken", "averaged": True}
        return {**shared, **own, **self.changes}


PATCHES = {"global exposure": 0.0, "exposure": 10.0}
CHOICES = (
    Choice("base"),
    Choice("no exposure augmentation", {"augmentation": "none"}),
    Choice("gamma augmentation", {"augmentation": "gamma"}),
    Choice("smoothness 100", terms={"smoothness": 100.0}),
    Choice("smoothness 400", terms={"smoothness": 400.0}),
    Choice("exposure target 0.5", {"exposure_target": 0.5}),
    Choice("exposure target 0.7", {"exposure_target": 0.7}),
    Choice("exposure of patches", terms=PATCHES),
    Choice("spatial consistency 4", terms={"spatial": 4.0}),
    Choice("colour constancy 1", terms={"colour": 1.0}),
    Choice("colour constancy 0", terms={"colour": 0.0}),
    Choice("network sees 64 pixels", side=64),
    Choice("last weights, no average", {"ema_decay": 0.0, "averaged": False}),
    Choice("Zero-DCE++ as published", {"objective": "zero-dce++", "augmentation": "none"}, side=64),
    Choice("self-made pairs", {"pairs": "self-made"}),
    Choice("self-made pairs, smoothness 10", {"pairs": "self-made", "smoothness": 10.0}),
)


def judge(model: nn.Module, pairs: Sequence[tuple[str, Tensor, Tensor]], prefix: str) -> dict[str, float]:
    """Mean PSNR (dB) and SSIM of a model's 8-bit output over (name, dark, truth), photos 3×H×W in [0, 1]."""
    return {f"{prefix}{name}": round(value, 4) for name, value in score_on_pairs(model, pairs).items()}


def validation_pairs(photos: Tensor, most: int = 40) -> list[tuple[str, Tensor, Tensor]]:
    """Up to ``most`` of the photos (N×3×S×S uint8), darkened once, each with itself as ground truth."""
    truth = photos[:: max(1, len(photos) // most)][:most].float() / 255
    dark = darken(truth, VALIDATION_DARKENING, generator=torch.Generator().manual_seed(0))
    return [(f"darkened {i}", *pair) for i, pair in enumerate(zip(dark, truth, strict=True))]


def run_search(
    results_path: str | Path,
    data_dir: str | Path | None = None,
    eval_dir: str | Path | None = None,
    *,
    choices: Sequence[Choice] = CHOICES,
    model: str = "zero-dce++",
    steps: int = 900,
    batch_size: int = 16,
    seed: int = 0,
    **loop: Any,
) -> dict[str, Any]:
    """Train a teacher by each choice, for equally many steps, and score it.

    The file is written after each run, and runs that it holds are not repeated. Validation photos are whole scenes that
    no run is trained on. The scores on ``eval_dir`` are for reporting only.

    Args:
        results_path: a JSON file: new, or of a search with the same settings.
        data_dir: a folder of photos, or None for crops of the embedded ones.
        eval_dir: a folder with ``low/`` and ``high/``, or None for the embedded photos darkened.
        steps: batches of each run.
        loop: see :class:`~kdlib.training.config.LoopConfig`.

    Returns:
        The content of the file: ``settings`` and ``rows`` with ``validation_psnr``, ``validation_ssim``, ``psnr``,
        ``ssim`` (of ``eval_dir``), ``daylight`` and ``seconds``.

    Raises:
        ValueError: the file holds a search with other settings.
    """

    def photos_of(side: int) -> Tensor:
        return load_photos(data_dir, size=side).photos if data_dir else sample_crops(256, side, darkened=False)

    large = photos_of(JUDGED_SIZE)
    train, held = split_scenes(large, 0.1, seed)
    pairs = validation_pairs(large[held][well_exposed(large[held])])
    test = list(evaluation_pairs(eval_dir))
    settings: dict[str, Any] = {"data": Path(data_dir).name if data_dir else "embedded", "model": model}
    settings |= {"steps": steps, "seed": seed}
    settings |= {
        "eval": Path(eval_dir).name if eval_dir else "embedded",
        "photos": len(train),
        "batch_size": batch_size,
    }
    settings |= {name: value for name, value in loop.items() if name != "device"}  # a search may continue elsewhere
    measurement = Measurement(results_path, {**settings, "validation": len(pairs)})
    done = measurement.done("choice")
    for choice in (choice for choice in choices if (choice.name,) not in done):
        photos = photos_of(choice.side)[train]
        arguments = {**choice.settings(), **loop, "batch_size": batch_size, "seed": seed, "photos": photos}
        run_one = train_pairs if "pairs" in choice.changes else pretrain
        used = int(well_exposed(photos).sum()) if "pairs" in choice.changes else len(photos)
        epochs = max(1, round(steps / max(1, used * 0.9 // batch_size)))
        run = run_one(model, epochs=epochs, progress=False, **arguments)
        row = {"choice": choice.name, "epochs": epochs, **judge(run.model, pairs, "validation_")}
        row |= judge(run.model, test, "")
        row |= {"daylight": round(daylight_change(as_method(run.model))["daylight"], 4)}
        measurement.add({**row, "seconds": round(run.seconds, 1)})
    return measurement.content
