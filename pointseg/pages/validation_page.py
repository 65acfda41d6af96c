"""A validation report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from pointseg.core.files import write_text
from pointseg.data.checks.findings import LEVELS, Finding, shown
from pointseg.pages.html import render
from pointseg.quality.validation_report import FileRow, ValidationReport

__all__ = ["validation_page", "write_validation"]

FILES = 200  # rows of files without a finding
IN_GROUP = 200  # rows of one kind of finding


def validation_page(report: ValidationReport) -> str:
    """The text of the page. File names and all that stems from files are escaped.

    Example:
        >>> validation_page(report).startswith("<!doctype html>")
        True
    """
    files, left = _chosen_files(report)
    total = {
        name: sum(getattr(row, name) for row in report.sequences) for name in ("scans", "points", "labelled", "errors")
    }
    return render(
        "validation.html",
        report=report,
        counts={level: report.count(level) for level in LEVELS},
        groups=_groups(report),
        total=total,
        files=files,
        files_left=left,
        wrong=_wrong(report),
    )


def write_validation(report: ValidationReport, folder: str | Path) -> list[Path]:
    """Write `validation.json` and `validation.html`, each whole or not at all; their paths.

    Raises:
        OutputError: if they cannot be written.
    """
    paths = [Path(folder) / "validation.json", Path(folder) / "validation.html"]
    write_text(paths[0], report.to_json())
    write_text(paths[1], validation_page(report))
    return paths


def _groups(report: ValidationReport) -> list[dict[str, Any]]:
    """Findings of a level and kind together, errors first; the remedy is said once if it is the same for all."""

    def key(finding: Finding) -> tuple[int, str]:
        return LEVELS.index(finding.level), finding.kind

    groups = []
    for (level, kind), members in itertools.groupby(sorted(report.findings, key=key), key):
        findings = list(members)
        remedies = {finding.remedy for finding in findings}
        groups.append(
            {
                "level": LEVELS[level],
                "kind": kind,
                "count": len(findings),
                "remedy": remedies.pop() if len(remedies) == 1 else None,
                "rows": [(finding, _below(report, finding.file)) for finding in findings[:IN_GROUP]],
                "left": max(0, len(findings) - IN_GROUP),
            }
        )
    return groups


def _below(report: ValidationReport, file: str) -> str:
    """A file's path below the root, which the page names once."""
    return file.removeprefix(report.root.rstrip("/") + "/")


def _name(report: ValidationReport, file: str) -> str:
    """A file's path as the table of files has it."""
    parts = file.split("/")
    folders = {shown(row.name) for row in report.sequences}
    at = next((i for i in range(len(parts) - 1, -1, -1) if parts[i] in folders), 0)
    return "/".join(["sequences", *parts[at:]])


def _wrong(report: ValidationReport) -> dict[str, str]:
    """Name of each file with a finding -> the worst level."""
    wrong: dict[str, str] = {}
    for finding in report.findings:  # errors come first
        wrong.setdefault(_name(report, finding.file), finding.level)
    return wrong


def _chosen_files(report: ValidationReport) -> tuple[list[FileRow], int]:
    """Files with findings, then the first others; and how many are left out."""
    wrong = _wrong(report)
    marked = [row for row in report.files if row.path in wrong]
    others = [row for row in report.files if row.path not in wrong]
    chosen = sorted([*marked[: 10 * FILES], *others[:FILES]], key=lambda row: (row.path not in wrong, row.path))
    return chosen, len(report.files) - len(chosen)
