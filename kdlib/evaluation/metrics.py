"""Metrics of the similarity of two photos, and of the fidelity of a student to its teacher."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.losses.perceptual import BackboneUnavailableError, pretrained_features

FIDELITY_CAP = 100.0


def quantise(photo: Tensor) -> Tensor:
    """Clip to [0, 1] and round to 8 bits, as saving to a file does; float64, any shape."""
    return photo.double().clamp(0, 1).mul(255).round() / 255


def psnr(photo: Tensor, truth: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of two 3×H×W photos in [0, 1]; infinite if they are equal."""
    # Computed on the CPU, because not every device supports float64.
    error = (photo.cpu().double() - truth.cpu().double()).square().mean()
    return float(-10 * error.log10())


def ssim(photo: Tensor, truth: Tensor) -> float:
    """Return the structural similarity of two 3×H×W photos in [0, 1], averaged over RGB, computed in float64.

    It uses an 11×11 Gaussian window with σ = 1.5 and the population covariance (Wang et al., TIP 2004).

    Raises:
        ValueError: the photos are smaller than the window.
    """
    from skimage.metrics import structural_similarity

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
    """Scale a photo to the mean brightness of its ground truth and clip it to [0, 1].

    Scores after this step reflect colour, contrast and noise but not exposure. They use the ground truth and are
    therefore reported separately, never as the main score.
    """
    mean = photo.mean()
    return (photo * (truth.mean() / mean)).clamp(0, 1) if mean > 0 else photo


@lru_cache(maxsize=1)
def _lpips_network() -> nn.Module | BackboneUnavailableError:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        pretrained_features("squeezenet1_1")  # its error message is more helpful than torchmetrics'
    except BackboneUnavailableError as error:
        return error
    return LearnedPerceptualImagePatchSimilarity("squeeze", normalize=True).eval()


# Smaller photos are reduced to nothing before the last stage of the network.
LPIPS_LEAST_SIDE = 17


def lpips(photo: Tensor, truth: Tensor) -> float:
    """Return the learned perceptual distance (Zhang et al., CVPR 2018; SqueezeNet, v0.1) of two 3×H×W photos in [0, 1].

    Raises:
        BackboneUnavailableError: the pretrained network is not on disk and cannot be downloaded.
        ValueError: a side is shorter than :data:`LPIPS_LEAST_SIDE` pixels.
    """
    height, width = photo.shape[-2:]
    if min(height, width) < LPIPS_LEAST_SIDE:
        raise ValueError(
            f"LPIPS needs photos of at least {LPIPS_LEAST_SIDE}×{LPIPS_LEAST_SIDE} pixels, got {width}×{height}"
        )
    network = _lpips_network()
    if isinstance(network, BackboneUnavailableError):
        raise network
    with torch.no_grad():
        return float(network(photo[None].float(), truth[None].float()))


def lpips_available() -> bool:
    """Return whether :func:`lpips` can run here; the first call may download 5 MB."""
    return not lpips_obstacle()


def lpips_obstacle() -> str:
    """Return why :func:`lpips` cannot run here, or an empty string if it can; the first call may download 5 MB."""
    network = _lpips_network()
    return str(network) if isinstance(network, BackboneUnavailableError) else ""


@torch.no_grad()
def enhance_tensor(model: nn.Module, photo: Tensor) -> Tensor:
    """Run a model on one 3×H×W photo and return the enhanced photo, clipped to [0, 1]."""
    device = next(model.parameters()).device
    enhanced: Tensor = model(photo[None].to(device))[0][0]
    return enhanced.clamp(0, 1).cpu()


def capped_psnr(photo: Tensor, truth: Tensor) -> float:
    """Return :func:`psnr`, limited to :data:`FIDELITY_CAP`.

    Black and white are fixed points of every curve, so one entirely black photo would otherwise make a mean infinite.
    """
    return min(psnr(photo, truth), FIDELITY_CAP)


def fidelity(student: nn.Module, teacher: nn.Module, photos: Iterable[tuple[str, Tensor]]) -> dict[str, Any]:
    """Measure how closely a student reproduces its teacher: the PSNR between their unrounded outputs for each photo.

    Photos with identical outputs count as 100 dB.

    Args:
        photos: (name, 3×H×W in [0, 1]), for example from :func:`kdlib.data.dark_photos`.

    Returns:
        ``mean``, ``worst`` and ``best`` in dB, the name ``worst_photo``, and ``photos``, the number of photos.

    Raises:
        ValueError: there are no photos.
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
