"""GridNet as a graph: smoothing within the measured noise, then gains over position and luminance."""

from __future__ import annotations

import math

import numpy as np

from kdlib.export.form import ThumbnailForm
from kdlib.export.graph import Value
from kdlib.export.operations import from_opponents, measured_noise, opponents, precision_of, shifted, sides, thumbnail
from kdlib.gain_grid import (
    CERTAIN_CLIPPED,
    CLIPPED,
    DEEP,
    FALLING_OFF,
    FLOOR,
    KNOTS,
    LEAST_DIVISOR,
    LEAST_SIGNAL,
    MOST_CHROMA,
    MOST_GAIN,
    MOST_LOSS_OF_WHITE,
    NEARLY_CLIPPED,
    SAMPLES,
    TAPS,
)

_STRAIGHT, _DIAGONAL = ((0, 1), (2, 1), (1, 0), (1, 2)), ((0, 0), (0, 2), (2, 0), (2, 2))


class GridForm(ThumbnailForm):
    """GridNet, student or teacher."""

    smoothing = "luminance and colour, within the noise measured in the photo, before the gains"
    method = "estimate_grid"
    outputs = {"map": ("batch", len(KNOTS) + 1, "rows", "columns")}  # noqa: RUF012
    applied = ("chroma", "floor", "smoothing.log_tolerance")

    def photo(self, image: Value) -> Value:
        (grid,) = self.network(thumbnail(image, self.config["side"]))
        grid = self._limited(grid, image)
        noise = measured_noise(image)
        enhanced = self._gains(self._smoothed(image, noise).clip(0, 1), grid, noise)
        return enhanced.at_least(0) / enhanced.max(1).at_least(1)

    def layers(self, seen: Value) -> tuple[Value]:
        graph = self.graph
        luminance, colour = _split(seen)
        light = (luminance + FLOOR).log() / (3 * math.log(2)) + 1
        body = self._separable if self.config["body"] == "separable" else self._residual
        local, whole = body(graph.join(light, 2 * colour.part(0, 1), 2 * colour.part(2, 3)))
        shares = graph.join(*_knot_shares(luminance)).mean(2, 3)
        pooled = graph.join(whole.mean(2, 3), whole.max(2, 3), 4 * shares).reshape(0, -1)
        decision = graph.linear(pooled, "decide").relu()
        features = (local + graph.linear(decision, "globals").insert_axes(2, 3)).relu()
        gains = graph.conv(features, "knots")
        dark, white = gains.part(0, len(KNOTS) - 1), gains.part(len(KNOTS) - 1, len(KNOTS))
        limit = white.op("Less", 0).where(MOST_LOSS_OF_WHITE, white * 0 + MOST_GAIN)
        gains = graph.join(MOST_GAIN * (dark / MOST_GAIN).tanh(), limit * (white / limit).tanh())
        chroma = MOST_CHROMA * graph.linear(decision, "saturate").tanh().insert_axes(2, 3)
        return (graph.join(gains, chroma + white * 0),)

    def _separable(self, seen: Value) -> tuple[Value, Value]:
        graph, width = self.graph, self.config["width"]
        features = graph.conv(seen, "features.conv", stride=2).relu()
        features = graph.conv(features, "features.depth1", stride=2, groups=width).relu()
        features = graph.conv(features, "features.point1").relu()
        added = graph.conv(graph.conv(features, "features.depth2", groups=width).relu(), "features.point2")
        return features + added, features + added

    def _residual(self, seen: Value) -> tuple[Value, Value]:
        graph = self.graph
        fine = graph.conv(graph.conv(seen, "features.first", stride=2).relu(), "features.second", stride=2)
        fine = self._block(fine, "features.fine")
        middle = self._block(graph.conv(fine, "features.down1", stride=2), "features.middle")
        coarse = self._block(graph.conv(middle, "features.down2", stride=2), "features.coarse")
        for part, layer in ((middle, "up1"), (coarse, "up2")):
            fine = fine + graph.resize(graph.conv(part, f"features.{layer}"), *sides(fine), corners=False)
        return self._block(fine, "features.last"), coarse

    def _block(self, x: Value, name: str) -> Value:
        """Write :class:`kdlib.models.grid.Residual`."""
        graph, channels = self.graph, len(self.state[f"{name}.norm.weight"])
        groups = x.reshape(0, min(4, channels), -1)
        centred = groups - groups.mean(2)
        normal = centred / (centred.square().mean(2) + 1e-5).op("Sqrt")
        normal = graph.op("Reshape", normal, graph.op("Shape", x, whole=True))
        scale, shift = (self.state[f"{name}.norm.{part}"].reshape(-1, 1, 1) for part in ("weight", "bias"))
        normal = normal * graph.constant(scale) + graph.constant(shift)
        return x + graph.conv(graph.conv(normal.relu(), f"{name}.first").relu(), f"{name}.second")

    def _smoothed(self, image: Value, noise: Value) -> Value:
        """Write :class:`kdlib.models.grid.QuincunxSmoothing`."""
        graph, precision = self.graph, precision_of(noise)
        planes = graph.join(*opponents(image))
        limits = np.exp(-2 * self.state["smoothing.log_tolerance"])
        for (step, diagonal, colour_only), (light, colours) in zip(TAPS, limits, strict=True):
            by_plane = graph.constant(np.array([light, colours, colours], np.float32).reshape(3, 1, 1)) * precision
            weights, sums = planes.part(0, 1) * 0 + 2, planes * 0
            for beside in shifted(planes, step, _DIAGONAL if diagonal else _STRAIGHT):
                apart = beside - planes
                weight = (1 - (apart.square() * by_plane).sum(1)).relu().square()
                weights, sums = weights + weight, sums + weight * apart
            changed = planes + sums / weights
            planes = graph.join(planes.part(0, 1), changed.part(1, 3)) if colour_only else changed
        return from_opponents(*planes.channels())

    def _limited(self, grid: Value, image: Value) -> Value:
        """Write :func:`kdlib.models.grid.limit_darkening` with :func:`kdlib.models.grid.over_exposure_of`."""
        for axis, size in zip((2, 3), sides(image), strict=True):
            number = size.at_most(SAMPLES)
            image = image.op("Gather", image.graph.count(number) * size / number, axis=axis)
        brightest = image.max(1)
        clipped, bright = (brightest.op("Greater", level).as_float().mean(2, 3) for level in (CLIPPED, NEARLY_CLIPPED))
        first, last = FALLING_OFF
        falling = ((bright - clipped) / clipped.at_least(1e-9) - first) / (last - first)
        darker = (clipped / CERTAIN_CLIPPED).at_most(1)
        white = len(KNOTS) - 1
        parts = grid.part(0, white), grid.part(white, white + 1)
        limits = darker, darker * falling.clip(0, 1)
        limited = (part.op("Less", 0).where(limit * part, part) for part, limit in zip(parts, limits, strict=True))
        return self.graph.join(*limited, grid.part(white + 1, white + 2))

    def _gains(self, image: Value, grid: Value, noise: Value) -> Value:
        """Write :meth:`kdlib.models.grid.GridNet.apply_gains`, with one knot after another to save memory."""
        luminance, colour = _split(image)
        factors, size = grid.exp(), sides(image)
        gain = luminance * 0
        for knot, share in enumerate(_knot_shares(luminance)):
            gain = gain + share * self.graph.resize(factors.part(knot, knot + 1), *size, corners=False)
        lift, drop = (gain - 1).relu(), (1 - gain).relu()
        lifted, dropped = (float(factor) for factor in self.state["chroma"])
        saturation = self.graph.resize(factors.part(len(KNOTS), len(KNOTS) + 1), *size, corners=False)
        chroma = (
            saturation
            * (dropped * drop + 1)
            / (lifted * lift * (1 - luminance / DEEP).relu() + 1).at_least(LEAST_DIVISOR)
        )
        light = 255 * luminance
        signal = light / (light + max(float(self.state["floor"]), 0.0) * noise).at_least(LEAST_SIGNAL)
        return (gain - lift * (1 - signal)) * (luminance + chroma * colour)


def _split(image: Value) -> tuple[Value, Value]:
    """Return luminance, B×1×H×W, and the differences from it, B×3×H×W."""
    red, green, blue = image.channels()
    luminance = (red + 2 * green + blue) / 4
    return luminance, image - luminance


def _knot_shares(luminance: Value) -> list[Value]:
    """Return the share of each knot in the interpolation over luminance, each of the luminance's shape."""
    shares = []
    for below, knot, above in zip((None, *KNOTS[:-1]), KNOTS, (*KNOTS[1:], None), strict=True):
        slopes = []
        if below is not None:
            slopes.append((luminance - below) / (knot - below))
        if above is not None:
            slopes.append((above - luminance) / (above - knot))
        share = slopes[0] if len(slopes) == 1 else slopes[0].at_most(slopes[1])
        shares.append(share.clip(0, 1))
    return shares
