"""Records: what is read back is what was kept, to half a millimetre; what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.data.records import DoesNotFit, Narrow, RecordFormat, Wide, format_of

FORMATS = [Narrow(), Wide()]


def random_points(count: int = 5000, seed: int = 0) -> NDArray[np.float32]:
    """(N, 4) over all that a narrow record holds, remission in its 128 levels."""
    random = np.random.default_rng(seed)
    low, high = [-131.071, -131.071, -32.767], [131.070, 131.070, 32.766]
    xyz = random.uniform(low, high, (count, 3))
    return np.column_stack([xyz, random.integers(0, 128, count).astype(np.float32) / np.float32(100)]).astype(
        np.float32
    )


@pytest.mark.parametrize("form", FORMATS, ids=["narrow", "wide"])
def test_points_come_back(form: RecordFormat) -> None:
    points = random_points()
    train_ids = np.random.default_rng(1).integers(0, 32, len(points)).astype(np.uint8)
    decoded = form.decode(torch.from_numpy(form.encode(points, train_ids)))
    assert (
        np.abs(decoded.points[:, :3].numpy().astype(np.float64) - points[:, :3]).max() <= 0.0005 + 1e-5
    )  # float32 at 131 m
    assert np.array_equal(decoded.points[:, 3].numpy(), points[:, 3])
    assert np.array_equal(decoded.labels.numpy(), train_ids)


@pytest.mark.parametrize("form", FORMATS, ids=["narrow", "wide"])
def test_millimetres_are_those_of_exact_arithmetic(form: RecordFormat) -> None:
    points = random_points(300)
    records = torch.from_numpy(form.encode(points, np.zeros(300, np.uint8)))
    expected = [[round(float(value) * 1000) for value in point[:3]] for point in points]
    assert form.millimetres(records).T.tolist() == expected


def test_narrow_record_is_the_documented_one() -> None:
    """The bits of the module's table, put together by hand."""
    points = np.array([[1.234, -80.44, -2.5, 0.37]], np.float32)
    expected = 1234 << 46 | (-80440 % (1 << 18)) << 28 | (-2500 % (1 << 16)) << 12 | 37 << 5 | 19
    record = Narrow().encode(points, np.array([19], np.uint8))
    assert int(record.view(np.uint64)[0]) == expected
    assert record.nbytes == 8


def test_all_hundred_levels_of_remission_come_back_exactly() -> None:
    remission = np.array([float(f"0.{level:02d}") for level in range(100)] + [1.0], np.float32)
    points = np.column_stack([np.zeros((101, 3), np.float32), remission])
    decoded = Narrow().decode(torch.from_numpy(Narrow().encode(points, np.zeros(101, np.uint8))))
    assert np.array_equal(decoded.points[:, 3].numpy(), remission)


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ((131.072, 0, 0, 0), "x from"),
        ((0, -131.0726, 0, 0), "y from"),
        ((0, 0, 32.768, 0), "z from"),
        ((0, 0, 0, 1.28), "remission from"),
        ((0, 0, 0, -0.01), "remission from"),
        ((0, 0, 0, 0.005), "steps of 1/100"),
    ],
)
def test_what_a_narrow_record_cannot_hold_is_refused(point: tuple[float, ...], says: str) -> None:
    points = np.array([(0, 0, 0, 0), point], np.float32)
    with pytest.raises(DoesNotFit, match=says):
        Narrow().encode(points, np.zeros(2, np.uint8))
    Wide().encode(points, np.zeros(2, np.uint8))  # the wide one can


def test_thirty_two_classes_need_the_wide_record() -> None:
    points = np.zeros((1, 4), np.float32)
    with pytest.raises(DoesNotFit, match="32 is more than 31"):
        Narrow().encode(points, np.array([32], np.uint8))
    assert Wide().decode(torch.from_numpy(Wide().encode(points, np.array([254], np.uint8)))).labels.tolist() == [254]


def test_wide_record_refuses_what_it_would_clip() -> None:
    with pytest.raises(DoesNotFit, match="too large"):
        Wide().encode(np.array([[3e6, 0, 0, 0]], np.float32), np.zeros(1, np.uint8))


def test_wide_record_keeps_any_remission_and_extra_columns_exactly() -> None:
    random = np.random.default_rng(2)
    points = np.column_stack([np.zeros((50, 3)), random.normal(size=50)]).astype(np.float32)
    extra = random.normal(size=(50, 2)).astype(np.float32)
    form = Wide(("ring", "time"))
    records = torch.from_numpy(form.encode(points, np.zeros(50, np.uint8), extra))
    assert records.shape == (50, 7)
    assert np.array_equal(form.decode(records).points[:, 3].numpy(), points[:, 3])
    assert np.array_equal(form.extra_values(records, form.extra).numpy(), extra)
    assert np.array_equal(form.extra_values(records, form.extra[1:]).numpy(), extra[:, 1:])


def test_batches_decode_as_their_clouds() -> None:
    records = torch.from_numpy(Narrow().encode(random_points(600), np.full(600, 7, np.uint8)))
    whole, batch = Narrow().decode(records), Narrow().decode(records.view(3, 200))
    assert torch.equal(whole.points.reshape(3, 200, 4), batch.points)
    assert torch.equal(whole.labels.view(3, 200), batch.labels)


@pytest.mark.parametrize(("name", "extra"), [("tiny", ()), ("narrow", ("ring",))])
def test_unknown_format_is_refused(name: str, extra: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"narrow|wide"):
        format_of(name, extra)
