"""Training clouds and their batches: the same whoever loads them, shared by ranks, padded and never cut."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, LabelMapError
from pointseg.core.labels import LabelMap
from pointseg.data.batches import PointBatch, decode_batch
from pointseg.data.datasets import CloudBatches, Draw, TrainingClouds, WholeScans, repeat_factors
from pointseg.data.features import FeatureSpec
from pointseg.data.records import Narrow
from pointseg.data.sampling import Sampling, Window
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.sources import inspect
from pointseg.data.tables import Records, ScanTable

if TYPE_CHECKING:
    from conftest import KittiTree


def epoch_of(batches: CloudBatches, epoch: int = 0) -> list[list[Draw]]:
    batches.set_epoch(epoch)
    return list(batches)


def indices(epoch: list[list[Draw]]) -> list[int]:
    return [draw.index for batch in epoch for draw in batch]


SEQUENCES = ["00", "08"]


def table_of(tree: KittiTree, label_map: LabelMap, sequences: list[str] = SEQUENCES) -> ScanTable:
    source = SemanticKITTIScans(tree.root, sequences)
    return ScanTable(source, label_map, FeatureSpec(), inspect(source, label_map).lengths)


@pytest.fixture
def clouds(shared_tree: KittiTree, kitti_map: LabelMap) -> TrainingClouds:
    return TrainingClouds(table_of(shared_tree, kitti_map), Sampling(), seed=1)


def one(clouds: TrainingClouds, draw: Draw) -> PointBatch:
    return decode_batch(clouds.__getitems__([draw]), clouds.table.format)


# ---- a cloud --------------------------------------------------------------------------------------------------


def nearest_rows(points: NDArray[np.float32], scan: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which point of the scan each point is, found by brute force: coordinates are kept in millimetres."""
    return np.array([np.abs(scan[:, :3] - point[:3]).max(axis=1).argmin() for point in points])


def test_cloud_is_measured_in_its_whole_scan(clouds: TrainingClouds, shared_tree: KittiTree) -> None:
    points = one(clouds, Draw(0, 4, 4, 500)).points[0]
    scan = shared_tree.points["08/000003"]
    measured = FeatureSpec().measure(torch.from_numpy(scan))[nearest_rows(points.numpy(), scan)]
    assert float((points[:, :3] - measured[:, :3]).abs().max()) <= 0.000502
    assert torch.equal(points[:, 3], measured[:, 3])
    assert torch.allclose(points[:, 4:], measured[:, 4:], rtol=2**-11, atol=1e-7)


def test_cloud_has_the_labels_of_its_points(clouds: TrainingClouds, shared_tree: KittiTree) -> None:
    batch = one(clouds, Draw(0, 4, 4, 500))
    rows = nearest_rows(batch.points[0].numpy(), shared_tree.points["08/000003"])
    training_id = {0: 0, 10: 1, 252: 1, 40: 9, 48: 11, 50: 13, 70: 15}
    expected = [training_id[int(label & 0xFFFF)] for label in shared_tree.labels["08/000003"][rows]]
    assert expected == batch.labels[0].tolist()


def test_cloud_repeats_no_point(clouds: TrainingClouds) -> None:
    points = one(clouds, Draw(0, 0, 0, 1500)).points[0]
    assert len(np.unique(points.numpy(), axis=0)) == 1500


def test_short_scan_gives_all_its_points(clouds: TrainingClouds) -> None:
    assert one(clouds, Draw(0, 0, 0, 5000)).points.shape[1] == 2000


@pytest.mark.parametrize("other", [Draw(1, 0, 0, 500), Draw(0, 6, 0, 500)])
def test_cloud_of_another_epoch_or_visit_has_other_points(clouds: TrainingClouds, other: Draw) -> None:
    assert not torch.equal(one(clouds, Draw(0, 0, 0, 500)).points, one(clouds, other).points)


def test_cloud_of_another_seed_has_other_points(clouds: TrainingClouds) -> None:
    other = TrainingClouds(clouds.table, Sampling(), seed=2)
    assert not torch.equal(one(clouds, Draw(0, 0, 0, 500)).points, one(other, Draw(0, 0, 0, 500)).points)


def test_every_point_is_drawn_equally_often(clouds: TrainingClouds) -> None:
    rounds, share = 400, 500 / 2000
    seen: Counter[tuple[float, ...]] = Counter()
    for index in range(rounds):
        seen.update(map(tuple, one(clouds, Draw(0, 6 * index, 0, 500)).points[0, :, :3].tolist()))
    counts = np.array(list(seen.values()))
    assert len(counts) == 2000
    assert abs(counts.mean() - rounds * share) < 1e-9
    assert counts.min() > 0.6 * rounds * share
    assert counts.max() < 1.4 * rounds * share


