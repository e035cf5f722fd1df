"""kdlib: knowledge distillation you can watch, on networks that brighten dark photos."""

from importlib.metadata import version

from kdlib.models import create_model
from kdlib.weights import load_model, save_model

__version__ = version("kdlib")
__all__ = ["__version__", "create_model", "load_model", "save_model"]
