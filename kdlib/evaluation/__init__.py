"""Measurements of finished models and classical methods: quality, fidelity to a teacher, behaviour, cost and speed.

Nothing here may train a model; experiments that train and then measure are in :mod:`kdlib.experiments`.
"""

import lazy_loader

from kdlib.files import write_json

# As in kdlib itself: tables of stored scores need no PyTorch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["write_json"]
