"""Enhancing photos and videos, fast."""

from kdlib.inference.enhancer import Enhancer

__all__ = ["Enhancer"]
