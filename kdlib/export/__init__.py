"""Networks as files for other runtimes: ONNX graphs written with standard operators, and their forms in fewer bits."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
