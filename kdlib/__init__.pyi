from . import scale
from .enhance.enhancer import Enhancer
from .models.named import create_model
from .weights import load_model, save_model

__version__: str
__all__ = ["Enhancer", "__version__", "create_model", "load_model", "save_model", "scale"]
