"""The OpenAPI document of the service. Its examples are made by what they describe: the model predicts them, and refusals
are those that the code raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

import pointseg
from pointseg.predictor import Predictor
from pointseg.serving.engine import Engine, Served
from pointseg.serving.refusal import Refusal
from pointseg.serving.schemas import SCHEMAS
from pointseg.serving.security import require_secret
from pointseg.serving.settings import Settings
from pointseg.serving.upload import MULTIPART
from pointseg.serving.wire import JSON, OCTETS, Limits, Options, Scored, decode, encode, read_options

__all__ = ["EXAMPLE", "describe"]

EXAMPLE = [[12.5, -3.2, -1.7, 0.31], [12.6, -3.1, -1.69, 0.3], [8.0, 4.1, 0.4, 0.12]]
EXAMPLE_ID = "0b7c2f4e"
ABOUT = """Labels for the points of LiDAR scans: `POST /score` takes a cloud and gives a class for each of its points.

Every error is JSON of one form: what is wrong, where, and what to do about it, with the id of the request."""

Document = dict[str, Any]


def describe(engine: Engine, settings: Settings) -> Document:
    """The document of a service as it is now.

    Example:
        >>> describe(engine, Settings())["paths"]["/score"]["post"]["summary"]
        'Label a cloud'
    """
    keyed: list[Document] = [{"key": []}] if settings.key is not None else []
    paths = {
        "/score": {"post": _score(engine.served, settings, keyed)},
        "/healthz": {"get": _plain("Whether the process is alive", {"200": _state("It is.", "alive")})},
        "/readyz": {
            "get": _plain("Whether it answers", {"200": _state("It does.", "ready"), **_errors([503], settings)})
        },
        "/metadata": {"get": _metadata(engine.served, settings, keyed)},
        "/metrics": {"get": _metrics(settings, keyed)},
        "/sample.bin": {"get": _plain("A synthetic street to try", {"200": _octets("float32 rows of four.")})},
    }
    if settings.admin_token is not None:
        paths["/admin/reload"] = {"post": _reload(settings)}
    schemes = {"key": "The key of the service.", "token": "The token of whoever runs it."}
    return {
        "openapi": "3.1.0",
        "info": {"title": "pointseg", "version": pointseg.__version__, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": text} for name, text in schemes.items()
            },
        },
    }


# ---- operations ------------------------------------------------------------------------------------------------------


def _score(served: Served, settings: Settings, keyed: list[Document]) -> Document:
    binary = {"type": "string", "format": "binary"}
    rows = {"value": {"data": EXAMPLE}, "summary": "three points with remission"}
    without = {"value": {"data": [row[:3] for row in EXAMPLE]}, "summary": "the same without"}
    form = {"type": "object", "properties": {"file": binary}, "required": ["file"], "additionalProperties": False}
    codes = [400, *([401] if keyed else []), 406, 408, 413, 415, 422, 500, 503, 504]
    answer = {
        "description": "A raw id for each point, in the order of the points; as octets uint32, little-endian, then float32 "
        "rows of probabilities and float32 rows of x, y, z, each where it is asked for.",
        "headers": _headers(),
        "content": {
            JSON: {"schema": _ref("Answer"), "examples": _answers(served.predictor, tuple(served.model.items()))},
            OCTETS: {"schema": binary},
        },
    }
    return {
        "operationId": "score",
        "summary": "Label a cloud",
        "description": "As JSON, as octets (little-endian float32 rows of four, a SemanticKITTI `.bin`, or of three with "
        "`columns=3`), or as a file of any kind that pointseg reads. JSON and octets may be compressed. The answer is JSON, "
        f"or octets with `Accept: {OCTETS}`.",
        "parameters": [
            _query("probabilities", {"type": "boolean", "default": False}, "Give those of all classes as well."),
            _query("columns", {"type": "integer", "enum": [3, 4], "default": 4}, "Of the rows of octets."),
            _query("points", {"type": "boolean", "default": False}, "Give x, y, z back as well; as octets only."),
            _header(
                "Content-Encoding", {"type": "string", "enum": ["identity", "gzip", "zstd"]}, "Of JSON and octets."
            ),
            _header("X-Request-Id", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}, "Else one is made."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": _ref("Cloud"), "examples": {"remission": rows, "plain": without}},
                OCTETS: {"schema": binary},
                MULTIPART: {"schema": form},
            },
        },
        "responses": {"200": answer, **_errors(codes, settings)},
        **({"security": keyed} if keyed else {}),
    }


def _metadata(served: Served, settings: Settings, keyed: list[Document]) -> Document:
    content = {JSON: {"schema": _ref("Metadata")}}
    found = {"200": {"description": "Model, classes and limits.", "content": content}}
    return _plain("What the model knows, and what may be sent", {**found, **_unkeyed(settings, keyed)}, keyed)


def _metrics(settings: Settings, keyed: list[Document]) -> Document:
    content = {"text/plain": {"schema": {"type": "string"}}}
    found = {"200": {"description": "Metrics, as Prometheus reads them.", "content": content}}
    return _plain("For Prometheus", {**found, **_unkeyed(settings, keyed)}, keyed)


def _unkeyed(settings: Settings, keyed: list[Document]) -> Document:
    return _errors([401], settings) if keyed else {}


def _reload(settings: Settings) -> Document:
    codes = _errors([400, 401, 409, 413, 422, 500], settings)
    body = {
        JSON: {"schema": _ref("Reload"), "examples": {"alias": {"value": {"checkpoint": "models:/pointnet@champion"}}}}
    }
    content = {JSON: {"schema": _ref("Reloaded")}}
    return {
        **_plain(
            "Load another model, or the same name again", {"200": {"description": "Done.", "content": content}, **codes}
        ),
        "description": "Without a body: what the service was started with, whose alias may have moved. Requests are "
        "answered meanwhile; where the new model cannot be used, the one before stays.",
        "requestBody": {"required": False, "content": body},
        "security": [{"token": []}],
    }


def _plain(summary: str, responses: Document, keyed: list[Document] | None = None) -> Document:
    return {"summary": summary, "responses": responses, **({"security": keyed} if keyed else {})}


# ---- parts -----------------------------------------------------------------------------------------------------------


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, schema: Document, text: str) -> Document:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _header(name: str, schema: Document, text: str) -> Document:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": text}


def _headers() -> Document:
    texts = {
        "X-Request-Id": "Of this request, also in the log.",
        "X-Model": "NAME/VERSION of the model that answered.",
        "X-Notes": "What is unusual about the cloud: a list of JSON, in ASCII.",
        "X-Points": "Of octets: the number of points.",
        "X-Classes": "Of octets: the number of probabilities of a point.",
        "Server-Timing": "Milliseconds of reading, waiting, predicting and writing.",
    }
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in texts.items()}


def _octets(text: str) -> Document:
    return {"description": text, "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}


def _state(text: str, word: str) -> Document:
    example = {"status": word}
    return {"description": text, "content": {JSON: {"schema": _ref("State"), "example": example}}}


@lru_cache(maxsize=1)
def _answers(predictor: Predictor, model: tuple[tuple[str, str], ...]) -> Document:
    """What the present model answers to the examples."""
    return {
        name: {"value": _answer(predictor, dict(model), columns)} for name, columns in (("remission", 4), ("plain", 3))
    }


def _answer(predictor: Predictor, model: dict[str, str], columns: int) -> Any:
    points = np.array(EXAMPLE, np.float32)[:, :columns]
    raw_ids, _, notes = predictor.predict(points)
    scored = Scored(raw_ids, None, tuple(note.text for note in notes), predictor.label_map, model)
    return json.loads(encode(scored, Options())[0])


# ---- errors ----------------------------------------------------------------------------------------------------------

BAD_JSON = b'{"data": [[1, 2, 3], [4, 5'
NO_POINTS = b'{"data": []}'


def _errors(codes: list[int], settings: Settings) -> Document:
    return {str(code): _error(code, settings) for code in codes}


def _error(code: int, settings: Settings) -> Document:
    text, refusal = _refusals(settings.limits)[code]
    example = json.loads(refusal.body(EXAMPLE_ID))
    headers = {name: {"schema": {"type": "string"}} for name in refusal.headers if name != "Connection"}
    content = {JSON: {"schema": _ref("Error"), "example": example}}
    return {"description": text, "content": content, **({"headers": headers} if headers else {})}


@lru_cache(maxsize=4)
def _refusals(limits: Limits) -> dict[int, tuple[str, Refusal]]:
    """What each status means, and one such refusal."""
    return {
        400: ("The body or file cannot be read.", _raised(lambda: decode(BAD_JSON, JSON, None, Options(), limits))),
        401: ("The key is missing or wrong.", _raised(lambda: require_secret(None, "key"))),
        406: ("No such form of answer.", _raised(lambda: read_options({}, "text/html"))),
        408: ("The body came too slowly.", Refusal(408, "the body did not come within 30 s", where="body")),
        409: (
            "Another reload is under way.",
            Refusal(409, "another reload is under way", remedy="Wait for its answer."),
        ),
        413: (
            "Too long, too many points, or more than memory holds.",
            Refusal(413, f"the body has more than {limits.body:,} bytes", where="body", remedy="Send it in parts."),
        ),
        415: (
            "Not a kind, file or encoding that is read.",
            _raised(lambda: decode(b"", "text/csv", None, Options(), limits)),
        ),
        422: (
            "Read, but no cloud; or unknown options.",
            _raised(lambda: decode(NO_POINTS, JSON, None, Options(), limits)),
        ),
        500: ("The service failed; its log tells why.", Refusal(500, "the service failed at this request")),
        503: (
            "Too much waits, or the service stops; see Retry-After.",
            Refusal.busy("32 clouds are waiting already", 3.0),
        ),
        504: ("Not done within the time limit.", Refusal(504, "the request was not done within its time limit")),
    }


def _raised(call: Callable[[], object]) -> Refusal:
    try:
        call()
    except Refusal as refusal:
        return refusal
    raise AssertionError("an example of an error is none")
