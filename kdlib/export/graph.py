"""Writing an ONNX graph: values with arithmetic, and the few operators that the networks need.

The graphs are written by hand instead of being traced. A trace holds for the sizes that it was made with, or needs an
exporter that can reason about them; here every size is read from the photo in the graph itself, so that one file serves
any batch, height and width from 1 up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

OPSET, IR_VERSION = 18, 8
Number = int | float


class Value:
    """A tensor in a graph, float32 or, where ``whole``, int64; numbers take its type in arithmetic."""

    def __init__(self, graph: Graph, name: str, *, whole: bool = False) -> None:
        self.graph, self.name, self.whole = graph, name, whole

    def op(self, kind: str, *others: Value | np.ndarray | Number, **attributes: Any) -> Value:
        """Return an operator of this value and others."""
        return self.graph.op(kind, self, *(self._like(other) for other in others), **attributes)

    def _like(self, other: Value | np.ndarray | Number) -> Value:
        if isinstance(other, Value):
            return other
        if isinstance(other, np.ndarray):
            return self.graph.constant(other)
        return self.graph.constant(np.array(other, np.int64 if self.whole else np.float32))

    def __add__(self, other: Value | Number) -> Value:
        return self.op("Add", other)

    def __sub__(self, other: Value | Number) -> Value:
        return self.op("Sub", other)

    def __rsub__(self, other: Number) -> Value:
        return self._like(other).op("Sub", self)

    def __mul__(self, other: Value | Number) -> Value:
        return self.op("Mul", other)

    def __truediv__(self, other: Value | Number) -> Value:
        """Divide; whole numbers, which must not be negative, are rounded down."""
        return self.op("Div", other)

    def __rtruediv__(self, other: Number) -> Value:
        return self._like(other).op("Div", self)

    def __matmul__(self, other: Value | np.ndarray) -> Value:
        return self.op("MatMul", other)

    __radd__, __rmul__ = __add__, __mul__

    def square(self) -> Value:
        """Return the value times itself."""
        return self * self

    def relu(self) -> Value:
        """Return the value where it is positive, else 0."""
        return self.op("Relu")

    def exp(self) -> Value:
        """Return e to the power of the value."""
        return self.op("Exp")

    def log(self) -> Value:
        """Return the natural logarithm."""
        return self.op("Log")

    def tanh(self) -> Value:
        """Return the hyperbolic tangent."""
        return self.op("Tanh")

    def sigmoid(self) -> Value:
        """Return the logistic function."""
        return self.op("Sigmoid")

    def leaky(self, slope: float = 0.2) -> Value:
        """Return the value where it is positive, else ``slope`` times the value."""
        return self.op("LeakyRelu", alpha=slope)

    def gelu(self) -> Value:
        """Return the value times the normal distribution's cumulative probability of it."""
        return 0.5 * self * (1 + (self / float(np.sqrt(2))).op("Erf"))

    def at_least(self, other: Value | Number) -> Value:
        """Return the larger of two values."""
        return self.op("Max", other)

    def at_most(self, other: Value | Number) -> Value:
        """Return the smaller of two values."""
        return self.op("Min", other)

    def clip(self, low: Number, high: Number) -> Value:
        """Return the value within two bounds."""
        return self.op("Clip", low, high)

    def mean(self, *axes: int) -> Value:
        """Return the mean over axes, which are kept with length 1."""
        return self.op("ReduceMean", np.array(axes), keepdims=1)

    def sum(self, *axes: int) -> Value:
        """Return the sum over axes, which are kept with length 1."""
        return self.op("ReduceSum", np.array(axes), keepdims=1)

    def max(self, *axes: int) -> Value:
        """Return the maximum over axes, which are kept with length 1."""
        return self.op("ReduceMax", np.array(axes), keepdims=1)

    def part(self, first: int, last: int, axis: int = 1) -> Value:
        """Return positions ``first`` to ``last`` (exclusive) on an axis."""
        return self.op("Slice", np.array([first]), np.array([last]), np.array([axis]))

    def channels(self) -> list[Value]:
        """Return each of the three channels of B×3×H×W as B×1×H×W."""
        return [self.part(k, k + 1) for k in range(3)]

    def reshape(self, *shape: int) -> Value:
        """Return the value in another shape; 0 keeps a length, −1 takes what is left."""
        return self.op("Reshape", np.array(shape))

    def transpose(self, *order: int) -> Value:
        """Return the value with its axes in another order."""
        return self.op("Transpose", perm=order)

    def insert_axes(self, *axes: int) -> Value:
        """Return the value with further axes of length 1."""
        return self.op("Unsqueeze", np.array(axes))

    def where(self, true: Value | Number, false: Value | Number) -> Value:
        """Return ``true`` where this condition holds, else ``false``; one of them is a value."""
        like = true if isinstance(true, Value) else false
        assert isinstance(like, Value)
        found = self.graph.op("Where", self, like._like(true), like._like(false))
        found.whole = like.whole
        return found

    def as_float(self) -> Value:
        """Return whole numbers or conditions as float32."""
        return self.graph.op("Cast", self, whole=False, to=1)

    def as_whole(self) -> Value:
        """Return numbers as int64, rounded towards 0."""
        return self.graph.op("Cast", self, whole=True, to=7)

    def size(self, axis: int) -> Value:
        """Return the length of an axis as a whole number in a vector of one."""
        return self.graph.op("Shape", self, whole=True, start=axis, end=axis + 1)


