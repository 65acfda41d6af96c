"""Score two registered versions on the same scans, and give the alias to the better one."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pointseg.core.config import check_choices
from pointseg.core.errors import CheckpointError, ConfigError, NotPromoted, PointsegError, TrackingError
from pointseg.core.files import check_writable, write_json
from pointseg.core.progress import Progress, silent
from pointseg.core.redaction import redact_text
from pointseg.core.targets import is_target
from pointseg.core.text import counted
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.data.scan_hashes import hashes_of
from pointseg.engine.predictor import Predictor
from pointseg.engine.training.devices import choose_compute
from pointseg.quality.promotion import Judgement, PromotionRule, confusions_of, judge, why_not_fair
from pointseg.tracking import download_model
from pointseg.tracking.model_registry import Registry, Version, check_alias, check_name
from pointseg.workflows.evaluation.scoring import check_resampling
from pointseg.workflows.run_config import run_config_of
from pointseg.workflows.run_data import build_data, data_name, readable_data_of_run
from pointseg.workflows.settings.register_model import RegisterConfig

__all__ = ["Promoted", "check_new_alias", "check_promotion", "check_version", "promote", "promote_version", "rule_of"]

log = logging.getLogger(__name__)

CANDIDATE, CHAMPION = "candidate", "champion"  # aliases; CHAMPION need not exist yet
RECORD = "promotion.json"
REMEDY = "The alias stays where it was; force=true moves it all the same."


@dataclass(frozen=True)
class Promoted:
    """The result of a promotion; one that is refused raises `NotPromoted`.

    Attributes:
        version: that has the alias now.
        alias: such as "champion".
        decision: "promoted"; "forced" in spite of `reasons`; or "unchanged", if it already had the alias.
        champion: the number of the version that had the alias before; None if none had.
        judgement: of the two; None if nothing was compared.
        reasons: against the promotion.
    """

    version: Version
    alias: str
    decision: str
    champion: str | None
    judgement: Judgement | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Comparison:
    """Reasons against a promotion, the scores if there are any, and facts for the record."""

    reasons: tuple[str, ...]
    judgement: Judgement | None
    facts: dict[str, Any]


def promote(config: RegisterConfig, *, folder: str | Path | None = None, progress: Progress = silent) -> Promoted:
    """Give the alias `promote` (null: champion) to `version` of `name`, or to its candidate, if it is not worse.

    Args:
        folder: receives promotion.json; None: the registry alone keeps what is known.
        progress: makes a callback for each piece of work.

    Raises:
        ConfigError: if a key contradicts another, or there is nothing to promote.
        NotPromoted: if it is worse than the version that has the alias, or cannot be compared; with `force` it is promoted
            nevertheless, and a tag says so.
        TrackingError: if the registry cannot be used, or another version was promoted in the meantime.

    Example:
        >>> promote(RegisterConfig(name="street", version=3)).champion
        '2'
    """
    check_version(config)
    check_choices(config)
    if config.run:
        remedy = "Leave it out, or use `register`."
        raise ConfigError("a run must be registered before it is promoted", where="run", remedy=remedy)
    config = replace(config, promote=config.promote or CHAMPION)
    if folder is not None:
        check_writable(Path(folder), "hydra.run.dir")
    registry = Registry(config.tracking.uri, Path.cwd(), config.tracking.experiment)
    number = _candidate_number(config, registry)
    check_promotion(config, registry, number)
    return promote_version(config, registry, registry.version(config.name, number), folder=folder, progress=progress)


def promote_version(
    config: RegisterConfig,
    registry: Registry,
    candidate: Version,
    *,
    folder: str | Path | None = None,
    progress: Progress = silent,
) -> Promoted:
    """`promote` for a version of an open registry, after `check_promotion`."""
    name, alias = candidate.name, str(config.promote)
    holder = registry.holder(name, alias)
    if holder == candidate.number:
        log.info("Version %s is already %s@%s: nothing to do.", holder, name, alias)
        return Promoted(candidate, alias, "unchanged", holder)
    if holder is None:
        comparison = _Comparison((), None, {"reason": f"there was no {alias}"})
    else:
        comparison = _compare(config, registry, candidate, registry.version(name, holder), progress)
    judgement = comparison.judgement
    if judgement is not None:
        log.info("\nVersion %s against %s, version %s:\n\n%s\n", candidate.number, alias, holder, judgement.table())
    decision = "promoted" if not comparison.reasons else "forced" if config.force else "refused"
    facts = {"alias": alias, "champion": holder or "none", **comparison.facts}
    facts["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    if comparison.reasons:
        facts["reason"] = "; ".join(comparison.reasons)
    if folder is not None:
        record = {"name": name, "version": candidate.number, "decision": decision, **facts}
        write_json(Path(folder) / RECORD, record | {"scores": judgement.to_dict() if judgement else None})
    if decision == "refused":
        registry.replace_tags(candidate, "promotion.", {**facts, "decision": decision})
        raise NotPromoted(
            f"version {candidate.number} is not promoted: {'; '.join(comparison.reasons)}",
            where=f"{name}@{alias} (version {holder})",
            remedy=REMEDY,
        )
    _move(registry, candidate, alias, holder, {**facts, "decision": decision})
    _log(candidate, alias, holder, comparison)
    return Promoted(candidate, alias, decision, holder, judgement, comparison.reasons)


def _move(registry: Registry, candidate: Version, alias: str, holder: str | None, facts: dict[str, Any]) -> None:
    # recorded first: an alias that has moved without a reason on record would be worse than a superfluous record
    registry.replace_tags(candidate, "promotion.", {**facts, "decision": "begun"})
    try:
        registry.move_alias(candidate.name, alias, candidate.number, expected=holder)
    except TrackingError:
        registry.replace_tags(candidate, "promotion.", {**facts, "decision": "overtaken"})
        raise
    registry.replace_tags(candidate, "promotion.", facts)


def _log(candidate: Version, alias: str, holder: str | None, comparison: _Comparison) -> None:
    place = f"models:/{candidate.name}@{alias}"
    if holder is None:
        log.info("There was no %s: version %s is it now, without a comparison. %s", alias, candidate.number, place)
        return
    if comparison.reasons:
        log.warning("Forced in spite of this: %s", "; ".join(comparison.reasons))
    log.info("Version %s is %s now, in place of version %s. %s", candidate.number, alias, holder, place)


# ---- checks ----------------------------------------------------------------------------------------------------------


def check_version(config: RegisterConfig) -> None:
    """Raises ConfigError for an invalid name of a model or number of a version."""
    check_name(config.name)
    if config.version is not None and config.version < 1:
        raise ConfigError(f"{config.version!r} is not a version number", where="version", remedy="They count from 1.")


def check_new_alias(config: RegisterConfig, registry: Registry) -> None:
    """Raises ConfigError for an alias that the model does not have: it is probably mistyped."""
    alias = str(config.promote)
    if alias != CHAMPION and not config.force and registry.holder(config.name, alias) is None:
        raise ConfigError(
            f"{config.name} has no alias {alias!r}",
            where=f"promote={alias}",
            remedy=f"Write promote={CHAMPION}; force=true makes another one.",
        )


def check_promotion(config: RegisterConfig, registry: Registry, number: str | None = None) -> None:
    """Check a promotion before anything is registered.

    Args:
        number: of the version to promote; None for one that is yet to be registered.

    Raises:
        ConfigError: for an invalid alias or number, or if there is a champion and no scans to compare on are named.
    """
    check_alias(str(config.promote))
    check_new_alias(config, registry)
    rule_of(config)
    check_resampling(config.bootstrap, config.seed)
    choose_compute(config.accelerator)
    if is_target(config.data) or run_config_of(config.run):
        return
    if registry.holder(config.name, str(config.promote)) not in (None, number):
        raise ConfigError(
            "no scans to compare the two models on are named",
            where="data",
            remedy="Name them: data=semantickitti data.root=DIR split=val, or data=synthetic.",
        )


def rule_of(config: RegisterConfig) -> PromotionRule:
    """The rule that a candidate is judged by; raises ConfigError for an invalid one."""
    return PromotionRule(config.margin, config.class_margin, config.class_points)


def _candidate_number(config: RegisterConfig, registry: Registry) -> str:
    """The number of the version to promote."""
    if config.version is not None:
        return str(config.version)
    number = registry.holder(config.name, CANDIDATE)
    if number is None:
        raise ConfigError(
            "there is nothing to promote",
            where=f"{config.name}@{CANDIDATE}",
            remedy="Register a model with run=RUN_FOLDER, or name one with version=N.",
        )
    return number


# ---- the comparison --------------------------------------------------------------------------------------------------


def _compare(
    config: RegisterConfig, registry: Registry, candidate: Version, champion: Version, progress: Progress
) -> _Comparison:
    """Score both; with `force`, an obstacle becomes a reason instead of an error."""
    facts: dict[str, Any] = {}
    try:
        return _score_both(config, registry, candidate, champion, facts, progress)
    except NotPromoted as error:
        return _Comparison((error.what,), None, facts)
    except PointsegError as error:
        if not config.force:
            raise
        return _Comparison((str(error),), None, facts)


def _score_both(
    config: RegisterConfig,
    registry: Registry,
    candidate: Version,
    champion: Version,
    facts: dict[str, Any],
    progress: Progress,
) -> _Comparison:
    """Score both on the same scans; `facts` receives what is known, even if this ends in an error."""
    new, old = _load_both(config, registry, candidate, champion)
    section = readable_data_of_run(config.data, config.run, config.models)
    data = build_data(section, new.trained.features, config.seed)
    facts["data"] = redact_text(data_name(section, config.split))
    reasons = _unfairness(config, data, new, old, champion, facts, progress)
    if reasons and not config.force:
        return _Comparison(reasons, None, facts)
    source = data.source(config.split)
    log.info("Comparing on %s of %s", counted(len(source), "scan"), facts["data"])
    judgement = judge(
        confusions_of(old, source, data.label_map, progress(f"version {champion.number}")),
        confusions_of(new, source, data.label_map, progress(f"version {candidate.number}")),
        data.label_map.class_names,
        rule_of(config),
        draws=config.bootstrap,
        seed=config.seed,
    )
    facts |= {
        "miou": judgement.overall.candidate,
        "champion_miou": judgement.overall.champion,
        "difference": judgement.overall.difference,
        "margin": config.margin,
        "class_margin": config.class_margin,
        "class_points": config.class_points,
    }
    return _Comparison((*reasons, *judgement.reasons), judgement, facts)


def _load_both(
    config: RegisterConfig, registry: Registry, candidate: Version, champion: Version
) -> tuple[Predictor, Predictor]:
    """The two models, of the same classes."""
    device = choose_compute(config.accelerator).device
    new = Predictor.load(download_model(candidate.uri, registry.uri, Path.cwd()), device, models=config.models)
    try:
        old = Predictor.load(download_model(champion.uri, registry.uri, Path.cwd()), device, models=config.models)
    except CheckpointError as error:
        raise NotPromoted(f"version {champion.number}, which has the alias, cannot be loaded ({error.what})") from error
    if new.label_map.hash != old.label_map.hash:
        raise NotPromoted(
            f"it has the classes of label map {new.label_map.name!r} ({new.label_map.hash}) and version "
            f"{champion.number} those of {old.label_map.name!r} ({old.label_map.hash}), which cannot be compared"
        )
    return new, old


def _unfairness(
    config: RegisterConfig,
    data: ScanDataModule,
    new: Predictor,
    old: Predictor,
    champion: Version,
    facts: dict[str, Any],
    progress: Progress,
) -> tuple[str, ...]:
    """Why these scans would favour one of the two: it was trained on them, or does not say on which."""
    data.source(config.split, progress(f"{config.split} scans"))
    summary = data.summary(config.split, progress("checking"))
    facts |= {"data_sha256": summary.fingerprint, "scans": summary.scans}
    scans = hashes_of(summary.scan_counts)
    reasons = (
        why_not_fair("it", new.trained.provenance, scans),
        why_not_fair(f"version {champion.number}", old.trained.provenance, scans),
    )
    return tuple(reason for reason in reasons if reason)
