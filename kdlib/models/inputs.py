"""Input validation shared by all models."""

from __future__ import annotations

from torch import Tensor


def check_photos(image: Tensor) -> None:
    """Check that a model's input is a batch of photos.

    Raises:
        ValueError: ``image`` is not a non-empty B×3×H×W floating-point tensor.
    """
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point() or 0 in image.shape:
        raise ValueError(
            "expected a B×3×H×W floating-point tensor with values in [0, 1] and H, W ≥ 1, "
            f"got {'×'.join(map(str, image.shape))} {image.dtype}"
        )
