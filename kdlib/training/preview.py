"""Evaluation pictures of a run: a model's output for a few held-out photos, epoch after epoch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.enhance.photos.rgb import to_array, write_photo

Preview = Callable[[nn.Module], np.ndarray]

MOST_PHOTOS = 8
# Training photos may be tiny; each is shown at least this large, by repeating pixels.
LEAST_SIDE = 96
GAP = 4


def contact_sheet(rows: Sequence[Tensor]) -> np.ndarray:
    """Photos in a grid on white: H×W×3 uint8, row by row.

    Args:
        rows: each N×3×S×S in [0, 1], of one shape.
    """
    times = max(1, -(-LEAST_SIDE // rows[0].shape[-1]))
    photos = torch.cat([row.float() for row in rows]).repeat_interleave(times, -1).repeat_interleave(times, -2)
    framed = F.pad(photos, (GAP, 0, GAP, 0), value=1.0).unflatten(0, (len(rows), len(rows[0])))
    sheet = framed.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)  # 3 × (rows, height) × (columns, width)
    return to_array(F.pad(sheet, (0, GAP, 0, GAP), value=1.0))


def preview_of(photos: Tensor, wanted: Tensor | None = None) -> Preview:
    """A preview for :func:`~kdlib.training.loop.fit`: the same held-out photos every time, at most eight.

    Its rows are the input, the model's output and, if there is one, what the output should be.

    Args:
        photos: N×3×S×S, uint8 or in [0, 1].
        wanted: their targets, or a teacher's outputs, in the same form.
    """
    every = max(1, len(photos) // MOST_PHOTOS)
    given, *target = (
        some[::every][:MOST_PHOTOS].float() / (1 if some.is_floating_point() else 255)
        for some in (photos, wanted)
        if some is not None
    )

    @torch.no_grad()
    def preview(model: nn.Module) -> np.ndarray:
        enhanced: Tensor = model(given.to(next(model.parameters()).device))[0]
        return contact_sheet([given, enhanced.cpu(), *target])

    return preview


def write_preview(preview: Preview, model: nn.Module, output_dir: Path, epoch: int) -> Path:
    """Write ``previews/epoch_0010.png`` (for epoch 10); an existing file is replaced at once."""
    return write_photo(output_dir / "previews" / f"epoch_{epoch:04d}.png", preview(model))
