"""Losses of super-resolution distillation: to a teacher's photo and to its features."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.checks import check_number


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """Kullback-Leibler divergence between two images that are taken for logits: the teacher's share of each pixel in
    its channel, against the student's.

    Distillation of classifiers (Hinton et al. 2015) compares softened probabilities. An image has none; this is the
    nearest thing to what descriptions ask for. A softmax does not see a constant: images that differ by a brightness
    have the divergence 0.

    Args:
        student, teacher: B×3×H×W.
        temperature: above 0, in units of the image's range; the result is multiplied by its square, so that gradients
            stay of one size.

    Raises:
        ValueError: images of different shapes, or a temperature out of range.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"expected two batches B×3×H×W alike, got {tuple(student.shape)} and {tuple(teacher.shape)}")
    check_number("temperature", temperature, above=0)
    asked, told = (image.float().flatten(2) / temperature for image in (student, teacher))
    # Summed over the pixels of a channel, as over the classes of an example, and averaged over channels and images.
    divergence = F.kl_div(asked.log_softmax(-1), told.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    return temperature**2 * divergence.mean()


SOFT_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "kl": softened_divergence,
}


def mimicry(student: Tensor, teacher: Tensor) -> Tensor:
    """How far two networks' features lie apart in where they are strong, whatever their numbers of channels.

    Compared is the energy at each place, the mean of squares over the channels, divided by its mean over the image
    (attention transfer, Zagoruyko and Komodakis 2017); no projection has to be learned.

    Args:
        student, teacher: B×C×H×W with a C of their own.

    Returns:
        Mean absolute difference, 0 or more.
    """
    return F.l1_loss(_energy(student), _energy(teacher))


def _energy(features: Tensor) -> Tensor:
    energy = features.float().square().mean(dim=1)
    return energy / energy.mean(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(energy.dtype).tiny)
