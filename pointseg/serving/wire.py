"""The scoring contract: what a request's bytes mean, and the bytes of its answer. The same for every server of ours.

Asked, `POST /score`: `application/json`, {"data": [[x, y, z], ...]} or rows of four, with remission, or
`application/octet-stream`, little-endian float32 rows of four (a SemanticKITTI `.bin`) or of three (`?columns=3`);
`Content-Encoding` gzip or zstd. Query: `probabilities=true`.
Answered: JSON, or by `Accept: application/octet-stream` uint32 labels, then float32 rows (N, K) of probabilities.

Needs NumPy and orjson, and zstandard for zstd; no web framework. Legend: N points, K classes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.serving.refusal import Refusal

__all__ = [
    "JSON",
    "LARGEST",
    "OCTETS",
    "CloudLabels",
    "Limits",
    "Options",
    "class_table",
    "decode",
    "encode",
    "expand",
    "media_type",
    "read_columns",
    "read_flag",
    "read_options",
    "refuse_large_answer",
    "wants_octets",
]

JSON, OCTETS = "application/json", "application/octet-stream"
FLAGS = {"true": True, "1": True, "false": False, "0": False}
WIDTHS = (3, 4)
LARGEST = float(np.finfo(np.float32).max)
TEXT_OF_CHANCE = 16  # bytes of a probability in JSON, about


@dataclass(frozen=True)
class Limits:
    """What one request may bring.

    Attributes:
        body: bytes as sent.
        expanded: bytes of octets or of a file when expanded.
        text: bytes of JSON, which takes up to twenty times its size in memory to read.
        points: of a cloud.
        answer: bytes of the answer.
    """

    body: int = 64 << 20
    expanded: int = 128 << 20
    text: int = 16 << 20
    points: int = 4_000_000
    answer: int = 128 << 20


@dataclass(frozen=True)
class Options:
    """What a caller asks for: probabilities beside labels, octets instead of JSON; and the columns of octets sent."""

    probabilities: bool = False
    octets: bool = False
    columns: int = 4


@dataclass(frozen=True)
class CloudLabels:
    """Labels of one cloud.

    Attributes:
        raw_ids: (N,) uint32.
        probabilities: (N, K) float32, or None.
        notes: what is unusual about the cloud, sentences.
        label_map: of the model.
        model: name, version and such, plain values.
        seconds: by stage, in order: "wait" for the model, "predict".
    """

    raw_ids: NDArray[np.uint32]
    probabilities: NDArray[np.float32] | None
    notes: tuple[str, ...]
    label_map: LabelMap
    model: Mapping[str, str]
    seconds: Mapping[str, float] = field(default_factory=dict)


# ---- requests --------------------------------------------------------------------------------------------------------


def read_options(query: Mapping[str, str], accept: str | None) -> Options:
    """What the query and the Accept header ask for.

    Raises:
        Refusal: 422 for a key or value that is not known, 406 for another form of answer.

    Example:
        >>> read_options({"probabilities": "true"}, "application/octet-stream")
        Options(probabilities=True, octets=True, columns=4)
    """
    unknown = sorted(set(query) - {"probabilities", "columns"})
    if unknown:
        raise Refusal(422, f"there is no option {unknown[0]!r}", where="query", remedy="Use probabilities and columns.")
    probabilities = read_flag(query.get("probabilities", "false"), "probabilities")
    columns = read_columns(query.get("columns", "4"))
    return Options(probabilities, wants_octets(accept), columns)


def read_flag(value: str, name: str) -> bool:
    """true or false of a query. Raises Refusal 422."""
    if value.lower() not in FLAGS:
        text = f"{value.lower()[:40]!r} is neither true nor false"
        raise Refusal(422, text, where=f"query, {name}", remedy="Use true or false.")
    return FLAGS[value.lower()]


def read_columns(value: str) -> int:
    """How many columns rows of octets have. Raises Refusal 422."""
    if value not in ("3", "4"):
        raise Refusal(422, f"rows have 3 or 4 columns, not {value!r}", where="query, columns", remedy="Use 3 or 4.")
    return int(value)


def wants_octets(accept: str | None) -> bool:
    """Whether an Accept header asks for octets, and not for JSON. Raises Refusal 406 for anything else."""
    wanted = [part.partition(";")[0].strip().lower() for part in (accept or "*/*").split(",")]
    for kind in wanted:
        if kind in (OCTETS, JSON, "*/*", "application/*"):
            return kind == OCTETS
    raise Refusal(406, f"there is no answer as {', '.join(wanted)}", where="Accept", remedy=f"Use {JSON} or {OCTETS}.")


def media_type(content_type: str | None) -> str:
    """Of a Content-Type header, without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def decode(
    body: bytes, content_type: str | None, encoding: str | None, options: Options, limits: Limits
) -> NDArray[np.float32]:
    """The points of a request, (N, 3) or (N, 4), finite, N at least 1.

    Raises:
        Refusal: 400 for what cannot be read, 413 for too much, 415 for kinds that are not known, 422 for what is no cloud.

    Example:
        >>> decode(b'{"data": [[1, 2, 3]]}', "application/json", None, Options(), Limits()).shape
        (1, 3)
    """
    kind = media_type(content_type)
    if kind not in (JSON, OCTETS):
        text = f"{kind} is not read" if kind else "the kind of body is not said"
        raise Refusal(415, text, where="Content-Type", remedy=f"Use {JSON} or {OCTETS}.")
    body = expand(body, encoding, limits.text if kind == JSON else limits.expanded)
    points = _points_of_json(body, limits) if kind == JSON else _points_of_octets(body, options.columns)
    if len(points) == 0:
        raise Refusal(422, "the cloud has no points", where="body", remedy="Send at least one.")
    if len(points) > limits.points:
        text = f"{len(points):,} points are more than the {limits.points:,} of one request"
        raise Refusal(413, text, where="body", remedy="Send the cloud in parts.")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise Refusal(
            422, f"point {row} is NaN, infinite or beyond float32", where="body", remedy="Remove such points."
        )
    return points


