"""`promote=champion`: two registered versions scored on the same scans, and the alias moved or not."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pointseg.cli import checks, saved
from pointseg.cli.building import build_data
from pointseg.cli.entry import Job
from pointseg.cli.evaluating import data_name, with_data_of_run
from pointseg.cli.values import progress_bar
from pointseg.data.datamodule import ScanDataModule
from pointseg.data.seen import hashes_of
from pointseg.errors import CheckpointError, ConfigError, NotPromoted, PointsegError, TrackingError
from pointseg.files import write_json
from pointseg.predictor import Predictor
from pointseg.promotion import Judgement, Rule, confusions_of, judge, why_not_fair
from pointseg.redact import redact_text
from pointseg.tracking import download_model
from pointseg.tracking.registry import Registry, Version, check_alias
from pointseg.training.devices import choose_compute
from pointseg.words import counted

__all__ = ["check_promotion", "promote"]

log = logging.getLogger(__name__)

CHAMPION = "champion"  # the alias that need not be there yet
FEWEST_DRAWS = 100  # below, the ends of a 95 % interval are a matter of two or three draws
REMEDY = "The alias stays where it was; force=true moves it all the same."


@dataclass(frozen=True)
class Comparison:
    """What was found out: why not, and the scores where there are any."""

    reasons: tuple[str, ...]
    judgement: Judgement | None
    facts: dict[str, Any]


def check_new_alias(config: DictConfig, registry: Registry) -> None:
    """Raises ConfigError for an alias that the model has not: it is likely mistyped."""
    if config.promote != CHAMPION and not config.force and registry.holder(config.name, config.promote) is None:
        raise ConfigError(
            f"{config.name} has no alias {config.promote!r}",
            where=f"promote={config.promote}",
            remedy=f"Write promote={CHAMPION}; force=true makes another one.",
        )


def check_promotion(config: DictConfig, registry: Registry, number: str | None = None) -> None:
    """Refuse what cannot be, before anything is registered.

    Args:
        number: of the version that shall be promoted; None for one that is yet to be registered.

    Raises:
        ConfigError: for a bad alias or number, or where a champion is there and nothing says on which scans to compare.
    """
    check_alias(config.promote)
    check_new_alias(config, registry)
    rule_of(config)
    if config.bootstrap < FEWEST_DRAWS:
        raise ConfigError(f"{config.bootstrap} resamples are too few", where="bootstrap", remedy="Give 100 or more.")
    if config.seed is None or not 0 <= config.seed < 2**32:
        raise ConfigError(f"{config.seed} is not between 0 and 2^32 - 1", where="seed")
    choose_compute(config.accelerator)
    if saved.names_data(HydraConfig.get().overrides.task) or saved.run_config_of(config.run):
        return
    if registry.holder(config.name, config.promote) not in (None, number):
        raise ConfigError(
            "nothing says on which scans to compare the two models",
            where="data",
            remedy="Name them: data=semantickitti data.root=DIR split=val, or data=synthetic.",
        )


def promote(config: DictConfig, job: Job, registry: Registry, candidate: Version) -> None:
    """Give `NAME@ALIAS` to the candidate if it is not worse than the version that has it.

    Raises:
        NotPromoted: if it is, or if nobody can tell; with `force` it is promoted and a tag says so.
        TrackingError: if another version was promoted meanwhile.
    """
    name, alias = candidate.name, str(config.promote)
    holder = registry.holder(name, alias)
    if holder == candidate.number:
        log.info("Version %s is %s@%s already: nothing to do.", holder, name, alias)
        return
    if holder is None:
        comparison = Comparison((), None, {"reason": f"there was no {alias}"})
    else:
        comparison = _compared(config, job, registry, candidate, registry.version(name, holder))
    judgement = comparison.judgement
    if judgement is not None:
        log.info("\nVersion %s against %s, version %s:\n\n%s\n", candidate.number, alias, holder, judgement.table())
    facts = {"alias": alias, "champion": holder or "none", **comparison.facts}
    facts["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    decision = "promoted" if not comparison.reasons else "forced" if config.force else "refused"
    if comparison.reasons:
        facts["reason"] = "; ".join(comparison.reasons)
    record = {"name": name, "version": candidate.number, "decision": decision, **facts}
    write_json(job.folder / "promotion.json", record | {"scores": judgement.to_dict() if judgement else None})
    if decision == "refused":
        registry.replace_tags(candidate, "promotion.", {**facts, "decision": decision})
        raise NotPromoted(
            f"version {candidate.number} is not promoted: {'; '.join(comparison.reasons)}",
            where=f"{name}@{alias} (version {holder})",
            remedy=REMEDY,
        )
    # said before it is done: an alias that moved without a word of why would be worse than a word too many
    registry.replace_tags(candidate, "promotion.", {**facts, "decision": "begun"})
    try:
        registry.move_alias(name, alias, candidate.number, expected=holder)
    except TrackingError:
        registry.replace_tags(candidate, "promotion.", {**facts, "decision": "overtaken"})
        raise
    registry.replace_tags(candidate, "promotion.", {**facts, "decision": decision})
    _say(candidate, alias, holder, comparison)


def _say(candidate: Version, alias: str, holder: str | None, comparison: Comparison) -> None:
    place = f"models:/{candidate.name}@{alias}"
    if holder is None:
        log.info("There was no %s: version %s is it now, compared with nothing. %s", alias, candidate.number, place)
        return
    if comparison.reasons:
        log.warning("Forced in spite of this: %s", "; ".join(comparison.reasons))
    log.info("Version %s is %s now, in place of version %s. %s", candidate.number, alias, holder, place)


def rule_of(config: DictConfig) -> Rule:
    """By what a candidate is judged; raises ConfigError for what is no rule."""
    return Rule(float(config.margin), float(config.class_margin), int(config.class_points))


def _compared(config: DictConfig, job: Job, registry: Registry, candidate: Version, champion: Version) -> Comparison:
    """Score both; with `force`, what stands in the way becomes a reason instead of an error."""
    facts: dict[str, Any] = {}
    try:
        return _scored(config, job, registry, candidate, champion, facts)
    except NotPromoted as error:
        return Comparison((error.what,), None, facts)
    except PointsegError as error:
        if not config.force:
            raise
        return Comparison((str(error),), None, facts)


def _scored(
    config: DictConfig, job: Job, registry: Registry, candidate: Version, champion: Version, facts: dict[str, Any]
) -> Comparison:
    device = choose_compute(config.accelerator).device
    ours = Predictor.load(_fetched(registry, candidate, job), device)
    try:
        theirs = Predictor.load(_fetched(registry, champion, job), device)
    except CheckpointError as error:
        raise NotPromoted(f"version {champion.number}, which has the alias, cannot be read ({error.what})") from error
    if ours.label_map.hash != theirs.label_map.hash:
        raise NotPromoted(
            f"it has the classes of label map {ours.label_map.name!r} ({ours.label_map.hash}) and version "
            f"{champion.number} those of {theirs.label_map.name!r} ({theirs.label_map.hash}), which cannot be compared"
        )
    config = with_data_of_run(config, "run")
    checks.check_targets(config)
    data = build_data(config, ours.trained.features)
    reasons = _fairness(config, data, ours, theirs, champion, facts)
    if reasons and not config.force:
        return Comparison(reasons, None, facts)
    source = data.source(config.split)
    log.info("Comparing on %s of %s", counted(len(source), "scan"), facts["data"])
    judgement = judge(
        confusions_of(theirs, source, data.label_map, progress_bar(f"version {champion.number}")),
        confusions_of(ours, source, data.label_map, progress_bar(f"version {candidate.number}")),
        data.label_map.class_names,
        rule_of(config),
        draws=config.bootstrap,
        seed=config.seed,
    )
    facts |= {
        "miou": judgement.overall.candidate,
        "champion_miou": judgement.overall.champion,
        "difference": judgement.overall.difference,
        "margin": float(config.margin),
        "class_margin": float(config.class_margin),
        "class_points": int(config.class_points),
    }
    return Comparison((*reasons, *judgement.reasons), judgement, facts)


def _fairness(
    config: DictConfig,
    data: ScanDataModule,
    ours: Predictor,
    theirs: Predictor,
    champion: Version,
    facts: dict[str, Any],
) -> tuple[str, ...]:
    """Why these scans would flatter one of the two: it was trained on them, or does not say on which."""
    data.source(config.split, progress_bar(f"{config.split} scans"))
    summary = data.summary(config.split, progress_bar("checking"))
    facts |= {"data": redact_text(data_name(config)), "data_sha256": summary.fingerprint, "scans": summary.scans}
    scans = hashes_of(summary.scan_counts)
    found = (
        why_not_fair("it", ours.trained.provenance, scans),
        why_not_fair(f"version {champion.number}", theirs.trained.provenance, scans),
    )
    return tuple(reason for reason in found if reason)


def _fetched(registry: Registry, version: Version, job: Job) -> Path:
    return download_model(version.uri, registry.uri, job.start_dir)
