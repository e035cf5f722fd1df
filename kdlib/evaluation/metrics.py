"""How near two photos are, and how near a student is to its teacher."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio

from kdlib.losses.perceptual import BackboneUnavailableError, pretrained_features

FIDELITY_CAP = 100.0


def quantise(photo: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bits, as a saved file would be; float64, any shape."""
    return photo.double().clamp(0, 1).mul(255).round() / 255


def psnr(photo: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two 3×H×W photos in [0, 1], in float64; infinite when they are equal."""
    # On the CPU, because not every device has float64.
    return float(peak_signal_noise_ratio(photo.cpu().double(), truth.cpu().double(), data_range=1.0))


def ssim(photo: Tensor, truth: Tensor) -> float:
    """Structural similarity of two 3×H×W photos in [0, 1], averaged over RGB, in float64.

    11×11 Gaussian window, σ = 1.5, population covariance (Wang et al., TIP 2004).

    Raises:
        ValueError: the photos are smaller than the window.
    """
    if min(photo.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs photos of at least 11×11 pixels, got {photo.shape[-2]}×{photo.shape[-1]}")
    return float(
        structural_similarity(
            photo.cpu().double().permute(1, 2, 0).numpy(),
            truth.cpu().double().permute(1, 2, 0).numpy(),
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
    )


def gt_mean(photo: Tensor, truth: Tensor) -> Tensor:
    """Scale a photo so that its mean brightness is the truth's, clamped to [0, 1].

    Scores after this step see colour, contrast and noise but not exposure. They use the ground truth and are
    therefore reported apart, never as the score.
    """
    mean = photo.mean()
    return (photo * (truth.mean() / mean)).clamp(0, 1) if mean > 0 else photo


@lru_cache(maxsize=1)
def _lpips_network() -> nn.Module | BackboneUnavailableError:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        pretrained_features("squeezenet1_1")  # asks for the file with an error that helps
    except BackboneUnavailableError as error:
        return error
    return LearnedPerceptualImagePatchSimilarity("squeeze", normalize=True).eval()


# Of a smaller photo nothing is left before the last of the network's stages.
LPIPS_LEAST_SIDE = 17


def lpips(photo: Tensor, truth: Tensor) -> float:
    """Learned perceptual distance (Zhang et al., CVPR 2018; SqueezeNet, v0.1) of two 3×H×W photos in [0, 1].

    Raises:
        BackboneUnavailableError: the pretrained network is neither on disk nor to be downloaded.
        ValueError: a side of less than :data:`LPIPS_LEAST_SIDE` pixels.
    """
    height, width = photo.shape[-2:]
    if min(height, width) < LPIPS_LEAST_SIDE:
        raise ValueError(f"LPIPS takes photos from {LPIPS_LEAST_SIDE}×{LPIPS_LEAST_SIDE} pixels, not {width}×{height}")
    network = _lpips_network()
    if isinstance(network, BackboneUnavailableError):
        raise network
    with torch.no_grad():
        return float(network(photo[None].float(), truth[None].float()))


def lpips_available() -> bool:
    """Whether :func:`lpips` can run here (the first call may download 5 MB)."""
    return not isinstance(_lpips_network(), BackboneUnavailableError)


@torch.no_grad()
def enhance_tensor(model: nn.Module, photo: Tensor) -> Tensor:
    """Run a model on one 3×H×W photo; the enhanced photo, clamped to [0, 1]."""
    device = next(model.parameters()).device
    enhanced: Tensor = model(photo[None].to(device))[0][0]
    return enhanced.clamp(0, 1).cpu()


def capped_psnr(photo: Tensor, truth: Tensor) -> float:
    """:func:`psnr`, at most :data:`FIDELITY_CAP`.

    Black and white are fixed points of every curve: one all-black photo would make any mean infinite.
    """
    return min(psnr(photo, truth), FIDELITY_CAP)


def fidelity(student: nn.Module, teacher: nn.Module, photos: Iterable[tuple[str, Tensor]]) -> dict[str, Any]:
    """How faithfully a student repeats its teacher: PSNR between their outputs, photo by photo, not rounded.

    Photos on which both agree exactly count as 100 dB.

    Args:
        photos: (name, 3×H×W in [0, 1]), for example from :func:`kdlib.data.dark_photos`.

    Returns:
        ``mean``, ``worst`` and ``best`` in dB, ``worst_photo`` and ``photos``, how many there were.

    Raises:
        ValueError: no photos.
    """
    scores = {
        name: capped_psnr(enhance_tensor(student, photo), enhance_tensor(teacher, photo)) for name, photo in photos
    }
    if not scores:
        raise ValueError("no photos to compare student and teacher on")
    worst = min(scores, key=lambda name: scores[name])
    return {
        "mean": sum(scores.values()) / len(scores),
        "worst": scores[worst],
        "best": max(scores.values()),
        "worst_photo": Path(worst).name,
        "photos": len(scores),
    }
