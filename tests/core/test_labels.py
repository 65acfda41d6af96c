"""Label maps: the shipped one is SemanticKITTI's, own ones are read and checked."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pointseg.core.errors import LabelMapError
from pointseg.core.labels import LabelMap

# The benchmark's learning map and its inverse, copied from its published configuration.
LEARNING_MAP = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11, 49: 12,
    50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7, 254: 6, 255: 8,
    256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip
INVERSE_MAP = {
    1: 10, 2: 11, 3: 15, 4: 18, 5: 20, 6: 30, 7: 31, 8: 32, 9: 40, 10: 44, 11: 48, 12: 49, 13: 50, 14: 51, 15: 70,
    16: 71, 17: 72, 18: 80, 19: 81,
}  # fmt: skip
OWN = {
    "name": "own",
    "labels": {0: ["nothing", [0, 0, 0]], 7: ["tree", [0, 255, 0]], 8: ["bush", [0, 200, 0]], 9: ["wall", [1, 2, 3]]},
    "classes": [[7, 8], [9]],
    "ignored": [0],
}


def test_shipped_map_has_34_raw_ids_and_19_classes(kitti_map: LabelMap) -> None:
    assert (len(kitti_map.labels), kitti_map.num_classes) == (34, 19)


def test_shipped_map_is_the_learning_map(kitti_map: LabelMap) -> None:
    raw = np.array(list(LEARNING_MAP), np.uint32)
    assert dict(zip(raw.tolist(), kitti_map.to_train(raw).tolist(), strict=True)) == LEARNING_MAP


def test_shipped_map_writes_the_inverse_map(kitti_map: LabelMap) -> None:
    train_ids = np.array(list(INVERSE_MAP), np.uint8)
    assert dict(zip(train_ids.tolist(), kitti_map.to_raw(train_ids).tolist(), strict=True)) == INVERSE_MAP


def test_raw_ids_are_written_as_uint32(kitti_map: LabelMap) -> None:
    assert kitti_map.to_raw(np.array([1, 2], np.uint8)).dtype == np.uint32


def test_class_names_follow_the_training_ids(kitti_map: LabelMap) -> None:
    assert (kitti_map.class_names[0], kitti_map.class_names[4], kitti_map.class_names[18]) == (
        "car",
        "other-vehicle",
        "traffic-sign",
    )


def test_colours_follow_the_training_ids(kitti_map: LabelMap) -> None:
    assert kitti_map.colors[[0, 1, 9]].tolist() == [[0, 0, 0], [100, 150, 245], [255, 0, 255]]


@pytest.mark.parametrize("instance", [0, 1, 0x7FFF, 0x8000, 0xFFFF])
def test_instance_bits_do_not_matter(kitti_map: LabelMap, instance: int) -> None:
    labels = np.array([(instance << 16) | 252], np.uint32)
    assert kitti_map.to_train(labels).tolist() == [1]


def test_unknown_raw_id_names_file_and_id(kitti_map: LabelMap) -> None:
    with pytest.raises(LabelMapError, match=r"raw id 77 .*: 08/labels/000003\.label"):
        kitti_map.to_train(np.array([10, 77], np.uint32), where="08/labels/000003.label")


def test_own_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(OWN))
    own = LabelMap.load(path)
    assert own.to_train(np.array([0, 9, 8, 7], np.uint32)).tolist() == [0, 2, 1, 1]


def broken(change: str) -> Any:
    content: Any = copy.deepcopy(OWN)
    if change == "an id in two classes":
        content["classes"] = [[7, 8], [9, 8]]
    elif change == "an id in a class and ignored":
        content["ignored"] = [0, 9]
    elif change == "an id in no class":
        content["classes"] = [[7], [9]]
    elif change == "an id without a name":
        content["classes"] = [[7, 8], [9, 33]]
    elif change == "an id beyond 16 bits":
        content["labels"][70000] = ["big", [0, 0, 0]]
        content["ignored"] = [0, 70000]
    elif change == "a class without ids":
        content["classes"] = [[7, 8], [9], []]
    elif change == "no classes":
        content["classes"] = []
    elif change == "a colour out of range":
        content["labels"][7] = ["tree", [0, 256, 0]]
    elif change == "a colour of two numbers":
        content["labels"][7] = ["tree", [0, 25]]
    elif change == "two classes of one name":
        content["labels"][9] = ["tree", [1, 2, 3]]
    elif change == "classes missing":
        del content["classes"]
    elif change == "labels a list":
        content["labels"] = ["tree"]
    elif change == "an id that is a word":
        content["classes"] = [["tree"], [9]]
    elif change == "a list":
        content = [1, 2]
    elif change == "nothing":
        content = None
    return content


@pytest.mark.parametrize(
    "change",
    [
        "an id in two classes",
        "an id in a class and ignored",
        "an id in no class",
        "an id without a name",
        "an id beyond 16 bits",
        "a class without ids",
        "no classes",
        "a colour out of range",
        "a colour of two numbers",
        "two classes of one name",
        "classes missing",
        "labels a list",
        "an id that is a word",
        "a list",
        "nothing",
    ],
)
def test_broken_map_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(broken(change)))
    with pytest.raises(LabelMapError):
        LabelMap.load(path)


def test_text_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: [unclosed")
    with pytest.raises(LabelMapError, match=r"broken\.yaml"):
        LabelMap.load(path)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(LabelMapError, match="not a YAML"):
        LabelMap.load(path)


def test_misspelt_name_gets_a_proposal() -> None:
    with pytest.raises(LabelMapError, match="Did you mean 'semantickitti'"):
        LabelMap.load("semantickiti")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelMapError, match="no such label map"):
        LabelMap.load(tmp_path / "absent.yaml")


def test_dictionary_round_trip(kitti_map: LabelMap) -> None:
    assert LabelMap.from_dict(yaml.safe_load(yaml.safe_dump(kitti_map.to_dict()))) == kitti_map


def test_hash_ignores_colours() -> None:
    other = copy.deepcopy(OWN)
    other["labels"][7][1] = [5, 5, 5]  # type: ignore[index]
    assert LabelMap.from_dict(other).hash == LabelMap.from_dict(OWN).hash


def test_hash_knows_the_order_of_classes() -> None:
    assert LabelMap.from_dict({**OWN, "classes": [[9], [7, 8]]}).hash != LabelMap.from_dict(OWN).hash


@pytest.mark.real
def test_real_labels_are_all_known(kitti_map: LabelMap, real_root: Path) -> None:
    paths = sorted(real_root.rglob("*.label"))[:10]
    counts = [kitti_map.to_train(np.fromfile(path, "<u4"), where=path).max() for path in paths]
    assert len(counts) == 10
    assert max(counts) <= 19
