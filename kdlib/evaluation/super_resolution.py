"""Score super-resolution: sharp photos are downsampled, upsampled again, restored, and compared with the originals.

This is the usual test of super-resolution by a factor of 4: scores are computed on the luminance of BT.601, without 4
pixels along the border. With the photos of :func:`kdlib.resampling.blur` and results in 8 bits, bicubic interpolation
scores 28.43 dB on Set5 and 26.09 dB on Set14 (papers, which use MATLAB's kernel, report 28.42 and 26.00), and the
published weights of LightMSAFN score 29.88 and 27.13 dB.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlib.checks import check_number
from kdlib.enhance.photos.rgb import list_photos, read_photo, to_tensor
from kdlib.evaluation.classical import Method
from kdlib.evaluation.metrics import FIDELITY_CAP, capped_psnr, psnr, quantise, ssim
from kdlib.evaluation.timing import measure, use_threads
from kdlib.resampling import blur, crop_to_multiple, enlarge

BICUBIC = "bicubic"
_SSIM_WINDOW = 11


def bicubic(photo: Tensor) -> Tensor:
    """Return the enlarged photo unchanged (3×H×W in [0, 1]); this is the baseline."""
    return photo


def luminance(photo: Tensor) -> Tensor:
    """Return the limited-range luminance Y of BT.601: …×3×H×W in [0, 1] → …×1×H×W in [16, 235] / 255."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=photo.dtype, device=photo.device) / 255
    return 16 / 255 + (weights.view(3, 1, 1) * photo).sum(dim=-3, keepdim=True)


def without_border(photo: Tensor, border: int) -> Tensor:
    """Crop ``border`` pixels from each side of …×H×W.

    Raises:
        ValueError: no pixel would remain.
    """
    height, width = photo.shape[-2:]
    if min(height, width) <= 2 * border:
        raise ValueError(f"a photo of {width}×{height} pixels is too small to crop a border of {border} pixels")
    return photo[..., border : height - border, border : width - border]


def psnr_y(photo: Tensor, truth: Tensor, border: int = 4) -> float:
    """Return the PSNR in dB of the luminances of two 3×H×W photos in [0, 1], without the border; infinite if equal."""
    return psnr(*(without_border(luminance(shown.double()), border) for shown in (photo, truth)))


def capped_psnr_y(photo: Tensor, truth: Tensor, border: int = 4) -> float:
    """Return :func:`psnr_y`, limited to 100 dB, so that one exactly reproduced photo does not make a mean infinite."""
    return min(psnr_y(photo, truth, border), FIDELITY_CAP)


def ssim_y(photo: Tensor, truth: Tensor, border: int = 4) -> float:
    """Return the SSIM of the luminances of two 3×H×W photos in [0, 1], without the border."""
    return ssim(*(without_border(luminance(shown.double()), border) for shown in (photo, truth)))


def least_side(border: int = 4) -> int:
    """Return the minimum side of a photo that can be scored, such that SSIM's window fits inside the border."""
    return _SSIM_WINDOW + 2 * border


def sharp_photos(folder: str | Path) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, 3×H×W in [0, 1]) for each photo of a folder.

    Raises:
        OSError, ValueError: the folder does not exist or has no photo, or a photo cannot be read.
    """
    for path in list_photos(folder):
        yield path.name, to_tensor(read_photo(path))


def score_super_resolution(method: Method, images: Iterable[tuple[str, Tensor]], upscale: int = 4) -> dict[str, Any]:
    """Score a method's 8-bit results on photos that were downsampled and upsampled, in float64.

    Photos are cropped to multiples of ``upscale``; ``upscale`` pixels along the border are ignored.

    Args:
        method: maps an enlarged photo, 3×H×W in [0, 1], to a restored one of the same size.
        images: (name, sharp photo, 3×H×W in [0, 1]), for example from :func:`sharp_photos`.

    Returns:
        ``psnr_y`` (dB, at most 100), ``ssim_y``, ``psnr`` and ``ssim`` (RGB), averaged over ``photos`` photos, and
        ``each``, the same scores for every photo with its ``name``.

    Raises:
        ValueError: there are no photos, a photo is too small, or a result has a different size or contains NaN.
    """
    rows: list[dict[str, Any]] = []
    for name, sharp in images:
        smallest = least_side(upscale)
        if min(s // upscale * upscale for s in sharp.shape[-2:]) < smallest:
            raise ValueError(
                f"{name}: a photo of {sharp.shape[-1]}×{sharp.shape[-2]} pixels is too small to be scored; "
                f"both sides must be at least {-(-smallest // upscale) * upscale}"
            )
        truth = crop_to_multiple(sharp, upscale)
        answer = quantise(method(blur(truth[None], upscale)[0]))
        if answer.shape != truth.shape or answer.isnan().any():
            what = "NaN values" if answer.shape == truth.shape else f"shape {tuple(answer.shape)}"
            raise ValueError(f"{name}: for a photo of shape {tuple(truth.shape)}, the method returned {what}")
        inner = [without_border(shown, upscale) for shown in (answer, truth.double())]
        row = {"psnr_y": capped_psnr_y(answer, truth, upscale), "ssim_y": ssim_y(answer, truth, upscale)}
        rows.append({"name": name, **row, "psnr": capped_psnr(*inner), "ssim": ssim(*inner)})
    if not rows:
        raise ValueError("no photos to score")
    means = {key: statistics.fmean(row[key] for row in rows) for key in rows[0] if key != "name"}
    return {**means, "photos": len(rows), "each": rows}


def milliseconds_per_megapixel(
    methods: Mapping[str, Method], *, upscale: int = 4, side: int = 256, threads: int = 1, repeats: int = 3
) -> dict[str, float]:
    """Measure the median time of enlarging and restoring a photo, in milliseconds per megapixel of output.

    The methods are timed in alternating blocks.

    Args:
        methods: by name, as in :func:`score_super_resolution`.
        side: side of the square output in pixels.
        threads: number of PyTorch threads.
        repeats: timed runs of each method.

    Raises:
        ValueError: ``repeats`` or ``threads`` is below 1.
    """
    check_number("repeats", repeats, 1)
    small = torch.rand(1, 3, side // upscale, side // upscale, generator=torch.Generator().manual_seed(0))

    def whole(method: Method) -> Tensor:
        return method(enlarge(small, (side, side))[0].clamp(0, 1))

    with use_threads(threads):
        seconds = measure({name: partial(whole, method) for name, method in methods.items()}, repeats)
    return {name: round(statistics.median(times) * 1e9 / side**2, 3) for name, times in seconds.items()}
