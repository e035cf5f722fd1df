"""Trained weights: what ships with the project, and how any weights file becomes a model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kdlib.files import replacing
from kdlib.models import ARCHITECTURES, create_model, infer_architecture, to_published
from kdlib.models.zero_dce import ZeroDCE

_PACKAGE = Path(__file__).resolve().parent
# An installed wheel carries the weights inside the package; a checkout keeps them in its top-level folder.
_FOLDERS = (_PACKAGE / "_weights", _PACKAGE.parent / "weights")


@dataclass(frozen=True)
class CatalogueEntry:
    """One weights file that ships with the project.

    Attributes:
        name: the model's name.
        path: the file.
        sha256: its expected digest.
        licence: terms of use, which follow from the training data.
        made: one line on how it was trained; the card beside the file says more.
    """

    name: str
    path: Path
    sha256: str
    licence: str
    made: str


def catalogue() -> dict[str, CatalogueEntry]:
    """The weights that ship with the project, by model name."""
    for folder in _FOLDERS:
        listing = folder / "catalogue.json"
        if listing.is_file():
            entries = json.loads(listing.read_text(encoding="utf-8"))
            return {
                name: CatalogueEntry(name, folder / entry["file"], entry["sha256"], entry["licence"], entry["made"])
                for name, entry in entries.items()
            }
    return {}


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(entry: CatalogueEntry) -> None:
    """Check a shipped file against the catalogue.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: its content is not what the catalogue describes.
    """
    if not entry.path.is_file():
        raise FileNotFoundError(f"{entry.path} is missing; restore it with `git checkout -- {entry.path.name}`")
    actual = sha256_of(entry.path)
    if actual != entry.sha256:
        raise ValueError(
            f"{entry.path} has changed: sha256 {actual[:12]}…, the catalogue says {entry.sha256[:12]}…; "
            "restore the file, or load your own weights by their path"
        )


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


def load_model(name_or_path: str | Path, **overrides: Any) -> ZeroDCE:
    """Load a model with trained weights, ready for inference.

    Args:
        name_or_path: the name of a shipped model (``"student-565"``), or the path of a ``.safetensors`` or ``.pth``
            file, whose architecture is told from its tensors. Published files load unchanged.
        overrides: arguments of :class:`~kdlib.models.zero_dce.ZeroDCE` that the weights do not decide, for
            example ``scale_factor=4``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown name, damaged file, or tensors that fit no known architecture.
    """
    entry = catalogue().get(str(name_or_path))
    if entry is not None:
        verify(entry)
        path = entry.path
    else:
        path = Path(name_or_path)
        if not path.suffix or str(name_or_path) in ARCHITECTURES:
            raise ValueError(
                f"no shipped weights named {str(name_or_path)!r}; choose from {', '.join(catalogue())}, "
                "or give the path of a .safetensors or .pth file"
            )
    state, config = read_weights(path)
    state = to_published(state)
    try:
        model = ZeroDCE(**{**(config or infer_architecture(state)), **overrides})
        model.load_state_dict(state, strict=True)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return model.eval()


def resolve_model(model: str | Path | nn.Module, **overrides: Any) -> nn.Module:
    """A model as it is, or loaded by name or path: what every function that takes "a teacher" accepts."""
    return model if isinstance(model, nn.Module) else load_model(model, **overrides)


def save_model(model: ZeroDCE, path: str | Path) -> Path:
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


__all__ = [
    "CatalogueEntry",
    "catalogue",
    "create_model",
    "load_model",
    "read_weights",
    "resolve_model",
    "save_model",
    "sha256_of",
    "verify",
]
