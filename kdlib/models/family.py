"""What the package has to know about a family of networks, in one record that imports no PyTorch.

A new family is a module with its network and a module in :mod:`kdlib.models.families` with its record, which is found
there. The registry, the reader of weights files, the choice of a backend, the benchmark and the command line all look
the record up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

from kdlib.checks import brief, check_number

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of the tensors of a state dict, by name."""


class Whole(NamedTuple):
    """An argument that is a whole number, with the least and the greatest value that a weights file may ask for."""

    least: int
    most: int


class Number(NamedTuple):
    """An argument that is a number, with the limits that hold for weights files."""

    least: float
    most: float


Limit = Whole | Number | type[bool] | type[str]


@dataclass(frozen=True)
class Family:
    """One family of networks.

    Import paths have the form ``"package.module:Name"``. They are followed only when the object is needed.

    Attributes:
        name: the family's name, as weights files store it.
        builder: import path of the network's class, an ``nn.Module`` whose ``forward`` takes B×3×H×W in [0, 1] and
            returns the enhanced photos and a second output, and whose ``config`` holds its arguments.
        models: arguments of each registered model, by the model's name.
        about: one sentence on what the networks do.
        parameters: number of parameters of each registered model, by the model's name.
        curve_map: what :meth:`kdlib.Enhancer.estimate` returns for these networks: shape, order and range.
        full_size: whether the network's layers run at the photo's full size, so that its cost grows with the photo.
        upscales: whether the family enlarges photos (super-resolution) instead of brightening them.
        denoise: the amount of smoothing that suits the networks, from 0 to 2; None if their backends cannot smooth.
        implied: whether a weights file that names no family is of this one; true of one family only.
        limits: the arguments that a weights file may give, each with its type and range. Time or memory grow with most
            of them, often without a trace in the tensors.
        recognise: returns the arguments of a network whose tensors have these shapes, or None if they belong to
            another family. It raises KeyError when a tensor of its own family is missing.
        to_published: renames and reorders the tensors of a known variant; import path of a function of a state dict.
        backend: import path of the backend that runs the network in PyTorch, on any device; called with model and
            device.
        compiled: import path of the backend that runs the network on the CPU without PyTorch; empty if there is none.
        published_form: import path of a module, built from a network, that enhances photos as the published code does,
            for the benchmark; empty if that is the network's forward pass.
        exported: import path of the form in which the network is written as a graph, called with a model
            (:class:`kdlib.export.form.Form`); empty if it cannot be exported.
    """

    name: str
    builder: str
    models: Mapping[str, Mapping[str, Any]]
    about: str = ""
    parameters: Mapping[str, int] = field(default_factory=dict)
    curve_map: str = "1×1×1, a single 0"
    full_size: bool = True
    upscales: bool = False
    denoise: float | None = None
    implied: bool = False
    limits: Mapping[str, Limit] = field(default_factory=dict)
    recognise: Callable[[Shapes], dict[str, Any] | None] = lambda shapes: None
    to_published: str = ""
    backend: str = "kdlib.enhance.backends.torch_image:TorchImage"
    compiled: str = ""
    published_form: str = ""
    exported: str = ""

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raise ValueError unless every argument is known and within its limits."""
        for name, value in arguments.items():
            match self.limits.get(name):
                case Whole(least, most):
                    check_number(name, value, least, most, whole=True)
                case Number(least, most):
                    check_number(name, value, least, most)
                case None:
                    raise ValueError(f"the family {self.name} has no argument {brief(name)}")
                case kind if type(value) is not kind:
                    wanted = "true or false" if kind is bool else "a name"
                    raise ValueError(f"{name} is {wanted}, not {brief(value)}")


def follow(path: str) -> Any:
    """Return the object that an import path names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
