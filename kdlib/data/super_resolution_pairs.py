"""Training pairs for super-resolution: a patch of a sharp image, and the same patch downsampled and upsampled again."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kdlib.checks import check_number
from kdlib.resampling import blur, enlarge

MARGIN = 4
"""Pixels of the small image around a patch on which the patch can depend.

At the edge of a patch, upsampling reaches to the second small pixel outside, whose centre is 1.5 small pixels from the
edge, and downsampling averages over 2 around that centre: 3.5 in total.
"""

BRIGHTNESS = 0.2
NOISE = 0.02


class Images(Protocol):
    """A map-style data set of images 3×H×W uint8, such as :class:`~kdlib.data.super_resolution_images.SharpImages`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


class PatchPairs(Dataset[tuple[Tensor, Tensor]]):
    """Random patches of sharp images, before and after downsampling and upsampling: (blurred, sharp), 3×P×P uint8.

    A patch is blurred together with 16 pixels around it, and begins where a small pixel begins. It therefore equals the
    same patch of the blurred whole image, to the bit if ``upscale`` is a power of two, without artefacts of padding
    along its border. Lines at the image's right and lower border that do not fill a small pixel are left out.

    The k-th patch drawn at an index depends only on the seed, the index and k: it is the same for any number of
    workers, and differs from epoch to epoch. Give :meth:`set_epoch` the epoch when a run continues, or after an epoch
    that was interrupted.

    Args:
        dataset: sharp images, map-style. An image smaller than a patch is an error; ``least_side`` of the data sets in
            :mod:`kdlib.data.super_resolution_images` skips these.
        patch: side of the patches, a multiple of ``upscale``.
        upscale: the factor of downsampling and upsampling.
        repeats: patches per image and epoch: the length is ``repeats * len(dataset)``. Image ``i`` has the
            indices ``i``, ``i + len(dataset)``, …
        seed: of the positions of the patches, from 0 up.
    """

    def __init__(self, dataset: Images, patch: int = 96, *, upscale: int = 4, repeats: int = 1, seed: int = 0) -> None:
        check_number("upscale", upscale, 2)
        check_number("repeats", repeats, 1)
        check_number("seed", seed)
        if patch < upscale or patch % upscale:
            raise ValueError(f"patch is a multiple of {upscale}, so that it has whole small pixels, not {patch}")
        self.dataset, self.patch, self.upscale, self.seed = dataset, patch, upscale, seed
        # In shared memory: workers live for one epoch only, and would otherwise draw the same patches in each.
        self._drawn = torch.zeros(repeats * len(dataset), dtype=torch.int32).share_memory_()

    def __len__(self) -> int:
        return len(self._drawn)

    def set_epoch(self, epoch: int) -> None:
        """Continue as if so many whole epochs had been drawn."""
        check_number("the epoch", epoch)
        self._drawn.fill_(epoch)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(blurred, sharp), each 3×P×P uint8.

        Raises:
            IndexError: there are fewer indices.
            ValueError: the image is smaller than a patch, or not of 8 bits.
        """
        index = range(len(self))[index]
        number = index % len(self.dataset)
        image = self.dataset[number]
        if image.dtype != torch.uint8:
            raise ValueError(f"image {number} is {image.dtype}; patches are cut from 8 bits, torch.uint8")
        rows, columns = (side // self.upscale for side in image.shape[-2:])
        cells = self.patch // self.upscale
        if min(rows, columns) < cells:
            size = f"{image.shape[-1]} × {image.shape[-2]}"
            raise ValueError(
                f"image {number} has {size} pixels, too few for patches of {self.patch}: "
                f"choose smaller ones, or skip such images with least_side={self.patch}"
            )
        # NumPy's generators take several numbers as a seed and mix them; PyTorch's takes one of 32 bits on the CPU.
        draw = np.random.default_rng((self.seed, index, int(self._drawn[index])))
        self._drawn[index] += 1
        top, left = int(draw.integers(rows - cells + 1)), int(draw.integers(columns - cells + 1))

        def span(start: int, end: int) -> tuple[slice, slice]:
            """The window along one side, cut at the image's border, and the patch within the window, in pixels."""
            first, last = max(0, start - MARGIN), min(end, start + cells + MARGIN)
            window = slice(first * self.upscale, last * self.upscale)
            inner = (start - first) * self.upscale
            return window, slice(inner, inner + self.patch)

        (down, inner_down), (right, inner_right) = span(top, rows), span(left, columns)
        window = image[:, down, right]
        inner = (slice(None), inner_down, inner_right)
        blurred = blur(window[None].float() / 255, self.upscale)[0][inner].mul(255).round().byte()
        return blurred, window[inner].contiguous()


