"""The synthetic world: what it promises about its scans, its rays, its streets and its files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, OutputError
from pointseg.core.labels import LabelMap
from pointseg.data.scan import read_labels, read_points
from pointseg.data.synthetic import Sensor, SyntheticScans, SyntheticWorld, write_sequences
from pointseg.data.synthetic.ground import CELL, HALF_WIDTH, LENGTH, CenterLine, Ground, cast_ground
from pointseg.data.synthetic.layout import KINDS
from pointseg.data.synthetic.objects import Builder, raw_id
from pointseg.data.synthetic.raycast import cast_primitives
from pointseg.data.synthetic.scans import sequence_lengths
from pointseg.data.synthetic.world import street_kind

SMALL = {"beams": 32, "azimuth_steps": 256}


@pytest.fixture(scope="module")
def world() -> SyntheticWorld:
    return SyntheticWorld(seed=7)


def same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    return one is not None and other is not None and np.array_equal(one, other)


def flat_ground(height: float = 0.0) -> Ground:
    """Level ground under a straight street."""
    cells = (int(LENGTH / CELL), int(2 * HALF_WIDTH / CELL))
    line = CenterLine(np.zeros(1), np.ones(1), np.zeros(1))
    return Ground(line, np.full(cells, height, np.float32), np.zeros(cells, np.uint8))


def cast(
    builder: Builder, sensor: Sensor, pose: NDArray[np.float64], depth: float = np.inf
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Depth and primitive of every ray, and the rays' directions in the world, for objects on level ground."""
    parts = builder.finish().at(0.0, flat_ground(), around=float(pose[0, 3]))
    world_rays = sensor.directions.astype(np.float64) @ pose[:3, :3].T
    directions = [np.ascontiguousarray(axis, np.float32) for axis in world_rays.T]
    start = np.full(len(world_rays), depth, np.float32)
    found, which = cast_primitives(parts, pose, sensor, directions, start, sensor.texture, np.random.default_rng(0))
    return found, which, world_rays


def level_pose(x: float = 0.0, y: float = 0.0, z: float = 1.73) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    return pose


def tilted_pose() -> NDArray[np.float64]:
    """Turned, pitched and rolled."""
    yaw, pitch, roll = 2.1, 0.05, -0.03
    c, s = np.cos, np.sin
    turn = np.array([[c(yaw), -s(yaw), 0], [s(yaw), c(yaw), 0], [0, 0, 1]])
    nod = np.array([[c(pitch), 0, s(pitch)], [0, 1, 0], [-s(pitch), 0, c(pitch)]])
    lean = np.array([[1, 0, 0], [0, c(roll), -s(roll)], [0, s(roll), c(roll)]])
    pose = level_pose(20.0, -1.0, 1.9)
    pose[:3, :3] = turn @ nod @ lean
    return pose


# ---- determinism ---------------------------------------------------------------------------------------------


def test_a_scan_depends_on_nothing_but_seed_sequence_and_frame() -> None:
    forward = SyntheticScans(scans=6, seed=3, scans_per_street=2, **SMALL)
    backward = SyntheticScans(scans=6, seed=3, scans_per_street=2, **SMALL)
    later = {i: backward[i] for i in reversed(range(6))}
    for i in range(6):
        scan = forward[i]
        assert np.array_equal(scan.points, later[i].points)
        assert same(scan.labels, later[i].labels)
        assert same(scan.pose, later[i].pose)


def test_a_pickled_source_gives_the_same_scans() -> None:
    scans = SyntheticScans(scans=2, seed=3, **SMALL)
    before = scans[1].points
    copy = pickle.loads(pickle.dumps(scans))
    assert np.array_equal(copy[1].points, before)


def test_other_seeds_are_other_streets() -> None:
    one, other = (SyntheticScans(scans=1, seed=seed, **SMALL)[0] for seed in (0, 1))
    assert not np.array_equal(one.points, other.points)


