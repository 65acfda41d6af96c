"""Secrets never reach a log, a parameter, a configuration file or an artifact.

A secret is recognised by its name (`api_key`, `tracking.token`, `AccountKey=...;`, `--password x`), by its form (the user
part of a URL, a SAS signature, a bearer token, a private key) or because it was named to `install_log_redaction`.
Where a name is ambiguous the value is masked: a masked number is a nuisance, a printed password is an incident.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

__all__ = ["MASK", "install_log_redaction", "is_secret_name", "redact", "redact_text"]

MASK = "***"

_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_SECRET_WORDS = frozenset({"password", "passwords", "passphrase", "passwd", "secret", "secrets", "credential",
                           "credentials", "authorization"})  # fmt: skip
# `key` and `token` are also words of machine learning and of Python: what follows or precedes them decides.
_INNOCENT_NEXT = frozenset({
    "bias", "count", "counts", "dim", "dims", "embedding", "error", "errors", "frame", "frames", "head", "heads",
    "len", "length", "mask", "mixer", "mixing", "name", "names", "norm", "padding", "point", "points", "proj",
    "projection", "size", "type", "vault",
})  # fmt: skip
_BEFORE_PLURAL = frozenset({"access", "account", "api", "auth", "bearer", "private", "refresh", "sas", "storage"})
_FUSED = re.compile(
    r"(?:api|account|access|auth|client|private|primary|secondary|secret|sas|session|shared|ssh|storage|subscription|"
    r"bearer|refresh|instrumentation|id)(?:key|token)s?$|passw(?:or)?d|secret$"
)
_QUERY_NAMES = frozenset({"sig", "signature", "code", "x-amz-signature", "x-amz-credential", "x-goog-signature",
                          "x-goog-credential"})  # fmt: skip


def is_secret_name(name: str) -> bool:
    """Whether a key, option or variable of this name holds a secret.

    Example:
        >>> [is_secret_name(name) for name in ("sas_token", "AccountKey", "keyframes", "keys_per_batch")]
        [True, True, False, False]
    """
    parts = [part.lower() for part in _PARTS.findall(name)]
    for i, part in enumerate(parts):
        following = parts[i + 1] if i + 1 < len(parts) else ""
        if part in _SECRET_WORDS or _FUSED.search(part):
            return True
        if part in ("key", "token") and following not in _INNOCENT_NEXT:
            return True
        if part in ("keys", "tokens") and i > 0 and parts[i - 1] in _BEFORE_PLURAL:
            return True
    return False


def redact(value: Any) -> Any:
    """A copy of nested mappings, lists and strings without secrets; None, empty values and switches stay.

    Objects of other types are returned as they are. Nothing is raised.

    Example:
        >>> redact({"api_key": "abc", "url": "https://me:pw@host/x", "epochs": 3})
        {'api_key': '***', 'url': 'https://***@host/x', 'epochs': 3}
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {
            key: _mask(item) if isinstance(key, str) and is_secret_name(key) else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        items, mask_next = [], False
        for item in value:  # an argument list: the value may be the item after "--token"
            items.append(_mask(item) if mask_next else redact(item))
            is_option = isinstance(item, str) and item.startswith("--") and "=" not in item
            mask_next = is_option and is_secret_name(item)
        if isinstance(value, tuple):
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return items
    return value


def _mask(value: Any) -> Any:
    """Everything below a secret name."""
    if value is None or isinstance(value, bool) or value in ("", {}, [], ()):
        return value
    if isinstance(value, Mapping):
        return {key: _mask(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask(item) for item in value]
    return MASK


_HINT = re.compile(
    r"key|token|secret|pass|pwd|credential|authorization|bearer|://|[?&](?:sig|code|x-|signature)|eyJ", re.IGNORECASE
)
_AUTHORITY = re.compile(r"\b([a-z][a-z0-9+.\-]*)://([^/\s?#\"'<>]*)@", re.IGNORECASE)
_AUTHORITY_ODD = re.compile(r"\b([a-z][a-z0-9+.\-]*://)[^\s:/?#@\"']*:(?!\d+(?:[/?#]|$))[^\s@\"']*@", re.IGNORECASE)
_QUERY = re.compile(r"([?&])([\w.\-]+)=([^&\s\"'#<>]+)")
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_BEARER = re.compile(r"\b(bearer|sharedaccesssignature)\s+[\w.~+/=\-]{6,}", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[\w\-]{8,}\.[\w\-]{8,}\.[\w\-]*")
_HEADER = re.compile(r"\b(authorization[\"']?\s*[:=]\s*)(?:\"[^\"\n]*\"|'[^'\n]*'|[^\n\"',}]+)", re.IGNORECASE)

_PWD = re.compile(r"(;\s*pwd=)[^;\s\"']+", re.IGNORECASE)  # in a connection string; elsewhere it is a folder

_NAME = r"[\w.\-/@]{1,120}"
_QUOTED = r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\[[^\]]*\]|\{[^}]*\}"
# A bare value ends at a space, and at the `;` or `&` before the next part of a connection string or a query.
_BARE = r"(?:[^\s;&\"']|;(?![\w ]*=|\s|$)|&(?!\w+=)|[\"'](?=\w))+"
# '+api.password=x y': the quotes stand around the whole override.
_QUOTED_PAIR = re.compile(
    rf"(?P<quote>[\"'])(?P<name>[+~\-]{{0,2}}{_NAME})=(?!=)(?P<value>(?:(?!(?P=quote)).)+)(?P=quote)"
)
# {"token": "x"} and {'token': 'x'}, also with a number or a bare word behind it.
_JSON_PAIR = re.compile(rf"(?P<name>([\"']){_NAME}\2)(?P<separator>\s*[:=]\s*)(?P<value>{_QUOTED}|[^\s,}}\]\"']+)")
# token: my long pass phrase, alone on its line (YAML, a header).
_YAML_PAIR = re.compile(rf"^(?P<name>[ \t]*(?:- )?{_NAME})(?P<separator>:[ \t]+)(?P<value>\S[^\n]*)$", re.MULTILINE)
_PAIR = re.compile(rf"(?<![\w.\-/@])(?P<name>{_NAME})(?P<separator>[ ]?=[ ]?(?!=))(?P<value>{_QUOTED}|{_BARE})")
_COLON_PAIR = re.compile(
    rf"(?<![\w.\-/@])(?P<name>{_NAME})(?P<separator>:[ ]?(?!//))(?P<value>{_QUOTED}|[^\s,;}}\]\"']+)"
)
_OPTION = re.compile(rf"(?P<name>(?<!\S)--[\w\-.]+)(?P<separator>[ ]+)(?P<value>{_QUOTED}|[^\s\-]\S*)")

_REFERENCE = re.compile(r"\$\{[^,}]*\},?$")  # ${oc.env:TOKEN}, but not with a default behind a comma

_known: set[str] = set()


def redact_text(text: str) -> str:
    """A log message, a command line or any other text without secrets. Nothing is raised.

    Example:
        >>> redact_text("train tracking.token=abc +api.password='x y' data=https://host/a?sig=1%2F2&v=3")
        'train tracking.token=*** +api.password=*** data=https://host/a?sig=***&v=3'
    """
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    if not _HINT.search(text):
        return text
    text = _PEM.sub(MASK, text)
    text = _AUTHORITY.sub(_mask_authority, text)
    text = _AUTHORITY_ODD.sub(rf"\1{MASK}@", text)
    text = _QUERY.sub(_mask_query, text)
    text = _HEADER.sub(rf"\g<1>{MASK}", text)
    text = _BEARER.sub(rf"\g<1> {MASK}", text)
    text = _JWT.sub(MASK, text)
    text = _PWD.sub(rf"\g<1>{MASK}", text)
    text = _QUOTED_PAIR.sub(_mask_quoted_pair, text)
    for pattern in (_JSON_PAIR, _YAML_PAIR, _PAIR, _COLON_PAIR, _OPTION):
        text = pattern.sub(_mask_pair, text)
    return text


def _mask_authority(match: re.Match[str]) -> str:
    scheme, user = match[1], match[2]
    if scheme.lower() in ("abfs", "abfss", "wasb", "wasbs") and ":" not in user:
        return match[0]  # container@account names a place in Azure storage, not a person
    return f"{scheme}://{MASK}@"


def _mask_query(match: re.Match[str]) -> str:
    if match[2].lower() in _QUERY_NAMES or is_secret_name(match[2]):
        return f"{match[1]}{match[2]}={MASK}"
    return match[0]


def _mask_quoted_pair(match: re.Match[str]) -> str:
    if _is_secret_pair(match["name"], match["value"]):
        return f"{match['quote']}{match['name']}={MASK}{match['quote']}"
    return match[0]


def _mask_pair(match: re.Match[str]) -> str:
    name, separator = match["name"], match["separator"]
    if ":" in separator and name.strip(" \t-\"'").lower() == "key" and name[0] not in "\"'":
        return match[0]  # "unknown key: model.depth" is how configuration errors speak
    value = match["value"]
    if not _is_secret_pair(name, value):
        if len(value) > 2 and value[0] in "\"'[{":  # name='x token=y': a pair within the value
            return f"{name}{separator}{value[0]}{redact_text(value[1:-1])}{value[-1]}"
        return match[0]
    quotes = value[0] if ":" in separator and value[0] in "\"'" and value[-1] == value[0] else ""
    return f"{name}{separator}{quotes}{MASK}{quotes}"


def _is_secret_pair(name: str, value: str) -> bool:
    bare = value.strip("\"'")
    if (
        bare.lower().rstrip(",") in ("", "null", "none", "true", "false")
        or bare.startswith(MASK)
        or _REFERENCE.match(bare)
    ):
        return False  # nothing to hide: empty, a switch, a reference, or masked already
    return is_secret_name(name)


class _RedactingFactory:
    """Makes log records whose message, exception and stack hold no secret."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.inner(*args, **kwargs)
        try:
            message = record.getMessage()
        except Exception:  # the format does not fit: logging says so when it prints the record
            record.msg, record.args = redact_text(str(record.msg)), _redact_args(record.args)
        else:
            clean = redact_text(message)
            if clean != message:
                record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[0] is not None:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            clean = redact_text(text)
            if clean != text:  # without exc_info no handler can format the exception a second time
                record.exc_text, record.exc_info = clean, None
        if record.stack_info:
            record.stack_info = redact_text(record.stack_info)
        return record


def _redact_args(args: Any) -> Any:
    return redact(args) if isinstance(args, (tuple, Mapping)) else args


def install_log_redaction(secrets: Iterable[str] = ()) -> None:
    """From now on no logging handler of this process prints a secret; also masks the given values wherever they stand.

    The values of environment variables with a secret's name (`MLFLOW_TRACKING_TOKEN`, `AZURE_CLIENT_SECRET`) count as
    known. Values under 4 characters (8 from the environment) are not masked: they occur in ordinary words. Calling it
    again adds secrets and installs nothing twice. Fields passed as `extra=` are outside its reach. Nothing is raised.

    Example:
        >>> install_log_redaction(["hunter2-hunter2"])
        >>> redact_text("it was hunter2-hunter2")
        'it was ***'
    """
    values = {value for value in secrets if value and len(value) >= 4}
    values |= {value for name, value in os.environ.items() if len(value) >= 8 and is_secret_name(name)}
    _known.update(values | {quote(value, safe="") for value in values})
    current = logging.getLogRecordFactory()
    if not isinstance(current, _RedactingFactory):
        logging.setLogRecordFactory(_RedactingFactory(current))
