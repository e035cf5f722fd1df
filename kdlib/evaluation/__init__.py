"""Measurements of finished models and classical methods: quality, fidelity to a teacher, behaviour, cost and speed.

Nothing here may train a model; experiments that train and then measure are in :mod:`kdlib.experiments`.
"""

from typing import Any

import lazy_loader

from kdlib.extras import needed_by
from kdlib.files import write_json

# As in kdlib itself: tables of stored scores need no PyTorch.
_attached, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["write_json"]


def __getattr__(name: str) -> Any:
    with needed_by("kdlib.evaluation"):
        return _attached(name)