def test_names_and_paths_say_street_and_frame() -> None:
    scans = SyntheticScans(scans=25, seed=5, scans_per_street=10, frame_step=3, **SMALL)
    assert len(scans) == len(scans.names) == 25
    assert scans.names[23] == "002/000009"
    assert scans[23].path == "synthetic/seed=5/street=002/frame=000009"
    with pytest.raises(IndexError):
        scans[25]


def test_every_kind_of_street_comes_within_a_few_sequences() -> None:
    for seed in range(20):
        assert {street_kind(seed, sequence) for sequence in range(11)} == set(KINDS)


# ---- what a scan holds ---------------------------------------------------------------------------------------


def test_all_classes_occur() -> None:
    kitti = LabelMap.load("semantickitti")
    world = SyntheticWorld(seed=1, azimuth_steps=1000)
    seen: set[int] = set()
    for sequence in range(20):
        labels = world.scan(sequence, 0).labels
        assert labels is not None
        seen |= set(np.unique(kitti.to_train(labels)).tolist())
    assert seen == set(range(kitti.num_classes + 1))


def test_a_scan_is_as_large_as_a_real_one(world: SyntheticWorld) -> None:
    counts = [len(world.scan(sequence, 0).points) for sequence in range(6)]
    assert 100_000 <= np.mean(counts) <= 130_000
    assert min(counts) > 90_000


def test_types_and_values(world: SyntheticWorld) -> None:
    scan = world.scan(0, 0)
    assert scan.labels is not None and scan.pose is not None
    assert scan.points.dtype == np.float32 and scan.labels.dtype == np.uint32 and scan.pose.dtype == np.float64
    assert scan.points.shape == (len(scan.labels), 4)
    assert np.isfinite(scan.points).all()
    remission = scan.points[:, 3].astype(np.float64)
    assert remission.min() >= 0 and remission.max() <= 1
    assert np.allclose(remission * 100, np.rint(remission * 100), atol=1e-4)


@pytest.mark.parametrize("beams", [16, 32, 64, 128])
def test_every_point_lies_on_a_ray(beams: int) -> None:
    world = SyntheticWorld(seed=2, beams=beams, azimuth_steps=400)
    sensor, points = world.sensor, world.scan(1, 4).points[:, :3].astype(np.float64)
    distance = np.linalg.norm(points, axis=1)
    elevation = np.arcsin(points[:, 2] / distance)
    off = np.abs(elevation[:, None] - sensor.elevations).min(axis=1)
    assert off.max() < 1e-5
    step = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi / sensor.azimuth_steps) - 0.5
    assert np.abs(step - np.rint(step)).max() < 1e-3
    assert distance.max() < sensor.max_range + 1


def test_far_points_are_unlabelled_unless_asked_for(world: SyntheticWorld) -> None:
    everything = SyntheticWorld(seed=7, label_range=None)
    for source, most in ((world, 0.0), (everything, 1.0)):
        scan = source.scan(1, 0)
        assert scan.labels is not None
        far = np.linalg.norm(scan.points[:, :3], axis=1) > 50.5
        labelled = (scan.labels[far] & 0xFFFF) != raw_id("unlabeled")
        assert far.any() and labelled.mean() <= most and (most == 0 or labelled.mean() > 0.9)


def test_things_keep_their_instance_along_a_sequence(world: SyntheticWorld) -> None:
    first, later = world.scan(1, 0).labels, world.scan(1, 3).labels
    assert first is not None and later is not None
    car, wall = raw_id("car"), raw_id("building")
    assert (first[(first & 0xFFFF) == wall] >> 16 == 0).all()
    things = [set((labels[(labels & 0xFFFF) == car] >> 16).tolist()) for labels in (first, later)]
    assert 0 not in things[0] and len(things[0] & things[1]) >= 0.5 * len(things[0])


# ---- rays ----------------------------------------------------------------------------------------------------


