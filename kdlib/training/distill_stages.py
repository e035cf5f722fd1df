"""Stage 2 for networks that enhance a photo in stages: a student learns each of its teacher's stages, and the truth."""

from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from kdlib.checks import check_number
from kdlib.data.datasets import load_photos
from kdlib.data.degrade import darken
from kdlib.data.pairs import split_scenes
from kdlib.evaluation.metrics import capped_psnr
from kdlib.losses.levels import EARLY_WEIGHTS, LATE_WEIGHTS, TO_TRUTH, LevelLosses, ProgressiveWeights
from kdlib.models import IAT, IATStudent
from kdlib.noise import measure_noise
from kdlib.resampling import resize
from kdlib.stages import Stages, compose
from kdlib.training.augmentation import random_window
from kdlib.training.config import LoopConfig, SharedSettings
from kdlib.training.pairs import VALIDATION_DARKENING, load_training_set
from kdlib.training.preview import preview_of
from kdlib.training.state import Run
from kdlib.training.task import Task, device_of, digest, frozen, student_and_teacher, training


class StagesObjective:
    """The terms of a batch of dark photos, truth, and the teacher's answers to the dark photos.

    Attributes:
        weights: the current ones, by level; the schedule changes them.
        centred: whether the teacher sees centred photos, see :class:`~kdlib.models.iat.IAT`.
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
        """Set the weights for this share of the training."""
        self.weights = self.schedule(progress)

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor, ...], average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        dark, truth, multiply, add, colour, gamma, noise = batch
        columns = torch.cat([dark.float() / 255, truth.float() / 255, multiply.float(), add.float()], dim=1)
        seen, truth, multiply, add = random_window(columns, self.side, self.whole, generator).split(3, dim=1)
        with torch.autocast(seen.device.type, enabled=False):  # else the targets would be rounded to half precision
            taught = recompose(self.centred, seen, multiply, add, colour, gamma)
        if self.noise_gain > 1:
            # Averaging pixels removed noise that photos at full size have; standard deviations add in squares.
            gain = 1 + (self.noise_gain - 1) * torch.rand(len(seen), generator=generator, device=seen.device)
            deviation = (noise * (gain.square() - 1).sqrt()).view(-1, 1, 1, 1)
            draw = torch.randn(seen.shape, generator=generator, device=seen.device)
            seen = (seen + deviation * draw).clamp(0, 1)
        answer = model(seen.contiguous(memory_format=torch.channels_last))
        return self.losses(self.weights, answer, taught, truth)


def recompose(centred: bool, photos: Tensor, *answers: Tensor) -> tuple[Tensor, Stages]:
    """The enhanced photos and stages for a teacher's answers (of :func:`ask_in_stages`, or windows of them)."""
    return compose(2 * photos - 1 if centred else photos, *answers)


