"""Another sensor or place without labels: BatchNorm's statistics taken from scans of it.

A network normalises what each layer gives by the mean and variance that its training scans had there. On other scans these
differ; taking them anew needs no labels and no training (Li, Wang, Shi, Hou, Liu: "Adaptive Batch Normalization", Pattern
Recognition 2018). Few scans show few classes, so the old and the new statistics are mixed (Schneider et al.: "Improving
robustness against common corruptions by covariate shift adaptation", NeurIPS 2020).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pointseg.core.errors import ConfigError
from pointseg.core.limits import require_between
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.inference import cloud_logits, inference_settings

__all__ = ["adapted"]

SHARE = 0.5


@torch.no_grad()
def adapted(trained: TrainedModel, scans: Iterable[Tensor], share: float = SHARE) -> TrainedModel:
    """A copy of a model whose BatchNorm statistics are partly those of some scans.

    Args:
        trained: stays as it is.
        scans: (N, 4 + E) each, as the model's `features` measure them, on the model's device.
        share: 0 keeps the statistics of training, 1 takes those of the scans; between, those of a mixture of both.

    Raises:
        ConfigError: if the model has no BatchNorm, there is no scan, or `share` is not between 0 and 1.

    Example:
        >>> adapted(bundle.load("street"), map(torch.from_numpy, scans)).provenance["adapted"]
        {'scans': 12, 'share': 0.5}
    """
    require_between(share, 0, 1, "adapt_share")
    model = copy.deepcopy(trained.model)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]
    if not norms:
        raise ConfigError(
            "the model has no BatchNorm whose statistics could be taken from scans",
            where="adapt",
            remedy="Adapt the model that it was exported from, by export adapt=SCANS.",
        )
    before = [_statistics(norm) for norm in norms]
    momenta = [norm.momentum for norm in norms]
    for module in model.train().modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all passes
    settings = inference_settings(model, trained.inference.get("points_per_pass"), 1)
    count = 0
    for scan in scans:
        cloud_logits(model, trained.features, scan, **settings)
        count += 1
    if not count:
        raise ConfigError("there is no scan to adapt to", where="adapt", remedy="Name some that can be read.")
    for norm, momentum, (mean_C, variance_C) in zip(norms, momenta, before, strict=True):
        norm.momentum = momentum
        new_mean_C, new_variance_C = _statistics(norm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_((1 - share) * mean_C + share * new_mean_C)
        apart_C = share * (1 - share) * (new_mean_C - mean_C).square()  # the law of total variance
        norm.running_var.copy_((1 - share) * variance_C + share * new_variance_C + apart_C)
    provenance = {**trained.provenance, "adapted": {"scans": count, "share": share}}
    return replace(trained, model=model.eval(), provenance=provenance)


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Running mean and variance (C,) each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.clone(), norm.running_var.clone()
