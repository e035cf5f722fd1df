"""An exported file: an ONNX model with what has to be known about it in its metadata.

The last entry of the metadata is the SHA-256 digest of everything before it, so that damage is found before a runtime
sees the file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlib.extras import needed_by
from kdlib.files import replacing
from kdlib.models.registry import FAMILIES
from kdlib.weights.header import MAX_BYTES

if TYPE_CHECKING:
    from onnx import ModelProto

FLAVOURS = ("photo", "network")
PRECISIONS = ("float32", "float16", "int8")
OPERATORS = frozenset(
    (
        *("Add", "And", "AveragePool", "Cast", "Clip", "Concat", "Conv", "DepthToSpace", "DequantizeLinear", "Div"),
        *("Equal", "Erf", "Exp", "Floor", "Gather", "GatherElements", "Gemm", "Greater", "GreaterOrEqual", "Identity"),
        *("LayerNormalization", "LeakyRelu", "Less", "Log", "MatMul", "Max", "Min", "Mul", "Pad", "Pow"),
        *("QuantizeLinear", "Range", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Shape"),
        *("Sigmoid", "Slice", "Softmax", "Sqrt", "Squeeze", "Sub", "Tanh", "TopK", "Transpose", "Unsqueeze", "Where"),
    )
)
"""The operators of exported files, all of them of the ONNX standard."""
# Whole numbers become sizes, so that a large one in a small file could fill the memory.
_MOST_NODES, _MOST_RANK, _MOST_WHOLE = 20_000, 8, 2**24
_DIGEST = "digest"
SEAL = 76
"""Bytes of the digest's entry, at the end of a file."""


@dataclass(frozen=True)
class Exported:
    """What the metadata of an exported file say, each field a text under its own name.

    Attributes:
        name: the model's name, or the name of its weights file.
        version: of kdlib.
        licence: terms of use of the weights.
        training_data: one line on what they were trained on.
        thumbnail_size: most pixels a side of what the network sees, or ``full size``.
        thumbnail: how that is made from a photo.
        smoothing: what the graph smooths.
        family: of the network.
        architecture: its arguments, as JSON.
        flavour: ``photo`` for photo in and photo out, ``network`` for the network alone.
        precision: of the network's weights: ``float32``, ``float16`` or ``int8``.
        upscale: factor by which the result is wider and higher than the photo.
        parameters: numbers that only the full-size pass uses, as JSON, by the names of the tensors.
        weights: SHA-256 digest of architecture and weights.
    """

    name: str
    version: str
    licence: str
    training_data: str
    thumbnail_size: str
    thumbnail: str
    smoothing: str
    family: str
    architecture: str
    flavour: str
    precision: str
    upscale: str
    parameters: str
    weights: str


def write_exported(model: ModelProto, about: Exported, path: Path) -> None:
    """Write a model with its metadata; an existing file is replaced at once.

    Raises:
        ValueError: it would be larger than an exported file may be.
        OSError: it cannot be written.
    """
    from onnx import numpy_helper

    for tensor in model.graph.initializer:  # all in one form, in which their sizes can be checked
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    del model.metadata_props[:]
    for field in fields(about):
        model.metadata_props.add(key=field.name, value=getattr(about, field.name))
    body = model.SerializeToString()
    if len(body) > MAX_BYTES:
        raise ValueError(f"the exported file would have {len(body):,} bytes, more than the {MAX_BYTES:,} allowed")
    with replacing(path) as partial:
        partial.write_bytes(signed(body))


def signed(body: bytes) -> bytes:
    """Return a serialised model with the digest as its last entry."""
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    from onnx import ModelProto

    # Serialised messages one after the other are one message, with the entries of both.
    last = ModelProto()
    last.metadata_props.add(key=_DIGEST, value=hashlib.sha256(body).hexdigest())
    return last.SerializeToString()


