"""Stage 2 for networks that reach a photo in stages: teach a student each of its teacher's stages, beside the truth."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from kdlib.data.datasets import load_photos
from kdlib.data.degrade import darken
from kdlib.data.pairs import split_scenes
from kdlib.evaluation.metrics import capped_psnr
from kdlib.losses.levels import EARLY_WEIGHTS, LATE_WEIGHTS, TO_TRUTH, LevelLosses, ProgressiveWeights
from kdlib.models import IAT, IATStudent, create_model
from kdlib.noise import measure_noise
from kdlib.resampling import resize
from kdlib.stages import Stages, compose
from kdlib.training.config import LoopConfig
from kdlib.training.loop import Run, fit
from kdlib.training.pairs import VALIDATION_DARKENING, load_training_set
from kdlib.training.pretrain import digest
from kdlib.training.preview import preview_of
from kdlib.training.processes import make_fabric
from kdlib.weights import resolve_model


def random_window(columns: Tensor, side: int, whole: float, generator: torch.Generator) -> Tensor:
    """The same random window, flip and quarter turn of everything that belongs to a photo.

    Args:
        columns: B×C×S×S, all that is to stay aligned.
        side: of the result.
        whole: for this share of the calls the window is the whole photo, shrunk; else its side is drawn from ``side``
            to S.

    Returns:
        B×C×side×side.
    """
    full = columns.shape[-1]
    drawn, zoom, top, left, flip, turn = torch.rand(6, generator=generator, device=generator.device).tolist()
    kept = full if drawn < whole else side + int(zoom * (full - side + 1))
    top, left = int(top * (full - kept + 1)), int(left * (full - kept + 1))
    window = columns[..., top : top + kept, left : left + kept]
    if kept != side:
        window = F.interpolate(window, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    if flip < 0.5:
        window = window.flip(-1)
    return window.rot90(int(turn * 4), dims=(-2, -1))


class StagesObjective:
    """The terms of a batch: dark photo, truth, and what the teacher made of the dark one.

    Attributes:
        weights: by level, as they are now; the schedule moves them on.
        centred: whether the teacher is, see :class:`~kdlib.models.iat.IAT`.
    """

    def __init__(
        self,
        schedule: ProgressiveWeights,
        losses: LevelLosses,
        side: int,
        *,
        whole: float,
        noise_gain: float,
        centred: bool = False,
    ) -> None:
        self.schedule, self.losses, self.side, self.whole, self.noise_gain = schedule, losses, side, whole, noise_gain
        self.centred = centred
        self.weights = schedule(0.0)

    def advance(self, progress: float) -> None:
        """Take the weights that belong to this share of the training."""
        self.weights = self.schedule(progress)

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor, ...], average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        dark, truth, multiply, add, colour, gamma, noise = batch
        columns = torch.cat([dark.float() / 255, truth.float() / 255, multiply.float(), add.float()], dim=1)
        seen, truth, multiply, add = random_window(columns, self.side, self.whole, generator).split(3, dim=1)
        with torch.autocast(seen.device.type, enabled=False):  # or the targets would be rounded to half precision
            taught = recompose(self.centred, seen, multiply, add, colour, gamma)
        if self.noise_gain > 1:
            # Averaging pixels took noise away that photos at full size have; deviations add in squares.
            gain = 1 + (self.noise_gain - 1) * torch.rand(len(seen), generator=generator, device=seen.device)
            deviation = (noise * (gain.square() - 1).sqrt()).view(-1, 1, 1, 1)
            draw = torch.randn(seen.shape, generator=generator, device=seen.device)
            seen = (seen + deviation * draw).clamp(0, 1)
        answer = model(seen.contiguous(memory_format=torch.channels_last))
        return self.losses(self.weights, answer, taught, truth)


def recompose(centred: bool, photos: Tensor, *answers: Tensor) -> tuple[Tensor, Stages]:
    """What a teacher's answers (of :func:`ask_in_stages`, or windows of them) make of the photos they belong to."""
    return compose(2 * photos - 1 if centred else photos, *answers)


@torch.no_grad()
def ask_in_stages(
    teacher: nn.Module, dark: Tensor, device: torch.device, asked_at: tuple[int, int] | None = None
) -> tuple[Tensor, ...]:
    """What a teacher makes of photos N×3×S×S uint8: multiply and add maps in half precision, colour, gamma.

    Args:
        asked_at: width and height at which it sees the photos; its maps are brought back to S×S. None: as they are.
    """
    answers: list[Stages] = []
    for batch in dark.split(4):
        seen = batch.to(device).float() / 255
        if asked_at:
            seen = resize(seen, asked_at[::-1]).clamp(0, 1)
        _, stages = teacher(seen)
        answers.append(Stages(*(part.cpu() for part in stages)))
    side = dark.shape[-1]
    return (
        torch.cat([resize(part.multiply, (side, side)).clamp_min(0).half() for part in answers]),
        torch.cat([resize(part.add, (side, side)).half() for part in answers]),
        torch.cat([part.colour for part in answers]),
        torch.cat([part.gamma for part in answers]),
    )


