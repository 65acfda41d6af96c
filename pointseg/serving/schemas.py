"""What the API takes and gives, as pydantic models: FastAPI makes the OpenAPI document of them. Its examples are made by what
they describe: the model predicts them, and refusals are those that the code raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from pointseg.engine.predictor import Predictor
from pointseg.serving.engine import Served
from pointseg.serving.refusal import Refusal
from pointseg.serving.settings import require_secret
from pointseg.serving.upload import MULTIPART
from pointseg.serving.wire import (
    JSON,
    LARGEST,
    OCTETS,
    CloudLabels,
    Limits,
    Options,
    decode,
    encode,
    read_columns,
    read_flag,
    wants_octets,
)

__all__ = [
    "ANSWER_HEADERS",
    "BINARY",
    "SCORE_BODY",
    "Answer",
    "Metadata",
    "Reload",
    "Reloaded",
    "ScoreOptions",
    "State",
    "add_examples",
    "error_responses",
]

EXAMPLE = [[12.5, -3.2, -1.7, 0.31], [12.6, -3.1, -1.69, 0.3], [8.0, 4.1, 0.4, 0.12]]
EXAMPLE_ID = "0b7c2f4e"

Count = Annotated[int, Field(ge=0)]
Coordinate = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Row3 = Annotated[list[Coordinate], Field(min_length=3, max_length=3)]
Row4 = Annotated[list[Coordinate], Field(min_length=4, max_length=4)]
Probability = Annotated[float, Field(ge=0, le=1.0001)]
ModelIdentity = Annotated[dict[str, str], Field(description="its name, version and sha256")]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


# ---- what is asked ---------------------------------------------------------------------------------------------------


class Cloud(_Closed):
    """A cloud as JSON."""

    data: Annotated[list[Row3], Field(min_length=1)] | Annotated[list[Row4], Field(min_length=1)] = Field(
        description="x, y, z in metres; remission in 0 to 1"
    )


def _flag(value: str, field: ValidationInfo) -> bool:
    return read_flag(value, str(field.field_name))


class ScoreOptions(_Closed):
    """The query of POST /score. What is wrong in it is refused as `wire.read_options` does."""

    probabilities: Annotated[bool, BeforeValidator(_flag)] = Field(
        False, description="Give the probabilities of all classes as well."
    )
    columns: Annotated[Literal[3, 4], BeforeValidator(read_columns)] = Field(
        4, description="How many columns the rows of octets have."
    )
    points: Annotated[bool, BeforeValidator(_flag)] = Field(
        False, description="Give x, y, z back as well; in octets only."
    )


class Reload(_Closed):
    """Which model to load; null, or no body, is the one that the service was started with."""

    checkpoint: Annotated[str, Field(min_length=1)] | None = Field(None, examples=["models:/pointnet@champion"])


# ---- what is answered ------------------------------------------------------------------------------------------------


class State(_Closed):
    """How the service is."""

    status: str = Field(examples=["alive"])


class Class(_Closed):
    """A class of the model."""

    id: Count
    name: str
    colour: str = Field(pattern="^#[0-9a-f]{6}$")


class OccurringClass(Class):
    """A class that occurs in a cloud."""

    points: Count


class Answer(_Closed):
    """Labels as JSON."""

    labels: list[Count] = Field(description="the raw id of each point")
    points: Count
    classes: list[OccurringClass] = Field(description="those that occur, most points first")
    notes: list[str] = Field(description="what is unusual about the cloud")
    model: ModelIdentity
    probabilities: list[list[Probability | None]] | None = Field(
        None, description="for each point, those of all classes; null where coordinates of 1e15 m and more overflow"
    )
    probability_classes: list[Count] | None = Field(None, description="the raw id of each column of probabilities")


class ServiceLimits(_Closed):
    """What may be sent, and how long an answer may take."""

    body_bytes: Count
    expanded_bytes: Count
    text_bytes: Count
    points: Count
    answer_bytes: Count
    seconds: float
    waiting_clouds: Count


class Metadata(_Closed):
    """What a client has to know to ask, and to read the answers."""

    model: ModelIdentity
    classes: list[Class]
    limits: ServiceLimits
    strict: bool
    version: str


class Reloaded(_Closed):
    """Which model answers now, and which one did before."""

    model: ModelIdentity
    before: ModelIdentity


class Problem(_Closed):
    """What is wrong, where, and what to do about it."""

    what: str
    where: str | None
    remedy: str


class Error(_Closed):
    """Every answer that is none."""

    error: Problem
    request_id: str


# ---- examples --------------------------------------------------------------------------------------------------------

CLOUD_EXAMPLES = {
    "remission": {"value": {"data": EXAMPLE}, "summary": "three points with remission"},
    "plain": {"value": {"data": [row[:3] for row in EXAMPLE]}, "summary": "the same without remission"},
}
BINARY = {"type": "string", "format": "binary"}
SCORE_BODY: dict[str, Any] = {
    # read by hand, within limits of size, time and memory that FastAPI's own bodies do not have
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": Cloud.model_json_schema(), "examples": CLOUD_EXAMPLES},
            OCTETS: {"schema": BINARY},
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "properties": {"file": BINARY},
                    "required": ["file"],
                    "additionalProperties": False,
                }
            },
        },
    },
    "x-codeSamples": [
        {"lang": "Shell", "source": source}
        for source in (
            "curl -F file=@street.laz URL/score",
            f"curl --data-binary @000000.bin -H 'Content-Type: {OCTETS}' -H 'Accept: {OCTETS}' -o 000000.label URL/score",
            "curl -d '{\"data\": [[12.5, -3.2, -1.7, 0.31]]}' "
            f"-H 'Content-Type: {JSON}' 'URL/score?probabilities=true'",
        )
    ],
}
ANSWER_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in (
        ("X-Request-Id", "Of this request, also in the log."),
        ("X-Model", "NAME/VERSION of the model that answered."),
        ("X-Notes", "What is unusual about the cloud: a list of JSON, in ASCII."),
        ("X-Points", "Of octets: the number of points."),
        ("X-Classes", "Of octets: the number of probabilities of a point."),
        ("Server-Timing", "Milliseconds of reading, waiting, predicting and writing."),
    )
}


@lru_cache(maxsize=1)
def _answers(predictor: Predictor, model: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """What the model answers to `CLOUD_EXAMPLES`."""
    answers = {}
    for name, example in CLOUD_EXAMPLES.items():
        raw_ids, _, notes = predictor.predict(np.array(example["value"]["data"], np.float32))  # type: ignore[index]
        texts = tuple(note.text for note in notes)
        body, _, _ = encode(CloudLabels(raw_ids, None, texts, predictor.label_map, dict(model)), Options())
        answers[name] = {"value": json.loads(body)}
    return answers


def error_responses(limits: Limits, *codes: int) -> dict[int | str, dict[str, Any]]:
    """What FastAPI documents of refusals."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        text, refusal = _refusals(limits)[code]
        headers = {name: {"schema": {"type": "string"}} for name in refusal.headers}
        responses[code] = {"model": Error, "description": text, **({"headers": headers} if headers else {})}
    return responses


