"""Trained weights: what ships with the project, and how any weights file becomes a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kdlib.catalogue import find_weights
from kdlib.files import replacing
from kdlib.models import Model, build_model, infer_architecture, to_published

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read tensors from a ``.safetensors`` file or a ``.pth`` file, without ever running code from it.

    Returns:
        The state dict, and the architecture's arguments if the file carries them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds something else than tensors, or has another extension.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from None
        try:
            return state, json.loads(metadata["architecture"]) if "architecture" in metadata else None
        except ValueError as error:
            raise ValueError(f"{path}: its architecture cannot be read ({error})") from None
    if path.suffix not in {".pth", ".pt"}:
        raise ValueError(f"{path}: weights are read from .safetensors, .pth and .pt files")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes may fail anywhere in the decoder
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is damaged or holds more than tensors, and is not loaded: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict (a mapping of names to tensors)")
    return state, None


def load_model(name_or_path: str | Path, **overrides: Any) -> Any:
    """Load a model with trained weights, ready for inference.

    Args:
        name_or_path: the name of a shipped model (``"student-565"``), or the path of a ``.safetensors`` or ``.pth``
            file, whose architecture is told from its tensors. Published files load unchanged.
        overrides: arguments of the architecture that the weights do not decide, for example ``scale_factor=4``.

    Returns:
        A :class:`~kdlib.models.zero_dce.ZeroDCE`, a :class:`~kdlib.models.glance.GlanceNet`, an
        :class:`~kdlib.models.iat.IAT`, an :class:`~kdlib.models.iat_student.IATStudent`, a
        :class:`~kdlib.models.msafn.MSAFN` or a :class:`~kdlib.models.msafn.LightMSAFN`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown name, damaged file, or tensors that fit no known architecture.
    """
    path = find_weights(name_or_path)
    state, config = read_weights(path)
    state = to_published(state)
    try:
        model = build_model({**(config or infer_architecture(state)), **overrides})
        model.load_state_dict(state, strict=True)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return model.eval()


def resolve_model(model: str | Path | AnyModel, **overrides: Any) -> AnyModel | Any:
    """A model as it is, or loaded by name or path: what every function that takes "a teacher" accepts."""
    return model if isinstance(model, nn.Module) else load_model(model, **overrides)


def save_model(model: Model, path: str | Path) -> Path:
    """Write a model's weights, with its architecture, as ``.safetensors``; an existing file is replaced at once.

    Raises:
        ValueError: the path does not end in ``.safetensors``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, not {path.suffix or 'a file without extension'}")
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    with replacing(path) as partial:
        save_file(state, partial, metadata={"format": "pt", "architecture": json.dumps(model.config)})
    return path
