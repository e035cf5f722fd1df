"""Weights files: which ones ship, what a file claims to hold, and how it becomes a model or is fetched.

Catalogue and headers are read without PyTorch; only loading a model imports it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