@torch.no_grad()
def ask_in_stages(
    teacher: nn.Module, dark: Tensor, device: torch.device, asked_at: tuple[int, int] | None = None
) -> tuple[Tensor, ...]:
    """A teacher's answers to photos N×3×S×S uint8: multiply and add maps in half precision, colour, gamma.

    Args:
        asked_at: width and height at which it sees the photos; its maps are resized to S×S. None: as they are.
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
    """Dark photos and truth, N×3×S×S uint8. The teacher answers once for each, so synthetic pairs are darkened once."""
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
    """Pairs and the teacher's answers to them, followed by further photos, with the teacher's output as their truth."""
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
    """The noise measured in each of the photos (N×3×S×S uint8): N standard deviations of a channel, in [0, 1].

    It is measured in the luminance, (R + 2G + B) / 4, where noise that is independent between channels averages out.
    """
    luminance = [measure_noise(photo.permute(1, 2, 0).contiguous().numpy()) / 255 for photo in photos]
    return torch.tensor(luminance) * (4 / 6**0.5)


def recipe(*, with_teacher: bool = True) -> ProgressiveWeights:
    """The default weights of :func:`distill_stages`."""
    ends = [
        {level: weight for level, weight in end.items() if with_teacher or level in TO_TRUTH}
        for end in (EARLY_WEIGHTS, LATE_WEIGHTS)
    ]
    return ProgressiveWeights(*ends)


@training
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
    **settings: Unpack[SharedSettings],
) -> Run:
    """Teach a student the stages of its teacher and the truth.

    The teacher answers once for each photo; its answers are augmented together with the photo.

    Args:
        student: a name, or a model, which is trained in place.
        teacher: a shipped name, the path of a weights file, or a model, of which a copy is frozen. None: the student
            learns from the truth alone, as a teacher would.
        data_dir: a folder of pairs; None for the embedded photos, darkened synthetically.
        output_dir: gets ``history.csv`` and checkpoints; None writes nothing.
        pairs: ``real``, or ``self-made``: synthetic pairs of well-exposed photos, each darkened once.
        further_dir: a folder of photos of any kind, without ground truth: the teacher's output stands in for it. Pairs
            are all dark, so only here does a student learn what to do with bright photos.
        further: use at most so many of these, evenly spaced over the folder.
        schedule: weights of the levels in the course of the training; None for the recipe's, and without a teacher for
            those of them that compare with the truth.
        distance: ``l1``, ``smooth-l1`` or ``mse``; see :class:`~kdlib.losses.levels.LevelLosses`.
        size: side of the photos in memory.
        side: side of the training windows, at most ``size``.
        whole: share of the batches that show whole photos, because colour and gamma belong to whole photos.
        asked_at: width and height at which the teacher sees the pairs' photos, for example those of its own training;
            its maps are resized to ``size``. None: as the student does. It sees further photos at ``size``, because
            these may have any shape.
        noise_gain: noise is added to the student's input, not to the targets, up to so many times the standard
            deviation measured in the photo. Where downsampling averaged n pixels into one, √n restores the noise of
            the full size.
        limit: use at most so many pairs.
        validation_fraction: share of the pairs, in whole scenes, that is held out; the epoch with the highest PSNR on
            them wins.
        epochs, ema_decay, settings: see :class:`~kdlib.training.config.LoopConfig`; the result is the moving average of
            the weights, unless ``averaged=False``.

    Returns:
        The run; its history has ``validation_psnr`` (to the truth) and, with a teacher, ``fidelity`` to it, in dB.

    Raises:
        ValueError: unknown names, values out of range, or networks without stages; the message says which.
        TypeError, NonFiniteLossError, OSError: see :func:`~kdlib.training.task.training`.
    """
    settings.setdefault("averaged", True)
    config = LoopConfig(epochs=epochs, ema_decay=ema_decay, **settings)
    check_number("side (at most size)", side, 16, size)
    check_number("whole", whole, 0, 1)
    for length in asked_at or ():
        check_number("each side in asked_at", length, 16)
    check_number("noise_gain", noise_gain, 1, 10)
    pupil, master = student_and_teacher(student, teacher, config, IAT | IATStudent, "has no stages")
    # Without a teacher, the untrained student's answers fill the place of the teacher's, and no term uses them.
    asked: Any = master or frozen(pupil, config)
    weights = schedule or recipe(with_teacher=teacher is not None)
    if further_dir is not None and teacher is None:
        raise ValueError("the truth of further photos is the teacher's output: without a teacher leave them out")
    levels = {level for side_of in (weights.early, weights.late) for level, weight in side_of.items() if weight}
    if teacher is None and not levels <= set(TO_TRUTH):
        raise ValueError(f"without a teacher there is no {min(levels - set(TO_TRUTH))!r}; use {', '.join(TO_TRUTH)}")
    if pupil.centred != asked.centred and levels & {"multiply", "add"}:
        raise ValueError(
            f"the student has centred={pupil.centred} and its teacher centred={asked.centred}: their multiply and add "
            "maps mean different things. Make a student that sees photos as its teacher does, or leave these levels out"
        )
    dark, truth = load_fixed_pairs(pairs, data_dir, size, limit, config.seed)
    device = device_of(config)
    answers = ask_in_stages(asked, dark, device, asked_at)
    train, held = split_scenes(truth, validation_fraction, config.seed)
    if further_dir is not None:
        given, told, answers = with_further(further_dir, asked, dark, truth, answers, size, further, device)
        train = torch.cat([train, torch.arange(len(dark), len(given))])
        dark, truth = given, told
    objective = StagesObjective(
        weights, LevelLosses(distance), side, whole=whole, noise_gain=noise_gain, centred=asked.centred
    )
    columns = (dark, truth, *answers, noise_levels(dark))

    def validate(model: nn.Module) -> dict[str, float]:
        scores, near = [], []
        for rows in held.split(4):
            seen = dark[rows].to(device).float() / 255
            enhanced = model(seen)[0].cpu()
            taught = recompose(asked.centred, seen.cpu(), *(answer[rows].float() for answer in answers))[0]
            wanted = truth[rows].float() / 255
            scores += [capped_psnr(have, want) for have, want in zip(enhanced, wanted, strict=True)]
            near += [capped_psnr(have, want) for have, want in zip(enhanced, taught, strict=True)]
        fidelity = {} if teacher is None else {"fidelity": sum(near) / len(near)}
        return {"validation_psnr": sum(scores) / len(scores), **fidelity}

    return Task(
        student=pupil,
        teacher=master,
        objective=objective,
        data=TensorDataset(*(column[train] for column in columns)),
        validation=validate,
        monitored="validation_psnr",
        description="distilling in stages",
        identity={
            "student": repr(pupil.config),
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
    ).train(config, output_dir)