class Graph:
    """An ONNX graph that is being written.

    Args:
        state: the tensors of a network, by name.

    Attributes:
        part: begins the names of the operators that are written.
    """

    part = ""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self.state = {name: np.asarray(array, np.float32) for name, array in state.items()}
        self.nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._tensors: list[Any] = []

    def op(
        self, kind: str, *inputs: Value | None, whole: bool | None = None, outputs: int = 1, **attributes: Any
    ) -> Any:
        """Add an operator, and return its output, or a tuple if there are several.

        Args:
            kind: the operator's name.
            inputs: None leaves an optional one out.
            whole: whether the outputs are whole numbers; by default as the first input.
        """
        from onnx import helper

        title = f"{self.part}{kind}_{len(self.nodes)}"
        names = [title + (f".{k}" if k else "") for k in range(outputs)]
        given = ["" if value is None else value.name for value in inputs]
        self.nodes.append(helper.make_node(kind, given, names, name=title, **attributes))
        first = inputs[0] if inputs else None
        kept = first.whole if whole is None and first is not None else bool(whole)
        values = tuple(Value(self, name, whole=kept) for name in names)
        return values[0] if outputs == 1 else values

    def input(self, name: str) -> Value:
        """Return an input of float32."""
        return Value(self, name)

    def constant(self, array: np.ndarray, name: str = "") -> Value:
        """Return a constant, which is stored once however often it is used."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = name or f"constant_{len(self._constants)}"
            self._tensors.append(numpy_helper.from_array(array, self._constants[key]))
        return Value(self, self._constants[key], whole=array.dtype == np.int64)

    def weight(self, name: str) -> Value:
        """Return a tensor of the network."""
        return self.constant(self.state[name], name)

    def conv(self, x: Value, name: str, *, stride: int = 1, groups: int = 1) -> Value:
        """Return a convolution of the network with the padding that keeps the size, divided by the stride."""
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return self.convolve(x, weight, bias, stride=stride, groups=groups, name=name)

    def convolve(
        self, x: Value, weight: np.ndarray, bias: np.ndarray | None, *, stride: int = 1, groups: int = 1, name: str = ""
    ) -> Value:
        """Return a convolution with given weights; see :meth:`conv`."""
        around = weight.shape[-1] // 2
        tensors = [self.constant(weight, name and f"{name}.weight")]
        if bias is not None:
            tensors.append(self.constant(bias, name and f"{name}.bias"))
        return self.op("Conv", x, *tensors, pads=[around] * 4, strides=[stride] * 2, group=groups)

    def linear(self, x: Value, name: str) -> Value:
        """Return a linear layer of the network for B×C."""
        return self.op("Gemm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), transB=1)

    def join(self, *values: Value, axis: int = 1) -> Value:
        """Return values one after the other on an axis."""
        joined: Value = self.op("Concat", *values, axis=axis)
        return joined

    def count(self, number: Value) -> Value:
        """Return the whole numbers 0 … number − 1."""
        zero, one = (self.constant(np.array(value, np.int64)) for value in (0, 1))
        counted: Value = self.op("Range", zero, number.op("Squeeze"), one, whole=True)
        return counted

    def resize(self, x: Value, height: Value, width: Value, *, corners: bool) -> Value:
        """Return B×C×h×w at another size, interpolated bilinearly; corners are aligned, or else the centres' grid."""
        size = self.join(x.size(0), x.size(1), height, width, axis=0)
        mode = "align_corners" if corners else "half_pixel"
        resized: Value = self.op(
            "Resize", x, None, None, size, mode="linear", coordinate_transformation_mode=mode, whole=False
        )
        return resized

    def model(self, inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, tuple[Value, Sequence[Any]]]) -> Any:
        """Return the finished model, with nothing in it that no output needs.

        Args:
            inputs: shapes of the inputs, float32, by name; a text names a length that may vary.
            outputs: values and shapes of the outputs, by name.
        """
        from onnx import TensorProto, helper

        ends = [(value.name, name) for name, (value, _) in outputs.items()]
        renamed = [helper.make_node("Identity", [inside], [name], name=f"as_{name}") for inside, name in ends]
        needed, kept = set(outputs), []
        for node in reversed([*self.nodes, *renamed]):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(node.input)

        def info(name: str, shape: Sequence[Any]) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

        graph = helper.make_graph(
            kept[::-1],
            "kdlib",
            [info(name, shape) for name, shape in inputs.items()],
            [info(name, shape) for name, (_, shape) in outputs.items()],
            [tensor for tensor in self._tensors if tensor.name in needed],
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="kdlib")
