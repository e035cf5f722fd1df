"""MSAFN and LightMSAFN as graphs: bicubic upsampling, then the network at the full size of the result."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdlib.export.form import Form
from kdlib.export.graph import Value
from kdlib.export.operations import cropped, enlarged, sides
from kdlib.models.msafn import COARSEST


class SuperResolutionForm(Form):
    """Teacher and student; the gates' factors are those of the whole photo that the graph is given."""

    seen = "enlarged"
    outputs = {"restored": ("batch", 3, "height", "width")}  # noqa: RUF012

    @property
    def thumbnail(self) -> str:
        return f"the photo itself, enlarged by {self.config['upscale']}"

    def photo(self, image: Value) -> Value:
        (restored,) = self.network(enlarged(image, self.config["upscale"]).clip(0, 1))
        return restored.clip(0, 1)

    def layers(self, seen: Value) -> tuple[Value]:
        graph, config = self.graph, self.config
        x = self._padded(2 * seen - 1 if config["residual"] else seen)
        x = graph.conv(x, "conv_init")
        paths = []
        for number, factor in ((1, 1), (2, 2), (3, 4)):
            first = int(factor > 1)
            pooled = x if factor == 1 else x.op("AveragePool", kernel_shape=[factor] * 2, strides=[factor] * 2)
            y = self._gated(self._block(pooled, f"scale{number}.{first}"), f"scale{number}.{first + 1}")
            paths.append(y if factor == 1 else graph.resize(y, *sides(x), corners=False))
        y = graph.conv(graph.join(*paths), "fusion.0").leaky()
        for number in range(config["blocks"]):
            y = self._block(y, f"res_blocks.{number}")
        if config["recurrent"]:
            y = self._refined(y)
        y = graph.conv(graph.conv(y, "recon.0").leaky(), "recon.2")
        restored = cropped(y, *sides(seen))
        return (seen + restored if config["residual"] else restored,)

    def _padded(self, x: Value) -> Value:
        """Repeat the last row and column up to multiples of 4."""
        for axis, size in enumerate(sides(x), 2):
            places = self.graph.count((size + COARSEST - 1) / COARSEST * COARSEST)
            x = x.op("Gather", places.at_most(size - 1), axis=axis)
        return x

    def _block(self, x: Value, name: str) -> Value:
        graph = self.graph
        first = graph.conv(x, f"{name}.conv1").leaky()
        if f"{name}.conv3.weight" not in self.state:
            return x + self._gated(graph.conv(first, f"{name}.conv2"), f"{name}.gate")
        second = graph.conv(graph.join(x, first), f"{name}.conv2").leaky()
        third = graph.conv(graph.join(x, first, second), f"{name}.conv3").leaky()
        return x + self._gated(third, f"{name}.gate")

    def _gated(self, x: Value, name: str) -> Value:
        hidden = self.graph.linear(x.mean(2, 3).reshape(0, -1), f"{name}.fc.0").relu()
        return x * self.graph.linear(hidden, f"{name}.fc.2").sigmoid().insert_axes(2, 3)

    def _refined(self, x: Value) -> Value:
        """Write :class:`kdlib.models.msafn_blocks.Refinement`."""
        width, steps = 2 * self.config["width"], self.config["steps"]

        def of(name: str, source: Value, part: slice, *, bias: bool) -> Value:
            weight = np.ascontiguousarray(self.state[f"refinement.{name}.weight"][:, part])
            own: Any = self.state[f"refinement.{name}.bias"] if bias else None
            return self.graph.convolve(source, weight, own)

        def of_features(name: str) -> Value:
            return of(name, x, slice(width), bias=True)

        def of_state(name: str, state: Value) -> Value:
            return of(name, state, slice(width, None), bias=False)

        update, candidate = of_features("conv_z"), of_features("conv_h")
        resets = "refinement.conv_r.weight" in self.state and steps > 1
        reset = of_features("conv_r") if resets else None
        state = update.sigmoid() * candidate.tanh()
        for _ in range(steps - 1):
            share = (of_state("conv_z", state) + update).sigmoid()
            kept = state if reset is None else state * (of_state("conv_r", state) + reset).sigmoid()
            state = state + share * ((of_state("conv_h", kept) + candidate).tanh() - state)
        return state
