"""Photos in, tensors out."""

import lazy_loader

# Names are listed in __init__.pyi and imported when first used: reading photos needs no PyTorch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
