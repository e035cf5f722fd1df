"""Families and models by name: looked up without PyTorch, which is imported only to build a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from kdlib.checks import check_choice
from kdlib.extras import needed_by
from kdlib.models.families import RECORDS
from kdlib.models.family import Family, follow

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdlib.models.network import Network

Value = TypeVar("Value")
FAMILIES: dict[str, Family] = {}
"""Every family, by name."""
ARCHITECTURES: dict[str, dict[str, Any]] = {}
"""Family and arguments of every registered model, by name."""


[_UNNAMED] = [record.name for record in RECORDS if record.implied]  # the family that weights files do not name


def register(family: Family) -> Family:
    """Add a family, after which all of its models are known by name.

    Raises:
        ValueError: the name of the family or of one of its models is taken.
    """
    if taken := {family.name} & FAMILIES.keys() or family.models.keys() & ARCHITECTURES.keys():
        raise ValueError(f"the name {min(taken)!r} is taken; give the family or its model another one")
    FAMILIES[family.name] = family
    for name, arguments in family.models.items():
        ARCHITECTURES[name] = _named(family, arguments)
    return family


def _named(family: Family, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return dict(arguments) if family.name == _UNNAMED else {"family": family.name, **arguments}


for _record in RECORDS:
    register(_record)


def find_family(config: Mapping[str, Any]) -> Family:
    """Return the family that a network's ``config`` names; ``zero-dce`` if it names none, as in older weights files.

    Raises:
        ValueError: there is no such family.
    """
    name = config.get("family", _UNNAMED)
    check_choice("family", name, FAMILIES)
    return FAMILIES[name]


def family_of(model: nn.Module) -> Family | None:
    """Return the family of a network, or None if it is of no registered one."""
    config = getattr(model, "config", None)
    return FAMILIES.get(config.get("family", _UNNAMED)) if isinstance(config, Mapping) else None


def check_config(config: Any) -> dict[str, Any]:
    """Return an architecture as it is if its arguments have the right types and are within the limits for files.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(config, dict):
        raise ValueError("it is not a table of arguments")
    if not isinstance(config.get("family", ""), str):
        raise ValueError("family is a name")
    find_family(config).check({name: value for name, value in config.items() if name != "family"})
    return config


def build_model(config: Mapping[str, Any]) -> Network:
    """Build an architecture from its family (``zero-dce`` unless ``family`` says otherwise) and arguments.

    Raises:
        ValueError: unknown family or argument, or a value out of range.
    """
    arguments = {name: value for name, value in config.items() if name != "family"}
    try:
        return follow(find_family(config).builder)(**arguments)
    except TypeError as error:
        raise ValueError(str(error)) from None


def create_model(name: str, **overrides: Any) -> Network:
    """Build an architecture by name, with random weights.

    Args:
        name: a name in ``ARCHITECTURES``, such as ``student-565``.
        overrides: any argument of the network's class, for example ``scale_factor=4`` for ``student-565``.

    Raises:
        ValueError: unknown name or argument.
    """
    check_choice("model", name, ARCHITECTURES)
    try:
        with needed_by(f"create_model({name!r})"):
            return build_model({**ARCHITECTURES[name], **overrides})
    except ValueError as error:
        raise ValueError(f"create_model({name!r}): {error}") from None


def without_prefix(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """Return what belongs to each tensor by its name without the prefix ``module.`` of ``DataParallel``."""
    return {name.removeprefix("module."): value for name, value in state_dict.items()}


def to_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the state dict of a known variant into the published layout.

    The ``module.`` prefix of ``DataParallel`` is dropped, and each family may rename and reorder its own variants.
    """
    state = without_prefix(state_dict)
    for family in FAMILIES.values():
        if family.to_published:
            state = follow(family.to_published)(state)
    return state


def infer_architecture(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Tell family and arguments from the tensors of a state dict, published or of a variant that a family knows.

    What leaves no trace in the tensors is taken from the published weights; each family's record says what that is.

    Args:
        state_dict: tensors or arrays by name; only their shapes are looked at.

    Raises:
        ValueError: these are not the tensors of a known architecture.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    wrong = ""
    for family in FAMILIES.values():
        try:
            arguments = family.recognise(shapes)
        except (LookupError, TypeError, ValueError) as error:  # another family may still know these tensors
            wrong = wrong or (f"{error} is missing" if isinstance(error, KeyError) else str(error))
            continue
        if arguments is not None:
            return _named(family, arguments)
    found = wrong or "found " + (", ".join(sorted(shapes)[:3]) or "no tensors")
    raise ValueError(f"not the weights of a known architecture ({found})")


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
