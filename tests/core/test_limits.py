"""Limits of settings: the error names the key, the value and what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pointseg.core.errors import ConfigError
from pointseg.core.limits import require_at_least, require_between, require_choice, require_positive

NAN = float("nan")


@pytest.mark.parametrize(
    "accepted",
    [
        lambda: require_choice("b", ("a", "b"), "key"),
        lambda: require_between(0, 0, 1, "key"),
        lambda: require_between(1, 0, 1, "key"),
        lambda: require_positive(1e-9, "key"),
        lambda: require_at_least(2, 2, "key"),
    ],
)
def test_a_value_within_the_limits_passes(accepted: Callable[[], None]) -> None:
    accepted()


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: require_choice("c", ("a", "b"), "key"), "there is no 'c': key. Use a, b."),
        (lambda: require_choice("c", ("a", "b"), "key", "method"), "there is no method 'c': key. Use a, b."),
        (lambda: require_between(1.5, 0, 1, "key"), "1.5 is not between 0 and 1: key. 0 switches it off."),
        (lambda: require_between(NAN, 0, 1, "key", "Use 1."), "nan is not between 0 and 1: key. Use 1."),
        (lambda: require_positive(0, "key"), "0 is not positive: key."),
        (lambda: require_positive(NAN, "key"), "nan is not positive: key."),
        (lambda: require_at_least(1, 2, "key"), "1 is less than 2: key. Use 2 or more."),
    ],
)
def test_a_value_outside_the_limits_is_refused(refused: Callable[[], None], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refused()
    assert str(caught.value) == message
