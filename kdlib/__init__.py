"""kdlib: knowledge distillation you can watch, on networks that brighten dark photos."""

from typing import Any

import lazy_loader

from kdlib import _moved
from kdlib.extras import needed_by

_moved.install()

# Names are listed in __init__.pyi and imported when first used: enhancing photos needs no PyTorch, which may not be
# installed and alone takes longer to import than a photo takes.
_attached, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # which takes a third of the time of importing NumPy

        return version("kdlib")
    with needed_by(f"kdlib.{name}"):
        return _attached(name)
