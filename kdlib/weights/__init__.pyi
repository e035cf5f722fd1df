from .file import WeightsFile
from .models import load_model, resolve_model, save_model

__all__ = ["WeightsFile", "load_model", "resolve_model", "save_model"]
