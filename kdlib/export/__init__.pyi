from .litert import export_litert
from .onnx_file import export_onnx

__all__ = ["export_litert", "export_onnx"]