def test_unknown_label_names_its_file(kitti_map: LabelMap, tree: KittiTree) -> None:
    table = table_of(tree, kitti_map, ["00"])
    labels = tree.labels["00/000003"].copy()
    labels[5] = 77
    labels.tofile(tree.label("00/000003"))
    with pytest.raises(LabelMapError, match=r"77.*00/labels/000003\.label"):
        TrainingClouds(table, Sampling(), 0).__getitems__([Draw(0, 1, 1, 10)])


def test_partners_are_other_clouds_of_any_scan(clouds: TrainingClouds) -> None:
    mixing = TrainingClouds(clouds.table, Sampling(), 1, partners=True)
    draws = [Draw(0, index, index % 6, 300) for index in range(12)]
    batch = mixing.__getitems__(draws)
    assert batch.partner is not None
    assert torch.equal(batch.records, clouds.__getitems__(draws).records)  # the clouds themselves stay
    assert batch.partner.records.shape == batch.records.shape
    assert not torch.equal(batch.partner.records, batch.records)


def test_partners_do_not_depend_on_the_batch(clouds: TrainingClouds) -> None:
    mixing = TrainingClouds(clouds.table, Sampling(), 1, partners=True)
    draws = [Draw(0, index, index % 6, 300) for index in range(4)]
    together = mixing.__getitems__(draws).partner
    assert together is not None
    for row, draw in enumerate(draws):
        alone = mixing.__getitems__([draw]).partner
        assert alone is not None
        assert torch.equal(alone.records[0], together.records[row])


def test_whole_scan_keeps_order_and_every_point(shared_tree: KittiTree, kitti_map: LabelMap) -> None:
    scan = WholeScans(SemanticKITTIScans(shared_tree.root, ["08"]), kitti_map)[2]
    assert np.array_equal(scan.points.numpy(), shared_tree.points["08/000007"])
    assert scan.labels.tolist() == kitti_map.to_train(shared_tree.labels["08/000007"]).tolist()


# ---- padding --------------------------------------------------------------------------------------------------


class Scans:
    """A table of scans whose points are all alike: scan i has i points with label i."""

    format = Narrow()
    lengths = range(10)

    def read(self, scan: int, window: Window | None = None) -> Records:
        points = np.full((scan, 4), scan, np.float32) * np.float32([1, 1, 1, 0])
        records = Narrow().encode(points, np.full(scan, scan, np.uint8)) if scan else np.empty(0, np.int64)
        return Records(torch.from_numpy(records), torch.full((scan, 2), float(scan), dtype=torch.float16))


def batch_of(*scans: int) -> PointBatch:
    draws = [Draw(0, scan, scan, 99) for scan in scans]
    return decode_batch(TrainingClouds(Scans(), Sampling(), 0).__getitems__(draws), Narrow())


def test_clouds_of_one_size_need_no_mask() -> None:
    assert batch_of(3, 3).mask is None


def test_shorter_clouds_are_padded_and_masked() -> None:
    mask = batch_of(3, 5, 1).mask
    assert mask is not None
    assert mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5, [True] + [False] * 4]


def test_padding_is_zero_and_ignored() -> None:
    batch = batch_of(3, 5)
    for column in (0, 4):  # a coordinate, what was measured around the point
        assert batch.points[0, :, column].tolist() == [3, 3, 3, 0, 0]
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


# ---- rare classes ------------------------------------------------------------------------------------------------


def test_repeat_factors_are_those_of_the_paper() -> None:
    counts = np.zeros((100, 4), np.int64)
    counts[:, 1] = 5  # everywhere
    counts[:25, 2] = 1  # a quarter of the scans
    counts[:1, 3] = 9  # one scan
    factors = repeat_factors(counts, threshold=0.25)
    expected = [max(1.0, *(np.sqrt(0.25 / share) for share in shares)) for shares in [[1, 0.25, 0.01]]]
    assert factors[0] == pytest.approx(expected[0])
    assert factors[1:].tolist() == [1.0] * 99


def test_weighted_scans_are_drawn_in_proportion() -> None:
    weights = np.array([1.0, 1.0, 5.0, 1.0])
    batches = CloudBatches(4, batch_size=10, points=8, clouds_per_scan=1000, weights=weights)
    scans = Counter(draw.scan for batch in epoch_of(batches) for draw in batch)
    assert sum(scans.values()) == 4000
    assert scans[2] / 4000 == pytest.approx(5 / 8, abs=0.03)


def test_weighted_scans_do_not_depend_on_ranks() -> None:
    weights = np.array([1.0, 2.0, 5.0])
    alone = epoch_of(CloudBatches(3, batch_size=4, points=8, clouds_per_scan=8, weights=weights))
    shares = [
        epoch_of(CloudBatches(3, batch_size=2, points=8, clouds_per_scan=8, weights=weights, rank=r, world_size=2))
        for r in (0, 1)
    ]
    assert [a + b for a, b in zip(*shares, strict=True)] == alone
