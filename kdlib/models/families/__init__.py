"""The record of each family, without PyTorch: every module here holds one or more, and is found by being here.

A record says where a network and its backends are found; the network itself lives in :mod:`kdlib.models`.
"""

from importlib import import_module
from pkgutil import iter_modules

from kdlib.models.family import Family

_MODULES = [import_module(f"{__name__}.{name}") for name in sorted(module.name for module in iter_modules(__path__))]
RECORDS = tuple(record for module in _MODULES for record in vars(module).values() if isinstance(record, Family))
"""Every record, by module and then in the order of its module."""
