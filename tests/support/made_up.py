"""A made-up assessment with hostile class names, an absent class and two sequences, and a parser for what is in a page."""

from __future__ import annotations

import json
from functools import cache
from html.parser import HTMLParser
from typing import Any

import numpy as np

from pointseg.core.labels import LabelMap
from pointseg.engine.evaluation import PredictedScan
from pointseg.engine.metrics import score
from pointseg.quality.assessment import Assessment, Reliability, WorstScan

HOSTILE = (
    "</script><script>alert(1)</script>",
    r"a $\frac$ b",
    '"><img src=http://evil.example/x onerror=alert(2)>',
    "&amp; <b>",
)
VOID = {"meta", "img", "br", "input", "link", "hr"}


@cache
def hostile_map() -> LabelMap:
    """Four classes; the last never occurs."""
    colors = [(255, 0, 255), (0, 175, 0), (9, 9, 9), (255, 200, 0)]
    labels = {0: ("unlabeled", (0, 0, 0))}
    labels |= {i: (name, color) for i, (name, color) in enumerate(zip(HOSTILE, colors, strict=True), start=1)}
    return LabelMap("hostile", labels, tuple((i,) for i in range(1, 5)), (0,))


def make_assessment(
    scans: int = 8, points: int = 600, right: float = 0.8, show: int = 2, worst: int = 2, seed: int = 0
) -> Assessment:
    """Scans of random points: class 2 is predicted well, class 3 badly, class 4 never occurs."""
    random = np.random.default_rng(seed)
    shown, confusions = [], np.zeros((scans, 5, 5), np.int64)
    by_range, reliability = (
        np.zeros((5, 5, 5), np.int64),
        Reliability(*(np.zeros(15, t) for t in (np.int64, np.int64, np.float64))),
    )
    for index in range(scans):
        truths = np.random.default_rng(index)  # the same scans for every model
        xyz = truths.uniform([-60, -60, -2, 0], [60, 60, 3, 1], (points, 4)).astype(np.float32)
        truth = truths.choice([0, 1, 2, 3], points, p=[0.1, 0.6, 0.28, 0.02]).astype(np.uint8)
        wrong = random.random(points) > np.array([0, right, right + 0.1, 0.1])[truth]
        prediction = np.where(wrong, truth % 3 + 1, np.maximum(truth, 1)).astype(np.uint8)
        confusions[index] = np.bincount(truth * 5 + prediction, minlength=25).reshape(5, 5)
        by_range[index % 4] += confusions[index]
        labelled = truth > 0
        reliability.points[10] += labelled.sum()
        reliability.right[10] += (labelled & ~wrong).sum()
        reliability.confidence[10] += 0.7 * labelled.sum()
        shown.append(PredictedScan(f"{'08' if index < scans / 2 else '10'}/{index:06d}", xyz, truth, prediction))
    names = tuple(scan.name for scan in shown)
    bad = sorted(
        (WorstScan(score(m).miou_present, s) for m, s in zip(confusions, shown, strict=True)),
        key=lambda w: w.miou_present,
    )
    return Assessment(hostile_map(), names, confusions, by_range, reliability, tuple(shown[:show]), tuple(bad[:worst]))


class Page(HTMLParser):
    """What a browser would find: tags with attributes, text without markup, tables, and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")
        if tag == "style":
            self.styles.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-3:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self.scripts[-1] += data
        elif "style" in self._open:
            self.styles[-1] += data
        elif "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += f" {data}" if "small" in self._open else data
        if "script" not in self._open and "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def row(self, name: str, after: str = "") -> list[str]:
        """The first row of that name whose table's header begins with the words of `after`."""
        header: list[str] = []
        for row in self.rows:
            if row and row[0] and (len(row) != len(header) or row[0] in ("class", "sequence", "score")):
                header = (
                    row
                    if row[0] in ("class", "sequence", "score") or row[0].startswith(("share", "confidence"))
                    else header
                )
            if row and row[0].strip() == name and " ".join(header).startswith(after):
                return [cell.strip() for cell in row]
        raise AssertionError(f"no row {name!r} under {after!r}")

    @property
    def viewer(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.scripts[0])
        return content