def add_examples(document: dict[str, Any], served: Served, limits: Limits) -> None:
    """Put an answer of the present model into an OpenAPI document, and a refusal at each status."""
    score = document["paths"]["/score"]["post"]["responses"]["200"]["content"][JSON]
    score["examples"] = _answers(served.predictor, tuple(served.model.items()))
    refusals = _refusals(limits)
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) in refusals:
                    _, refusal = refusals[int(status)]
                    response["content"][JSON]["example"] = json.loads(refusal.body(EXAMPLE_ID))


@lru_cache(maxsize=4)
def _refusals(limits: Limits) -> dict[int, tuple[str, Refusal]]:
    """What each status means, and one such refusal."""

    def raised_by(body: bytes, kind: str = JSON) -> Refusal:
        return _raised(lambda: decode(body, kind, None, Options(), limits))

    too_long = Refusal(413, f"the body has more than {limits.body:,} bytes", where="body", remedy="Send it in parts.")
    reloading = Refusal(409, "another reload is under way", remedy="Wait for its answer.")
    return {
        400: ("The body or file cannot be read.", raised_by(b'{"data": [[1, 2, 3], [4, 5')),
        401: ("The key is missing or wrong.", _raised(lambda: require_secret(None, "key"))),
        406: ("There is no such form of answer.", _raised(lambda: wants_octets("text/html"))),
        408: ("The body came too slowly.", Refusal(408, "the body did not come within 30 s", where="body")),
        409: ("Another reload is under way.", reloading),
        413: ("It is too long, has too many points, or takes more memory than there is.", too_long),
        415: ("This kind of body, file or encoding is not read.", raised_by(b"", "text/csv")),
        422: ("It was read and is no cloud, or an option is unknown.", raised_by(b'{"data": []}')),
        500: ("The service failed; its log tells why.", Refusal(500, "the service failed at this request")),
        503: (
            "Too much waits, or the service stops; see Retry-After.",
            Refusal.busy("32 clouds are waiting already", 3),
        ),
        504: ("It was not done within the time limit.", Refusal.late()),
    }


def _raised(call: Callable[[], object]) -> Refusal:
    try:
        call()
    except Refusal as refusal:
        return refusal
    raise AssertionError("an example of an error is none")
