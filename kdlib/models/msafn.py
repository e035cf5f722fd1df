"""MSAFN, which sharpens photos that were enlarged fourfold, and LightMSAFN, a student of a twentieth of its size.

Both work at the full size of the enlarged photo: features at three scales are fused, pass residual blocks, and are then
refined by a recurrent unit that looks at the same features several times. Structure and names of the layers are those
of the published code, and of the published file of LightMSAFN.

Every block and every path ends in a gate that weighs its channels by their mean over the whole photo. The mean of a
part is another one, so that a photo cannot simply be cut into tiles: :meth:`MSAFN.gates` gives the gates of the whole,
and :meth:`MSAFN.forward` takes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.models.msafn_blocks import SLOPE, DenseBlock, Gate, GatePass, LightBlock, Refinement
from kdlib.models.network import Network, check_photos

# Sides are multiples of this: the coarsest path sees a quarter of the photo.
COARSEST = 4


class MSAFN(Network):
    """The teacher: dense blocks, and a recurrent unit with a reset gate.

    Args:
        width: channels of the three paths; the fused features have twice as many.
        blocks: residual blocks after the fusion.
        steps: of the refinement.
        drop: stochastic depth, the probability with which each block is left out in training.
        recurrent: with the refinement, as published.
        residual: the network sees 2 · photo − 1 and gives what is to be added to the photo, and training starts from
            the photo itself. The published code gives the photo anew.
        upscale: by which factor the photos were enlarged that it sharpens, at least 2; it is kept with the weights and
            changes nothing here.

    Raises:
        ValueError: an argument out of its range.
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
        if min(width, blocks, steps) < 1:
            raise ValueError(f"width, blocks and steps are at least 1, not {width}, {blocks} and {steps}")
        if upscale < 2:
            raise ValueError(f"upscale is at least 2, not {upscale}")
        if not 0 <= drop < 1:
            raise ValueError(f"drop is a probability from 0 to below 1, not {drop}")
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
        self._start_awake()
        if residual:
            nn.init.zeros_(last.weight)

    def _start_awake(self) -> None:
        """Starting weights under which what differs from pixel to pixel reaches the last layer.

        PyTorch's own shrink it at every convolution, and gates that start at a half shrink it again: after ten layers
        the features are nearly the same everywhere, and two hundred steps of training changed nothing that shows. If
        instead every block adds as much as it was given, the features are several times too large for the refinement,
        whose tanh is then 1 or −1 and lets no gradient through. So a block starts by adding a tenth.
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
            # The state starts at zero: most of it is to be taken from the features.
            nn.init.ones_(self.refinement.conv_z.bias)  # type: ignore[arg-type]

    def _path(self) -> tuple[nn.Module, nn.Module]:
        return self._block(self.width, self.drop), Gate(self.width, self._reduction)

    @property
    def reach(self) -> int:
        """How many pixels around one its result depends on, when gates are given; rounded up to a multiple of 4.

        A tile that was cut out with so many more pixels on each side (or up to the photo's border) gets what the whole
        photo has there, if its first row and column are multiples of 4, and its other sides are too or are the photo's.
        """
        # Of the coarsest path, in its own pixels: the block, and then up to 5 pixels of the photo for bilinear
        # enlarging (3.5 from centre to centre) and for pooling (1.5).
        radius = 1 + 5 + COARSEST * self._block.radius + self._block.radius * self.blocks
        radius += self.steps * (2 if self._resets else 1) if self.recurrent else 0
        return -(-(radius + 2) // COARSEST) * COARSEST

    def forward(self, image: Tensor, gates: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Sharpen a batch of photos.

        A photo whose sides are no multiples of 4 is continued at its lower and right border for the network, by
        repeating the last pixel, and cut back.

        Args:
            image: B×3×H×W, floating point in [0, 1]; any H, W ≥ 1.
            gates: what :meth:`gates` returned for a larger photo that this is a part of; by default the gates are this
                photo's own.

        Returns:
            The sharpened photos, B×3×H×W, not clamped, and the features they were made of, B×2·width×H×W.

        Raises:
            ValueError: wrong rank, channel count or dtype, or gates of another network or batch.
        """
        check_photos(image)
        return self._sharpened(image, GatePass(None if gates is None else self._given(gates, len(image))))

    def with_own_gates(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What :meth:`forward` and :meth:`gates` give for photos, in one pass.

        Args:
            image: B×3×H×W, floating point in [0, 1].

        Returns:
            The sharpened photos, not clamped, and the factors of all gates; nothing is left out for it in training.

        Raises:
            ValueError: wrong rank, channel count or dtype.
        """
        check_photos(image)
        run = GatePass(whole=True)
        return self._sharpened(image, run)[0], tuple(run.found)

    def gates(self, image: Tensor, *, together: bool = False) -> tuple[Tensor, ...]:
        """The factors of all gates for a batch of photos, as :meth:`forward` takes them.

        Nothing is left out for it in training either.

        Args:
            image: B×3×H×W, floating point in [0, 1].
            together: the batch holds tiles of one photo, and each gate looks at the mean over all of them.

        Returns:
            For each gate B×C×1×1, or 1×C×1×1 of tiles together; in the order of ``modules()``.

        Raises:
            ValueError: wrong rank, channel count or dtype.
        """
        check_photos(image)
        run = GatePass(together=together, whole=True)
        self._fused(image, run)
        return tuple(run.found)

    def gate_modules(self) -> list[Gate]:
        """The gates, in the order of their factors."""
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

    def _sharpened(self, image: Tensor, run: GatePass) -> tuple[Tensor, Tensor]:
        features = self.refinement(self._fused(image, run))
        height, width = image.shape[-2:]
        sharpened = self.recon(features)[..., :height, :width]
        return image + sharpened if self.residual else sharpened, features[..., :height, :width]

    def _fused(self, image: Tensor, run: GatePass) -> Tensor:
        """Features before the refinement, of the photo continued to multiples of 4."""
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
    """The student: two convolutions in a block instead of three dense ones, and no reset gate in the refinement.

    The arguments are :class:`MSAFN`'s. As published, no block is left out in training.
    """

    family = "light-msafn"
    _block = LightBlock
    _reduction, _resets = 8, False

    def __init__(
        self,
        width: int = 32,
        blocks: int = 3,
        steps: int = 2,
        *,
        drop: float = 0.0,
        recurrent: bool = True,
        residual: bool = False,
        upscale: int = 4,
    ) -> None:
        super().__init__(width, blocks, steps, drop=drop, recurrent=recurrent, residual=residual, upscale=upscale)
