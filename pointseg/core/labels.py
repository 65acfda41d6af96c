"""Label maps: raw ids in files <-> training ids in tensors, with names and colours.

A label map is a YAML file, so a user's own classes need no code. Training ids follow the order of `classes`:
1, 2, ..., K; 0 stands for everything in `ignored`. The first raw id of a class is its canonical one: it is what
predictions are written as, and it gives the class its name and colour.

    name: my-classes
    labels:                       # every raw id that may occur in a file: [name, [red, green, blue]]
      0: [unlabeled, [0, 0, 0]]
      10: [car, [100, 150, 245]]
      252: [moving-car, [100, 150, 245]]
      40: [road, [255, 0, 255]]
    classes:
      - [10, 252]                 # training id 1: car (moving cars count as cars)
      - [40]                      # training id 2: road
    ignored: [0]                  # training id 0: never scored, never predicted
    things: [10, 252]             # optional: classes of single objects, for augmentation
    ground: [40]                  # optional: what objects stand on, for augmentation
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pointseg.core.errors import LabelMapError

__all__ = ["LabelMap"]

SHIPPED = Path(__file__).parent / "label_maps"
UNKNOWN = 255  # the look-up table's mark for a raw id that is not in the map
SEMANTIC_BITS = 0xFFFF  # the lower 16 bits of a SemanticKITTI label; the upper 16 are the instance id


@dataclass(frozen=True)
class LabelMap:
    """Raw ids, their names and colours, and the training ids they are learned as.

    Args:
        name: the map's name.
        labels: raw id -> (name, (red, green, blue)), for every id that may occur.
        classes: for training id 1, 2, ...: its raw ids, the canonical one first.
        ignored: raw ids that are never scored and never predicted (training id 0).
        things: raw ids of single objects.
        ground: raw ids of what objects stand on.

    Raises:
        LabelMapError: if a raw id is in two classes, in none, has no name, or does not fit 16 bits.

    Example:
        >>> kitti = LabelMap.load("semantickitti")
        >>> kitti.num_classes, kitti.class_names[0], kitti.to_raw(np.array([1], np.uint8))
        (19, 'car', array([10], dtype=uint32))
    """

    name: str
    labels: dict[int, tuple[str, tuple[int, int, int]]]
    classes: tuple[tuple[int, ...], ...]
    ignored: tuple[int, ...] = field(default=())
    things: tuple[int, ...] = field(default=())
    ground: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        def refuse(what: str, remedy: str) -> None:
            raise LabelMapError(what, where=f"label map {self.name!r}", remedy=remedy)

        if not 1 <= len(self.classes) <= UNKNOWN - 1:
            refuse(f"{len(self.classes)} classes", f"Give between 1 and {UNKNOWN - 1} entries under `classes`.")
        used: set[int] = set()
        for group in (*self.classes, self.ignored):
            if group is not self.ignored and not group:
                refuse("a class without a raw id", "Name at least one raw id for each entry of `classes`.")
            for raw in group:
                if raw in used:
                    refuse(f"raw id {raw} is used twice", "Keep it in one class, or under `ignored`.")
                if raw not in self.labels:
                    refuse(f"raw id {raw} has no name and colour", "Add it under `labels`.")
                used.add(raw)
        for raw, (_, color) in self.labels.items():
            if not 0 <= raw <= SEMANTIC_BITS:
                refuse(f"raw id {raw} does not fit 16 bits", f"Use ids from 0 to {SEMANTIC_BITS}.")
            if raw not in used:
                refuse(f"raw id {raw} belongs to no class", "Add it to a class, or to `ignored`.")
            if len(color) != 3 or not all(0 <= c <= 255 for c in color):
                refuse(f"raw id {raw} has colour {list(color)}", "Give red, green and blue, 0 to 255.")
        for raw in (*self.things, *self.ground):
            if raw not in self.labels:
                refuse(
                    f"raw id {raw} has no name and colour",
                    "Add it under `labels`, or take it out of things and ground.",
                )
        names = self.class_names
        if len(set(names)) != len(names):
            refuse("two classes share a name", "Rename the canonical (first) raw id of one of them.")

    # ---- reading and writing ---------------------------------------------------------------

    @classmethod
    def load(cls, source: str | Path) -> LabelMap:
        """Read a shipped map by its name (`semantickitti`) or any map by the path of its YAML file.

        Raises:
            LabelMapError: if there is no such map, or the file is not a label map.
        """
        path = Path(source).expanduser()
        if path.suffix not in {".yaml", ".yml"}:
            path = SHIPPED / f"{source}.yaml"
        if not path.is_file():
            shipped = sorted(p.stem for p in SHIPPED.glob("*.yaml"))
            near = difflib.get_close_matches(str(source), shipped, 1)
            raise LabelMapError(
                "there is no such label map",
                where=source,
                remedy=(f"Did you mean {near[0]!r}? " if near else "")
                + f"Shipped maps: {', '.join(shipped)}; your own is named by the path of its .yaml file.",
            )
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise LabelMapError(f"the file cannot be read ({error.strerror})", where=path) from error
        except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
            # beside its own errors, yaml raises these for values such as 2001-99-99, and for deep nesting
            raise LabelMapError(f"not a YAML file ({error})", where=path) from error
        return cls.from_dict(content, where=path)

    @classmethod
    def from_dict(cls, content: Any, where: object = "label map") -> LabelMap:
        """The inverse of `to_dict`; `where` names the source in an error."""
        try:
            return cls(
                name=str(content["name"]),
                labels={
                    int(raw): (str(name), (int(color[0]), int(color[1]), int(color[2])))
                    for raw, (name, color) in content["labels"].items()
                },
                classes=tuple(tuple(int(raw) for raw in group) for group in content["classes"]),
                ignored=tuple(int(raw) for raw in content.get("ignored") or ()),
                things=tuple(int(raw) for raw in content.get("things") or ()),
                ground=tuple(int(raw) for raw in content.get("ground") or ()),
            )
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise LabelMapError(
                f"not a label map ({type(error).__name__}: {error})",
                where=where,
                remedy="It needs name, labels, classes and ignored, as in pointseg/core/label_maps/semantickitti.yaml.",
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `from_dict`, as checkpoints and bundles keep them."""
        return {
            "name": self.name,
            "labels": {raw: [name, list(color)] for raw, (name, color) in self.labels.items()},
            "classes": [list(group) for group in self.classes],
            "ignored": list(self.ignored),
            "things": list(self.things),
            "ground": list(self.ground),
        }

    # ---- contents --------------------------------------------------------------------------------------------

    @property
    def num_classes(self) -> int:
        """K: the number of classes that are learned and scored (training ids 1..K)."""
        return len(self.classes)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Name of training id 1, 2, ..., K."""
        return tuple(self.labels[group[0]][0] for group in self.classes)

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """Colours by training id, (K + 1, 3) red, green, blue; row 0 is for ignored points."""
        ignored = self.labels[self.ignored[0]][1] if self.ignored else (0, 0, 0)
        return np.array([ignored, *(self.labels[group[0]][1] for group in self.classes)], np.uint8)

    def train_ids_of(self, raw_ids: Iterable[int]) -> tuple[int, ...]:
        """The training ids, ascending and without 0, that these raw ids are learned as."""
        train_ids = {int(self._to_train[raw]) for raw in raw_ids}
        return tuple(sorted(train_ids - {0, UNKNOWN}))

    @cached_property
    def hash(self) -> str:
        """Identifies the meaning of the training ids: equal for maps that give every raw id the same training id."""
        content = json.dumps([list(self.class_names), [sorted(g) for g in self.classes], sorted(self.ignored)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def _to_train(self) -> NDArray[np.uint8]:
        table = np.full(SEMANTIC_BITS + 1, UNKNOWN, np.uint8)
        table[list(self.ignored)] = 0
        for train_id, group in enumerate(self.classes, start=1):
            table[list(group)] = train_id
        return table

    @cached_property
    def _to_raw(self) -> NDArray[np.uint32]:
        ignored = self.ignored[0] if self.ignored else 0
        return np.array([ignored, *(group[0] for group in self.classes)], np.uint32)

    def to_train(self, labels: NDArray[np.uint32], where: object = "labels") -> NDArray[np.uint8]:
        """Raw labels (N,), instance ids in the upper 16 bits allowed -> training ids (N,), 0 = ignored.

        Raises:
            LabelMapError: if an id is not in the map; `where` is the file the labels came from.
        """
        semantic = (np.asarray(labels) & SEMANTIC_BITS).astype(np.uint16)
        train = self._to_train[semantic]
        if train.size and train.max() == UNKNOWN:
            unknown = np.unique(semantic[train == UNKNOWN])
            ids = f"raw id {unknown[0]} is" if len(unknown) == 1 else f"raw ids {', '.join(map(str, unknown[:8]))} are"
            raise LabelMapError(
                f"{ids} not in label map {self.name!r}",
                where=where,
                remedy="Add the id to the map's YAML (a class or `ignored`), or name the right map with data.labels=.",
            )
        return train

    def to_raw(self, train_ids: NDArray[Any]) -> NDArray[np.uint32]:
        """Training ids 0..K (N,) -> the canonical raw ids (N,) that `.label` files hold."""
        return self._to_raw[np.asarray(train_ids)]
