"""FRNet, a frustum-range network (Xu, Kong, Shuai, Liu, "FRNet: Frustum-Range Networks for Scalable LiDAR Segmentation",
IEEE TIP 2025).

    features --> point MLP -- max over pixels --> image --> stem --> stage 1 ... stage 4 --> all joined --.
     (M, F)         |                         (B, 16, H, W)   |         |          |                      | gather
                    |                                       fusion    fusion     fusion                   |
                    |---------------------------> points -----'---------'----------'----> all joined --- [+]
                    '---------------------------------------------------------------------- skips ------ [+] --> logits

A stage is a row of residual blocks on the image, followed by a fusion: each point takes its pixel's values, each pixel the
largest of its points' new values, and a gate decides how much of it is added. The last layers see single points, so the
points of one pixel may get different classes, and no vote among neighbours is needed afterwards. Auxiliary heads on the
images help in training.

A layer over [pixel's values, point's values] is computed as one over pixels plus one over points, since several points
share a pixel; it is the same function. Points are rows (M, C) without padding, so padding enters no BatchNorm statistic.

Legend: B clouds, N points, M real points of the batch, m of them wanted, F features, C channels, K classes, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointseg.core.errors import ConfigError
from pointseg.core.extras import Extras
from pointseg.core.limits import require_choice
from pointseg.core.processor import has_native_bfloat16
from pointseg.models.base import GraphWriter, SegmentationModel
from pointseg.models.frnet.blocks import BasicBlock, Convolutions, PointLayer
from pointseg.models.frnet.layers import FrustumEncoder, Fusion, ImageFusion, PointHead, resize
from pointseg.models.frnet.onnx_layers import COORDS, FLOAT32_NODES, PIXELS, FRNetGraph
from pointseg.models.frnet.projection import Pixels, RangeImage
from pointseg.models.layers import RowBatchNorm, Rows
from pointseg.models.outputs import ImageLogits, TrainingOutputs

__all__ = ["FRNet"]

NORM_EPS, NORM_MOMENTUM = 1e-3, 0.01  # of all BatchNorms, as published
PRECISIONS = ("auto", "float32", "bfloat16")
MOST_BLOCKS = 200  # of a stage
WIDE = 64  # channels from which on bfloat16 is faster
STEM = (0.5, 1.0, 1.0)  # channels of the stem's convolutions, relative to those of the stages


class FRNet(SegmentationModel):
    """Range-image network whose points keep features of their own; by default the published one, of 10.0 million parameters.

    Args:
        in_features: F.
        num_classes: K.
        height, width, field_of_view, beams: of the range image, see `RangeImage`.
        point_widths: of the encoder's layers.
        image_channels: of the image that the encoder makes.
        channels: of the stages.
        blocks: residual blocks of each stage.
        strides: of each stage, in both directions of the image.
        fused_widths: of the two layers that join the outputs of all stages, for the image and for the points.
        fuse_kernel: size of the first of these convolutions, on the image; 1 has a ninth of the work.
        fusion: points and pixels exchange features after the stem and each stage; without it, they meet in the head only.
        auxiliary: which outputs have an auxiliary head: 0 is the joined one, i that of stage i.
        act: activation of the image's layers, "hardswish" or "relu".
        norm_momentum: of BatchNorm's running statistics.
        predict_in: the arithmetic of prediction: "float32", "bfloat16", or "auto": bfloat16 for a network of at least `WIDE`
            channels on a processor that has it. Not part of the model. In training `trainer.precision` says it.
        sync_batchnorm: in training on several processes, take BatchNorm's statistics over the batch of all of them.

    Example:
        >>> model = FRNet(in_features=5, num_classes=19)
        >>> model(torch.rand(1, 4096, 5), coords=torch.randn(1, 4096, 3)).shape
        torch.Size([1, 4096, 19])
    """

    not_saved = ("predict_in", "sync_batchnorm")
    paper = "Xu, Kong, Shuai, Liu: FRNet, IEEE TIP 2025"
    float32_nodes = FLOAT32_NODES

    def __init__(
        self,
        in_features: int = 5,
        num_classes: int = 19,
        *,
        height: int = 64,
        width: int = 512,
        field_of_view: Sequence[float] = (3.0, -25.0),
        beams: Sequence[float] | None = None,
        point_widths: Sequence[int] = (64, 128, 256, 256),
        image_channels: int = 16,
        channels: int = 128,
        blocks: Sequence[int] = (3, 4, 6, 3),
        strides: Sequence[int] = (1, 2, 2, 2),
        fused_widths: Sequence[int] = (256, 128),
        fuse_kernel: int = 3,
        fusion: bool = True,
        auxiliary: Sequence[int] = (0, 2, 3, 4),
        act: str = "hardswish",
        norm_momentum: float = NORM_MOMENTUM,
        predict_in: str = "auto",
        sync_batchnorm: bool = False,
    ) -> None:
        super().__init__()
        _check(point_widths, blocks, strides, auxiliary, act, fuse_kernel)
        require_choice(predict_in, PRECISIONS, "model.predict_in", "arithmetic")
        self.predict_in = predict_in if predict_in != "auto" or channels >= WIDE else "float32"
        self.range_image = RangeImage(height, width, field_of_view, beams)
        self.encoder = FrustumEncoder(in_features + 3, point_widths, image_channels)
        stem = [max(1, round(share * channels)) for share in STEM]
        self.stem = Convolutions([image_channels, *stem], act)
        self.strides = [math.prod(strides[: stage + 1]) for stage in range(len(strides))]
        self.stages = nn.ModuleList(
            nn.Sequential(*(BasicBlock(channels, channels, stride if i == 0 else 1, act) for i in range(count)))
            for count, stride in zip(blocks, strides, strict=True)
        )
        self.stem_fusion = Fusion(channels, point_widths[-1], act, gated=False) if fusion else None
        self.fusions = nn.ModuleList(Fusion(channels, channels, act) for _ in blocks) if fusion else None
        joined = channels * (1 + len(blocks))
        self.fused_image = ImageFusion(channels, 1 + len(blocks), fused_widths, fuse_kernel, act)
        widths = [joined, *fused_widths]
        self.fused_points = nn.Sequential(*map(PointLayer, widths, widths[1:])) if fusion else None
        self.head = PointHead(fused_widths[-1], point_widths, num_classes)
        self.auxiliary = tuple(auxiliary)
        inputs = [fused_widths[-1] if output == 0 else channels for output in auxiliary]
        self.auxiliary_heads = nn.ModuleList(nn.Conv2d(own, num_classes, 1) for own in inputs)
        for module in self.modules():
            if isinstance(module, RowBatchNorm):
                module.eps, module.momentum, module.over_ranks = NORM_EPS, norm_momentum, sync_batchnorm
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's declarations

    @property
    def has_image_heads(self) -> bool:
        return bool(self.auxiliary)

    def graph_inputs(self, coords: Tensor, features: Tensor) -> Extras:
        one = torch.zeros(len(coords), dtype=torch.int64)
        return {COORDS: coords, PIXELS: Pixels(self.range_image, coords, one, 1).index()}

    def write_onnx(self, graph: GraphWriter) -> None:
        FRNetGraph(graph, self).write()

    def forward(
        self, features: Tensor, coords: Tensor, mask: Tensor | None = None, extras: Extras | None = None
    ) -> Tensor:
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self._predicts_in_bfloat16(features.device)):
            logits = self._outputs(features, coords, mask).logits
        return logits.to(features.dtype)

    def _predicts_in_bfloat16(self, device: torch.device) -> bool:
        if self.training or self.predict_in == "float32":
            return torch.is_autocast_enabled(device.type)
        return self.predict_in == "bfloat16" or (device.type == "cpu" and has_native_bfloat16())

    def training_outputs(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
        wanted: Tensor | None = None,
    ) -> TrainingOutputs:
        """See `SegmentationModel.training_outputs`; with the logits of the auxiliary heads."""
        assert coords is not None
        return self._outputs(features, coords, mask, wanted, heads=True)

    def _outputs(
        self,
        features_BNF: Tensor,
        coords_BN3: Tensor,
        mask_BN: Tensor | None,
        wanted_BN: Tensor | None = None,
        *,
        heads: bool = False,
    ) -> TrainingOutputs:
        rows = Rows(features_BNF.shape, mask_BN)
        coords_M3, features_MF = rows.take(coords_BN3), rows.take(features_BNF)
        pixels = Pixels(self.range_image, coords_M3, rows.cloud_of_row(coords_M3.device), rows.clouds)
        offsets_M3 = pixels.offsets(coords_M3).to(features_MF.dtype)
        encoded, image_BCHW = self.encoder(torch.cat([features_MF, offsets_M3], dim=1), pixels)
        images, points = self._stages(image_BCHW, encoded[-1], pixels)
        fused_BCHW = self.fused_image(images)
        wanted = None if wanted_BN is None else rows.take(wanted_BN[..., None])[:, 0].nonzero()[:, 0]
        skips: list[Tensor | None] = [None, *encoded[-2::-1]]
        if wanted is not None:
            points, skips = [x_MC[wanted] for x_MC in points], [x if x is None else x[wanted] for x in skips]
        if self.fused_points is not None:
            skips[0] = self.fused_points(torch.cat(points, dim=1))
        logits_MK = self.head(fused_BCHW, skips, pixels, wanted)
        if wanted is not None:
            logits_MK = logits_MK.new_zeros(rows.total, logits_MK.shape[1]).index_copy(0, wanted, logits_MK)
        penalty = logits_MK.new_zeros(())
        auxiliary = self._auxiliary([fused_BCHW, *images[1:]], pixels, rows) if heads else ()
        return TrainingOutputs(rows.put(logits_MK), penalty, auxiliary)

    def _stages(self, image_BCHW: Tensor, x_MC: Tensor, pixels: Pixels) -> tuple[list[Tensor], list[Tensor]]:
        """Images and points after the stem and each stage."""
        image_BCHW = self.stem(image_BCHW)
        points = []
        if self.stem_fusion is not None:
            image_BCHW, x_MC = self.stem_fusion(image_BCHW, x_MC, pixels, 1)
            points.append(x_MC)
        images = [image_BCHW]
        for number, (stage, stride) in enumerate(zip(self.stages, self.strides, strict=True)):
            image_BCHW = stage(image_BCHW)
            if self.fusions is not None:
                image_BCHW, x_MC = self.fusions[number](image_BCHW, x_MC, pixels, stride)
                points.append(x_MC)
            images.append(image_BCHW)
        return images, points

    def _auxiliary(self, images: Sequence[Tensor], pixels: Pixels, rows: Rows) -> tuple[ImageLogits, ...]:
        shape = images[0].shape[-2:]
        pixel_BN = rows.put(pixels.index()[:, None])[..., 0]
        if rows.mask_BN is not None:
            pixel_BN = pixel_BN.masked_fill(~rows.mask_BN, -1)
        return tuple(
            ImageLogits(
                resize(head(images[output]), shape), pixel_BN
            )  # a 1 x 1 convolution may come before the resizing
            for output, head in zip(self.auxiliary, self.auxiliary_heads, strict=True)
        )


def _check(
    point_widths: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[int],
    auxiliary: Sequence[int],
    act: str,
    fuse_kernel: int,
) -> None:
    if act not in ("hardswish", "relu"):
        raise ConfigError(f"there is no activation {act!r}", where="model.act", remedy="Use hardswish or relu.")
    if fuse_kernel not in (1, 3):
        raise ConfigError(f"{fuse_kernel} is not 1 or 3", where="model.fuse_kernel")
    if len(point_widths) < 2:
        raise ConfigError("the encoder needs two layers", where="model.point_widths")
    if not blocks or len(blocks) != len(strides):
        raise ConfigError(
            f"{len(blocks)} stages and {len(strides)} strides", where="model.strides", remedy="Give one for each stage."
        )
    if max(blocks) > MOST_BLOCKS:
        raise ConfigError(
            f"{max(blocks):,} blocks in a stage", where="model.blocks", remedy=f"Use up to {MOST_BLOCKS}."
        )
    for output in auxiliary:
        if not 0 <= output <= len(blocks):
            raise ConfigError(
                f"there is no output {output}", where="model.auxiliary", remedy=f"Use 0 to {len(blocks)}."
            )
