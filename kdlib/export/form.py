"""What a family tells the export: how its network, and all that happens to a photo, is written as a graph."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from kdlib.export.graph import Graph, Value
from kdlib.models.network import Network

NETWORK = "network/"


class Form:
    """A network that can be written as a graph.

    Args:
        model: in any mode, on any device.

    Attributes:
        smoothing: what is smoothed inside the graph that takes and returns photos.
        seen: what the network alone takes, the name of that input.
        outputs: names and shapes of what the network alone returns.
        method: the network's method that computes a map from a thumbnail; empty if it sees none.
        applied: the tensors that only the full-size pass uses, which the network alone does not hold.
    """

    smoothing: ClassVar[str] = "nothing"
    seen: ClassVar[str] = "thumbnail"
    outputs: ClassVar[dict[str, tuple[Any, ...]]]
    method: ClassVar[str] = ""
    applied: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: Network) -> None:
        self.config = model.config
        self.state = {name: tensor.float().numpy(force=True) for name, tensor in model.state_dict().items()}
        self.graph = Graph(self.state)

    @property
    def side(self) -> int:
        """Most pixels a side of what the network sees; 0 for the photo itself or a fixed fraction of it."""
        return 0

    @property
    def thumbnail(self) -> str:
        """How what the network sees is made from a photo."""
        raise NotImplementedError

    def photo(self, image: Value) -> Value:
        """Return the enhanced photos, B×3×H×W in [0, 1], of B×3×H×W in [0, 1]."""
        raise NotImplementedError

    def network(self, seen: Value) -> tuple[Value, ...]:
        """Return :attr:`outputs`, computed by operators whose names begin with :data:`NETWORK`."""
        self.graph.part = NETWORK
        try:
            return self.layers(seen)
        finally:
            self.graph.part = ""

    def layers(self, seen: Value) -> tuple[Value, ...]:
        """Return :attr:`outputs`."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """Return :attr:`applied` as numbers."""
        return {name: np.round(self.state[name].astype(float), 9).tolist() for name in self.applied}


class ThumbnailForm(Form):
    """A network that sees a thumbnail of at most ``side`` pixels a side, whose proportions it does not keep."""

    @property
    def side(self) -> int:
        return int(self.config["side"])

    @property
    def thumbnail(self) -> str:
        return f"area-averaged to min(height, {self.side}) × min(width, {self.side}) pixels"
