"""Training pairs for sharpening: a patch of a sharp image, and that patch shrunk to a quarter and enlarged again."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kdlib.resampling import blur, enlarge

MARGIN = 4
"""Pixels of the small image, around a patch, that its own small pixels can depend on.

At the patch's edge, enlarging reaches to the second small pixel outside, whose middle is 1.5 small pixels from the
edge, and shrinking averages over 2 around that middle: 3.5 in all.
"""

BRIGHTNESS = 0.2
NOISE = 0.02


class Images(Protocol):
    """A map-style data set of images 3×H×W uint8, such as :class:`~kdlib.data.super_resolution_images.SharpImages`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


class PatchPairs(Dataset[tuple[Tensor, Tensor]]):
    """Random patches of sharp images, each with what shrinking and enlarging left of it: (blurred, sharp), 3×P×P uint8.

    A patch is blurred together with 16 pixels around it, and begins where a small pixel begins. So it is what blurring
    the whole image gives there, to the bit for an ``upscale`` that is a power of two, without artefacts of padding
    along its border. Lines at the image's right and lower border that do not fill a small pixel are left out.

    The k-th patch that is drawn at an index depends on the seed, the index and k alone: it is the same for any number
    of workers, and another one in every epoch. Give :meth:`set_epoch` the epoch when a run goes on, or after an epoch
    that was broken off.

    Args:
        dataset: sharp images, map-style. A smaller image than a patch is an error; ``least_side`` of the data sets in
            :mod:`kdlib.data.super_resolution_images` passes over those.
        patch: side of the patches, a multiple of ``upscale``.
        upscale: by how much images are shrunk and enlarged.
        repeats: patches of each image in an epoch: the length is ``repeats * len(dataset)``. Image ``i`` has the
            indices ``i``, ``i + len(dataset)``, …
        seed: of the places of the patches, from 0 up.
    """

    def __init__(self, dataset: Images, patch: int = 96, *, upscale: int = 4, repeats: int = 1, seed: int = 0) -> None:
        if upscale < 2:
            raise ValueError(f"upscale is at least 2, not {upscale}")
        if patch < upscale or patch % upscale:
            raise ValueError(f"patch is a multiple of {upscale}, so that it has whole small pixels, not {patch}")
        if repeats < 1 or seed < 0:
            raise ValueError(f"repeats is at least 1 and seed at least 0, not {repeats} and {seed}")
        self.dataset, self.patch, self.upscale, self.seed = dataset, patch, upscale, seed
        # In shared memory: workers live for one epoch only, and would begin with the same patches in each.
        self._drawn = torch.zeros(repeats * len(dataset), dtype=torch.int32).share_memory_()

    def __len__(self) -> int:
        return len(self._drawn)

    def set_epoch(self, epoch: int) -> None:
        """Go on as if so many whole epochs had been drawn."""
        if epoch < 0:
            raise ValueError(f"epochs are counted from 0, not {epoch}")
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
                f"choose smaller ones, or pass over such images with least_side={self.patch}"
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

    Noise is not put into the target. It cannot be foreseen from the input, so the best answer to it is its mean (for
    absolute errors its median), which is nothing. A noisy target would thus teach the same clean image, but punish
    every clean pixel for not being noisy: the gradient gets noisier, the squared error cannot fall below the noise's
    variance, and PSNR against such a target is bounded, with σ = 0.02 by 34 dB.

    Args:
        blurred, sharp: B×3×P×P in [0, 1].
        generator: on the batch's device.
        brightness: each pair is multiplied by a draw from 1 ± this share, at most by what keeps it within [0, 1]: a
            pair that is clipped after blurring is no longer one that was blurred.
        noise: each photo's σ is drawn from 0 to this; it is that of the small image.
        upscale: by how much the small image was enlarged.

    Returns:
        (blurred, sharp), B×3×P×P in [0, 1].

    Raises:
        ValueError: shapes that differ, images that are not square, or a brightness or noise out of range.
    """
    if not (0 <= brightness <= 1 and 0 <= noise < float("inf")):
        raise ValueError(
            f"brightness is a share from 0 to 1 and noise a number from 0 up, not {brightness} and {noise}"
        )
    if blurred.shape != sharp.shape or sharp.ndim != 4 or sharp.shape[-1] != sharp.shape[-2]:
        raise ValueError(f"expected two batches B×3×P×P alike, got {tuple(blurred.shape)} and {tuple(sharp.shape)}")
    batch, side, device = len(sharp), sharp.shape[-1], sharp.device
    both = torch.stack([blurred, sharp])

    # Two mirrorings and an exchange of the axes: their eight combinations are all flips and quarter turns.
    mirror, flip, swap = torch.randint(2, (3, 1, batch, 1, 1, 1), generator=generator, device=device).bool()
    both = torch.where(mirror, both.flip(-1), both)
    both = torch.where(flip, both.flip(-2), both)
    both = torch.where(swap, both.transpose(-1, -2), both)

    draw = torch.rand((batch, 1, 1, 1), generator=generator, device=device)
    brightest = both.amax(dim=(0, 2, 3, 4)).view(-1, 1, 1, 1)
    factor = (1 - brightness + 2 * brightness * draw).minimum(1 / brightest.clamp_min(1e-6)) if brightness else 1.0
    blurred, sharp = (both * factor).clamp_max(1)

    if noise:
        # Noise is the camera's that took the small image: it comes after shrinking, and is enlarged with it to soft
        # grains of four pixels. Put on before shrinking, averaging would leave a fifth of it; put on the enlarged
        # image, it would be finer than anything there is in one, and easily told from it. Enlarging is linear, so the
        # noise can be enlarged by itself, with some more around it so that borders are like the inside.
        cells = -(-side // upscale) + 4
        grain = torch.randn((batch, 3, cells, cells), generator=generator, device=device)
        grain = enlarge(grain, (cells * upscale, cells * upscale))
        first = 2 * upscale
        sigma = noise * torch.rand((batch, 1, 1, 1), generator=generator, device=device)
        blurred = (blurred + sigma * grain[..., first : first + side, first : first + side]).clamp(0, 1)
    return blurred, sharp
