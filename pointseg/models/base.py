"""The interface of a segmentation model: what it computes, what it needs of a cloud, how it is predicted and exported.

A custom network subclasses `SegmentationModel` and implements `forward`; everything else has a default.

Legend: B clouds, N points, n points of one cloud, F features, K classes.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from pointseg.core.errors import ConfigError
from pointseg.core.extras import Extras, Prepare
from pointseg.models.layers import CloudDropout
from pointseg.models.outputs import TrainingOutputs

__all__ = ["GraphWriter", "SegmentationModel"]

OPTIONAL_INPUTS = ("coords", "mask", "extras")  # that `forward` gets if it has a parameter of that name


class GraphWriter(Protocol):
    """Collects the nodes and weights of an ONNX graph, so that a model needs no ONNX package to write itself.

    The methods take and return names of tensors.

    Attributes:
        input: name of the features (B, N, F), which exist already.
        output: name of the logits (B, N, K), which the model produces.
        opset: version of the operators; a model that needs a later one raises it.

    Example:
        >>> def write_onnx(self, graph: GraphWriter) -> None:
        ...     weight = graph.floats("weight", self.layer.weight.T)
        ...     graph.node("MatMul", [graph.input, weight], graph.output)
    """

    input: str
    output: str
    opset: int

    def further_input(self, name: str, sizes: Sequence[str | int], *, integer: bool = False) -> str:
        """Declare one of the model's `graph_inputs`, float32 or int64; the graph then takes one cloud at a time.

        Args:
            sizes: of its dimensions, a name where it varies; "points" is N.
        """

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add an operator whose only output is called `name`."""

    def floats(self, name: str, values: Tensor) -> str:
        """Add a weight or bias."""

    def integers(self, values: Sequence[int]) -> str:
        """Add a shape or an index; equal ones are stored once."""