def read_exported(path: Path) -> tuple[Exported, bytes]:
    """Read an exported file, and check all of it that can be checked without a runtime.

    Returns:
        What it says about itself, and its content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is too large, damaged, not one of kdlib's, or has external data or operators that are not of the
            ONNX standard.
        MissingExtraError: ``onnx`` is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no exported file at {path}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, more than the {MAX_BYTES:,} that an exported file may have")
    with needed_by(str(path)):
        from onnx import ModelProto
    content = path.read_bytes()
    try:
        model = ModelProto.FromString(content)
    except Exception:  # protobuf's own, whose package is no dependency of this one
        raise ValueError(f"{path} is not a readable ONNX file; copy or export it again") from None
    try:
        about = _about(model)
        if content[-SEAL:] != _seal(content[:-SEAL]):
            raise ValueError("it has changed since it was exported; copy or export it again")
        _check(model, about)
    except ValueError as error:
        raise ValueError(f"{path} is refused: {error}") from None
    return about, content


def _about(model: ModelProto) -> Exported:
    given = {entry.key: entry.value for entry in model.metadata_props}
    wanted = [field.name for field in fields(Exported)]
    if missing := [name for name in wanted if name not in given]:
        raise ValueError(f"its metadata have no {missing[0]}; only files that kdlib has exported can be run")
    about = Exported(**{name: given[name] for name in wanted})
    for name, value, known in (
        ("family", about.family, FAMILIES),
        ("flavour", about.flavour, FLAVOURS),
        ("precision", about.precision, PRECISIONS),
        ("upscale", about.upscale, map(str, range(1, 17))),
    ):
        if value not in set(known):
            raise ValueError(f"its metadata give an unknown {name}, {value[:40]!r}")
    return about


def _check(model: ModelProto, about: Exported) -> None:
    """Raise ValueError unless a model has the form of those that kdlib writes."""
    from onnx import AttributeProto, TensorProto

    graph = model.graph
    if [opset.domain for opset in model.opset_import] != [""] or model.functions or model.training_info:
        raise ValueError("it asks for operators that are not of the ONNX standard")
    if len(graph.node) > _MOST_NODES:
        raise ValueError(f"it has {len(graph.node):,} operators, more than {_MOST_NODES:,}")
    for node in graph.node:
        if node.domain or node.op_type not in OPERATORS:
            raise ValueError(f"it has an operator that kdlib does not export, {f'{node.domain}.{node.op_type}'[:60]!r}")
        kinds = {attribute.type for attribute in node.attribute}
        if kinds & {AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.TENSOR, AttributeProto.TENSORS}:
            raise ValueError(f"{node.op_type} has a part of its own, which kdlib does not export")
    if graph.sparse_initializer:
        raise ValueError("it has sparse tensors, which kdlib does not export")
    for tensor in graph.initializer:
        if tensor.external_data or tensor.data_location != TensorProto.DEFAULT:
            raise ValueError("it has data outside the file, which is never read")
        _check_tensor(tensor)
    if [value.name for value in graph.input] != ["photo"] and about.flavour == "photo":
        raise ValueError("it does not take a photo")
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            raise ValueError(f"{value.name[:40]!r} is not of the type float32")


def _check_tensor(tensor: Any) -> None:
    """Raise ValueError unless what a tensor stores is as long as its shape says, and its values are sensible."""
    import math

    import numpy as np
    from onnx import TensorProto

    types = {TensorProto.FLOAT: "<f4", TensorProto.FLOAT16: "<f2", TensorProto.INT64: "<i8", TensorProto.INT8: "i1"}
    types |= {TensorProto.UINT8: "u1", TensorProto.INT32: "<i4"}
    name = tensor.name[:40]
    dtype = types.get(tensor.data_type)
    if dtype is None or len(tensor.dims) > _MOST_RANK or min(tensor.dims, default=0) < 0:
        raise ValueError(f"its tensor {name!r} has a type or shape that kdlib does not export")
    if math.prod(tensor.dims) * np.dtype(dtype).itemsize != len(tensor.raw_data):
        raise ValueError(f"its tensor {name!r} stores more or less than its shape says")
    values = np.frombuffer(tensor.raw_data, dtype)
    if dtype == "<i8" and values.size and not -_MOST_WHOLE <= values.min() <= values.max() <= _MOST_WHOLE:
        raise ValueError(f"its tensor {name!r} has values that no photo needs")
    if not np.isfinite(values).all():
        raise ValueError(f"its tensor {name!r} has values that are NaN or infinite")
