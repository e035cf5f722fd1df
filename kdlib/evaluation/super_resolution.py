"""Scores of sharpening: sharp photos are shrunk to a quarter and enlarged again; who gets nearest to the truth?

The test is the usual one of super-resolution by 4: on the luminance of BT.601, without 4 pixels along the border. With
the photos of :func:`kdlib.resampling.blur`, and the answers in 8 bits, bicubic scores 28.43 dB on Set5 and 26.09 on
Set14 (papers, whose kernel is MATLAB's, say 28.42 and 26.00), and the published file of LightMSAFN 29.88 and 27.13.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlib.enhance.photos.rgb import list_photos, read_photo, to_tensor
from kdlib.evaluation.classical import Method
from kdlib.evaluation.metrics import FIDELITY_CAP, capped_psnr, psnr, quantise, ssim
from kdlib.evaluation.timing import measure, use_threads
from kdlib.resampling import blur, crop_to_multiple, enlarge

BICUBIC = "bicubic"
_SSIM_WINDOW = 11


def bicubic(photo: Tensor) -> Tensor:
    """The method to beat: the enlarged photo as it is (3×H×W in [0, 1])."""
    return photo


def luminance(photo: Tensor) -> Tensor:
    """Y of BT.601 in its limited range: …×3×H×W in [0, 1] → …×1×H×W in [16, 235] / 255."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=photo.dtype, device=photo.device) / 255
    return 16 / 255 + (weights.view(3, 1, 1) * photo).sum(dim=-3, keepdim=True)


def without_border(photo: Tensor, border: int) -> Tensor:
    """…×H×W without ``border`` pixels on each side.

    Raises:
        ValueError: nothing is left.
    """
    height, width = photo.shape[-2:]
    if min(height, width) <= 2 * border:
        raise ValueError(f"of a photo of {width}×{height} pixels nothing is left without a border of {border}")
    return photo[..., border : height - border, border : width - border]


def psnr_y(photo: Tensor, truth: Tensor, border: int = 4) -> float:
    """PSNR in dB of the luminances of two 3×H×W photos in [0, 1], without the border; infinite when they are equal."""
    return psnr(*(without_border(luminance(shown.double()), border) for shown in (photo, truth)))


def capped_psnr_y(photo: Tensor, truth: Tensor, border: int = 4) -> float:
    """:func:`psnr_y`, at most 100 dB: one photo of a single colour, met exactly, would make any mean infinite."""
    return min(psnr_y(photo, truth, border), FIDELITY_CAP)


def ssim_y(photo: Tensor, truth: Tensor, border: int = 4) -> float:
    """:func:`~kdlib.evaluation.metrics.ssim` of the luminances of two 3×H×W photos in [0, 1], without the border."""
    return ssim(*(without_border(luminance(shown.double()), border) for shown in (photo, truth)))


def least_side(border: int = 4) -> int:
    """Of a photo that can be scored: without the border, SSIM's window still fits."""
    return _SSIM_WINDOW + 2 * border


def sharp_photos(folder: str | Path) -> Iterator[tuple[str, Tensor]]:
    """All photos of a folder: name, and 3×H×W in [0, 1].

    Raises:
        OSError, ValueError: no such folder, no photo in it, or one that cannot be read.
    """
    for path in list_photos(folder):
        yield path.name, to_tensor(read_photo(path))


def score_sharpening(method: Method, images: Iterable[tuple[str, Tensor]], upscale: int = 4) -> dict[str, Any]:
    """Scores of a method's 8-bit answers to photos that were shrunk and enlarged, in float64.

    Sides that are no multiples of ``upscale`` are cut; ``upscale`` pixels along the border do not count.

    Args:
        method: enlarged photo, 3×H×W in [0, 1] → sharpened, of the same size.
        images: (name, sharp photo, 3×H×W in [0, 1]), for example from :func:`sharp_photos`.

    Returns:
        ``psnr_y`` (dB, at most 100), ``ssim_y``, ``psnr`` and ``ssim`` (RGB), means over ``photos`` photos; ``each``:
        the same of every photo, with its ``name``.

    Raises:
        ValueError: no photos, one that is too small, or an answer of another size or with values that are NaN.
    """
    rows: list[dict[str, Any]] = []
    for name, sharp in images:
        smallest = least_side(upscale)
        if min(s // upscale * upscale for s in sharp.shape[-2:]) < smallest:
            raise ValueError(
                f"{name}: a photo of {sharp.shape[-1]}×{sharp.shape[-2]} pixels is too small to be scored; "
                f"both sides have to be at least {-(-smallest // upscale) * upscale}"
            )
        truth = crop_to_multiple(sharp, upscale)
        answer = quantise(method(blur(truth[None], upscale)[0]))
        if answer.shape != truth.shape or answer.isnan().any():
            what = "values that are NaN" if answer.shape == truth.shape else f"shape {tuple(answer.shape)}"
            raise ValueError(f"{name}: the method answers a photo of shape {tuple(truth.shape)} with {what}")
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
    """Median time of enlarging a photo and sharpening it, for a million pixels of the result; the methods take turns.

    Args:
        methods: by name, as in :func:`score_sharpening`.
        side: of the square result, in pixels.
        threads: for PyTorch.
        repeats: measured runs of each.

    Raises:
        ValueError: fewer than one repetition or thread.
    """
    if repeats < 1 or threads < 1:
        raise ValueError(f"repeats and threads are at least 1, not {repeats} and {threads}")
    small = torch.rand(1, 3, side // upscale, side // upscale, generator=torch.Generator().manual_seed(0))

    def whole(method: Method) -> Tensor:
        return method(enlarge(small, (side, side))[0].clamp(0, 1))

    with use_threads(threads):
        seconds = measure({name: partial(whole, method) for name, method in methods.items()}, repeats)
    return {name: round(statistics.median(times) * 1e9 / side**2, 3) for name, times in seconds.items()}
