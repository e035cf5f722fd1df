"""The effect of each part of the distillation loss: the same student, trained in many ways at one budget."""

import json
import math
import re
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from kdlib.data.datasets import dark_photos, evaluation_pairs, load_photos, training_folder
from kdlib.data.pairs import find_scenes
from kdlib.data.samples import sample_crops
from kdlib.enhance.photos.rgb import list_photos
from kdlib.evaluation.metrics import capped_psnr, enhance_tensor, fidelity, psnr, quantise, ssim
from kdlib.evaluation.tables import markdown_table
from kdlib.experiments.measurement import Compared, Measurement
from kdlib.losses.perceptual import BackboneUnavailableError
from kdlib.losses.zero_reference import GLOBAL_WEIGHTS
from kdlib.models import ZeroDCE, apply_curve
from kdlib.training.augmentation import darken_once
from kdlib.training.config import LoopConfig
from kdlib.training.distill import distill
from kdlib.training.pairs import targets, train_pairs
from kdlib.training.pretrain import pretrain
from kdlib.training.processes import make_fabric
from kdlib.training.recipes import Recipe, make_recipe
from kdlib.training.task import at_scale, digest
from kdlib.weights import load_model
from kdlib.weights.catalogue import find_weights, sha256_of

# The baselines: with this teacher, for longer, with a teacher that was trained on pairs, with the smaller student.
ALONE, LONG, PAIRS, NANO = "alignment alone", "4 ×: alignment alone", "pairs: alignment alone", "nano: alignment alone"
# Without a teacher, on the same photos: the training of the teacher itself, zero-reference or on synthetic pairs; and
# stage 1 as published.
OWN, OWN_PAIRS = {"objective": "global", "augmentation": "none"}, {"pairs": "self-made"}
PUBLISHED = {"objective": "multi-region", "augmentation": "gamma"}
OTHER = "zero-dce++-pairs"
TWO_STAGE = {"recipe": "two-stage", "alpha": None, "beta": None}
# Two-sided 95% points of Student's t for 1 to 9 degrees of freedom; with more, the last one is on the safe side.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
ALPHAS, BETAS = (0.3, 0.5, 0.7, 0.9, 1.0), (0.0, 0.1, 0.2, 0.3)


@dataclass(frozen=True)
class Variant(Compared):
    """One way to train the student.

    Attributes:
        changes: differences from output alignment alone (α = 1, β = 0): fields of a ``Recipe``; a ``recipe`` by name.
        stage1: settings of the stage before distillation: of ``pretrain``, or of ``train_pairs``.
        stage1_share: its share of the epochs. With 1 there is no distillation: the student has no teacher.
        student, teacher, times: a student or teacher other than the run's, or a multiple of its epochs.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    stage1: Mapping[str, Any] = field(default_factory=dict)
    stage1_share: float = 0.0
    student: str = ""
    teacher: str = ""
    times: int = 1
    against: str = field(default=ALONE, kw_only=True)

    def recipe(self) -> Recipe:
        """The recipe of the distillation, without stage 1."""
        changes = {"recipe": "one-stage", "alpha": 1.0, "beta": 0.0, **self.changes}
        return make_recipe(changes.pop("recipe"), **changes, pretrain_epochs=0)

    def definition(self) -> dict[str, Any]:
        """What results depend on, as plain JSON: stored with them, and compared before they are reused."""
        teacher = [self.teacher, short_digest(self.teacher)] if self.teacher else ""
        parts = {**vars(self), "changes": asdict(self.recipe()), "teacher": teacher}
        plain: dict[str, Any] = json.loads(json.dumps({**parts, "name": None, "group": None, "against": None}))
        return {name: part for name, part in plain.items() if part is not None}


def short_digest(weights: str | Path) -> str:
    """The first twelve digits of a weights file's SHA-256."""
    return sha256_of(find_weights(weights))[:12]


def cell(alpha: float, beta: float) -> str:
    """The name of a cell of the α × β grid."""
    return ALONE if alpha == 1 else f"α {alpha:g}, β {beta:g}"


