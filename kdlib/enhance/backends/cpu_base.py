"""What the compiled backends share: they take arrays, and open a weights file without PyTorch."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from kdlib.checks import require_shapes

Estimate = Callable[..., np.ndarray]


class CompiledNetwork(Protocol):
    """A network in plain arrays."""

    def __init__(self, state: Mapping[str, np.ndarray], architecture: Mapping[str, Any]) -> None: ...

    @staticmethod
    def shapes(architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the tensors of an architecture; ValueError for a value out of range."""


class Elsewhere:
    """A network that runs elsewhere, beside the factors of its full-size pass; see :meth:`CpuBackend.around`.

    Attributes:
        SHAPES: of the factors, by the names of their parameters; the family's.
    """

    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]]

    def __init__(self, parameters: Mapping[str, np.ndarray], estimate: Estimate) -> None:
        # Kernels do not look at shapes, and would read what lies behind an array that is too small.
        require_shapes({name: parameters[name].shape for name in self.SHAPES}, self.SHAPES)
        for name in self.SHAPES:
            if not np.isfinite(parameters[name]).all():
                raise ValueError(f"{name} is NaN or infinite")
        super().__init__(parameters)  # type: ignore[call-arg]  # of the family's factors, which stand behind
        self._estimate = estimate

    def __call__(self, thumbnail: np.ndarray) -> np.ndarray:
        return self._estimate(thumbnail)


class CpuBackend:
    """A backend with kernels for the CPU.

    Attributes:
        network: the compiled form of the family's networks.
        elsewhere: an :class:`Elsewhere` with what the full-size pass of the family takes.
        defaults: every argument of the family, as it is where an architecture does not give it.
    """

    name = "numba"
    network: ClassVar[type[CompiledNetwork]]
    elsewhere: ClassVar[type[Any]]
    defaults: ClassVar[Mapping[str, Any]]

    def __init__(self, network: Any, architecture: Mapping[str, Any]) -> None:
        raise NotImplementedError

    @classmethod
    def complete(cls, architecture: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Return all arguments of an architecture whose tensors have these shapes.

        Raises:
            NoCompiledFormError: this network has none.
            ValueError: the tensors are another architecture's, or an argument is out of range.
        """
        arguments = {**cls.defaults, **architecture}
        require_shapes(shapes, cls.network.shapes(arguments))
        return arguments

    @classmethod
    def from_arrays(cls, state: Mapping[str, np.ndarray], architecture: Mapping[str, Any]) -> Self:
        """Return the backend for the tensors of a state dict; raises as :meth:`complete`."""
        arguments = cls.complete(architecture, {name: array.shape for name, array in state.items()})
        return cls(cls.network(state, arguments), arguments)

    @classmethod
    def around(cls, estimate: Estimate, parameters: Mapping[str, np.ndarray], architecture: Mapping[str, Any]) -> Self:
        """Return the backend for a network that runs elsewhere.

        Args:
            estimate: returns the maps, K×h×w, of a small copy, 3×h×w in [0, 1].
            parameters: the tensors of the full-size pass, by name.

        Raises:
            KeyError: a parameter is missing.
            ValueError: a parameter has another shape, or is NaN or infinite.
        """
        return cls(cls.elsewhere(parameters, estimate), {**cls.defaults, **architecture})

    @classmethod
    def from_model(cls, model: Any) -> Self:
        """Return the backend for a model of the family."""
        return cls.from_arrays(state_of(model), model.config)

    def own(self, maps: np.ndarray) -> np.ndarray:
        return maps

    def as_array(self, maps: np.ndarray) -> np.ndarray:
        return maps


def state_of(model: Any) -> dict[str, np.ndarray]:
    """Return a model's tensors as arrays."""
    return {name: tensor.numpy(force=True) for name, tensor in model.state_dict().items()}


def in_torch(model: Any, method: str) -> Estimate:
    """Return a function that estimates the maps of a small copy with a network that has no compiled form.

    Args:
        method: name of the network's method, which takes B×3×h×w.
    """
    import torch

    # A copy, because the model may be in training, on another device, and in another precision.
    estimate = getattr(copy.deepcopy(model).cpu().float().eval(), method)

    def run(small: np.ndarray, threads: int = 1) -> np.ndarray:
        with torch.inference_mode():
            return estimate(torch.from_numpy(small)[None])[0].numpy()

    return run