def expand(body: bytes, encoding: str | None, limit: int) -> bytes:
    """The body as it was before its Content-Encoding; no more than `limit` bytes are ever made of it.

    Raises:
        Refusal: 400 if it is damaged, 413 beyond the limit, 415 for another encoding.
    """
    name = (encoding or "identity").strip().lower()
    if name in ("gzip", "x-gzip"):
        body = _gunzip(body, limit)
    elif name == "zstd":
        body = _unzstd(body, limit)
    elif name != "identity":
        raise Refusal(415, f"{name} is not read", where="Content-Encoding", remedy="Use gzip, zstd or none.")
    if len(body) > limit:
        raise _too_long(limit)
    return body


def _too_long(limit: int) -> Refusal:
    text = f"the body has more than {limit:,} bytes, as sent or expanded"
    return Refusal(413, text, where="body", remedy="Send octets, or the cloud in parts.")


def _damaged(name: str) -> Refusal:
    return Refusal(400, f"the body is no whole {name} data", where="body", remedy="Send it again.")


def _gunzip(body: bytes, limit: int) -> bytes:
    expander = zlib.decompressobj(wbits=31)
    try:
        expanded = expander.decompress(body, limit + 1)
    except zlib.error:
        raise _damaged("gzip") from None
    if len(expanded) > limit:
        raise _too_long(limit)
    if not expander.eof or expander.unused_data:
        raise _damaged("gzip")
    return expanded


def _unzstd(body: bytes, limit: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise Refusal(415, "zstd is not read here", where="Content-Encoding", remedy="Use gzip or none.") from None
    decompressor = zstandard.ZstdDecompressor()
    try:
        size = zstandard.frame_content_size(body)  # -1 where the frame does not say
        if size > limit or (size < 0 and len(decompressor.stream_reader(body).read(limit + 1)) > limit):
            raise _too_long(limit)
        if size >= 0:
            return decompressor.decompress(body, max_output_size=limit, allow_extra_data=False)
        expander = decompressor.decompressobj()
        expanded = expander.decompress(body)  # within the limit, as the reading above has shown
    except zstandard.ZstdError:
        raise _damaged("zstd") from None
    if not expander.eof or expander.unused_data:  # cut off, or a second frame, whose points would be lost
        raise _damaged("zstd")
    return expanded


def _points_of_octets(body: bytes, columns: int) -> NDArray[np.float32]:
    if len(body) % (4 * columns):
        raise Refusal(
            400,
            f"{len(body)} bytes are no whole rows of {columns} float32 values ({4 * columns} bytes)",
            where="body",
            remedy="Send x, y, z, remission; or x, y, z with ?columns=3.",
        )
    return (
        np.frombuffer(body, "<f4").astype(np.float32).reshape(-1, columns)
    )  # a copy: torch wants to own what it reads


def _points_of_json(body: bytes, limits: Limits) -> NDArray[np.float32]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is no JSON ({error.msg}, at {error.pos})", where="body", remedy=_SHAPE) from None
    if not isinstance(content, dict) or "data" not in content:
        raise Refusal(422, "the body has no data", where="body", remedy=_SHAPE)
    unknown = sorted(set(content) - {"data"})
    if unknown:
        raise Refusal(422, f"there is no key {unknown[0][:40]!r}", where="body", remedy=_SHAPE)
    rows = content["data"]
    if not isinstance(rows, list) or len(rows) > limits.points:
        wrong = "data is no list" if not isinstance(rows, list) else f"more than {limits.points:,} points"
        raise Refusal(413 if isinstance(rows, list) else 422, wrong, where="data", remedy=_SHAPE)
    return _array_of(rows)


_SHAPE = 'Send {"data": [[x, y, z], ...]} or rows of four, with remission.'


def _array_of(rows: list[Any]) -> NDArray[np.float32]:
    """(N, 3) or (N, 4). Types are looked at before an array is made: one of texts is as wide as the longest of them."""
    if not rows:
        return np.empty((0, 3), np.float32)
    widths = set(map(len, rows)) if set(map(type, rows)) == {list} else set()
    if len(widths) == 1 and not widths <= set(WIDTHS):
        raise Refusal(422, f"rows have 3 or 4 numbers, not {widths.pop()}", where="data", remedy=_SHAPE)
    if len(widths) != 1:
        raise Refusal(422, _fault_of(rows), where="data", remedy=_SHAPE)
    values = list(chain.from_iterable(rows))
    if not set(map(type, values)) <= {int, float}:
        raise Refusal(422, _fault_of(rows), where="data", remedy=_SHAPE)
    with np.errstate(over="ignore"):
        return np.fromiter(values, np.float64, len(values)).astype(np.float32).reshape(len(rows), widths.pop())


def _fault_of(rows: list[Any]) -> str:
    """Which row is not like the others."""
    width = len(rows[0]) if isinstance(rows[0], list) else 0
    for number, row in enumerate(rows):
        if not isinstance(row, list):
            return f"point {number} is no list of numbers"
        if len(row) not in WIDTHS:
            return f"point {number} has {len(row)} numbers, not 3 or 4"
        if len(row) != width:
            return f"point {number} has {len(row)} numbers and point 0 has {width}"
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in row):
            return f"point {number} holds something that is no number"
    return "a number is too large"