def brute_force(builder: Builder, origin: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth of every ray against every solid primitive by another method: inside tests on a fine march, in float64."""
    parts = builder.finish().at(0.0, flat_ground(), around=float(origin[0]))
    best = np.full(len(rays), np.inf)
    for i in range(len(parts)):
        half = parts.half[i].astype(np.float64)
        cos, sin = np.cos(float(parts.yaw[i])), np.sin(float(parts.yaw[i]))
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        o = turn @ (origin - parts.center[i].astype(np.float64))
        d = rays @ turn.T

        def outside(t: NDArray[np.float64], o: NDArray[np.float64] = o, d: NDArray[np.float64] = d, i: int = i,
                    half: NDArray[np.float64] = half) -> NDArray[np.float64]:  # fmt: skip
            p = o + t[:, None] * d
            if parts.kind[i] == 0:
                lean = np.array([*parts.taper[i].astype(np.float64), 0.0]) * p[:, 2:3]
                return np.asarray((np.abs(p) + lean - half).max(axis=1))
            if parts.kind[i] == 1:
                return np.asarray(np.maximum(np.hypot(p[:, 0], p[:, 1]) - half[0], np.abs(p[:, 2]) - half[2]))
            return np.asarray(np.linalg.norm(p / half, axis=1) - 1)

        # each of these is convex along the ray: find its lowest point, then where it crosses zero before that
        low, high = np.zeros(len(rays)), np.full(len(rays), 100.0)
        for _ in range(64):
            a, b = low + (high - low) / 3, high - (high - low) / 3
            left = outside(a) < outside(b)
            low, high = np.where(left, low, a), np.where(left, b, high)
        deepest = (low + high) / 2
        hit = outside(deepest) < -1e-7
        low, high = np.zeros(len(rays)), deepest
        for _ in range(40):
            middle = (low + high) / 2
            inside = outside(middle) < 0
            low, high = np.where(inside, low, middle), np.where(inside, middle, high)
        best = np.minimum(best, np.where(hit, high, np.inf))
    return best


@pytest.mark.parametrize("pose", [level_pose(), tilted_pose()], ids=["level", "tilted"])
def test_depths_agree_with_brute_force(pose: NDArray[np.float64]) -> None:
    random = np.random.default_rng(5)
    builder = Builder()
    for i in range(36):
        angle, far = random.uniform(0, 2 * np.pi), random.uniform(4, 45)
        place = pose[:2, 3] + far * np.array([np.cos(angle), np.sin(angle)])
        builder.place("building", float(place[0]), float(place[1]), float(random.uniform(0, 6)))
        a, b, c = random.uniform(0.3, 3.5, 3).tolist()
        size = (a, b, c)
        up = float(random.uniform(-0.5, 3))
        if i % 3 == 0:
            lean = (
                float(random.uniform(0, 0.3)) * size[0] / size[2],
                float(random.uniform(0, 0.3)) * size[1] / size[2],
            )
            builder.box("wall", (0.2, 0, up), size, yaw=0.4, taper=lean if i % 2 else (0.0, 0.0))
        elif i % 3 == 1:
            builder.cylinder("mast", (0, 0.3, up), size[0] / 3, size[1])
        else:
            builder.ellipsoid("wall", (0, 0, up), size, yaw=-0.7)
    sensor = Sensor(beams=32, azimuth_steps=180)
    depth, which, rays = cast(builder, sensor, pose)
    expected = brute_force(builder, pose[:3, 3], rays)
    expected[expected > sensor.max_range] = np.inf
    agree = np.isfinite(depth) == np.isfinite(expected)
    assert agree.mean() > 0.9995  # a ray that only touches an edge may fall either way
    both = np.isfinite(depth) & np.isfinite(expected)
    assert both.sum() > 500
    assert np.quantile(np.abs(depth[both] - expected[both]), 0.999) < 2e-3
    assert ((which >= 0) == np.isfinite(depth)).all()


def test_nothing_is_seen_behind_a_wall() -> None:
    builder = Builder()
    builder.place("building", 10.0, 0.0)
    builder.box("wall", (0, 0, 0), (0.4, 300.0, 60.0))
    for i in range(30):
        builder.place("car", 12.0 + i, -15.0 + i, thing=True)
        builder.box("paint", (0, 0, 1), (4, 2, 2))
    depth, which, rays = cast(builder, Sensor(64, 360), level_pose())
    ahead = rays[:, 0] > 0.3
    assert (which[ahead] == 0).all()
    assert np.allclose(depth[ahead] * rays[ahead, 0], 9.8, atol=1e-3)


def test_what_stands_before_hides_the_primitives_behind() -> None:
    builder = Builder()
    builder.place("car", 20.0, 0.0, thing=True)
    builder.box("paint", (0, 0, 1), (4, 40, 6))
    depth, which, _ = cast(builder, Sensor(64, 360), level_pose(), depth=5.0)
    assert (which == -1).all() and (depth == 5).all()


def test_foliage_is_entered_not_touched() -> None:
    def ranges(density: float) -> NDArray[np.float32]:
        builder = Builder()
        builder.place("vegetation", 10.0, 0.0)
        builder.box("leaves", (0, 0, 1.5), (4.0, 8.0, 5.0), density=density)
        depth, which, rays = cast(builder, Sensor(64, 720), level_pose())
        return np.asarray((depth * rays[:, 0])[which == 0], np.float32)

    solid, porous = ranges(np.inf), ranges(2.0)
    assert np.ptp(solid) < 1e-2
    assert 0.8 * len(solid) < len(porous) < len(solid)
    assert porous.min() >= 8.0 - 1e-3 and porous.max() <= 12.0 + 1e-3
    assert 0.2 < porous.std() < 1.0


def test_level_ground_is_a_plane() -> None:
    sensor = Sensor(64, 360)
    directions = [np.ascontiguousarray(axis) for axis in sensor.directions.T]
    depth = cast_ground(flat_ground(), np.array([5.0, 1.0, 1.73]), directions, sensor)
    down = sensor.directions[:, 2]
    expected = np.where(down < 0, 1.73 / np.maximum(-down, 1e-9), np.inf)
    near = expected < 60
    assert np.allclose(depth[near], expected[near], rtol=1e-4)
    assert not np.isfinite(depth[down >= 0]).any()


def test_a_ridge_hides_the_ground_behind_it() -> None:
    ground = flat_ground()
    rows = (np.arange(ground.height.shape[0]) + 0.5) * CELL
    ground.height[(rows > 20) & (rows < 21)] = 1.0
    sensor = Sensor(64, 720)
    directions = [np.ascontiguousarray(axis) for axis in sensor.directions.T]
    depth = cast_ground(ground, np.array([5.0, 0.0, 1.73]), directions, sensor)
    ahead = (np.abs(sensor.directions[:, 1]) < 0.02) & (sensor.directions[:, 0] > 0) & np.isfinite(depth)
    x = 5.0 + depth[ahead] * sensor.directions[ahead, 0]
    shadow_ends = 5.0 + 1.73 * 16.0 / 0.73  # where the ray over the ridge comes down again
    assert not ((x > 21.5) & (x < shadow_ends - 1)).any()
    assert ((x > 19.5) & (x < 21.5)).any()


def test_measured_ranges_scatter_about_the_surface(world: SyntheticWorld) -> None:
    scan = world.scan(2, 0)
    assert scan.labels is not None
    street = world.street(2)
    pose = street.pose(0, world.sensor)
    points = scan.points[(scan.labels & 0xFFFF) == raw_id("road"), :3].astype(np.float64)
    points = points[np.linalg.norm(points, axis=1) < 12]
    placed = points @ pose[:3, :3].T + pose[:3, 3]
    above = placed[:, 2] - street.ground.height_at(placed[:, 0], placed[:, 1])
    assert len(above) > 5000
    assert abs(np.median(above)) < 0.01 and np.quantile(np.abs(above), 0.98) < 0.07


# ---- motion --------------------------------------------------------------------------------------------------


def test_the_vehicle_drives_along_its_street(world: SyntheticWorld) -> None:
    for sequence in range(4):
        poses = np.stack([world.pose(sequence, frame) for frame in range(0, 300, 5)])
        assert np.allclose(poses[0], np.eye(4), atol=1e-12)
        assert np.allclose(poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.eye(3), atol=1e-9)
        moved = np.diff(poses[:, :3, 3], axis=0)
        per_frame = np.linalg.norm(moved, axis=1) / 5
        assert (per_frame > 0.3).all() and (per_frame < 3.2).all()
        forward = np.einsum("ij,ij->i", moved, poses[:-1, :3, 0]) / np.linalg.norm(moved, axis=1)
        assert (forward > 0.98).all()


def test_what_is_static_stays_put_in_the_world() -> None:
    world = SyntheticWorld(seed=11, azimuth_steps=1000)
    sequence = next(i for i in range(20) if world.street(i).plan.kind == "urban")
    places: list[dict[int, NDArray[np.float64]]] = []
    for frame in (0, 8):
        scan = world.scan(sequence, frame)
        assert scan.labels is not None and scan.pose is not None
        xyz = scan.points[:, :3].astype(np.float64) @ scan.pose[:3, :3].T + scan.pose[:3, 3]
        parked = (scan.labels & 0xFFFF) == raw_id("car")
        instances, counts = np.unique(scan.labels[parked], return_counts=True)
        places.append({int(i): xyz[scan.labels == i] for i, n in zip(instances, counts, strict=True) if n > 60})
    common = set(places[0]) & set(places[1])
    assert common
    for instance in common:  # the boxes about both views of a parked car overlap
        a, b = places[0][instance], places[1][instance]
        assert (a.min(axis=0) < b.max(axis=0) + 0.1).all() and (b.min(axis=0) < a.max(axis=0) + 0.1).all()
        assert np.ptp(np.concatenate([a, b]), axis=0).max() < 12  # no longer than the longest of them


def test_what_moves_moves_at_its_speed() -> None:
    builder = Builder()
    builder.place("moving-car", 10.0, -2.0, speed=8.0, thing=True)
    builder.box("paint", (0, 0, 1), (4, 2, 1))
    objects = builder.finish()
    places = [objects.at(time, flat_ground(), around=0.0).center[0] for time in (0.0, 0.5)]
    assert np.allclose(places[1] - places[0], [4.0, 0.0, 0.0], atol=1e-4)


def test_nothing_drives_into_the_recording_vehicle() -> None:
    for seed in range(3):
        world = SyntheticWorld(seed=seed, beams=16, azimuth_steps=64)
        for sequence in range(5):
            street = world.street(sequence)
            for frame in range(0, 200, 20):
                pose = street.pose(frame, world.sensor)
                parts = street.objects.at(frame * 0.1, street.ground, around=float(pose[0, 3]))
                local = (parts.center - pose[:3, 3]) @ pose[:3, :3]
                low = np.abs(local[:, 2]) < 1.6  # what hangs over the road does no harm
                inside = low & (np.abs(local[:, 0]) < 2.0) & (np.abs(local[:, 1]) < 0.8)
                assert not inside.any(), (seed, sequence, frame)


# ---- files ---------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> NDArray[np.float64]:
    return np.loadtxt(path, ndmin=2)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], list[tuple[int, int]]]:
    root = tmp_path_factory.mktemp("synthetic")
    seen: list[tuple[int, int]] = []
    paths = write_sequences(root, 13, 4, 32, 128, progress=lambda done, total: seen.append((done, total)), frame_step=2)
    return root, paths, seen


def test_files_hold_the_scans_bit_for_bit(written: tuple[Path, list[Path], list[tuple[int, int]]]) -> None:
    _, paths, _ = written
    world = SyntheticWorld(seed=4, beams=32, azimuth_steps=128)
    assert len(paths) == 13
    for path in paths:
        scan = world.scan(int(path.parts[-3]), int(path.stem) * 2)
        labels = read_labels(path.parent.parent / "labels" / f"{path.stem}.label", len(scan.points))
        assert np.array_equal(read_points(path), scan.points)
        assert same(labels, scan.labels)


def test_poses_times_and_calibration_fit_the_scans(written: tuple[Path, list[Path], list[tuple[int, int]]]) -> None:
    root, _, _ = written
    world = SyntheticWorld(seed=4, beams=32, azimuth_steps=128)
    for folder in sorted((root / "sequences").iterdir()):
        lines = dict(line.split(":") for line in (folder / "calib.txt").read_text().splitlines())
        tr = np.eye(4)
        tr[:3] = np.array(lines["Tr"].split(), float).reshape(3, 4)
        poses, times = read_rows(folder / "poses.txt"), read_rows(folder / "times.txt")
        frames = sorted((folder / "velodyne").glob("*.bin"))
        assert len(poses) == len(times) == len(frames)
        for i, row in enumerate(poses):
            camera = np.eye(4)
            camera[:3] = row.reshape(3, 4)
            expected = world.scan(int(folder.name), 2 * i).pose
            assert expected is not None
            assert np.allclose(np.linalg.inv(tr) @ camera @ tr, expected, atol=1e-9)
        assert np.allclose(times[:, 0], 0.2 * np.arange(len(times)))


def test_both_sides_of_the_split_have_scans() -> None:
    assert sequence_lengths(1) == {0: 1}
    assert set(sequence_lengths(2)) == {0, 8}
    lengths = sequence_lengths(200)
    assert set(lengths) == set(range(11)) and sum(lengths.values()) == 200 and set(lengths.values()) == {18, 19}


def test_progress_ends_with_all(written: tuple[Path, list[Path], list[tuple[int, int]]]) -> None:
    _, _, seen = written
    assert seen[-1] == (13, 13) and sorted(seen) == seen


def test_files_do_not_depend_on_the_number_of_processes(
    written: tuple[Path, list[Path], list[tuple[int, int]]], tmp_path: Path
) -> None:
    root, paths, _ = written
    write_sequences(tmp_path, 13, 4, 32, 128, frame_step=2, processes=2)
    names = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    assert names == [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert len(names) == 2 * len(paths) + 3 * 11  # and nothing temporary is left behind
    for name in names:
        assert (root / name).read_bytes() == (tmp_path / name).read_bytes()


def test_writing_again_replaces_but_does_not_mix(tmp_path: Path) -> None:
    first = write_sequences(tmp_path, 4, 0, 16, 64)
    content = first[0].read_bytes()
    assert write_sequences(tmp_path, 4, 0, 16, 64) == first and first[0].read_bytes() == content
    with pytest.raises(OutputError, match="other scans"):
        write_sequences(tmp_path, 2, 0, 16, 64)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="taken"):
        write_sequences(tmp_path / "taken", 1, 0, 16, 64)


# ---- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("synthetic.beams", {"beams": 48}),
        ("synthetic.azimuth_steps", {"azimuth_steps": 10}),
        ("synthetic.scans", {"scans": 0}),
        ("synthetic.scans_per_street", {"scans_per_street": 0}),
        ("synthetic.frame_step", {"frame_step": 0}),
        ("synthetic.seed", {"seed": -1}),
    ],
)
def test_settings_out_of_bounds_are_refused(key: str, settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError) as caught:
        SyntheticScans(**{"scans": 1, **settings})
    assert caught.value.where == key and caught.value.what and caught.value.remedy


def test_nothing_is_written_when_settings_are_refused(tmp_path: Path) -> None:
    for scans, beams in ((0, 64), (1, 7)):
        with pytest.raises(ConfigError):
            write_sequences(tmp_path, scans, 0, beams, 64)
    assert list(tmp_path.iterdir()) == []
