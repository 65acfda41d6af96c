"""Names of the weights in the files of the public FRNet repository (github.com/Xiangxu-0103/FRNet), and those here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from pointseg.models.frnet.network import FRNet

__all__ = ["from_published"]

CLASSIFIERS = ("head.classifier.", "auxiliary_heads.")  # which have one class more there, of unlabelled points

# pattern of a published name -> name in `FRNet`, for re.sub; whatever follows stays
RULES: tuple[tuple[str, str], ...] = (
    (r"^voxel_encoder\.pre_norm\.", "encoder.norm."),
    (r"^voxel_encoder\.ffe_layers\.3\.", "encoder.last."),
    (r"^voxel_encoder\.ffe_layers\.", "encoder.layers."),
    (r"^voxel_encoder\.compression_layers\.0\.", "encoder.compress."),
    (r"^backbone\.stem\.", "stem."),
    (r"^backbone\.point_stem\.", "stem_fusion.points.layer."),
    (r"^backbone\.fusion_stem\.", "stem_fusion.image."),
    (r"^backbone\.layer1\.", "stages.0."),
    (r"^backbone\.layer2\.", "stages.1."),
    (r"^backbone\.layer3\.", "stages.2."),
    (r"^backbone\.layer4\.", "stages.3."),
    (r"^backbone\.point_fusion_layers\.(\d)\.", r"fusions.\1.points.layer."),
    (r"^backbone\.pixel_fusion_layers\.(\d)\.", r"fusions.\1.image."),
    (r"^backbone\.attention_layers\.(\d)\.", r"fusions.\1.gate."),
    (r"^backbone\.fuse_layer1\.conv\.", "fused_image.first.0."),
    (r"^backbone\.fuse_layer1\.bn\.", "fused_image.first.1."),
    (r"^backbone\.fuse_layer2\.conv\.", "fused_image.second.0."),
    (r"^backbone\.fuse_layer2\.bn\.", "fused_image.second.1."),
    (r"^backbone\.point_fuse_layer1\.", "fused_points.0."),
    (r"^backbone\.point_fuse_layer2\.", "fused_points.1."),
    (r"^decode_head\.mlps\.", "head.layers."),
    (r"^decode_head\.conv_seg\.", "head.classifier."),
    (r"^auxiliary_head\.(\d)\.conv_seg\.", r"auxiliary_heads.\1."),
)


def from_published(model: FRNet, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict with the names of `model.state_dict()`, and without the class of unlabelled points.

    What the model does not have keeps its name, and a tensor of another size its shape.

    Example:
        >>> checkpoint = torch.load("frnet-semantickitti_seg.pth", weights_only=True)
        >>> model.load_state_dict(from_published(model, checkpoint["state_dict"]))
    """
    own, renamed = model.state_dict(), {}
    for published, tensor in state.items():
        name = _renamed(published.removeprefix("module."))
        classifies = name.startswith(CLASSIFIERS) and name in own and tensor[:-1].shape == own[name].shape
        renamed[name] = tensor[:-1] if classifies else tensor
    return renamed


def _renamed(name: str) -> str:
    for pattern, replacement in RULES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name
