"""The Zero-DCE family as a graph: the light-enhancement curve without powers, x + r·(x·x − x)."""

from __future__ import annotations

from kdlib.export.form import Form
from kdlib.export.graph import Value
from kdlib.export.operations import averages, cropped, sides


class CurvesForm(Form):
    """Zero-DCE, Zero-DCE++ and their students, with the small copy of the networks' own forward pass."""

    method = "estimate_curve"
    outputs = {"map": ("batch", "3 for each map", "height", "width")}  # noqa: RUF012

    @property
    def side(self) -> int:
        return int(self.config["network_side"])

    @property
    def thumbnail(self) -> str:
        factor = self.config["scale_factor"]
        if self.side:
            return (
                f"area-averaged in squares of f×f pixels, f = max({factor}, ceil(longest side / {self.side})), "
                "with the last row and column repeated"
            )
        return f"bilinear, a {factor}th of each side, rounded up" if factor > 1 else "the photo itself"

    def photo(self, image: Value) -> Value:
        config, graph = self.config, self.graph
        height, width = sides(image)
        limit, own = config["network_side"], config["scale_factor"]
        if not limit and own == 1:
            return self._curve(image, *self.network(image))
        factor = (height * 0 + own).at_least((height.at_least(width) + (limit - 1)) / limit if limit else own)
        tall, wide = ((size + factor - 1) / factor for size in (height, width))

        def windows(count: Value) -> tuple[Value, Value]:
            first = graph.count(count) * factor
            if limit:
                return first, first + factor
            # Bilinear downsampling, as published, takes the middle of each cell: one pixel, or the mean of two.
            return first + (own - 1) // 2, first + (own - 1) // 2 + 2 - own % 2

        (small,) = self.network(averages(image, windows(tall), windows(wide), repeat=True))
        full = graph.resize(small, tall * factor, wide * factor, corners=True)
        return self._curve(image, cropped(full, height, width))

    def layers(self, seen: Value) -> tuple[Value]:
        depth, skips = self.config["depth"], self.config["skips"]
        straight = depth // 2 + 1 if skips else depth
        x = seen
        passed: list[Value] = []
        for layer in range(depth):
            if layer >= straight:
                x = self.graph.join(passed[depth - 1 - layer], x)
            channels = 3 if layer == 0 else self.config["width"] * (1 + (layer >= straight))
            x = self._layer(x, f"e_conv{layer + 1}", channels)
            if layer < depth - 1:
                x = x.relu()
                passed.append(x)
        return (x.tanh() if self.config["curve_activation"] == "tanh" else 2 * x.sigmoid() - 1,)

    def _layer(self, x: Value, name: str, channels: int) -> Value:
        if not self.config["separable"]:
            return self.graph.conv(x, name)
        return self.graph.conv(self.graph.conv(x, f"{name}.depth_conv", groups=channels), f"{name}.point_conv")

    def _curve(self, image: Value, full: Value) -> Value:
        iterations = self.config["iterations"]
        for n in range(iterations):
            r = full if self.config["shared_map"] else full.part(3 * n, 3 * n + 3)
            image = image + r * (image * image - image)
        return image
