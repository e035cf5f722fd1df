"""IAT and its student as graphs, which work at the photo's full size."""

from __future__ import annotations

import math

import numpy as np

from kdlib.export.form import Form
from kdlib.export.graph import Value
from kdlib.export.operations import adaptive_averages
from kdlib.models.network import Network
from kdlib.stages import BLACK, GAMMA_RANGE, WHITE_FLOOR

_HEADS, _QUERIES = 4, 10
_POOLED = 64


class StagesForm(Form):
    """What both have in common: two maps, then a colour matrix and a gamma."""

    seen = "image"
    outputs = {  # noqa: RUF012
        "multiply": ("batch", 3, "height", "width"),
        "add": ("batch", 3, "height", "width"),
        "colour": ("batch", 3, 3),
        "gamma": ("batch", 1),
    }

    @property
    def thumbnail(self) -> str:
        return "the photo itself"

    def photo(self, image: Value) -> Value:
        multiply, add, colour, gamma = self.network(image)
        local = self._input(image) * multiply + add
        mixed = self.graph.op("Reshape", colour @ local.reshape(0, 3, -1), self.graph.op("Shape", image, whole=True))
        return mixed.clip(BLACK, 1).op("Pow", gamma.clip(*GAMMA_RANGE).insert_axes(2, 3))

    def _input(self, image: Value) -> Value:
        return 2 * image - 1 if self.config["centred"] else image

    def _guarded(self, colour: Value) -> Value:
        """Write :func:`kdlib.stages.guard_colour`."""
        if not self.config["guarded"]:
            return colour
        share = (1 - WHITE_FLOOR) / (1 - colour.sum(2).at_most(WHITE_FLOOR))
        identity = self.graph.constant(np.eye(3, dtype=np.float32))
        return identity + share * (colour - identity)


class IATForm(StagesForm):
    """The transformer."""

    def layers(self, seen: Value) -> tuple[Value, ...]:
        x, graph = self._input(seen), self.graph
        features = graph.conv(x, "local_net.conv1").leaky()
        branches = []
        for name in ("mul", "add"):
            y = features
            for number in range(3):
                y = self._local_block(y, f"local_net.{name}_blocks.{number}")
            branches.append(graph.conv(y + features, f"local_net.{name}_end.0"))
        gamma, colour = self._decide(x)
        return branches[0].relu(), branches[1].tanh(), self._guarded(colour), gamma

    def _local_block(self, x: Value, name: str) -> Value:
        graph, state, width = self.graph, self.state, self.config["width"]
        x = x + graph.conv(x, f"{name}.pos_embed", groups=width)
        y = graph.conv(self._mix(x, f"{name}.norm1"), f"{name}.conv1")
        y = graph.conv(graph.conv(y, f"{name}.attn", groups=width), f"{name}.conv2")
        x = x + graph.constant(state[f"{name}.gamma_1"]) * y
        y = graph.conv(self._mix(x, f"{name}.norm2"), f"{name}.mlp.fc1").gelu()
        return x + graph.constant(state[f"{name}.gamma_2"]) * graph.conv(y, f"{name}.mlp.fc2")

    def _mix(self, x: Value, name: str) -> Value:
        alpha, beta, colour = (self.state[f"{name}.{part}"] for part in ("alpha", "beta", "color"))
        return self.graph.convolve(x, (alpha.reshape(-1, 1) * colour)[:, :, None, None], beta.reshape(-1), name=name)

    def _decide(self, x: Value) -> tuple[Value, Value]:
        graph, state, width = self.graph, self.state, self.config["global_width"]
        for layer in (0, 3):
            name = "global_net.conv_large.proj"
            weight, bias = self._with_norm(f"{name}.{layer}", f"{name}.{layer + 1}")
            x = graph.convolve(x, weight, bias, stride=2, name=f"{name}.{layer}")
            x = x.gelu() if layer == 0 else x
        name = "global_net.generator"
        x = x + graph.conv(x, f"{name}.pos_embed", groups=width)
        tokens = self._norm(x.reshape(0, width, -1).transpose(0, 2, 1), f"{name}.norm1")
        each = width // _HEADS
        query = state[f"{name}.attn.q"].reshape(1, _QUERIES, _HEADS, each).transpose(0, 2, 1, 3) / math.sqrt(each)
        key, value = (
            (tokens @ state[f"{name}.attn.{part}.weight"].T.copy()).reshape(0, -1, _HEADS, each) for part in ("k", "v")
        )
        attention = graph.constant(query.astype(np.float32)) @ key.transpose(0, 2, 3, 1)
        answers = (attention.op("Softmax", axis=-1) @ value.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
        x = self._dense(answers.reshape(0, _QUERIES, width), f"{name}.attn.proj")
        hidden = self._dense(self._norm(x, f"{name}.norm2"), f"{name}.mlp.fc1").gelu()
        x = x + self._dense(hidden, f"{name}.mlp.fc2")
        gamma = self._dense(x.part(0, 1), "global_net.gamma_linear").reshape(-1, 1)
        colour = self._dense(x.part(1, _QUERIES), "global_net.color_linear").reshape(-1, 3, 3)
        bases = (graph.weight(f"global_net.{base}_base") for base in ("gamma", "color"))
        return gamma + next(bases), colour + next(bases)

    def _dense(self, x: Value, name: str) -> Value:
        return x @ self.state[f"{name}.weight"].T.copy() + self.graph.weight(f"{name}.bias")

    def _norm(self, tokens: Value, name: str) -> Value:
        tensors = (self.graph.weight(f"{name}.{part}") for part in ("weight", "bias"))
        normal: Value = self.graph.op("LayerNormalization", tokens, *tensors, axis=-1, epsilon=1e-5)
        return normal

    def _with_norm(self, conv: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """Return weight and bias of a convolution with the batch normalisation behind it."""
        state = self.state
        scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + 1e-5)
        bias = (state[f"{conv}.bias"] - state[f"{norm}.running_mean"]) * scale + state[f"{norm}.bias"]
        return state[f"{conv}.weight"] * scale[:, None, None, None], bias


class IATStudentForm(StagesForm):
    """The student, with batch normalisation folded into the convolutions."""

    def __init__(self, model: Network) -> None:
        super().__init__(model.for_inference())

    def layers(self, seen: Value) -> tuple[Value, ...]:
        x, graph = self._input(seen), self.graph
        shared = graph.conv(x, "shared_conv1").leaky()
        multiply, add = (self._blocks(shared, f"{name}_blocks") + shared for name in ("mul", "add"))
        side = graph.constant(np.array([_POOLED]))
        pooled = adaptive_averages(graph.join(shared, multiply, add), side, side)
        for layer in (1, 4):
            pooled = graph.conv(pooled, f"global_refine.{layer}").relu()
        features = pooled.mean(2, 3).reshape(0, -1)
        colour = graph.linear(features, "color_head").reshape(-1, 3, 3) + graph.weight("identity")
        gamma = self.config["most_gamma"] * graph.linear(features, "gamma_head.0").sigmoid()
        ends = graph.conv(multiply, "mul_end.0").relu(), graph.conv(add, "add_end.0").tanh()
        return *ends, self._guarded(colour), gamma

    def _blocks(self, x: Value, name: str) -> Value:
        for number in range(self.config["blocks"]):
            hidden = self.graph.conv(x, f"{name}.{number}.conv1").relu()
            x = x + self.graph.conv(hidden, f"{name}.{number}.conv2")
        return x
