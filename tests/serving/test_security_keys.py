"""The key of a service that is deployed: a caller's variable may name it too, unless the two differ."""

from __future__ import annotations

import pytest

from pointseg.core.errors import ConfigError
from pointseg.serving.settings import KEY_VARIABLES, read_key

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize(
    ("given", "expected"),
    [((None, None), None), ((KEY, None), KEY), ((None, KEY), KEY), ((KEY, KEY), KEY)],
    ids=["neither", "the service's", "the caller's", "both alike"],
)
def test_either_variable_names_the_key(
    given: tuple[str | None, str | None], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in zip(KEY_VARIABLES, given, strict=True):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert read_key(None, "local.key_file") == expected


def test_two_keys_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in zip(KEY_VARIABLES, (KEY, OTHER), strict=True):
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match="are given, and differ"):
        read_key(None, "local.key_file")
