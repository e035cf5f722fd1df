"""Fresh curve networks, and starting values for networks of a few channels."""

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from kdlib.models import ZeroDCE, create_model


def fresh_model(model: str | nn.Module, photos: Tensor, network_side: int = 0) -> ZeroDCE:
    """A curve network as it is, or one by name, initialised for the photos (N×3×S×S uint8) that it will learn from.

    Raises:
        ValueError: unknown name or argument, or a model that is not a curve network.
    """
    limit = {"network_side": network_side} if network_side else {}  # which other families do not know
    network: nn.Module = create_model(model, **limit) if isinstance(model, str) else model
    if not isinstance(network, ZeroDCE):
        raise ValueError(
            f"{model!r} is not a curve network of the Zero-DCE family: train it on pairs, or distil it with losses of "
            "your own"
        )
    if network is not model:
        sample = photos[:: max(1, len(photos) // 64)][:64]
        initialise_from_data(network, sample.float() / 255)
    return network


@torch.no_grad()
def initialise_from_data(model: ZeroDCE, photos: Tensor) -> None:
    """Rescale a network's layers, one after the other, so that every unit is alive on real photos.

    With four channels, random weights often leave units that are negative for every photo. A ReLU then passes neither
    signal nor gradient, and the student ends up as one fixed curve. Each layer's last convolution is rescaled and
    shifted so that every channel has zero mean and unit variance over the photos (layer-sequential unit variance:
    Mishkin and Matas, "All you need is a good init", ICLR 2016). The last layer gets a tenth of that deviation, so that
    training starts near the identity curve.

    Args:
        model: changed in place.
        photos: B×3×H×W in [0, 1], a few dozen photos of the kind that it will see.
    """

    def rescale(layer: nn.Module, inputs: tuple[Tensor], output: Tensor, wanted: float) -> Tensor:
        conv = layer.point_conv if hasattr(layer, "point_conv") else layer
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        deviation, mean = torch.std_mean(output, dim=(0, 2, 3))
        scale = wanted / deviation.clamp_min(1e-6)
        conv.weight.mul_(scale.view(-1, 1, 1, 1))
        conv.bias.sub_(mean).mul_(scale)
        answer: Tensor = layer.forward(*inputs)  # what the next layer sees
        return answer

    # One pass over the photos does it: each layer is rescaled when it is reached, before the next one.
    with ExitStack() as hooks:
        for i in range(1, model.depth + 1):
            layer = model.get_submodule(f"e_conv{i}")
            hook = partial(rescale, wanted=1.0 if i < model.depth else 0.1)
            hooks.callback(layer.register_forward_hook(hook).remove)
        model.estimate_curve(photos)
