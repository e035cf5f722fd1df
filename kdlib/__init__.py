"""kdlib: knowledge distillation you can watch, on networks that brighten dark photos."""

from importlib.metadata import version

import lazy_loader

__version__ = version("kdlib")

# Names are listed in __init__.pyi and imported when first used: enhancing photos needs no PyTorch, which alone takes
# longer to import than a photo takes.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
