"""What several test files share."""

import numpy as np
import torch
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.noise import TOP


def kdlib(*arguments):
    """Run ``kdlib`` with these arguments."""
    return CliRunner().invoke(app, [*map(str, arguments)])


def said(result):
    """What a command has printed, in one line."""
    return " ".join(result.output.split())


def random_photo(height, width, batch=1, seed=0):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def as_tensor(photo):
    """A photo as the model takes it: 1×3×H×W in [0, 1], grey three times."""
    colours = photo[..., :3] if photo.shape[2] >= 3 else photo[..., :1].repeat(3, axis=2)
    return torch.from_numpy(colours.astype(np.float32) / np.float32(TOP[photo.dtype.name])).permute(2, 0, 1)[None]


def weights_of(model):
    return torch.cat([tensor.detach().flatten().float() for tensor in model.state_dict().values()])
