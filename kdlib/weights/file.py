"""A weights file: what it claims is checked once, and its tensors are read when asked for.

The same object serves the backends that run without PyTorch, which take arrays, and :func:`kdlib.load_model`.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from kdlib.models.registry import check_config, infer_architecture, without_prefix
from kdlib.weights.catalogue import find_weights
from kdlib.weights.header import MAX_BYTES, read_header

if TYPE_CHECKING:
    from torch import Tensor


class WeightsFile:
    """The weights behind a name or a path.

    Args:
        name_or_path: name of a shipped model or of one in your own catalogue, or path of a ``.safetensors``, ``.pth``
            or ``.pt`` file.

    Attributes:
        path: the file.
        shapes: of the tensors that its header announces, by name, without the prefix ``module.`` of ``DataParallel``.
        types: of the tensors, by safetensors' names, such as ``BF16``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unknown name, or a file that is too large, damaged, or holds something other than tensors.
    """

    def __init__(self, name_or_path: str | Path) -> None:
        self.path = find_weights(name_or_path)
        self._header = read_header(self.path)
        self._names = without_prefix({name: name for name in self._header.tensors})  # as they are in the file
        claims = without_prefix(self._header.tensors)
        self.shapes = {name: claim.shape for name, claim in claims.items()}
        self.types = {claim.dtype for claim in claims.values()}
        total = sum(map(math.prod, self.shapes.values()))
        if total > MAX_BYTES:  # in a .pth file, several tensors may share what is stored
            raise ValueError(f"{self.path}: its tensors have {total:,} numbers altogether, more than {MAX_BYTES:,}")

    @cached_property
    def architecture(self) -> dict[str, Any]:
        """Family and arguments, within the limits for files: those that the file names, or else told from the shapes.

        Raises:
            ValueError: the file names none, and the shapes are not those of a known architecture.
        """
        if self._header.architecture is not None:
            return self._header.architecture
        try:
            return check_config(infer_architecture(without_prefix(self._header.tensors)))
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def arrays(self) -> dict[str, np.ndarray]:
        """Read the tensors of a ``.safetensors`` file as NumPy arrays, without PyTorch.

        Raises:
            ValueError: the file is damaged, or holds weights that are NaN or infinite.
            TypeError: a type that NumPy does not know, such as bfloat16.
        """
        arrays = self._safetensors("np")
        with np.errstate(over="ignore"):
            for name, array in arrays.items():
                self._require_finite(name, bool(np.isfinite(array.astype(np.float32)).all()))
        return arrays

    def tensors(self) -> dict[str, Tensor]:
        """Read the tensors on the CPU, each with memory of its own; no code from the file is run.

        Raises:
            ValueError: the file is damaged, or holds weights that are NaN or infinite.
        """
        import torch

        state = self._safetensors("pt") if self.path.suffix == ".safetensors" else self._pickled()
        for name, tensor in state.items():
            if tuple(tensor.shape) != self.shapes[name]:
                raise ValueError(f"{self.path} is damaged: {name} has another shape than its header says")
            self._require_finite(name, bool(torch.isfinite(tensor.float()).all()))
        return state

    def _safetensors(self, framework: str) -> dict[str, Any]:
        try:
            with safe_open(self.path, framework=framework) as file:
                return {name: file.get_tensor(inside) for name, inside in self._names.items()}
        except SafetensorError as error:
            raise ValueError(f"{self.path} is not a readable safetensors file: {error}") from None

    def _pickled(self) -> dict[str, Tensor]:
        import torch

        with self.path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        try:
            # Mapped into memory, a file's tensors are views of it, whatever size they claim to have.
            state = torch.load(self.path, map_location="cpu", weights_only=True, mmap=zipped)
            return {name: state[inside].detach().clone() for name, inside in self._names.items()}
        except UnpicklingError:  # PyTorch's message advises to let the file run code
            reason = "PyTorch finds more than tensors in it"
        except Exception as error:  # damaged bytes may fail anywhere in the decoder
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{self.path} is damaged, and is not loaded: {reason}")

    def _require_finite(self, name: str, finite: bool) -> None:
        if not finite:
            raise ValueError(
                f"{self.path}: {name} has weights that are NaN or infinite; train it again, or copy it again"
            )