def load_fixed_pairs(
    source: str, data_dir: str | Path | None, size: int, limit: int | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Dark photos and truth, N×3×S×S uint8. The teacher answers once for each, so self-made pairs are darkened once."""
    *dark, truth = load_training_set(source, data_dir, size, limit, seed)
    if dark:
        return dark[0], truth
    generator = torch.Generator().manual_seed(seed)
    parts = [darken(batch.float() / 255, VALIDATION_DARKENING, generator=generator) for batch in truth.split(64)]
    return torch.cat([part.mul(255).round().byte() for part in parts]), truth


def with_further(
    folder: str | Path,
    teacher: IAT | IATStudent,
    dark: Tensor,
    truth: Tensor,
    answers: tuple[Tensor, ...],
    size: int,
    count: int,
    device: torch.device,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Pairs and the teacher's answers to them, followed by further photos whose truth is what the teacher makes of
    them."""
    photos = load_photos(folder, size=size, limit=count).photos
    more = ask_in_stages(teacher, photos, device)
    made = [
        recompose(teacher.centred, part.float() / 255, *(answer.float() for answer in parts))[0]
        for part, *parts in zip(photos.split(16), *(answer.split(16) for answer in more), strict=True)
    ]
    told = torch.cat([part.mul(255).round().byte() for part in made])
    joined = tuple(torch.cat(both) for both in zip(answers, more, strict=True))
    return torch.cat([dark, photos]), torch.cat([truth, told]), joined


def noise_levels(photos: Tensor) -> Tensor:
    """The noise that was measured in each of the photos (N×3×S×S uint8): N standard deviations of a channel, in [0, 1].

    What is measured is luminance, (R + 2G + B) / 4, where noise that is independent in the channels averages out.
    """
    luminance = [measure_noise(photo.permute(1, 2, 0).contiguous().numpy()) / 255 for photo in photos]
    return torch.tensor(luminance) * (4 / 6**0.5)


def recipe(*, with_teacher: bool = True) -> ProgressiveWeights:
    """The weights that :func:`distill_stages` uses unless told otherwise."""
    ends = [
        {level: weight for level, weight in end.items() if with_teacher or level in TO_TRUTH}
        for end in (EARLY_WEIGHTS, LATE_WEIGHTS)
    ]
    return ProgressiveWeights(*ends)


def distill_stages(
    student: str | IATStudent = "iat-student",
    teacher: str | Path | IAT | IATStudent | None = "iat",
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    pairs: str = "real",
    further_dir: str | Path | None = None,
    further: int = 400,
    schedule: ProgressiveWeights | None = None,
    distance: str = "l1",
    size: int = 256,
    side: int = 128,
    whole: float = 1 / 3,
    asked_at: tuple[int, int] | None = None,
    noise_gain: float = 1.0,
    limit: int | None = None,
    validation_fraction: float = 0.1,
    epochs: int = 60,
    ema_decay: float = 0.99,
    **settings: Any,
) -> Run:
    """Teach a student the stages of its teacher and the truth.

    The teacher answers once for each photo, and its answers take part in every augmentation.

    Args:
        student: a name, or a model, which is trained in place.
        teacher: a shipped name, the path of a weights file, or a model. None for none: the truth alone teaches, as it
            would a teacher.
        data_dir: a folder of pairs; None for the embedded photos, darkened by ourselves.
        output_dir: gets ``history.csv`` and checkpoints; None writes nothing.
        pairs: ``real``, or ``self-made`` of well-exposed photos that are darkened once.
        further_dir: a folder of photos of any kind, of which nobody knows the truth: the teacher's answer stands for
            it. Pairs are all dark; what a student has to do with photos that are not, it learns here or not at all.
        further: use at most so many of these, evenly spaced over the folder.
        schedule: weights of the levels while training goes on; None for the recipe's, without a teacher those of it
            that compare with the truth.
        distance: ``l1``, ``smooth-l1`` or ``mse``; see :class:`~kdlib.losses.levels.LevelLosses`.
        size: side of the photos in memory.
        side: of the windows that are trained on, at most ``size``.
        whole: share of the batches that show whole photos, because colour and gamma belong to those.
        asked_at: width and height at which the teacher sees the pairs' photos, for example those it was trained at;
            its maps are brought back to ``size``. None: as the student's. Further photos it sees at ``size``: they may
            have any shape.
        noise_gain: the student's input gets noise until it has up to so many times what was measured in the photo; the
            targets do not. Where photos were shrunk, n pixels averaged into one, √n is what the full size would have.
        limit: use at most so many pairs.
        validation_fraction: share of the pairs, whole scenes, kept back; the epoch with the highest PSNR on them wins.
        epochs, ema_decay, settings: see :class:`~kdlib.training.config.LoopConfig`; the average of the weights is kept.

    Returns:
        The run; its history has ``validation_psnr`` (to the truth) and, with a teacher, ``fidelity`` to it, in dB.

    Raises:
        ValueError: unknown names, values out of range, or networks without stages; the message says which.
        NonFiniteLossError, OSError: see :func:`~kdlib.training.loop.fit`.
    """
    config = LoopConfig(epochs=epochs, ema_decay=ema_decay, averaged=True, **settings)
    if not 16 <= side <= size:
        raise ValueError(f"side is from 16 up to size, {size}, not {side}")
    if not 0 <= whole <= 1:
        raise ValueError(f"whole is a share from 0 to 1, not {whole}")
    if asked_at and min(asked_at) < 16:
        raise ValueError(f"asked_at is a width and a height from 16 up, not {asked_at[0]}x{asked_at[1]}")
    if not 1 <= noise_gain <= 10:
        raise ValueError(f"noise_gain is from 1 (no noise is added) to 10, not {noise_gain}")
    torch.manual_seed(config.seed)
    pupil = create_model(student) if isinstance(student, str) else student
    # Without a teacher nobody asks for its answers; the student's own fill their place.
    master = copy.deepcopy(pupil if teacher is None else resolve_model(teacher)).eval().requires_grad_(False)
    for role, network in (("student", pupil), ("teacher", master)):
        if not isinstance(network, IAT | IATStudent):
            raise ValueError(f"the {role} has no stages: {type(network).__name__}; distil it with `distill`")
    assert isinstance(master, IAT | IATStudent)
    weights = schedule or recipe(with_teacher=teacher is not None)
    if further_dir is not None and teacher is None:
        raise ValueError("further photos have no truth but the teacher's answer: without a teacher leave them out")
    levels = {level for side_of in (weights.early, weights.late) for level, weight in side_of.items() if weight}
    if teacher is None and not levels <= set(TO_TRUTH):
        raise ValueError(f"without a teacher there is no {min(levels - set(TO_TRUTH))!r}; use {', '.join(TO_TRUTH)}")
    if pupil.centred != master.centred and levels & {"multiply", "add"}:
        raise ValueError(
            f"the student has centred={pupil.centred} and its teacher centred={master.centred}: their multiply and add "
            "maps mean different things. Make a student that sees photos as its teacher does, or leave these levels out"
        )
    dark, truth = load_fixed_pairs(pairs, data_dir, size, limit, config.seed)
    device = make_fabric(config.device, config.precision).device
    master.to(device)
    answers = ask_in_stages(master, dark, device, asked_at)
    train, held = split_scenes(truth, validation_fraction, config.seed)
    if further_dir is not None:
        given, told, answers = with_further(further_dir, master, dark, truth, answers, size, further, device)
        train = torch.cat([train, torch.arange(len(dark), len(given))])
        dark, truth = given, told
    objective = StagesObjective(
        weights, LevelLosses(distance), side, whole=whole, noise_gain=noise_gain, centred=master.centred
    )
    columns = (dark, truth, *answers, noise_levels(dark))

    def validate(model: nn.Module) -> dict[str, float]:
        scores, near = [], []
        for rows in held.split(4):
            seen = dark[rows].to(device).float() / 255
            enhanced = model(seen)[0].cpu()
            taught = recompose(master.centred, seen.cpu(), *(answer[rows].float() for answer in answers))[0]
            wanted = truth[rows].float() / 255
            scores += [capped_psnr(have, want) for have, want in zip(enhanced, wanted, strict=True)]
            near += [capped_psnr(have, want) for have, want in zip(enhanced, taught, strict=True)]
        fidelity = {} if teacher is None else {"fidelity": sum(near) / len(near)}
        return {"validation_psnr": sum(scores) / len(scores), **fidelity}

    data: Dataset[Any] = TensorDataset(*(column[train] for column in columns))
    return fit(
        pupil,
        objective,
        data,
        validate,
        "validation_psnr",
        config,
        output_dir,
        description="distilling in stages",
        identity={
            "student": repr(pupil.config),
            "teacher": None if teacher is None else digest(*master.state_dict().values()),
            "schedule": repr(weights),
            "distance": distance,
            "side": side,
            "whole": whole,
            "asked_at": asked_at,
            "noise_gain": noise_gain,
            "photos": digest(dark, truth),
            "validation_fraction": validation_fraction,
        },
        preview=preview_of(dark[held], truth[held]),
        advance=objective.advance,
    )
