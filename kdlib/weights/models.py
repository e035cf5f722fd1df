"""Trained weights: what ships with the project, and how any weights file becomes a model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kdlib.files import replacing
from kdlib.models import Model, build_model, infer_architecture, to_published
from kdlib.weights.catalogue import find_weights
from kdlib.weights.header import MAX_BYTES, Header, check_architecture, read_header, require_shapes

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read tensors from a ``.safetensors`` file or a ``.pth`` file, without ever running code from it.

    Sizes that the file gives are checked against what is stored before anything is read: see
    :mod:`kdlib.weights.header`, which also has the limits.

    Returns:
        The state dict, and the architecture's arguments if the file carries them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, too large, holds something else than tensors, weights that are NaN or infinite,
            or has another extension.
    """
    path = Path(path)
    header = read_header(path)
    total = sum(math.prod(claim.shape) for claim in header.tensors.values())
    if total > MAX_BYTES:  # of a .pth file, several may share what is stored
        raise ValueError(f"{path}: its tensors have {total:,} numbers altogether, more than {MAX_BYTES:,}")
    return _read_tensors(path, header), header.architecture


def _read_tensors(path: Path, header: Header) -> dict[str, Tensor]:
    """The tensors that the header announces; memory of their own."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                state = {name: file.get_tensor(name) for name in header.tensors}
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from None
    else:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        try:
            # Mapped, a file's tensors are views of it, whatever size they are said to have.
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
            state = {name: state[name].detach().clone() for name in header.tensors}
        except UnpicklingError:  # whose message advises to let the file run code
            raise ValueError(f"{path} is damaged, and is not loaded: PyTorch finds more than tensors in it") from None
        except Exception as error:  # damaged bytes may fail anywhere in the decoder
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path} is damaged, and is not loaded: {reason}") from None
    for name, tensor in state.items():
        if tuple(tensor.shape) != header.tensors[name].shape:
            raise ValueError(f"{path} is damaged: {name} has another shape than its header says")
        if not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{path}: {name} has weights that are NaN or infinite; train it again, or copy it again")
    return state


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
        ValueError: unknown name, damaged file, tensors that fit no known architecture, or weights that are NaN or
            infinite.
    """
    path = find_weights(name_or_path)
    header = read_header(path)
    try:
        # On the device "meta", tensors have a shape and no memory: nothing is read or allocated before all shapes fit.
        claims = {name: torch.empty(claim.shape, device="meta") for name, claim in header.tensors.items()}
        claims = to_published(claims)
        config = {**(header.architecture or check_architecture(infer_architecture(claims))), **overrides}
        with torch.device("meta"):
            wanted = build_model(config).state_dict()
        require_shapes({key: t.shape for key, t in claims.items()}, {key: t.shape for key, t in wanted.items()})
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None
    model = build_model(config)
    model.load_state_dict(to_published(_read_tensors(path, header)), strict=True)
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
    # Not save_file: it makes a file of its own that only its owner may read.
    content = save(state, metadata={"format": "pt", "architecture": json.dumps(model.config)})
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path
