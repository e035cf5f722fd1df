from .enhancer import Enhancer

__all__ = ["Enhancer"]
