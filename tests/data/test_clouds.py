"""Training clouds and their batches: the same whoever loads them, shared by ranks, padded and never cut."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from pointseg.data.clouds import Cloud, CloudBatches, Draw, TrainingClouds, WholeScans, collate
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.errors import ConfigError, LabelMapError
from pointseg.features import FeatureSpec
from pointseg.labels import LabelMap

if TYPE_CHECKING:
    from conftest import KittiTree


def epoch_of(batches: CloudBatches, epoch: int = 0) -> list[list[Draw]]:
    batches.set_epoch(epoch)
    return list(batches)


def indices(epoch: list[list[Draw]]) -> list[int]:
    return [draw.index for batch in epoch for draw in batch]


@pytest.fixture
def clouds(shared_tree: KittiTree, kitti_map: LabelMap) -> TrainingClouds:
    return TrainingClouds(SemanticKITTIScans(shared_tree.root, ["00", "08"]), kitti_map, FeatureSpec(), seed=1)


# ---- a cloud --------------------------------------------------------------------------------------------------


def test_cloud_is_measured_in_its_whole_scan(clouds: TrainingClouds, shared_tree: KittiTree) -> None:
    cloud = clouds[Draw(epoch=0, index=4, points=500)]
    scan = torch.from_numpy(shared_tree.points["08/000003"])
    measured = clouds.features.measure(scan)
    rows = [int(torch.nonzero((scan == point[:4]).all(dim=1))[0]) for point in cloud.points]
    assert torch.equal(cloud.points, measured[rows])


def test_cloud_has_the_labels_of_its_points(clouds: TrainingClouds, shared_tree: KittiTree) -> None:
    cloud = clouds[Draw(epoch=0, index=4, points=500)]
    scan, raw = shared_tree.points["08/000003"], shared_tree.labels["08/000003"]
    training_id = {0: 0, 10: 1, 252: 1, 40: 9, 48: 11, 50: 13, 70: 15}
    expected = {tuple(point): training_id[int(label & 0xFFFF)] for point, label in zip(scan, raw, strict=True)}
    assert [expected[tuple(point[:4])] for point in cloud.points.numpy()] == cloud.labels.tolist()


def test_cloud_repeats_no_point(clouds: TrainingClouds) -> None:
    points = clouds[Draw(epoch=0, index=0, points=1500)].points
    assert len(np.unique(points.numpy(), axis=0)) == 1500


def test_short_scan_gives_all_its_points(clouds: TrainingClouds) -> None:
    assert len(clouds[Draw(epoch=0, index=0, points=5000)].points) == 2000


@pytest.mark.parametrize("other", [Draw(1, 0, 500), Draw(0, 6, 500)])
def test_cloud_of_another_epoch_or_visit_has_other_points(clouds: TrainingClouds, other: Draw) -> None:
    assert not torch.equal(clouds[Draw(0, 0, 500)].points, clouds[other].points)


def test_cloud_of_another_seed_has_other_points(clouds: TrainingClouds) -> None:
    other = TrainingClouds(clouds.source, clouds.label_map, clouds.features, seed=2)
    assert not torch.equal(clouds[Draw(0, 0, 500)].points, other[Draw(0, 0, 500)].points)


@pytest.mark.parametrize("cache_bytes", [2**30, 250_000])  # all scans fit; some do
def test_cache_changes_nothing(clouds: TrainingClouds, cache_bytes: int) -> None:
    cached = TrainingClouds(clouds.source, clouds.label_map, clouds.features, 1, cache_bytes)
    for draw in [Draw(epoch, index, 300) for epoch in range(2) for index in range(6)]:
        one, other = clouds[draw], cached[draw]
        assert torch.equal(one.points, other.points)
        assert torch.equal(one.labels, other.labels)


def test_cache_reads_each_scan_once(clouds: TrainingClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = TrainingClouds(clouds.source, clouds.label_map, clouds.features, 1, 2**30)
    reads: Counter[int] = Counter()
    plain = SemanticKITTIScans.__getitem__
    monkeypatch.setattr(SemanticKITTIScans, "__getitem__", lambda s, i: (reads.update([i]), plain(s, i))[1])
    for epoch in range(3):
        for index in range(6):
            cached[Draw(epoch, index, 10)]
    assert reads == Counter(dict.fromkeys(range(6), 1))


def test_unknown_label_names_its_file(clouds: TrainingClouds, tree: KittiTree) -> None:
    labels = tree.labels["00/000003"].copy()
    labels[5] = 77
    labels.tofile(tree.label("00/000003"))
    source = SemanticKITTIScans(tree.root, ["00"])
    with pytest.raises(LabelMapError, match=r"77.*00/labels/000003\.label"):
        _ = TrainingClouds(source, clouds.label_map, clouds.features, 0)[Draw(0, 1, 10)]


def test_whole_scan_keeps_order_and_every_point(shared_tree: KittiTree, kitti_map: LabelMap) -> None:
    scan = WholeScans(SemanticKITTIScans(shared_tree.root, ["08"]), kitti_map)[2]
    assert np.array_equal(scan.points.numpy(), shared_tree.points["08/000007"])
    assert scan.labels.tolist() == kitti_map.to_train(shared_tree.labels["08/000007"]).tolist()


# ---- padding --------------------------------------------------------------------------------------------------


def cloud_of(count: int) -> Cloud:
    return Cloud(torch.full((count, 4), float(count)), torch.full((count,), count), count)


def test_clouds_of_one_size_need_no_mask() -> None:
    assert collate([cloud_of(3), cloud_of(3)]).mask is None


def test_shorter_clouds_are_padded_and_masked() -> None:
    batch = collate([cloud_of(3), cloud_of(5), cloud_of(1)])
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5, [True] + [False] * 4]


def test_padding_is_zero_and_ignored() -> None:
    batch = collate([cloud_of(3), cloud_of(5)])
    assert batch.points[0, :, 0].tolist() == [3, 3, 3, 0, 0]
    assert batch.labels.tolist() == [[3, 3, 3, 0, 0], [5, 5, 5, 5, 5]]


# ---- the batches of an epoch -----------------------------------------------------------------------------------


def test_epoch_visits_each_scan_as_often_as_asked() -> None:
    epoch = epoch_of(CloudBatches(12, batch_size=4, points=64, clouds_per_scan=3))
    assert Counter(index % 12 for index in indices(epoch)) == Counter(dict.fromkeys(range(12), 3))


def test_epochs_have_other_orders() -> None:
    batches = CloudBatches(20, batch_size=4, points=64)
    assert indices(epoch_of(batches, 0)) != indices(epoch_of(batches, 1))


def test_epoch_is_repeatable() -> None:
    epochs = [epoch_of(CloudBatches(20, batch_size=4, points=(8, 64), seed=5), 3) for _ in range(2)]
    assert epochs[0] == epochs[1]


def test_seeds_have_other_orders() -> None:
    epochs = [epoch_of(CloudBatches(20, batch_size=4, points=64, seed=seed)) for seed in (0, 1)]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_together_are_the_batches_of_one(world_size: int) -> None:
    scans, batch_size = 48, 12
    alone = epoch_of(CloudBatches(scans, batch_size=batch_size, points=(8, 64)))
    shares = [
        epoch_of(
            CloudBatches(scans, batch_size=batch_size // world_size, points=(8, 64), rank=rank, world_size=world_size)
        )
        for rank in range(world_size)
    ]
    together = [[draw for share in batch for draw in share] for batch in zip(*shares, strict=True)]
    assert together == alone


@pytest.mark.parametrize("scans", [7, 8, 9, 10, 23])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_no_cloud_and_take_equal_steps(scans: int, world_size: int) -> None:
    shares = [
        epoch_of(CloudBatches(scans, batch_size=2, points=64, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    everything = [index for share in shares for index in indices(share)]
    assert len(set(everything)) == len(everything)
    assert len({tuple(len(batch) for batch in share) for share in shares}) == 1


@pytest.mark.parametrize("scans", range(1, 30))
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_single_cloud_is_a_batch_only_if_it_is_the_only_one(scans: int, world_size: int) -> None:
    epoch = epoch_of(CloudBatches(scans, batch_size=4, points=64, world_size=world_size))
    assert all(len(batch) > 1 for batch in epoch) or [len(batch) for batch in epoch] == [1]


@pytest.mark.parametrize(("scans", "sizes"), [(8, [4, 4]), (10, [4, 4, 2]), (9, [4, 4]), (3, [3]), (1, [1])])
def test_last_batch_is_kept_unless_it_is_a_single_cloud(scans: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in epoch_of(CloudBatches(scans, batch_size=4, points=64))] == sizes


@pytest.mark.parametrize("scans", range(1, 30))
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_length_is_the_number_of_batches(scans: int, world_size: int) -> None:
    batches = CloudBatches(scans, batch_size=4, points=64, world_size=world_size)
    assert len(list(batches)) == len(batches)


def test_points_of_a_range_stay_within_it_and_vary() -> None:
    epoch = epoch_of(CloudBatches(400, batch_size=2, points=(100, 1600)))
    sizes = [batch[0].points for batch in epoch]
    assert 100 <= min(sizes) < 150
    assert 1100 < max(sizes) <= 1600


def test_points_of_a_range_are_log_uniform() -> None:
    epoch = epoch_of(CloudBatches(4000, batch_size=2, points=(100, 1600)))
    below = np.mean([batch[0].points < 400 for batch in epoch])  # 400 is the middle of the logarithms
    assert abs(below - 0.5) < 4 * np.sqrt(0.25 / 2000)


def test_clouds_of_a_batch_have_one_size() -> None:
    epoch = epoch_of(CloudBatches(40, batch_size=4, points=(100, 1600)))
    assert all(len({draw.points for draw in batch}) == 1 for batch in epoch)


def test_ranks_draw_the_same_sizes() -> None:
    sizes = [
        [b[0].points for b in epoch_of(CloudBatches(40, batch_size=4, points=(8, 999), rank=rank, world_size=2))]
        for rank in (0, 1)
    ]
    assert sizes[0] == sizes[1]


def test_start_gives_the_rest_of_the_epoch() -> None:
    batches = CloudBatches(20, batch_size=4, points=(8, 64))
    whole = epoch_of(batches, 2)
    batches.start = 3
    assert epoch_of(batches, 2) == whole[3:]


def test_start_holds_for_one_epoch() -> None:
    batches = CloudBatches(20, batch_size=4, points=64)
    batches.start = 3
    epoch_of(batches, 2)
    assert len(epoch_of(batches, 3)) == 5


@pytest.mark.parametrize(
    ("key", "points", "batch_size", "clouds_per_scan"),
    [
        ("points", 0, 4, 1),
        ("points", (64, 8), 4, 1),
        ("points", (8, 16, 64), 4, 1),
        ("points", (8,), 4, 1),
        ("batch_size", 64, 0, 1),
        ("clouds_per_scan", 64, 4, 0),
    ],
)
def test_bad_value_names_its_key(
    key: str, points: int | tuple[int, ...], batch_size: int, clouds_per_scan: int
) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key}"):
        CloudBatches(5, batch_size=batch_size, points=points, clouds_per_scan=clouds_per_scan)
