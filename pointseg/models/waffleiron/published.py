"""The names that the public checkpoints of WaffleIron and ScaLR give to the parameters, and what they are called here."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pointseg.models.waffleiron.network import WaffleIron

__all__ = ["from_published", "published_names"]

PREFIX = "module."  # of files that several GPUs wrote
OUTSIDE = {
    "embed.norm": "embedding.norm",
    "embed.conv1": "embedding.point",
    "embed.conv2.0": "embedding.difference_norm",
    "embed.conv2.1": "embedding.difference",
    "embed.conv2.2": "embedding.inner_norm",
    "embed.conv2.4": "embedding.inner",
    "embed.final": "embedding.join",
    "classif": "head",
}
INSIDE = {
    "spatial_mix.{}.norm": "spatial.{}.norm",
    "spatial_mix.{}.ffn.0": "spatial.{}.first",
    "spatial_mix.{}.ffn.2": "spatial.{}.second",
    "channel_mix.{}.norm": "channel.{}.norm",
    "channel_mix.{}.mlp.0": "channel.{}.first",
    "channel_mix.{}.mlp.2": "channel.{}.second",
}


def published_names(model: WaffleIron) -> dict[str, str]:
    """Published name -> name in `model.state_dict()`, for every parameter and buffer."""
    modules = {own: published for published, own in OUTSIDE.items()}
    for layer in range(len(model.spatial)):
        modules |= {own.format(layer): f"waffleiron.{name.format(layer)}" for name, own in INSIDE.items()}
        for own, name in (("spatial", "spatial_mix"), ("channel", "channel_mix")):
            modules[f"{own}.{layer}.scale"] = f"waffleiron.{name}.{layer}.scale.weight"
    return {_published(own, modules): own for own in model.state_dict()}


def from_published(model: WaffleIron, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict with the names and shapes of `model.state_dict()`.

    What the model does not have keeps its name, and a tensor of another size its shape, so that `load_state_dict` names
    them. A `module.` in front of the names is dropped.

    Example:
        >>> checkpoint = torch.load("ckpt_last.pth", weights_only=True)
        >>> model.load_state_dict(from_published(model, checkpoint["net"]))
    """
    names, own_state = published_names(model), model.state_dict()
    renamed = {}
    for name, value in state.items():
        own = names.get(name.removeprefix(PREFIX), name.removeprefix(PREFIX))
        like = own_state.get(own)
        fits = like is not None and like.numel() == value.numel()
        renamed[own] = value.reshape(like.shape) if fits and like is not None else value
    return renamed


def _published(own: str, modules: Mapping[str, str]) -> str:
    if own in modules:
        return modules[own]
    module, _, last = own.rpartition(".")
    if module in modules:
        return f"{modules[module]}.{last}"
    outer, _, number = module.rpartition(".")  # of the head, a sequence of layers
    return f"{modules[outer]}.{number}.{last}"
