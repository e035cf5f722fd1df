"""Perceptual loss: the distance between two images in the feature space of a pretrained classifier."""

import pickle
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.checks import check_choice

# Indices into torchvision's ``features`` of the compared outputs, which follow the activations of successive stages.
BACKBONE_LAYERS: dict[str, tuple[int, ...]] = {"squeezenet1_1": (1, 4, 7), "vgg16": (3, 8, 15), "vgg19": (3, 8, 17)}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class BackboneUnavailableError(RuntimeError):
    """The pretrained weights are not on disk and cannot be downloaded."""


def pretrained_features(backbone: str) -> nn.Sequential:
    """Return the frozen convolutional part of a torchvision network with its default ImageNet weights.

    Raises:
        ValueError: the backbone is not in ``BACKBONE_LAYERS``.
        BackboneUnavailableError: the weights are missing and cannot be downloaded; the message names file and folder.
    """
    from torchvision.models import get_model, get_model_weights  # takes longer to import than all of kdlib

    check_choice("backbone", backbone, BACKBONE_LAYERS)
    weights = get_model_weights(backbone).DEFAULT
    network = get_model(backbone, weights=None)
    try:
        network.load_state_dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (URLError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        name = Path(urlparse(weights.url).path).name
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        if (folder / name).is_file():
            raise BackboneUnavailableError(
                f"{folder / name} is damaged; delete it so that it is downloaded again"
            ) from None
        raise BackboneUnavailableError(
            f"the pretrained weights of {backbone} could not be downloaded ({error}). On a machine without internet, "
            f"put {name} (from {weights.url}) into {folder}"
        ) from None
    features: nn.Sequential = network.features
    return features.requires_grad_(False).eval()


class PerceptualLoss(nn.Module):
    """Mean squared error between the features of two images, averaged over a backbone's layers.

    Source: Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016.

    Args:
        backbone: ``squeezenet1_1`` (2.8 MB of weights, the fastest), ``vgg16`` or ``vgg19``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str = "squeezenet1_1") -> None:
        super().__init__()
        self.layers = BACKBONE_LAYERS.get(backbone, ())
        try:
            self.features = pretrained_features(backbone)[: max(self.layers) + 1]
        except BackboneUnavailableError as error:
            raise BackboneUnavailableError(f"{error}, or disable the perceptual loss (perceptual=0)") from None
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def embed(self, image: Tensor) -> list[Tensor]:
        """Return the compared features of an image, B×3×H×W in [0, 1] with H, W ≥ 32."""
        x = (image - self.mean) / self.std
        outputs = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.layers:
                outputs.append(x)
        return outputs

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Compare two images of the same shape; no gradient flows into ``target``."""
        with torch.no_grad():
            wanted = self.embed(target)
        terms = [F.mse_loss(have, want) for have, want in zip(self.embed(image), wanted, strict=True)]
        return torch.stack(terms).mean()
