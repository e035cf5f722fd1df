"""Building blocks of MSAFN and LightMSAFN: gates, residual blocks, and the recurrent refinement."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Slope of every leaky ReLU, as published.
SLOPE = 0.2


class GatePass:
    """The gates' factors in one pass through the network, either given or computed from each gate's input."""

    def __init__(
        self, given: dict[nn.Module, Tensor] | None = None, *, together: bool = False, whole: bool = False
    ) -> None:
        self.given, self.together, self.whole = given, together, whole
        self.found: list[Tensor] = []

    def values(self, gate: Gate, x: Tensor) -> Tensor:
        if self.given is not None:
            return self.given[gate].to(x)
        values = gate.decide(x.mean(dim=(0, 2, 3) if self.together else (2, 3), keepdim=True))
        self.found.append(values)
        return values


class Gate(nn.Module):
    """Weights channels with factors in (0, 1), which two linear layers compute from their means (B×C×H×W → same)."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.width, hidden = width, max(1, width // reduction)
        self.fc = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.Sigmoid())

    def decide(self, means: Tensor) -> Tensor:
        """Compute factors (B×C×1×1) from the means of the channels (B×C×1×1)."""
        return self.fc(means.flatten(1))[:, :, None, None]

    def forward(self, x: Tensor, run: GatePass, onto: Tensor | None = None) -> Tensor:
        """Weight the channels and, in the same pass over memory, add them to ``onto`` if given."""
        values = run.values(self, x)
        return x * values if onto is None else torch.addcmul(onto, x, values)


class DenseBlock(nn.Module):
    """Three densely connected convolutions, a gate, and a shortcut (B×C×H×W → B×C×H×W).

    During training the block is skipped for the whole batch with probability ``drop``, drawn from PyTorch's default
    generator. As in the published code, the remaining blocks are not rescaled.
    """

    radius = 3

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(3 * width, width, 3, padding=1)
        self.gate = Gate(width, 16)

    @property
    def last(self) -> nn.Conv2d:
        """The convolution that produces the residual."""
        return self.conv3

    def forward(self, x: Tensor, run: GatePass) -> Tensor:
        if _left_out(self, run):
            return x
        first = _leaky(self.conv1(x))
        second = _leaky(self.conv2(torch.cat([x, first], dim=1)))
        third = _leaky(self.conv3(torch.cat([x, first, second], dim=1)))
        return self.gate(third, run, x)


class LightBlock(nn.Module):
    """Two convolutions, a gate, and a shortcut (B×C×H×W → B×C×H×W); ``drop`` as in :class:`DenseBlock`."""

    radius = 2

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.gate = Gate(width, 8)

    @property
    def last(self) -> nn.Conv2d:
        return self.conv2

    def forward(self, x: Tensor, run: GatePass) -> Tensor:
        if _left_out(self, run):
            return x
        change = self.conv2(_leaky(self.conv1(x)))
        return self.gate(change, run, x)


def _leaky(x: Tensor) -> Tensor:
    # In place to save memory and time; the backward pass of a convolution needs its input but not its output.
    return F.leaky_relu(x, SLOPE, inplace=True)


def _left_out(block: DenseBlock | LightBlock, run: GatePass) -> bool:
    # Drawn on the CPU, so that a GPU need not synchronise and the generator is the one that the training loop seeds.
    return block.training and not run.whole and block.drop > 0 and bool(torch.rand(()) < block.drop)


class Refinement(nn.Module):
    """A gated recurrent unit of 3×3 convolutions with the same features as input in every step (B×C×H×W → B×C×H×W).

    The published code convolves both features and state in every step. Since the features do not change and the first
    state is zero, here the features are convolved once and the first state never. This halves the multiply-adds, and
    the result is the same up to rounding.
    """

    def __init__(self, width: int, steps: int, *, resets: bool) -> None:
        super().__init__()
        self.steps = steps
        self.conv_z = nn.Conv2d(2 * width, width, 3, padding=1)
        self.conv_r = nn.Conv2d(2 * width, width, 3, padding=1) if resets else None
        self.conv_h = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[1]

        def of_state(layer: nn.Conv2d, state: Tensor) -> Tensor:
            return F.conv2d(state, layer.weight[:, width:], padding=1)

        def of_features(layer: nn.Conv2d) -> Tensor:
            return F.conv2d(x, layer.weight[:, :width], layer.bias, padding=1)

        update, candidate = of_features(self.conv_z), of_features(self.conv_h)
        reset = of_features(self.conv_r) if self.conv_r is not None and self.steps > 1 else None
        state = update.sigmoid() * candidate.tanh()
        for _ in range(self.steps - 1):
            share = of_state(self.conv_z, state).add_(update).sigmoid_()
            kept = state
            if self.conv_r is not None and reset is not None:
                kept = state * of_state(self.conv_r, state).add_(reset).sigmoid_()
            state = torch.lerp(state, of_state(self.conv_h, kept).add_(candidate).tanh_(), share)
        return state
