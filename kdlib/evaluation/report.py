"""Score methods side by side on photos with ground truth."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import torch
from torch import Tensor, nn

from kdlib.enhance import Enhancer
from kdlib.enhance.photos.rgb import to_array, to_tensor
from kdlib.evaluation.behaviour import FixedCurve, daylight_change, fixed_curve_psnr
from kdlib.evaluation.classical import Method, classical_methods
from kdlib.evaluation.metrics import (
    LPIPS_LEAST_SIDE,
    enhance_tensor,
    gt_mean,
    lpips,
    lpips_available,
    psnr,
    quantise,
    ssim,
)
from kdlib.models import count_parameters
from kdlib.resampling import as_stored, resize

Pairs = Callable[[], Iterable[tuple[str, Tensor, Tensor]]]
Photos = Callable[[], Iterable[tuple[str, Tensor]]]


def as_method(model: nn.Module) -> Method:
    """Wrap a model as a function from photo to photo (3×H×W in [0, 1])."""
    return lambda photo: enhance_tensor(model, photo)


def through_enhancer(model: Any, denoise: float = 0.0) -> Method:
    """Wrap a model as users run it: 8 bits in and out, through :class:`kdlib.Enhancer`."""
    enhance = Enhancer(model, denoise=denoise, device="cpu")
    return lambda photo: to_tensor(enhance(to_array(photo)))


def mirrored(method: Method) -> Method:
    """Apply a method to the mirrored photo and mirror the result back.

    If the method scores lower in this way, it has learned scenes of its training set by heart as well as brightening.
    """
    return lambda photo: method(photo.flip(-1)).flip(-1)


def resized(pairs: Pairs, width: int, height: int) -> Pairs:
    """Resize both photos of each pair: bicubic, with antialiasing when downsampling, rounded to 8 bits."""

    def found() -> Iterator[tuple[str, Tensor, Tensor]]:
        for name, dark, truth in pairs():
            small, wanted = as_stored(resize(torch.stack([dark, truth]), (height, width)))
            yield name, small, wanted

    return found


def gaussian_after(method: Method, sigma: float = 1.0) -> Method:
    """Blur a method's 8-bit output with a Gaussian, the baseline for denoising."""
    return lambda photo: to_tensor(cv2.GaussianBlur(to_array(method(photo)), (0, 0), sigma))


def score(method: Method, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> dict[str, Any]:
    """Score a method's 8-bit output against ground truth, in float64, averaged over the pairs.

    Args:
        pairs: (name, dark, truth), 3×H×W in [0, 1], for example from :func:`kdlib.data.evaluation_pairs`.

    Returns:
        ``psnr`` (dB), ``ssim`` and ``lpips`` (None if its network is unavailable or a photo is too small for it); the
        same with the prefix ``gt_mean_`` after matching the mean brightness of the truth; ``fixed_curve``, how well one
        fixed curve would replace the method on these photos (dB, see
        :func:`~kdlib.evaluation.behaviour.fixed_curve_psnr`); and ``photos``, the number of photos.

    Raises:
        ValueError: there are no pairs.
    """
    rows: list[dict[str, float]] = []
    curve = FixedCurve()
    for _, dark, truth in pairs:
        photo, truth = quantise(method(dark)), truth.double()
        curve.add(to_array(dark), to_array(photo))
        row = {}
        for prefix, shown in (("", photo), ("gt_mean_", gt_mean(photo, truth))):
            row[f"{prefix}psnr"] = psnr(shown, truth)
            row[f"{prefix}ssim"] = ssim(shown, truth)
            # Asked last: the first call may download the network's weights, in vain if the pairs cannot be read.
            if min(truth.shape[-2:]) >= LPIPS_LEAST_SIDE and lpips_available():
                row[f"{prefix}lpips"] = lpips(shown, truth)
        rows.append(row)
    if not rows:
        raise ValueError("no pairs to score")
    # If one photo is too small for LPIPS, its mean is undefined.
    known = [key for key in rows[0] if all(key in row for row in rows)]
    means: dict[str, Any] = {key: sum(row[key] for row in rows) / len(rows) for key in known}
    return {"lpips": None, "gt_mean_lpips": None, **means, "fixed_curve": curve.psnr(), "photos": len(rows)}


def measure_method(
    name: str, method: Method, pairs: Pairs, *, parameters: int = 0, adaptivity: Mapping[str, Photos] | None = None
) -> dict[str, Any]:
    """Measure everything about a method that needs no teacher.

    Args:
        name: displayed name.
        pairs: returns the pairs for :func:`score`; called once.
        parameters: number of trained parameters.
        adaptivity: further sets of photos by name; how well one fixed curve would replace the method on each of them is
            reported as ``fixed_curve_<name>``.

    Returns:
        ``method``, ``parameters``, the results of :func:`score` and
        :func:`~kdlib.evaluation.behaviour.daylight_change`, and the ``fixed_curve_<name>`` values.

    Raises:
        ValueError: there are no pairs or no photos.
    """
    row = {"method": name, "parameters": parameters, **score(method, pairs()), **daylight_change(method)}
    for where, photos in (adaptivity or {}).items():
        row[f"fixed_curve_{where}"] = fixed_curve_psnr(method, photos())
    return row


def compare(
    models: Mapping[str, nn.Module],
    pairs: Pairs,
    methods: Mapping[str, Method] | None = None,
    *,
    adaptivity: Mapping[str, Photos] | None = None,
) -> list[dict[str, Any]]:
    """Measure classical methods and models on the same photos, a row of :func:`measure_method` for each.

    Args:
        models: by the name to show.
        pairs: called once for each method.
        methods: without parameters; :func:`~kdlib.evaluation.classical.classical_methods` by default.
        adaptivity: as in :func:`measure_method`.
    """
    named = {name: (method, 0) for name, method in (classical_methods() if methods is None else methods).items()}
    named |= {name: (as_method(model), count_parameters(model)) for name, model in models.items()}
    return [
        measure_method(name, method, pairs, parameters=parameters, adaptivity=adaptivity)
        for name, (method, parameters) in named.items()
    ]


def over_seeds(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row for a method that was trained several times: means and deviations over its seeds.

    Args:
        name: of the method.
        runs: a row of :func:`compare` for each seed.

    Returns:
        For every metric its mean and, as ``<metric>_sd``, the sample standard deviation (None for a single seed; both
        None where a seed lacks the metric); ``seeds``, how many, and ``runs``, the rows themselves.

    Raises:
        ValueError: no runs, or runs that differ in parameters, photos or category, and so are not of one method.
    """
    if not runs:
        raise ValueError(f"{name}: no seeds to take the mean of")
    row: dict[str, Any] = {"method": name}
    for key in ("parameters", "photos", "category"):
        found = list(dict.fromkeys(run[key] for run in runs if key in run))
        if len(found) > 1:
            raise ValueError(f"{name}: seeds of one method do not differ in {key}, these have {found}")
        row |= {key: found[0]} if found else {}
    for key, first in runs[0].items():
        values = [run.get(key) for run in runs]
        if key in row or not (first is None or isinstance(first, float)):
            continue
        numbers = [value for value in values if value is not None]
        complete = len(numbers) == len(runs)
        row[key] = statistics.fmean(numbers) if complete else None
        row[f"{key}_sd"] = statistics.stdev(numbers) if complete and len(runs) > 1 else None
    return {**row, "seeds": len(runs), "runs": [dict(run) for run in runs]}
