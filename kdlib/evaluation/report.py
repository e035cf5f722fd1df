"""Scoring methods side by side on photos with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from torch import Tensor, nn

from kdlib.data.images import to_array, to_tensor
from kdlib.evaluation.metrics import enhance_tensor, gt_mean, lpips, lpips_available, psnr, quantise, ssim
from kdlib.inference import Enhancer
from kdlib.models import ZeroDCE, count_parameters

Method = Callable[[Tensor], Tensor]


def gamma(exponent: float) -> Method:
    """The fixed curve x ← x^exponent."""
    return lambda photo: photo**exponent


def clahe_in_lab(photo: np.ndarray, clip: float = 4.0, tiles: int = 8) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation of lightness in LAB (OpenCV); H×W×3 uint8 in and out."""
    lightness, *colours = cv2.split(cv2.cvtColor(photo, cv2.COLOR_RGB2LAB))
    equalised = cv2.createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles)).apply(lightness)
    return cv2.cvtColor(cv2.merge([equalised, *colours]), cv2.COLOR_LAB2RGB)


def classical_methods() -> dict[str, Method]:
    """What a learned method has to beat: the input itself, fixed gamma curves and CLAHE."""
    return {
        "input": lambda photo: photo,
        "gamma 0.3": gamma(0.3),
        "gamma 0.4": gamma(0.4),
        "CLAHE": lambda photo: to_tensor(clahe_in_lab(to_array(photo))),
    }


def as_method(model: nn.Module) -> Method:
    """A model as a function from photo to photo (3×H×W in [0, 1])."""
    return lambda photo: enhance_tensor(model, photo)


def through_enhancer(model: ZeroDCE, denoise: float = 0.0) -> Method:
    """A model as users meet it: 8 bits in and out, through :class:`kdlib.Enhancer`."""
    enhance = Enhancer(model, denoise=denoise, device="cpu")
    return lambda photo: to_tensor(enhance(to_array(photo)))


def gaussian_after(method: Method, sigma: float = 1.0) -> Method:
    """What denoising has to beat: a plain Gaussian over a method's 8-bit output."""
    return lambda photo: to_tensor(cv2.GaussianBlur(to_array(method(photo)), (0, 0), sigma))


def score(method: Method, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> dict[str, Any]:
    """Mean scores of a method's 8-bit output against ground truth, in float64.

    Args:
        pairs: (name, dark, truth), 3×H×W in [0, 1], for example from :func:`kdlib.data.evaluation_pairs`.

    Returns:
        ``psnr`` (dB), ``ssim``, ``lpips`` (None where its network is not to be had), the same with the prefix
        ``gt_mean_``
        after matching the mean brightness of the truth, and ``photos``.

    Raises:
        ValueError: no pairs.
    """
    with_lpips = lpips_available()
    rows: list[dict[str, float]] = []
    for _, dark, truth in pairs:
        photo, truth = quantise(method(dark)), truth.double()
        row = {}
        for prefix, shown in (("", photo), ("gt_mean_", gt_mean(photo, truth))):
            row[f"{prefix}psnr"] = psnr(shown, truth)
            row[f"{prefix}ssim"] = ssim(shown, truth)
            if with_lpips:
                row[f"{prefix}lpips"] = lpips(shown, truth)
        rows.append(row)
    if not rows:
        raise ValueError("no pairs to score")
    means: dict[str, Any] = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    return {"lpips": None, "gt_mean_lpips": None, **means, "photos": len(rows)}


def compare(
    models: Mapping[str, nn.Module],
    pairs: Callable[[], Iterable[tuple[str, Tensor, Tensor]]],
    methods: Mapping[str, Method] | None = None,
) -> list[dict[str, Any]]:
    """Score classical methods and models on the same pairs, a row for each.

    Args:
        models: by the name to show.
        pairs: called once for each method.
        methods: without parameters; :func:`classical_methods` by default.
    """
    rows = []
    for name, method in (classical_methods() if methods is None else methods).items():
        rows.append({"method": name, "parameters": 0, **score(method, pairs())})
    for name, model in models.items():
        rows.append({"method": name, "parameters": count_parameters(model), **score(as_method(model), pairs())})
    return rows


COLUMNS: dict[str, tuple[str, str]] = {
    "method": ("method", "s"),
    "parameters": ("parameters", ",d"),
    "psnr": ("PSNR", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "lpips": ("LPIPS", ".3f"),
    "gt_mean_psnr": ("PSNR, GT-mean", ".2f"),
}


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]] = COLUMNS) -> str:
    """Rows as a Markdown table; ``columns`` maps a row's key to its title and number format, None shows as –."""
    head = "| " + " | ".join(title for title, _ in columns.values()) + " |"
    rule = "| " + " | ".join("---" if spec == "s" else "--:" for _, spec in columns.values()) + " |"
    body = [
        "| "
        + " | ".join("–" if row.get(key) is None else format(row[key], spec) for key, (_, spec) in columns.items())
        + " |"
        for row in rows
    ]
    return "\n".join([head, rule, *body])
