"""Training of super-resolution networks: a teacher from sharp images alone, its student from these and the teacher."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Subset

from kdlib.checks import check_choice, check_number
from kdlib.data.samples import HELD_OUT, sample_photos
from kdlib.data.super_resolution_images import JoinedImages, SharpImages, SharpSet, Vimeo90K, vimeo_layout
from kdlib.data.super_resolution_pairs import Images, PatchPairs, augment_pair
from kdlib.evaluation.super_resolution import capped_psnr_y, least_side, ssim_y
from kdlib.losses.distillation import SSIMLoss
from kdlib.losses.super_resolution import SOFT_LOSSES, mimicry
from kdlib.models.msafn import MSAFN
from kdlib.resampling import blur, crop_to_multiple
from kdlib.training.config import LoopConfig, LoopSettings
from kdlib.training.preview import preview_of
from kdlib.training.state import Run
from kdlib.training.task import Task, digest, split, student_and_teacher, training

# Side of the centre of each held-out photo, which is scored after every epoch: whole photos take longer than training.
JUDGED = 192
MOST_JUDGED = 12

# A folder of sharp images or several, or a data set of them.
Sharp = str | Path | Sequence[str | Path] | SharpSet | JoinedImages


def embedded_images(*, held_out: bool = False) -> list[Tensor]:
    """The embedded photos for training, or those that are held out, each 3×H×W uint8."""
    chosen = (photo for name, photo in sample_photos().items() if (name in HELD_OUT) == held_out)
    return [torch.from_numpy(photo).permute(2, 0, 1).contiguous() for photo in chosen]


def open_images(data: Sharp, least_side: int) -> SharpSet | JoinedImages:
    """The images of a folder, or of several one after the other; a data set is taken as it is.

    Photos are decoded once and kept in memory. If a folder holds Vimeo-90K, the clips of its training list are used,
    and each frame is decoded when it is needed.

    Raises:
        FileNotFoundError, ValueError: no such folder, no photo in one of them, or no folder at all.
    """
    if isinstance(data, (SharpSet, JoinedImages)):
        return data
    folders = [data] if isinstance(data, (str, Path)) else list(data)
    sets = [_open_folder(folder, least_side) for folder in folders]
    return sets[0] if len(sets) == 1 else JoinedImages(sets)


def _open_folder(folder: str | Path, least_side: int) -> SharpSet:
    if layout := vimeo_layout(folder):
        return Vimeo90K(folder, layout=layout, least_side=least_side)
    return SharpImages(folder, in_memory=True, least_side=least_side)


def scenes(images: SharpSet | JoinedImages) -> list[range]:
    """The indices of images, grouped by scene: each image by itself, or the frames of a clip."""
    if isinstance(images, JoinedImages):
        starts = [0, *images.cumulative_sizes]
        parts = zip(starts, map(scenes, images.datasets), strict=False)
        return [range(start + s.start, start + s.stop) for start, part in parts for s in part]
    return [range(first, first + images.alike) for first in range(0, len(images), images.alike)]


def split_images(data: Sharp | None, patch: int, fraction: float, seed: int) -> tuple[Images, list[Tensor]]:
    """Images to train on, and the centres of some held-out ones, each 3×S×S uint8 with S ≤ ``JUDGED``.

    A clip is held out as a whole, and scored by its middle frame.

    Raises:
        FileNotFoundError, ValueError: no images, or too few to hold any out.
    """
    images: Images
    if data is None:
        images, held = embedded_images(), embedded_images(held_out=True)
    else:
        images = open_images(data, patch)
        shown = scenes(images)
        what = "images" if len(shown) == len(images) else "clips"
        if len(shown) > 1 and round(fraction * len(shown)) >= len(shown):
            raise ValueError(f"{len(shown)} {what} are too few to train on if a share of {fraction} is held out")
        train, judged = (part.tolist() for part in split(len(shown), fraction, seed, what))
        held = [images[shown[k][len(shown[k]) // 2]] for k in judged[:MOST_JUDGED]]
        images = Subset(images, [index for k in train for index in shown[k]])
    side = min(JUDGED, *(min(photo.shape[1:]) for photo in held)) // 4 * 4
    return images, [middle(photo, side) for photo in held]


def middle(photo: Tensor, side: int) -> Tensor:
    """The centre of C×H×W, C×side×side."""
    top, left = ((length - side) // 2 for length in photo.shape[1:])
    return photo[:, top : top + side, left : left + side]


class SuperResolutionObjective:
    """The terms of a batch: the student's output for blurred patches, against sharp ones and the teacher's output.

    Attributes:
        share: the current weight of the teacher's soft loss: 1 − alpha at the start, reduced by ``teacher_decay`` in
            the course of the training.
    """

    def __init__(
        self, teacher: MSAFN | None, *, alpha: float, soft_loss: str, teacher_decay: float, ssim: float, mimic: float,
        brightness: float, noise: float, upscale: int,
    ) -> None:  # fmt: skip
        self.teacher, self.soft, self.structure = teacher, SOFT_LOSSES[soft_loss], SSIMLoss()
        self.first_share = 0.0 if teacher is None else 1 - alpha
        self.teacher_decay, self.ssim, self.mimic = teacher_decay, ssim, 0.0 if teacher is None else mimic
        self.brightness, self.noise, self.upscale = brightness, noise, upscale
        self.share = self.first_share

    def advance(self, progress: float) -> None:
        """Set the teacher's share for this share of the training, in [0, 1]."""
        self.share = self.first_share * (1 - self.teacher_decay * progress)

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor, ...], average: nn.Module | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        blurred, sharp = (part.float() / 255 for part in batch)
        blurred, sharp = augment_pair(
            blurred, sharp, generator, brightness=self.brightness, noise=self.noise, upscale=self.upscale
        )
        blurred = blurred.contiguous(memory_format=torch.channels_last)
        answer, features = model(blurred)
        terms = {}
        if self.share < 1:
            terms["truth"] = (1 - self.share) * F.l1_loss(answer, sharp)
        if self.ssim:
            # Its quotients of variances need 32 bits: in half precision they would be noise.
            with torch.autocast(answer.device.type, enabled=False):
                terms["truth ssim"] = self.ssim * self.structure(answer.float(), sharp)
        if self.teacher is not None and (self.share or self.mimic):
            with torch.no_grad():
                told, shown = self.teacher(blurred)
            if self.share:
                terms["teacher"] = self.share * self.soft(answer.float(), told.float())
            if self.mimic:
                terms["mimic"] = self.mimic * mimicry(features, shown)
        return terms


