"""GlanceNet as a graph: smoothing within the measured noise, then a power curve, written with exp and log."""

from __future__ import annotations

import math

import numpy as np

from kdlib.export.form import ThumbnailForm
from kdlib.export.graph import Value
from kdlib.export.operations import from_opponents, measured_noise, opponents, precision_of, shifted, sides, thumbnail
from kdlib.power_curve import BLACK, GAMMA_RANGE

_DIAGONAL = 0.5
_AROUND = [(row, column) for row in range(3) for column in range(3) if not row == column == 1]


class GlanceForm(ThumbnailForm):
    """GlanceNet."""

    smoothing = "luminance and colour, within the noise measured in the photo, before the curve"
    method = "estimate_curve"
    outputs = {"map": ("batch", 7, "height", "width")}  # noqa: RUF012
    applied = ("smoothing.log_tolerance",)

    def photo(self, image: Value) -> Value:
        (maps,) = self.network(thumbnail(image, self.config["side"]))
        full = self.graph.resize(maps, *sides(image), corners=True)
        gain, gamma, tolerance = full.part(0, 3), full.part(3, 6), full.part(6, 7)
        smooth = self._smoothed(image, measured_noise(image) * tolerance).clip(0, 1)
        power = gamma + 1
        curve = (power * (smooth + BLACK).log()).exp() - (power * math.log(BLACK)).exp()
        return (gain.exp() * curve).clip(0, 1)

    def layers(self, seen: Value) -> tuple[Value]:
        graph, width = self.graph, self.config["width"]
        features = graph.conv((seen + 1 / 255).log() / 3 + 1, "conv").relu()
        features = graph.conv(graph.conv(features, "depth_conv", groups=width), "point_conv").relu()
        mean = features.mean(2, 3)
        deviation = ((features - mean).square().mean(2, 3) + 1e-4).op("Sqrt")
        pooled = graph.join(mean, deviation).reshape(0, -1)
        decision = graph.linear(graph.linear(pooled, "decide").tanh(), "globals").insert_axes(2, 3)
        local = graph.conv(features, "local").op("Gather", np.array([0, 0, 0, 1, 1, 1]), axis=1)
        curve = decision.part(0, 6) + local
        gamma = (curve.part(3, 6) + 1).clip(*GAMMA_RANGE) - 1
        tolerance = decision.part(6, 7).clip(-6, 2).exp() + curve.part(0, 1) * 0
        return (graph.join(curve.part(0, 3), gamma, tolerance),)

    def _smoothed(self, image: Value, noise: Value) -> Value:
        """Write :class:`kdlib.models.glance.NoiseAwareSmoothing`."""
        luminance, *differences = opponents(image)
        colour = self.graph.join(*differences)
        precision = precision_of(noise)
        for step, limits in zip((1, 2, 4), np.exp(-2 * self.state["smoothing.log_tolerance"]), strict=True):
            luminance, colour = self._round(luminance, colour, precision, step, [float(limit) for limit in limits])
        return from_opponents(luminance, colour.part(0, 1), colour.part(1, 2))

    def _round(
        self, luminance: Value, colour: Value, precision: Value, step: int, limits: list[float]
    ) -> tuple[Value, Value]:
        copies = zip(_AROUND, shifted(luminance, step, _AROUND), shifted(colour, step, _AROUND), strict=True)
        weights, weights_colour = luminance * 0 + 2, luminance * 0 + 2
        sums, sums_colour = luminance * 0, colour * 0
        for place, beside, beside_colour in copies:
            share = 1.0 if 1 in place else _DIAGONAL
            apart, apart_colour = beside - luminance, beside_colour - colour
            squared = apart.square() * precision
            squared_colour = apart_colour.square().sum(1) * precision
            weight = share * (1 - squared * limits[0]).relu().square()
            weight_colour = share * (1 - squared * limits[1] - squared_colour * limits[2]).relu().square()
            weights, sums = weights + weight, sums + weight * apart
            weights_colour = weights_colour + weight_colour
            sums_colour = sums_colour + weight_colour * apart_colour
        return luminance + sums / weights, colour + sums_colour / weights_colour
