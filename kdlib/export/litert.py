"""``kdlib export … -o model.tflite``: the network alone as a LiteRT file, for Android, iOS and microcontrollers.

The converter, ``litert-torch``, is in no extra of the package: it names older versions of PyTorch than those that the
package is tested with, and brings many packages of its own. It works with newer ones if it is installed with
``--no-deps``.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlib.export.onnx_file import described
from kdlib.files import replacing
from kdlib.models.family import follow
from kdlib.models.registry import find_family
from kdlib.weights.exported import Exported

if TYPE_CHECKING:
    from kdlib.models.network import Network

METADATA = "kdlib"
"""Name of the entry of a file's metadata that holds :class:`~kdlib.weights.exported.Exported` as JSON."""


def export_litert(
    model: str | Path | Network, path: str | Path, *, licence: str = "", training_data: str = ""
) -> Exported:
    """Write the network alone as a LiteRT file: a thumbnail in and a map out, float32, channels first, of one size.

    The thumbnail is 1×3×S×S, with the side S that the network sees of photos of at least this size (32 for most).

    Args:
        model: name of a shipped model, path of a weights file, or a model, of a family that sees a thumbnail.
        path: of the file, which ends in ``.tflite``; an existing file is replaced.
        licence, training_data: as in :func:`~kdlib.export.export_onnx`.

    Returns:
        The metadata, which are in the file too.

    Raises:
        FileNotFoundError: no such weights file.
        ValueError: an unknown name, a damaged file, another extension, or a family that sees no thumbnail.
        ModuleNotFoundError: the converter is not installed.
    """
    from kdlib.weights.models import resolve_model

    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"{path}: a LiteRT file ends in .tflite")
    network = resolve_model(model)
    family = find_family(network.config)
    form: Any = follow(family.exported)(network) if family.exported else None
    if form is None or not form.side:
        raise ValueError(f"the family {family.name} sees no thumbnail; only networks that do can become a LiteRT file")
    try:
        converter, tools, schema = map(
            import_module,
            ("litert_torch", "ai_edge_litert.tools.flatbuffer_utils", "ai_edge_litert.schema_py_generated"),
        )
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"writing LiteRT files needs litert-torch, of which {error.name} is not installed; the page on exported "
            "files says how to install it",
            name=error.name,
        ) from None
    about = described(model, network, form, "network", "float32", licence, training_data)
    content = converter.convert(*_to_convert(network, form)).model_content()
    held = tools.read_model_from_bytearray(bytearray(content))
    held.buffers.append(schema.BufferT(data=json.dumps(asdict(about)).encode()))
    held.metadata = [*(held.metadata or []), schema.MetadataT(METADATA, len(held.buffers) - 1)]
    with replacing(path) as partial:
        partial.write_bytes(tools.convert_object_to_bytearray(held))
    return about


def _to_convert(network: Any, form: Any) -> tuple[Any, tuple[Any]]:
    """Return the network alone as a module, and an example of what it takes."""
    import copy

    import torch
    from torch import nn

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = copy.deepcopy(network).cpu().float().eval()

        def forward(self, thumbnail: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = getattr(self.model, form.method)(thumbnail)
            return found

    return Alone().eval(), (torch.full((1, 3, form.side, form.side), 0.25),)
