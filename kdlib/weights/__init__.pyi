from .file import WeightsFile
from .models import resolve_model, save_model
from .named import load_model

__all__ = ["WeightsFile", "load_model", "resolve_model", "save_model"]
