from .models import load_model, read_weights, resolve_model, save_model

__all__ = ["load_model", "read_weights", "resolve_model", "save_model"]
