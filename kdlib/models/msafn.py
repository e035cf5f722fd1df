"""MSAFN, which restores photos enlarged by a factor of 4, and LightMSAFN, a student with a twentieth of its parameters.

Both work at the full size of the enlarged photo. Features from three scales are fused, pass through residual blocks,
and are refined by a recurrent unit that processes the same features several times. The structure and the layer names
are those of the published code and of the published weights of LightMSAFN.

Every block and every path ends in a gate that weights its channels according to their mean over the whole photo. A tile
has a different mean, so a photo cannot be processed in independent tiles; instead, :meth:`MSAFN.gates` computes the
gates of the whole photo and :meth:`MSAFN.forward` accepts them.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.checks import check_number
from kdlib.models.msafn_blocks import SLOPE, DenseBlock, Gate, GatePass, LightBlock, Refinement
from kdlib.models.network import Network, check_photos

# The photo is padded to multiples of this, because the coarsest path works at a quarter of its size.
COARSEST = 4


class MSAFN(Network):
    """The teacher, with dense blocks and a recurrent unit with a reset gate.

    Args:
        width: channels of the three paths; the fused features have twice as many.
        blocks: residual blocks after the fusion.
        steps: steps of the refinement.
        drop: stochastic depth, the probability of skipping a block during training.
        recurrent: include the refinement, as published.
        residual: use 2 · photo − 1 as the input and add the output to the photo, so that training starts from the
            unchanged photo. The published network outputs the photo itself.
        upscale: factor by which the input photos were enlarged, at least 2; it is stored with the weights and does not
            affect the network.

    Raises:
        ValueError: an argument is out of range.
    """

    family = "msafn"
    arguments = ("width", "blocks", "steps", "drop", "recurrent", "residual", "upscale")
    _block: type[DenseBlock] | type[LightBlock] = DenseBlock
    _reduction, _resets = 16, True

    def __init__(
        self,
        width: int = 64,
        blocks: int = 8,
        steps: int = 3,
        *,
        drop: float = 0.2,
        recurrent: bool = True,
        residual: bool = False,
        upscale: int = 4,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("blocks", blocks), ("steps", steps)):
            check_number(name, value, 1)
        check_number("upscale", upscale, 2)
        check_number("drop", drop, below=1)
        self.width, self.blocks, self.steps, self.drop = width, blocks, steps, float(drop)
        self.recurrent, self.residual, self.upscale = recurrent, residual, upscale
        self.conv_init = nn.Conv2d(3, width, 3, padding=1)
        self.scale1 = nn.Sequential(*self._path())
        self.scale2 = nn.Sequential(nn.AvgPool2d(2), *self._path())
        self.scale3 = nn.Sequential(nn.AvgPool2d(4), *self._path())
        self.fusion = nn.Sequential(nn.Conv2d(3 * width, 2 * width, 1), nn.LeakyReLU(SLOPE, inplace=True))
        self.res_blocks = nn.Sequential(*(self._block(2 * width, self.drop) for _ in range(blocks)))
        self.refinement = Refinement(2 * width, steps, resets=self._resets) if recurrent else nn.Identity()
        last = nn.Conv2d(width, 3, 3, padding=1)
        self.recon = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True), last)
        self._initialise_weights()
        if residual:
            nn.init.zeros_(last.weight)

    def _initialise_weights(self) -> None:
        """Initialise the weights so that differences between pixels survive to the last layer.

        PyTorch's default initialisation attenuates these differences in every convolution, and gates that start at 0.5
        attenuate them further. After ten layers the features are nearly constant, and two hundred training steps had no
        visible effect. If, on the other hand, each block added as much as it receives, the features would be several
        times too large for the refinement, whose tanh would saturate and pass no gradient. Each block therefore starts
        with a tenth of that.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, Gate):
                nn.init.constant_(module.fc[2].bias, 2.0)  # type: ignore[arg-type]
        for module in self.modules():
            if isinstance(module, DenseBlock | LightBlock):
                with torch.no_grad():
                    module.last.weight.mul_(0.1)
        if isinstance(self.refinement, Refinement):
            # The state starts at zero, so the first update should take most of its content from the features.
            nn.init.ones_(self.refinement.conv_z.bias)  # type: ignore[arg-type]

    def _path(self) -> tuple[nn.Module, nn.Module]:
        return self._block(self.width, self.drop), Gate(self.width, self._reduction)

    @property
    def reach(self) -> int:
        """Receptive field for given gates: the pixels on each side that a result depends on, as a multiple of 4.

        A tile that is cut out with this margin, or up to the photo's border, gets the same result as the whole photo.
        Its first row and column must be multiples of 4, and its last ones too unless they are those of the photo.
        """
        # The coarsest path dominates: its block covers pixels of its own scale, and up to 5 pixels of the photo are
        # needed for bilinear upsampling (3.5 from centre to centre) and pooling (1.5).
        radius = 1 + 5 + COARSEST * self._block.radius + self._block.radius * self.blocks
        radius += self.steps * (2 if self._resets else 1) if self.recurrent else 0
        return -(-(radius + 2) // COARSEST) * COARSEST

    def forward(self, image: Tensor, gates: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Restore the detail of a batch of enlarged photos.

        If the sides are not multiples of 4, the photo is padded at its lower and right border by repeating the last
        pixel, and the result is cropped.

        Args:
            image: B×3×H×W, floating point in [0, 1]; any H, W ≥ 1.
            gates: the result of :meth:`gates` for a larger photo of which ``image`` is a tile; computed from ``image``
                by default.

        Returns:
            The restored photos, B×3×H×W, not clipped, and their last features, B×2·width×H×W.

        Raises:
            ValueError: the rank, channel count or dtype is wrong, or the gates do not fit the network or the batch.
        """
        check_photos(image)
        return self._restored(image, GatePass(None if gates is None else self._given(gates, len(image))))

    def with_own_gates(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute the results of :meth:`forward` and :meth:`gates` in a single pass.

        No block is skipped, even in training mode.

        Args:
            image: B×3×H×W, floating point in [0, 1].

        Returns:
            The restored photos, not clipped, and the factors of all gates.

        Raises:
            ValueError: the rank, channel count or dtype is wrong.
        """
        check_photos(image)
        run = GatePass(whole=True)
        return self._restored(image, run)[0], tuple(run.found)

    def gates(self, image: Tensor, *, together: bool = False) -> tuple[Tensor, ...]:
        """Compute the factors of all gates for a batch of photos, as :meth:`forward` accepts them.

        No block is skipped, even in training mode.

        Args:
            image: B×3×H×W, floating point in [0, 1].
            together: treat the batch as tiles of one photo and compute each gate from the mean over all of them.

        Returns:
            B×C×1×1 for each gate, or 1×C×1×1 with ``together``, in the order of ``modules()``.

        Raises:
            ValueError: the rank, channel count or dtype is wrong.
        """
        check_photos(image)
        run = GatePass(together=together, whole=True)
        self._fused(image, run)
        return tuple(run.found)

    def gate_modules(self) -> list[Gate]:
        """Return the gates in the order of their factors."""
        return [module for module in self.modules() if isinstance(module, Gate)]

    def _given(self, gates: Sequence[Tensor], batch: int) -> dict[nn.Module, Tensor]:
        modules = self.gate_modules()
        if len(gates) != len(modules):
            raise ValueError(f"the network has {len(modules)} gates, not {len(gates)}")
        for module, values in zip(modules, gates, strict=True):
            wanted = module.width
            if values.ndim != 4 or values.shape[1:] != (wanted, 1, 1) or values.shape[0] not in (1, batch):
                raise ValueError(
                    f"expected gates of shape {batch}×{wanted}×1×1 or 1×{wanted}×1×1, "
                    f"got {'×'.join(map(str, values.shape))}"
                )
        return dict(zip(modules, gates, strict=True))

    def _restored(self, image: Tensor, run: GatePass) -> tuple[Tensor, Tensor]:
        features = self.refinement(self._fused(image, run))
        height, width = image.shape[-2:]
        restored = self.recon(features)[..., :height, :width]
        return image + restored if self.residual else restored, features[..., :height, :width]

    def _fused(self, image: Tensor, run: GatePass) -> Tensor:
        """Compute the features before the refinement, with the photo padded to multiples of 4."""
        below, right = (-side % COARSEST for side in image.shape[-2:])
        seen = 2 * image - 1 if self.residual else image
        if below or right:
            seen = F.pad(seen, (0, right, 0, below), mode="replicate")
        x = self.conv_init(seen)
        paths = []
        for path in (self.scale1, self.scale2, self.scale3):
            *pool, block, gate = path
            features = gate(block(pool[0](x) if pool else x, run), run)
            if pool:
                features = F.interpolate(features, size=x.shape[-2:], mode="bilinear", align_corners=False)
            paths.append(features)
        fused = self.fusion(torch.cat(paths, dim=1))
        for block in self.res_blocks:
            fused = block(fused, run)
        return fused


class LightMSAFN(MSAFN):
    """The student, with two plain instead of three dense convolutions per block and no reset gate in the refinement.

    The arguments are those of :class:`MSAFN`. As published, no block is skipped during training by default.
    """

    family = "light-msafn"
    _block = LightBlock
    _reduction, _resets = 8, False

    def __init__(self, width: int = 32, blocks: int = 3, steps: int = 2, *, drop: float = 0.0, **further: Any) -> None:
        super().__init__(width, blocks, steps, drop=drop, **further)
