"""Models from weights files, and weights files from models."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from safetensors.torch import save
from torch import nn

from kdlib.checks import require_shapes
from kdlib.files import replacing
from kdlib.models.network import Network
from kdlib.models.registry import build_model, to_published
from kdlib.weights.file import WeightsFile

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def load_model(name_or_path: str | Path, **overrides: Any) -> Network:
    """Load a model with trained weights, ready for inference.

    Args:
        name_or_path: the name of a shipped model (``"student-565"``), or the path of a ``.safetensors`` or ``.pth``
            file, whose architecture is told from its tensors. Published files load unchanged.
        overrides: arguments of the architecture that the weights do not decide, for example ``scale_factor=4``.

    Returns:
        The network of the file's family, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown name, damaged file, tensors that fit no known architecture, or weights that are NaN or
            infinite.
    """
    return read_model(WeightsFile(name_or_path), **overrides)


def read_model(file: WeightsFile, **overrides: Any) -> Network:
    """Build the network of a weights file; see :func:`load_model`."""
    config = {**file.architecture, **overrides}
    try:
        # On the device "meta", tensors have a shape and no memory: nothing is read or allocated before all shapes fit.
        claims = to_published({name: torch.empty(shape, device="meta") for name, shape in file.shapes.items()})
        with torch.device("meta"):
            wanted = build_model(config).state_dict()
        require_shapes({key: t.shape for key, t in claims.items()}, {key: t.shape for key, t in wanted.items()})
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{file.path}: {error}") from None
    model = build_model(config)
    model.load_state_dict(to_published(file.tensors()), strict=True)
    return model.eval()


@overload
def resolve_model(model: AnyModel, **overrides: Any) -> AnyModel: ...
@overload
def resolve_model(model: str | Path, **overrides: Any) -> Network: ...
def resolve_model(model: str | Path | nn.Module, **overrides: Any) -> nn.Module:
    """Return a model as it is, or load it by name or path, as every function does that takes "a teacher"."""
    return model if isinstance(model, nn.Module) else load_model(model, **overrides)


def digest_of(model: Network) -> str:
    """Return the hexadecimal SHA-256 digest of a model's architecture and weights."""
    digest = hashlib.sha256(json.dumps(model.config, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_model(model: Network, path: str | Path) -> Path:
    """Write a model's weights, with its architecture, as ``.safetensors``; an existing file is replaced at once.

    Raises:
        ValueError: the path does not end in ``.safetensors``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, not {path.suffix or 'a file without extension'}")
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    # Not save_file, which makes a file of its own that only its owner may read.
    content = save(state, metadata={"format": "pt", "architecture": json.dumps(model.config)})
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path