@training
def distill_super_resolution(
    student: str | MSAFN = "light-msafn",
    teacher: str | Path | MSAFN | None = None,
    data: Sharp | None = None,
    output_dir: str | Path | None = None,
    *,
    alpha: float = 0.5,
    soft_loss: str = "l1",
    teacher_decay: float = 0.0,
    ssim: float = 0.0,
    mimic: float = 0.0,
    patch: int = 96,
    repeats: int = 8,
    brightness: float = 0.2,
    noise: float = 0.0,
    validation_fraction: float = 0.1,
    epochs: int = 60,
    ema_decay: float = 0.0,
    **settings: Unpack[LoopSettings],
) -> Run:
    """Train a network that restores the detail of enlarged photos, with a teacher or from sharp images alone.

    Args:
        student: a name, or a model, which is trained in place. A teacher is trained in the same way, without a teacher
            of its own.
        teacher: a shipped name, the path of a weights file, or a model, of which a copy is frozen; None: the student
            learns from the sharp images alone.
        data: a folder of sharp images or several, or a data set of them; a folder may hold Vimeo-90K. None for the
            embedded photos.
        output_dir: gets ``history.csv`` and checkpoints; None writes nothing.
        alpha: share of the L1 loss to the sharp image; the teacher's soft loss has the rest. Without a teacher it is 1.
        soft_loss: between the photos of student and teacher: ``l1``, ``mse``, or ``kl``, see
            :func:`~kdlib.losses.super_resolution.softened_divergence`.
        teacher_decay: the part of the teacher's share that is removed, linearly, by the end: from 0, none, to 1, all.
        ssim: weight of 1 − SSIM to the sharp image.
        mimic: weight of :func:`~kdlib.losses.super_resolution.mimicry` of the teacher's features.
        patch: side of the patches, a multiple of 4.
        repeats: patches per image and epoch.
        brightness, noise: see :func:`~kdlib.data.super_resolution_pairs.augment_pair`.
        validation_fraction: share of the images that is held out; the epoch with the highest PSNR (of the luminance of
            their centres) wins.
        epochs, ema_decay, settings: see :class:`~kdlib.training.config.LoopConfig`.

    Returns:
        The run; its history has ``validation_psnr`` in dB and ``validation_ssim``.

    Raises:
        ValueError: unknown names, values out of range, networks of another kind, or photos too small to be scored; the
            message says which.
        TypeError, NonFiniteLossError, OSError: see :func:`~kdlib.training.task.training`.
    """
    config = LoopConfig(epochs=epochs, ema_decay=ema_decay, **settings)
    shares = {"alpha": alpha, "teacher_decay": teacher_decay, "brightness": brightness}
    for name, value in {**shares, "validation_fraction": validation_fraction}.items():
        check_number(name, value, 0, 1)
    for name, value in {"ssim": ssim, "mimic": mimic, "noise": noise}.items():
        check_number(name, value)
    check_choice("soft_loss", soft_loss, SOFT_LOSSES)
    pupil, master = student_and_teacher(student, teacher, config, MSAFN, "is not a super-resolution network")
    if master is not None and master.upscale != pupil.upscale:
        raise ValueError(f"the student works on photos enlarged ×{pupil.upscale}, its teacher on ×{master.upscale}")
    images, held = split_images(data, patch, validation_fraction, config.seed)
    pairs = PatchPairs(images, patch, upscale=pupil.upscale, repeats=repeats, seed=config.seed)
    wanted = crop_to_multiple(torch.stack(held).float() / 255, pupil.upscale)
    if (side := wanted.shape[-1]) < (least := least_side()):
        raise ValueError(
            f"held-out photos are scored by a square of {side}×{side} pixels here, and need one of {least}×{least} at "
            "least: give larger photos, or a larger patch, which leaves small ones out"
        )
    given = blur(wanted, pupil.upscale)
    objective = SuperResolutionObjective(
        master, alpha=alpha, soft_loss=soft_loss, teacher_decay=teacher_decay, ssim=ssim, mimic=mimic,
        brightness=brightness, noise=noise, upscale=pupil.upscale,
    )  # fmt: skip

    def validate(model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        answers = [model(part.to(device))[0].cpu().clamp(0, 1)[0] for part in given.split(1)]
        scores = [(capped_psnr_y(a, w), ssim_y(a, w)) for a, w in zip(answers, wanted, strict=True)]
        return dict(zip(("validation_psnr", "validation_ssim"), torch.tensor(scores).mean(0).tolist(), strict=True))

    def advance(progress: float) -> None:
        objective.advance(progress)
        pairs.set_epoch(round(progress * config.epochs))

    return Task(
        student=pupil,
        teacher=master,
        objective=objective,
        data=pairs,
        validation=validate,
        monitored="validation_psnr",
        description="super-resolution",
        identity={
            "student": repr(pupil.config),
            "losses": f"alpha {alpha}, {soft_loss}, decay {teacher_decay}, ssim {ssim}, mimic {mimic}",
            "patches": f"{len(pairs)} of {patch}, brightness {brightness}, noise {noise}",
            "judged": digest(wanted),
        },
        preview=preview_of(given, wanted),
        advance=advance,
    ).train(config, output_dir)