class SegmentationModel(nn.Module):
    """Maps features of clouds to logits of the K classes; class k is logit k - 1, so "ignored" is never predicted.

    A subclass takes `in_features`, `num_classes` and any other plain values, and implements `forward`. A checkpoint or
    bundle rebuilds the architecture from the constructor's arguments.

    Attributes:
        in_features, num_classes: F and K.
        hyperparameters: the constructor's arguments.
        not_saved: names of arguments that are not part of the architecture: how it computes, not what.
        points_per_pass, votes: how a whole scan is predicted where the configuration says `auto`: in random subsets of
            this size (None: the whole scan at once), and how many times.
        float32_nodes: patterns of names of ONNX nodes that 8-bit export leaves in float32.
        paper: authors, title, place and year of the paper that describes the network; "" if there is none.

    Example:
        >>> class Pointwise(SegmentationModel):
        ...     def __init__(self, in_features: int, num_classes: int, width: int = 64) -> None:
        ...         super().__init__()
        ...         self.layers = nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, num_classes))
        ...     def forward(self, features: Tensor) -> Tensor:
        ...         return self.layers(features)
        >>> Pointwise(4, 19, width=32).hyperparameters
        {'in_features': 4, 'num_classes': 19, 'width': 32}
    """

    in_features: int
    num_classes: int
    hyperparameters: dict[str, Any]
    not_saved: ClassVar[tuple[str, ...]] = ()
    points_per_pass: int | None = None
    votes: int = 1
    float32_nodes: ClassVar[tuple[str, ...]] = ()
    paper: ClassVar[str] = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        given = _arguments(cls, args, kwargs)
        made.__dict__.update({name: given[name] for name in ("in_features", "num_classes") if name in given})
        made.__dict__["hyperparameters"] = {k: v for k, v in given.items() if k not in cls.not_saved}
        return made

    @property
    def network_called(self) -> nn.Module:
        """The module whose `forward` computes the logits: the model itself, unless it wraps another module."""
        return self

    @property
    def title(self) -> str:
        """The name of the network's class."""
        return type(self.network_called).__name__

    # ---- computing the logits ------------------------------------------------------------------------------------

    def _forward(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
    ) -> Tensor:
        """Logits (B, N, K). A subclass declares the optional arguments that it needs, by name.

        Args:
            features: (B, N, F) float32.
            coords: (B, N, 3) metres, for models that need neighbourhoods.
            mask: (B, N) bool, True = real point; None if all are. A model without this argument gets clouds of unequal
                size one at a time, without padding.
            extras: the results of `prepare` for each cloud, stacked (B, ...); None if there are none.
        """
        return self.logits_and_penalty(features, coords, mask, *(() if extras is None else (extras,)))[0]

    forward: Callable[..., Any] = (
        _forward  # lets a subclass take fewer arguments without a complaint of the type checker
    )

    def logits_and_penalty(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, N, K) and the model's own regulariser, a scalar mean over clouds (0 by default); a model with a
        regulariser implements it instead of `forward`."""
        if type(self).forward is SegmentationModel.forward:
            raise TypeError(f"{type(self).__name__} implements neither forward nor logits_and_penalty")
        return self.predicted(features, coords, mask, extras), features.new_zeros(())

    def training_outputs(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
        wanted: Tensor | None = None,
    ) -> TrainingOutputs:
        """What a step of training looks at; a model with auxiliary heads implements it.

        Args:
            wanted: (B, N) bool, the points whose logits count; the model may give zeros for all others. None: all.
        """
        further = () if extras is None else (extras,)
        return TrainingOutputs(*self.logits_and_penalty(features, coords, mask, *further))

    def predicted(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
    ) -> Tensor:
        """Logits (B, N, K), zeros at padded points: calls `forward` with the optional arguments that it declares."""
        network = self.network_called
        declared = _parameters(getattr(network.forward, "__func__", network.forward))
        if mask is not None and "mask" not in declared:
            return self._one_by_one(features, coords, mask)
        optional = zip(OPTIONAL_INPUTS, (coords, mask, extras), strict=True)
        given = {name: value for name, value in optional if name in declared}
        if extras is None:
            given.pop("extras", None)
        logits: Tensor = network(features, **given)
        return logits if mask is None else logits.masked_fill(~mask[..., None], 0.0)

    def _one_by_one(self, features: Tensor, coords: Tensor | None, mask: Tensor) -> Tensor:
        logits_BNK = features.new_zeros(*features.shape[:2], self.num_classes)
        for cloud, real_N in enumerate(mask):
            if bool(real_N.any()):
                own_coords = None if coords is None else coords[cloud][real_N][None]
                logits_nK = self.predicted(features[cloud][real_N][None], own_coords)[0]
                logits_BNK[cloud, real_N] = logits_nK.to(logits_BNK.dtype)
        return logits_BNK

    def draw_by(self, keys: Sequence[int] | None) -> None:
        """Seed the dropout of the next clouds, one key a cloud; None returns to torch's generator."""
        for module in self.modules():
            if isinstance(module, CloudDropout):
                module.keys = keys

    # ---- what the library needs to know --------------------------------------------------------------------------

    def prepare(self, coords: Tensor, features: Tensor) -> Extras:
        """Named tensors that the model needs of one cloud in addition to its features, such as neighbour indices.

        Runs in the data loading processes, on a copy of the model without weights; in prediction, on the whole scan or
        on each subset. Indices count within the cloud. Tensors of the same name are stacked into a batch; if their first
        dimensions differ, because they hold one value a point, they are padded with zeros.

        Args:
            coords: (n, 3) float32 metres on the CPU, after augmentation.
            features: (n, F) float32 on the CPU.
        """
        return {}

    @property
    def has_image_heads(self) -> bool:
        """Whether `training_outputs` gives the logits of auxiliary image heads."""
        return False

    @property
    def prepares(self) -> bool:
        """Whether the model implements `prepare`."""
        return type(self).prepare is not SegmentationModel.prepare

    def preparation(self) -> Prepare | None:
        """`prepare`, bound to a copy without weights for other processes; None if the model does not implement it."""
        return self._without_weights().prepare if self.prepares else None

    def _without_weights(self) -> Self:
        twin = copy.copy(self)
        twin.__dict__.update(_parameters={}, _buffers={}, _modules={})
        return twin

    def check_features(self, use: Sequence[str]) -> None:
        """Refuse features that the model cannot use.

        Args:
            use: their names, in the order in which the model sees them.

        Raises:
            ConfigError: naming the key.
        """

    def check(self, use: Sequence[str]) -> None:
        """Refuse a model that the library cannot call, or features that the model cannot use.

        Raises:
            ConfigError: naming what is wrong.
        """
        network, where = type(self.network_called), "model._target_"
        own = network.forward is not SegmentationModel.forward
        function: Any = network.forward if own else type(self).logits_and_penalty
        kind, declared = network.__name__, _parameters(function)
        needed = [name for name, optional in list(declared.items())[2:] if not optional and name not in OPTIONAL_INPUTS]
        if needed:
            raise ConfigError(
                f"{kind}.{function.__name__} needs {', '.join(needed)}, which nothing provides",
                where=where,
                remedy=f"It is called with features and those of {', '.join(OPTIONAL_INPUTS)} that it declares.",
            )
        undefined = [name for name in ("in_features", "num_classes") if not hasattr(self, name)]
        if undefined:
            remedy = "Take it as an argument, or set it in the constructor."
            raise ConfigError(f"{kind} does not define {' and '.join(undefined)}", where=where, remedy=remedy)
        if self.prepares and not {"mask", "extras"} <= set(declared):
            raise ConfigError(
                f"{kind} prepares clouds, and its {function.__name__} does not take mask and extras",
                where=where,
                remedy="Take both: forward(self, features, coords=None, mask=None, extras=None).",
            )
        self.check_features(use)

    def graph_inputs(self, coords: Tensor, features: Tensor) -> Extras:
        """Named tensors that the ONNX graph needs of one cloud beside its features, as `write_onnx` declares them. They are
        computed outside of the graph, so that a point at an edge goes where it went in training.

        Args:
            coords: (n, 3) float32 metres on the CPU.
            features: (n, F) float32 on the CPU.
        """
        return {}

    def graph_preparation(self) -> Prepare:
        """`graph_inputs`, bound to a copy without weights."""
        return self._without_weights().graph_inputs

    def write_onnx(self, graph: GraphWriter) -> None:
        """Write the network from `graph.input` (B, N, F) to `graph.output` (B, N, K), with B and N dynamic; B is 1 in a
        graph with further inputs.

        Raises:
            ConfigError: if it cannot be exported.
        """
        raise ConfigError(
            f"a {self.title} cannot be exported because it does not implement write_onnx",
            where="checkpoint",
            remedy="Implement it, or name a checkpoint, run folder or bundle of a model that does.",
        )


@lru_cache(maxsize=64)
def _parameters(function: Callable[..., Any]) -> dict[str, bool]:
    """Names of a method's parameters, `self` included, and whether each has a default."""
    known = inspect.signature(function).parameters.values()
    named = {p.name: p.default is not p.empty for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_KEYWORD for p in known):
        named |= {name: True for name in OPTIONAL_INPUTS if name not in named}
    return named


def _arguments(kind: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor call by name, defaults included; {} if the call is invalid, which Python will report."""
    try:
        bound = inspect.signature(kind.__init__).bind(None, *args, **kwargs)  # type: ignore[misc]
    except TypeError:
        return {}
    bound.apply_defaults()
    named: dict[str, Any] = {}
    for parameter in list(bound.signature.parameters.values())[1:]:
        value = bound.arguments[parameter.name]
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= value
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            named[parameter.name] = value
        elif value:
            named[f"*{parameter.name}"] = value  # cannot be given by name: `describe_model` refuses it
    return named