def augment_pair(
    blurred: Tensor,
    sharp: Tensor,
    generator: torch.Generator,
    *,
    brightness: float = BRIGHTNESS,
    noise: float = NOISE,
    upscale: int = 4,
) -> tuple[Tensor, Tensor]:
    """Vary a batch of pairs: orientation and brightness of both images alike, and noise on the input alone.

    The target gets no noise. Noise cannot be predicted from the input, so the best prediction is its mean (for absolute
    errors its median), which is zero. A noisy target would thus teach the same clean image, but penalise every clean
    pixel for not being noisy: the gradient becomes noisier, the squared error cannot fall below the variance of the
    noise, and PSNR against such a target is bounded, by 34 dB for a standard deviation of 0.02.

    Args:
        blurred, sharp: B×3×P×P in [0, 1].
        generator: on the batch's device.
        brightness: each pair is multiplied by a draw from 1 ± this share, limited so that it stays within [0, 1]:
            clipping after blurring would break the relation of the pair.
        noise: the largest standard deviation; each photo's is drawn from 0 to this. It is that of the small image.
        upscale: the factor by which the small image was upsampled.

    Returns:
        (blurred, sharp), B×3×P×P in [0, 1].

    Raises:
        ValueError: shapes that differ, images that are not square, or a brightness or noise out of range.
    """
    check_number("brightness", brightness, 0, 1)
    check_number("noise", noise)
    if blurred.shape != sharp.shape or sharp.ndim != 4 or sharp.shape[-1] != sharp.shape[-2]:
        raise ValueError(f"expected two batches B×3×P×P alike, got {tuple(blurred.shape)} and {tuple(sharp.shape)}")
    batch, side, device = len(sharp), sharp.shape[-1], sharp.device
    both = torch.stack([blurred, sharp])

    # Two flips and an exchange of the axes: their eight combinations are all flips and quarter turns.
    mirror, flip, swap = torch.randint(2, (3, 1, batch, 1, 1, 1), generator=generator, device=device).bool()
    both = torch.where(mirror, both.flip(-1), both)
    both = torch.where(flip, both.flip(-2), both)
    both = torch.where(swap, both.transpose(-1, -2), both)

    draw = torch.rand((batch, 1, 1, 1), generator=generator, device=device)
    brightest = both.amax(dim=(0, 2, 3, 4)).view(-1, 1, 1, 1)
    factor = (1 - brightness + 2 * brightness * draw).minimum(1 / brightest.clamp_min(1e-6)) if brightness else 1.0
    blurred, sharp = (both * factor).clamp_max(1)

    if noise:
        # The noise is that of the camera that took the small image: it is added after downsampling, and upsampled with
        # the image to soft grains of four pixels. If it were added before downsampling, averaging would leave a fifth
        # of it; on the upsampled image, it would be finer than any detail there, and easy to recognise. Upsampling is
        # linear, so the noise can be upsampled by itself, with a margin so that borders are like the inside.
        cells = -(-side // upscale) + 4
        grain = torch.randn((batch, 3, cells, cells), generator=generator, device=device)
        grain = enlarge(grain, (cells * upscale, cells * upscale))
        first = 2 * upscale
        sigma = noise * torch.rand((batch, 1, 1, 1), generator=generator, device=device)
        blurred = (blurred + sigma * grain[..., first : first + side, first : first + side]).clamp(0, 1)
    return blurred, sharp