VARIANTS = (
    Variant(ALONE, "teacher or not"),
    Variant("no teacher, its own loss", "teacher or not", stage1=OWN, stage1_share=1.0),
    Variant("no teacher, published stage 1", "teacher or not", stage1=PUBLISHED, stage1_share=1.0),
    *(Variant(cell(a, b), "grid", {"alpha": a, "beta": b}) for a in ALPHAS[:-1] for b in BETAS if a + b <= 1),
    Variant("factor 1 instead of 100", "parts", {"alpha": 0.7, "beta": 0.2, "alignment": 1.0}, against=cell(0.7, 0.2)),
    Variant("task 0.3, teacher's own loss", "parts", {"alpha": 0.7, "task": GLOBAL_WEIGHTS}, against=cell(0.7, 0.0)),
    Variant("− curve map", "parts", {"map_weight": 0.0}),
    Variant("+ features 0.005", "parts", {"alpha": 0.995, "beta": 0.005}),
    Variant("+ task 0.01", "parts", {"alpha": 0.99}),
    Variant("+ SSIM 0.3", "parts", {"ssim": 0.3}),
    Variant("+ SSIM 3", "parts", {"ssim": 3.0}),
    Variant("+ perceptual 0.02", "parts", {"perceptual": 0.02}),
    Variant("+ perceptual 0.2", "parts", {"perceptual": 0.2}),
    Variant("+ contrastive 0.05", "parts", {"contrastive": 0.05}),
    Variant("+ contrastive 0.5", "parts", {"contrastive": 0.5}),
    Variant("+ stage 1, teacher's own loss", "stage 1", stage1=OWN, stage1_share=1 / 3),
    Variant("+ stage 1, published", "stage 1", stage1=PUBLISHED, stage1_share=1 / 3),
    Variant("two-stage recipe without stage 1", "stage 1", TWO_STAGE),
    Variant("two-stage recipe", "stage 1", TWO_STAGE, PUBLISHED, 1 / 3, against="two-stage recipe without stage 1"),
    Variant(LONG, "4 × the epochs", times=4),
    Variant("4 ×: α 0.9, β 0.1", "4 × the epochs", {"alpha": 0.9, "beta": 0.1}, times=4, against=LONG),
    Variant("4 ×: α 0.7, β 0.2", "4 × the epochs", {"alpha": 0.7, "beta": 0.2}, times=4, against=LONG),
    Variant(PAIRS, "pairs teacher", teacher=OTHER, against=PAIRS),
    Variant("pairs: no teacher", "pairs teacher", {}, OWN_PAIRS, 1.0, teacher=OTHER, against=PAIRS),
    Variant("pairs: α 0.7, β 0", "pairs teacher", {"alpha": 0.7}, teacher=OTHER, against=PAIRS),
    Variant(NANO, "nano-161", student="nano-161"),
    Variant("nano: no teacher", "nano-161", {}, OWN, 1.0, student="nano-161", against=NANO),
    Variant("nano: α 0.7, β 0.2", "nano-161", {"alpha": 0.7, "beta": 0.2}, student="nano-161", against=NANO),
)


