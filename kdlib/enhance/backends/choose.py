"""Which backend runs a network: told from the family's record, the device, and what is installed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlib.enhance.backends.backend import Backend, NoCompiledFormError
from kdlib.extras import needed_by
from kdlib.models.family import Family, follow
from kdlib.models.registry import family_of, find_family
from kdlib.weights.catalogue import find_weights
from kdlib.weights.file import WeightsFile

if TYPE_CHECKING:
    from kdlib.models.network import Network


def choose_backend(model: str | Path | Network, device: str) -> tuple[Family, Backend]:
    """Return a network's family and the backend for it on a device; see :class:`kdlib.Enhancer` for the arguments.

    PyTorch is imported only for a network that needs it, or where a CUDA driver is installed.

    Raises:
        FileNotFoundError, TypeError, ValueError: see :class:`kdlib.Enhancer`.
    """
    if not isinstance(model, str | Path) and family_of(model) is None:
        raise TypeError(f"model is a name, a path or a network of a known family, not {type(model).__name__}")
    kind = _kind(str(device))
    if isinstance(model, str | Path) and Path(model).suffix == ".onnx":
        if kind != "cpu" and device != "auto":
            raise ValueError(f"device {device!r}: exported files run on the CPU here; use device='cpu'")
        from kdlib.enhance.backends.exported import open_exported

        return open_exported(find_weights(model))
    compiles = kind == "cpu" and importlib.util.find_spec("numba") is not None
    if isinstance(model, str | Path):
        file = WeightsFile(model)
        if compiles and (backend := _compiled(file)):
            return find_family(file.architecture), backend
        with needed_by(str(model)):
            from kdlib.weights.models import read_model

            model = read_model(file)
    import torch

    family = find_family(model.config)
    if compiles and family.compiled:
        return family, follow(family.compiled).from_model(model)
    return family, follow(family.backend)(model, torch.device(kind))


def _compiled(file: WeightsFile) -> Backend | None:
    """Return a compiled backend for a weights file, or None if only PyTorch can read it or run its network.

    Raises:
        ValueError: the file is damaged, or holds another network than it says.
    """
    if file.path.suffix != ".safetensors" or "BF16" in file.types:  # which NumPy does not know
        return None
    path = find_family(file.architecture).compiled
    if not path:
        return None
    form: Any = follow(path)
    try:
        form.complete(file.architecture, file.shapes)  # before any tensor is read
    except NoCompiledFormError:
        return None
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from None
    return form.from_arrays(file.arrays(), file.architecture)


def _kind(device: str) -> str:
    """Return the device to use, with ``auto`` resolved."""
    kind = device.partition(":")[0]
    if device not in {"auto", "cpu", "cuda", "mps"} and re.fullmatch(r"cuda:\d+", device) is None:
        raise ValueError(f"device {device!r} is unknown; choose from auto, cpu, cuda, cuda:N, mps")
    if kind == "cpu" or (kind == "auto" and not _may_have_cuda()):
        return "cpu"
    with needed_by(f"device {device!r}"):
        import torch

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        return "cuda" if found["cuda"] else "cpu"
    if not found[kind]:
        raise ValueError(f"device {device!r}: PyTorch finds none here; use device='cpu'")
    return device


def _may_have_cuda() -> bool:
    """False without PyTorch or an NVIDIA driver; finding out through PyTorch would take its import."""
    driver = sys.platform == "win32" or any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"))
    return driver and importlib.util.find_spec("torch") is not None
