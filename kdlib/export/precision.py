"""Networks in fewer bits: the weighted layers in half precision, or quantised to 8 bits.

Only convolutions and linear layers of the network change. Activations, statistics and everything that happens to the
photo at full size stay in float32, because eight bits there would show as bands.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlib.export.form import NETWORK, Form
from kdlib.extras import needed_by

if TYPE_CHECKING:
    from onnx import ModelProto

LAYERS = ("Conv", "Gemm", "MatMul")
_CALIBRATION = (16, 96)  # crops of the embedded photos, and their side in pixels


def weighted_layers(model: ModelProto) -> list[Any]:
    """Return the convolutions and linear layers of the network in a graph, those with constant weights."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in LAYERS and node.name.startswith(NETWORK) and node.input[1] in constants
    ]


def halved(model: ModelProto) -> ModelProto:
    """Return a graph whose weighted layers are stored and computed in float16, with conversions around each."""
    from onnx import TensorProto, helper, numpy_helper

    layers = {node.name for node in weighted_layers(model)}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    small: dict[str, str] = {}
    nodes = []

    def converted(name: str) -> str:
        if name in tensors and name not in small:
            whole = numpy_helper.to_array(tensors[name])
            most = float(np.abs(whole).max(initial=0))
            if most > float(np.finfo(np.float16).max):
                raise ValueError(
                    f"a weight of {most:.3g} does not fit into half precision, whose numbers end at 65,504; export the "
                    "network with another precision"
                )
            half = whole.astype(np.float16)
            small[name] = f"{name}.half"
            model.graph.initializer.append(numpy_helper.from_array(half, small[name]))
        elif name not in small:
            small[name] = f"{name}.half"
            nodes.append(helper.make_node("Cast", [name], [small[name]], to=TensorProto.FLOAT16))
        return small[name]

    for node in model.graph.node:
        if node.name in layers:
            inputs, [result] = [converted(name) for name in node.input], node.output
            del node.input[:]
            node.input.extend(inputs)
            node.output[0] = small[result] = f"{result}.half"  # which a layer behind it takes as it is
            nodes += [node, helper.make_node("Cast", [node.output[0]], [result], to=TensorProto.FLOAT)]
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input} | {output.name for output in model.graph.output}
    nodes = [node for node in nodes if used & set(node.output)]
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, kept)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    return model


def quantised(model: ModelProto, form: Form, flavour: str) -> ModelProto:
    """Return a graph whose weighted layers have 8-bit weights, one scale a channel, and 8-bit inputs.

    The ranges of the inputs are those that occur on dark crops of the embedded photos, but for the two that are held
    out. The weights use 7 of their 8 bits: processors without VNNI instructions add two products of 8 bits in 16, which
    overflow otherwise.
    """
    import onnx

    with needed_by("quantising to 8 bits"):
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Crops(CalibrationDataReader):
        def __init__(self) -> None:
            self._crops = iter(list(_inputs(form, flavour)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            crop = next(self._crops, None)
            return None if crop is None else {model.graph.input[0].name: crop}

    log = logging.getLogger()
    before = log.level
    log.setLevel(logging.ERROR)  # it recommends a step that changes nothing here
    try:
        with TemporaryDirectory(prefix="kdlib-") as folder:
            source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(model.SerializeToString())
            quantize_static(
                source, target, Crops(), quant_format=QuantFormat.QDQ, per_channel=True,
                weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, reduce_range=True,
                nodes_to_quantize=[node.name for node in weighted_layers(model)], op_types_to_quantize=list(LAYERS),
            )  # fmt: skip
            return onnx.load(target)
    finally:
        log.setLevel(before)


def reduced(model: ModelProto, precision: str, form: Form, flavour: str) -> ModelProto:
    """Return a graph in ``float16`` or ``int8``."""
    return halved(model) if precision == "float16" else quantised(model, form, flavour)


def _inputs(form: Form, flavour: str) -> Iterator[np.ndarray]:
    """Yield dark photos or, for the network alone, what the network sees of them: 1×3×H×W each."""
    import torch.nn.functional as F

    from kdlib.data.samples import sample_crops

    count, side = _CALIBRATION
    # The network of a family that enlarges photos sees as many pixels as that of any other.
    crops = sample_crops(count, side // (form.config.get("upscale", 1) if flavour == "photo" else 1)).float().div(255)
    if form.side and flavour == "network":
        crops = F.adaptive_avg_pool2d(crops, min(form.side, side))
    for crop in crops.split(1):
        yield crop.numpy()