def refuse_large_answer(points: int, classes: int, options: Options, limits: Limits) -> None:
    """Refuse, before anything is predicted, what would be answered with more bytes than the limits allow.

    Raises:
        Refusal: 413.

    Example:
        >>> refuse_large_answer(120_000, 19, Options(probabilities=True, octets=True), Limits())
    """
    chances = (4 if options.octets else TEXT_OF_CHANCE) * classes if options.probabilities else 0
    size = points * (4 + chances)
    if size > limits.answer:
        text = f"the answer would have about {size:,} bytes, more than {limits.answer:,}"
        raise Refusal(
            413, text, where="body", remedy="Ask for octets, or for no probabilities, or send the cloud in parts."
        )


# ---- answers ---------------------------------------------------------------------------------------------------------


def encode(scored: CloudLabels, options: Options) -> tuple[bytes, str, dict[str, str]]:
    """Body, media type and headers of an answer.

    Example:
        >>> body, kind, headers = encode(scored, Options(octets=True))
        >>> np.frombuffer(body, "<u4")
        array([40, 40, 50], dtype=uint32)
    """
    headers = {"X-Model": "/".join(str(scored.model[key]) for key in ("name", "version") if scored.model.get(key))}
    if scored.notes:
        headers["X-Notes"] = json.dumps(scored.notes)
    if not options.octets:
        return _json_of(scored), JSON, headers
    headers |= {"X-Points": str(len(scored.raw_ids)), "X-Classes": str(scored.label_map.num_classes)}
    columns: list[NDArray[Any]] = [scored.raw_ids.astype("<u4", copy=False)]
    if scored.probabilities is not None:
        columns.append(scored.probabilities.astype("<f4", copy=False))
    body = b"".join([np.ascontiguousarray(column).data for column in columns])  # one copy: probabilities are large
    return body, OCTETS, headers  # one copy: probabilities are large


def _json_of(scored: CloudLabels) -> bytes:
    content: dict[str, Any] = {
        "labels": np.ascontiguousarray(scored.raw_ids),
        "points": len(scored.raw_ids),
        "classes": counts_by_class(scored.raw_ids, scored.label_map),
        "notes": list(scored.notes),
        "model": dict(scored.model),
    }
    if scored.probabilities is not None:
        content["probability_classes"] = [entry["id"] for entry in class_table(scored.label_map)]
        content["probabilities"] = np.ascontiguousarray(scored.probabilities)
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def class_table(label_map: LabelMap) -> list[dict[str, Any]]:
    """Raw id, name and colour of every class, in the order of training ids."""
    raw_ids = label_map.to_raw(np.arange(1, label_map.num_classes + 1))
    return [
        {"id": int(raw_id), "name": name, "colour": "#{:02x}{:02x}{:02x}".format(*map(int, colour))}
        for raw_id, name, colour in zip(raw_ids, label_map.class_names, label_map.colors[1:], strict=True)
    ]


def counts_by_class(raw_ids: NDArray[np.uint32], label_map: LabelMap) -> list[dict[str, Any]]:
    """The classes that occur, with their points, most first."""
    ids, counts = np.unique(raw_ids, return_counts=True)
    points = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    found = [{**entry, "points": points[entry["id"]]} for entry in class_table(label_map) if entry["id"] in points]
    return sorted(found, key=lambda entry: -entry["points"])
