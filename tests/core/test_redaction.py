"""Secrets are masked wherever they hide, and innocent settings stay readable."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from pointseg.core import redaction as module
from pointseg.core.redaction import MASK, install_log_redaction, is_secret_name, redact, redact_text


@pytest.mark.parametrize(
    "name",
    ["api_key", "sas_token", "AccountKey", "client_secret", "password", "apikey", "dbPassword", "AZURE_CLIENT_SECRET",
     "tracking.token", "key", "api-key", "account_key_1", "APIKey", "storage_keys", "accessToken", "Authorization"],
)  # fmt: skip
def test_secret_names_are_found(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["keyframes", "monkey", "keys_per_batch", "key_dim", "keypoints", "num_key_points", "max_tokens", "tokenizer",
     "token_mixer", "secretary", "turkey", "epochs", "KeyError", "key_vault_name", "passes", "compass", "keys"],
)  # fmt: skip
def test_innocent_names_are_left(name: str) -> None:
    assert not is_secret_name(name)


def test_nested_values_are_masked_and_the_rest_kept() -> None:
    value = {"tracking": {"token": "abc", "uri": "x"}, "lr": 0.1, "runs": [{"password": 123}], "pair": (1, "a")}
    assert redact(value) == {
        "tracking": {"token": MASK, "uri": "x"}, "lr": 0.1, "runs": [{"password": MASK}], "pair": (1, "a")
    }  # fmt: skip


def test_none_empty_and_switches_stay() -> None:
    value: dict[str, object] = {"token": None, "password": "", "use_token": True, "secret": []}
    assert redact(value) == value


def test_everything_below_a_secret_name_is_masked() -> None:
    assert redact({"secrets": {"a": "x", "b": ["y", 2]}}) == {"secrets": {"a": MASK, "b": [MASK, MASK]}}


def test_the_original_is_not_changed() -> None:
    value = {"api_key": "abc", "list": ["https://u:p@host"]}
    redact(value)
    assert value == {"api_key": "abc", "list": ["https://u:p@host"]}


def test_the_value_after_an_option_in_an_argument_list_is_masked() -> None:
    assert redact(["run", "--api-token", "abc", "--epochs", "3"]) == ["run", "--api-token", MASK, "--epochs", "3"]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:pass@host/x", "https://***@host/x"),
        ("at ssh://token@host:22 now", "at ssh://***@host:22 now"),
        ("https://user:p/a#s?s@host", "https://***@host"),
        ("postgresql://u:p@ss@h/db", "postgresql://***@h/db"),
        ("https://a.blob/c?sv=1&sig=a%2Bb%3D&se=2", "https://a.blob/c?sv=1&sig=***&se=2"),
        ("http://h/x?token=abc", "http://h/x?token=***"),
        ("http://h/x?a=1&access_token=abc#top", "http://h/x?a=1&access_token=***#top"),
        ("http://h/x?key=abc", "http://h/x?key=***"),
        ("AccountName=a;AccountKey=abc==;EndpointSuffix=s", "AccountName=a;AccountKey=***;EndpointSuffix=s"),
        ("Server=x;Pwd=abc;Uid=2", "Server=x;Pwd=***;Uid=2"),
        ("train tracking.token=abc lr=1", "train tracking.token=*** lr=1"),
        ("train +api.password='x y' lr=1", "train +api.password=*** lr=1"),
        ("train '+api.password=x y' lr=1", "train '+api.password=***' lr=1"),
        ("a.password=a;b c", "a.password=*** c"),
        ("tracking.tokem='x api_token=abc' lr=1", "tracking.tokem='x api_token=***' lr=1"),
        ("a=[b,'my_token=c']", "a=[b,'my_token=***']"),
        ("run --api-key abc --fast", "run --api-key *** --fast"),
        ('{"token": "a,b", "n": 1}', '{"token": "***", "n": 1}'),
        ('{"secrets": {"a": "b"}, "n": 1}', '{"secrets": ***, "n": 1}'),
        ("password: my long phrase\nepochs: 3", "password: ***\nepochs: 3"),
        ("api={token:abc,user:me}", "api={token:***,user:me}"),
        ("Authorization: Basic YWJjOmRlZg==", "Authorization: ***"),
        ("sent Bearer abcdefgh.ijk", "sent Bearer ***"),
        ("it was eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abc", "it was ***"),
    ],
)
def test_secrets_in_text_are_masked(text: str, clean: str) -> None:
    assert redact_text(text) == clean


def test_a_private_key_is_masked_whole() -> None:
    text = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb"
    assert redact_text(text) == "a\n***\nb"


@pytest.mark.parametrize(
    "text",
    ["lr=1 key_dim=64 keyframes=3 max_tokens=5", "unknown key: model.depth", "KeyError: 'model'", "models:/net@champion",
     "http://localhost:5000/#/runs?mail=a@b", "abfss://data@account.dfs.core.windows.net/x", "PWD=/home/me",
     "token=${oc.env:TOKEN}", "sqlite:///mlruns.db", "use_token=true", "password=null", "epoch 3: loss=0.5"],
)  # fmt: skip
def test_innocent_text_is_left(text: str) -> None:
    assert redact_text(text) == text


def test_masking_twice_changes_nothing() -> None:
    text = redact_text("a.token=abc https://u:p@h/?sig=1 --password x\npassword: 'q'")
    assert redact_text(text) == text


def test_a_megabyte_of_text_takes_less_than_five_seconds() -> None:
    import time

    text = "key " + "a.b-c/d=e&f;g:h " * 60_000
    start = time.perf_counter()
    redact_text(text)
    assert time.perf_counter() - start < 5


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(module, "_known", set())
    install_log_redaction(["hunter2-known"])
    stream = io.StringIO()
    logger, handler = logging.getLogger("test_redact"), logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logger, stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(factory)


def test_a_secret_in_a_log_message_is_masked(log: tuple[logging.Logger, io.StringIO]) -> None:
    log[0].info("connecting to https://me:pw@host")
    assert log[1].getvalue() == "INFO connecting to https://***@host\n"


def test_a_secret_in_log_arguments_is_masked(log: tuple[logging.Logger, io.StringIO]) -> None:
    log[0].info("token=%s for %d runs", "abc", 3)
    assert log[1].getvalue() == "INFO token=*** for 3 runs\n"


def test_a_known_value_is_masked_in_logs(log: tuple[logging.Logger, io.StringIO]) -> None:
    log[0].info("I typed %s", "hunter2-known")
    assert log[1].getvalue() == "INFO I typed ***\n"


def test_a_secret_in_an_exception_is_masked(log: tuple[logging.Logger, io.StringIO]) -> None:
    try:
        raise ValueError("bad password=abcdef")
    except ValueError:
        log[0].exception("failed")
    assert "abcdef" not in log[1].getvalue()


def test_an_exception_without_a_secret_keeps_its_trace(log: tuple[logging.Logger, io.StringIO]) -> None:
    try:
        raise ValueError("bad depth")
    except ValueError:
        log[0].exception("failed")
    assert "ValueError: bad depth" in log[1].getvalue()


def test_arguments_that_do_not_fit_are_masked_too(log: tuple[logging.Logger, io.StringIO]) -> None:
    record = logging.getLogRecordFactory()("x", logging.INFO, "f", 1, "%d", ("hunter2-known",), None)
    assert "hunter2" not in str(record.args)


def test_structured_arguments_survive_where_nothing_is_secret(log: tuple[logging.Logger, io.StringIO]) -> None:
    record = logging.getLogRecordFactory()("x", logging.INFO, "f", 1, "%d of %d", (1, 2), None)
    assert record.args == (1, 2)


def test_secrets_of_the_environment_are_known(
    log: tuple[logging.Logger, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "from-environment")
    install_log_redaction()
    log[0].info("from-environment")
    assert log[1].getvalue() == "INFO ***\n"


def test_installing_twice_wraps_once(log: tuple[logging.Logger, io.StringIO]) -> None:
    before = logging.getLogRecordFactory()
    install_log_redaction()
    assert logging.getLogRecordFactory() is before