def hold_out(photos: Tensor, share: float = 0.1, gap: int = 9) -> tuple[Tensor, Tensor]:
    """Split photos, in their natural order, so that the held-out ones show scenes of their own.

    Exposures of one scene follow each other, so a random split would test on training scenes. Up to ten contiguous
    blocks, evenly spread, are held out. Photos of a held-out scene that lie elsewhere, and ``gap`` neighbours on either
    side of all these, are in neither part.

    Returns:
        Indices of the training photos, and of the held-out ones.
    """
    count, blocks = len(photos), max(1, min(10, len(photos) // 100))
    length = max(1, round(count * share / blocks))
    starts = ((torch.arange(blocks) + 0.5) * count / blocks - length / 2).round().long()
    held = (starts[:, None] + torch.arange(length)).flatten().clamp(0, count - 1).unique()
    scene = find_scenes(photos)
    taken = torch.isin(scene, scene[held]).float()
    train = (F.max_pool1d(taken[None], 2 * gap + 1, stride=1, padding=gap)[0] == 0).nonzero()[:, 0]
    if len(train) < 2:
        raise ValueError(f"holding out scenes leaves {len(train)} of {count} photos to train on; give a larger folder")
    return train, held


def prepare_photos(data_dir: str | Path | None, size: int, limit: int) -> tuple[Tensor, Tensor]:
    """Up to ``limit`` training photos and up to 100 held-out ones, evenly spaced (N×3×S×S, uint8).

    Held-out photos are darkened as the training photos will be. Without a folder, the training photos are crops of four
    embedded photos, and the two others, at four exposures each, are held out.
    """
    if data_dir is None:
        from torchvision.transforms.v2.functional import center_crop

        squares = [center_crop(photo, [min(photo.shape[1:])]) for _, photo in dark_photos()]
        held = torch.stack([F.adaptive_avg_pool2d(photo, size) for photo in squares])
        return sample_crops(limit, size, darkened=False), held.mul(255).round().byte()
    loaded = load_photos(data_dir, size=size)
    if loaded.skipped:
        raise ValueError(f"an ablation needs every photo readable; move this one away: {loaded.skipped[0]}")
    names = [re.split(r"(\d+)", path.as_posix()) for path in list_photos(training_folder(data_dir))]
    keys = [[int(part) if part.isdecimal() else part for part in name] for name in names]  # 2.jpg before 10.jpg
    photos = loaded.photos[sorted(range(len(keys)), key=keys.__getitem__)]
    train, held = hold_out(photos)
    train, held = (part[:: max(1, len(part) // most)][:most] for part, most in ((train, limit), (held, 100)))
    return photos[train], darken_once(photos[held], seed=0)


def train_variant(
    variant: Variant, originals: Tensor, teacher: ZeroDCE, student: str, epochs: int, seed: int, **settings: Any
) -> tuple[ZeroDCE, float]:
    """Train a fresh student on photos (uint8). Returns the student, and the seconds of processor time.

    Stage 1 and distillation share the epochs. With one seed, all variants start with the same weights and see the same
    darkened photos, except for training on pairs, which uses the well-exposed originals as targets, for as many steps.
    """
    epochs, started = epochs * variant.times, time.process_time()
    first = round(epochs * variant.stage1_share)
    pupil: Any = variant.student or student
    photos = darken_once(originals, seed)
    stage1 = {**variant.stage1, "network_side": teacher.network_side, "seed": seed, **settings}
    if "pairs" in stage1:
        passes = round(first * len(originals) / len(targets(originals)[0]))
        pupil = train_pairs(pupil, photos=originals, epochs=passes, **stage1).model
    elif first:
        pupil = pretrain(pupil, photos=photos, epochs=first, **stage1).model
    if first < epochs:
        settings |= {"recipe": variant.recipe(), "epochs": epochs - first, "seed": seed}
        pupil = distill(pupil, teacher, photos=photos, **settings).model
    return pupil, time.process_time() - started


def score_on_pairs(model: nn.Module, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> dict[str, float]:
    """Mean PSNR (dB) and SSIM of a model's 8-bit output against ground truth."""
    outputs = [(quantise(enhance_tensor(model, dark)), truth.double()) for _, dark, truth in pairs]
    return {
        name: statistics.fmean(score(*pair) for pair in outputs) for name, score in (("psnr", psnr), ("ssim", ssim))
    }


@torch.no_grad()
def fixed_curve_fidelity(teacher: ZeroDCE, photos: Tensor) -> float:
    """Fidelity of one curve for all photos (N×3×S×S in [0, 1]) to a teacher, in dB: the mean of the teacher's maps.

    A student that cannot tell one photo from another ends up there.
    """
    with at_scale(1, teacher):
        wanted, maps = teacher(photos)
    outputs = apply_curve(photos, maps.mean(dim=(0, 2, 3), keepdim=True).expand_as(maps), teacher.iterations)
    return statistics.fmean(capped_psnr(output, want) for output, want in zip(outputs, wanted, strict=True))


def run_ablation(
    results_path: str | Path,
    data_dir: str | Path | None = None,
    eval_dir: str | Path | None = None,
    *,
    variants: Sequence[Variant] = VARIANTS,
    seeds: Sequence[int] = (0, 1, 2),
    student: str = "student-565",
    teacher: str | Path = "zero-dce++",
    epochs: int = 15,
    limit: int = 400,
    size: int = 32,
    device: str = "auto",
    **loop: Any,
) -> dict[str, Any]:
    """Train every variant from every seed and score the students.

    The file is written after each run, and runs that it holds are not repeated: an interrupted ablation continues.

    Args:
        results_path: a JSON file: new, or of an ablation with the same settings.
        data_dir: a folder of photos, or None for the embedded ones.
        eval_dir: a folder with ``low/`` and ``high/``, or None for the embedded pairs; for reporting only.
        seeds: of the student's weights, the darkening and the order of the photos.
        limit, size: training photos, and their side in pixels.
        epochs, device, loop: see :class:`~kdlib.training.config.LoopConfig`.

    Returns:
        The content of the file: ``settings``, ``variants``, ``yardsticks`` (the teacher's scores, and the fidelity of
        one fixed curve) and ``rows``, one for each run, with ``fidelity`` to the teacher (dB, mean over the held-out
        photos), ``psnr``, ``ssim`` and ``seconds``.

    Raises:
        ValueError: the file holds results with other settings.
    """
    LoopConfig(epochs=epochs, device=device, **loop)  # fails before any work is done
    train, held = prepare_photos(data_dir, size, limit)
    folders = {"data": data_dir, "eval": eval_dir}
    settings: dict[str, Any] = {k: Path(v).absolute().name if v else "embedded" for k, v in folders.items()}
    settings |= {"photos": len(train), "held_out": len(held), "digest": digest(train, held), "student": student}
    settings |= {"teacher": Path(teacher).name, "teacher_sha256": short_digest(teacher)}
    settings |= {"epochs": epochs, "size": size, **loop, "device": make_fabric(device).device.type}
    measurement = Measurement(results_path, settings, yardsticks={}, variants={})
    content = measurement.content
    definitions = {variant.name: variant.definition() for variant in variants}
    # A variant that was redefined under its old name runs again.
    stale = {name for name, what in content["variants"].items() if definitions.get(name, what) != what}
    content["rows"] = [row for row in content["rows"] if row["variant"] not in stale]
    content["variants"] |= definitions
    done = measurement.done("variant", "seed")
    todo = [(variant, seed) for seed in seeds for variant in variants if (variant.name, seed) not in done]
    pairs = list(evaluation_pairs(eval_dir)) if todo else []
    masters: dict[str | Path, Any] = {
        name: load_model(name) for name in {variant.teacher or teacher for variant, _ in todo}
    }
    if "fixed_curve" not in content["yardsticks"]:
        master: Any = load_model(teacher)
        teachers = {f"teacher_{k}": v for k, v in score_on_pairs(master, evaluation_pairs(eval_dir)).items()}
        content["yardsticks"] = {**teachers, "fixed_curve": fixed_curve_fidelity(master, held.float() / 255)}
        measurement.write()
    unseen = [(f"held-out {i}", photo) for i, photo in enumerate(held.float() / 255)]
    for variant, seed in tqdm(todo, desc="ablation", unit="run"):
        master = masters[variant.teacher or teacher]
        once = {"device": device, "progress": False, **loop}
        try:
            model, seconds = train_variant(variant, train, master, student, epochs, seed, **once)
        except (BackboneUnavailableError, ValueError) as error:  # no SqueezeNet; no photo that can be a target
            warnings.warn(f"{variant.name!r} is left out: {error}", stacklevel=2)
            continue
        with at_scale(1, model, master):
            near = fidelity(model, master, unseen)
        scores = {"fidelity": near["mean"], "worst": near["worst"], **score_on_pairs(model, pairs), "seconds": seconds}
        scores = {name: round(value, 4) for name, value in scores.items()}
        measurement.add({"variant": variant.name, "seed": seed, **scores})
    return content


def half_width(deviation: float, count: int) -> float:
    """Half of the 95% interval of a mean: t · standard error.

    Args:
        deviation: sample standard deviation of the values.
        count: how many there are, at least 2.
    """
    return T_95[min(count - 1, len(T_95)) - 1] * deviation / math.sqrt(count)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The mean of two or more paired differences, and the half-width of its 95% interval."""
    return statistics.fmean(differences), half_width(statistics.stdev(differences), len(differences))


def summarise(
    rows: Iterable[Mapping[str, Any]], score: str = "fidelity", variants: Sequence[Compared] = VARIANTS
) -> list[dict[str, Any]]:
    """Each variant's mean and standard deviation over the seeds, and its difference from the one to compare with.

    The difference is taken seed by seed. Its 95% interval is mean ± margin, margin = t · standard error, n − 1 degrees
    of freedom. ``verdict`` is ``higher`` or ``lower`` if the interval excludes zero, else ``not shown``: there may be a
    difference that so few seeds do not show. ``–``: nothing to compare with. ``ahead`` counts the seeds with the higher
    score.
    """
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        scores[row["variant"]][row["seed"]] = row[score]
    summary = []
    for variant in [variant for variant in variants if variant.name in scores]:
        own, base = scores[variant.name], scores[variant.against]
        spread = statistics.stdev(own.values()) if len(own) > 1 else None
        line = {"variant": variant.name, "group": variant.group, "against": variant.against, "seeds": len(own)}
        steps = [own[seed] - base[seed] for seed in own.keys() & base.keys() if variant.name != variant.against]
        difference, margin, verdict = (statistics.fmean(steps) if steps else None), None, "–"
        if difference is not None and len(steps) > 1:
            margin = interval(steps)[1]
            verdict = "not shown" if abs(difference) <= margin else "higher" if difference > 0 else "lower"
        line |= {"mean": statistics.fmean(own.values()), "deviation": spread, "ahead": sum(step > 0 for step in steps)}
        summary.append({**line, "difference": difference, "margin": margin, "verdict": verdict})
    return summary


def verdict_table(summary: Mapping[str, Mapping[str, Any]], variants: Mapping[str, str]) -> str:
    """A Markdown table of some variants: mean, spread, difference with its interval, seeds ahead, and verdict.

    Args:
        summary: lines of :func:`summarise`, by variant.
        variants: label in the table → variant.
    """
    labels = {variant: label for label, variant in variants.items()}
    lines = [
        {**summary[variant], "variant": label, "interval": "–", "wins": "–"} for label, variant in variants.items()
    ]
    for line in lines:
        line["against"] = labels.get(line["against"], line["against"])
        if line["margin"] is not None:
            line["interval"] = f"{line['difference']:+.1f} ± {line['margin']:.1f}".replace("-", "−")
            line["wins"] = f"{line['ahead']} of {line['seeds']}"
    columns = {"variant": ("variant", "s"), "mean": ("fidelity, dB", ".1f"), "deviation": ("± seeds", ".1f")}
    columns |= {"interval": ("difference, 95%", "s"), "against": ("from", "s")}
    return markdown_table(lines, columns | {"wins": ("seeds ahead", "s"), "verdict": ("verdict", "s")})


def grid(rows: Sequence[Mapping[str, Any]], score: str = "fidelity") -> dict[tuple[float, float], list[float]]:
    """The scores of each cell (α, β) of the grid that has been run, one per seed."""
    places = [(alpha, beta) for alpha in ALPHAS for beta in BETAS if alpha + beta <= 1]
    cells = {place: [row[score] for row in rows if row["variant"] == cell(*place)] for place in places}
    return {place: scores for place, scores in cells.items() if scores}


def best_cell(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The cell with the highest mean fidelity on held-out photos; pairs with ground truth are not considered."""
    means = {place: statistics.fmean(scores) for place, scores in grid(rows).items()}
    return max(means, key=means.__getitem__)
