"""What every network of the package has in common."""

from typing import Any, ClassVar, Self

from torch import Tensor, nn


class Network(nn.Module):
    """A network that enhances photos.

    ``forward`` takes B×3×H×W, floating point in [0, 1], any H, W ≥ 1, and returns the enhanced photos with a second
    output, which each network describes. It raises ValueError if the
    rank, channel count or dtype is wrong.

    Attributes:
        family: name of the family.
        arguments: names of the constructor's arguments, each of them an attribute of the network.
    """

    family: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]]

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        """Enhance a batch of photos; see the network's ``forward``."""
        return super().__call__(*args, **kwargs)

    @property
    def config(self) -> dict[str, Any]:
        """The family and the arguments that rebuild this architecture."""
        return {"family": self.family, **{name: getattr(self, name) for name in self.arguments}}

    def for_inference(self) -> Self:
        """Return a network that computes the same in evaluation mode at less cost; itself if there is no other form."""
        return self


def check_photos(image: Tensor) -> None:
    """Check a network's input.

    Raises:
        ValueError: not a B×3×H×W floating-point tensor.
    """
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point() or 0 in image.shape:
        raise ValueError(
            "expected a B×3×H×W floating-point tensor with values in [0, 1] and H, W ≥ 1, "
            f"got {'×'.join(map(str, image.shape))} {image.dtype}"
        )
