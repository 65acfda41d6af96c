"""JSON schemas of what the service takes and gives."""

from __future__ import annotations

from typing import Any

__all__ = ["SCHEMAS"]

TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
LARGEST = 3.4028234663852886e38  # of float32
NUMBER = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}


def _object(properties: dict[str, Any], *, required: list[str] | None = None, closed: bool = True) -> dict[str, Any]:
    found = {"type": "object", "properties": properties, "required": list(properties) if required is None else required}
    return {**found, "additionalProperties": False} if closed else found


def _list(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _rows(width: int) -> dict[str, Any]:
    return _list(_list(NUMBER, minItems=width, maxItems=width), minItems=1)


MODEL = _object({"name": TEXT, "version": TEXT}, closed=False)
CLASS = {"id": COUNT, "name": TEXT, "colour": {"type": "string", "pattern": "^#[0-9a-f]{6}$"}}
PROBLEM = _object({"what": TEXT, "where": {"type": ["string", "null"]}, "remedy": TEXT})

SCHEMAS: dict[str, Any] = {
    "Cloud": _object(
        {"data": {"anyOf": [_rows(3), _rows(4)], "description": "x, y, z in metres; remission in 0 to 1"}}
    ),
    "Answer": _object(
        {
            "labels": _list(COUNT, description="the raw id of each point"),
            "points": COUNT,
            "classes": _list(_object({**CLASS, "points": COUNT}), description="those that occur, most points first"),
            "notes": _list(TEXT, description="what is unusual about the cloud"),
            "model": MODEL,
            "probabilities": _list(_list({"type": "number", "minimum": 0, "maximum": 1.0001})),
            "probability_classes": _list(COUNT, description="the raw id of each column of probabilities"),
        },
        required=["labels", "points", "classes", "notes", "model"],
    ),
    "Error": _object({"error": PROBLEM, "request_id": TEXT}),
    "State": _object({"status": TEXT}),
    "Metadata": _object(
        {
            "model": MODEL,
            "classes": _list(_object(CLASS)),
            "limits": _object(
                dict.fromkeys(("body_bytes", "expanded_bytes", "text_bytes", "points", "answer_bytes"), COUNT),
                closed=False,
            ),
            "strict": {"type": "boolean"},
            "version": TEXT,
        }
    ),
    "Reload": _object({"checkpoint": {"type": ["string", "null"], "minLength": 1}}, required=[]),
    "Reloaded": _object({"model": MODEL, "before": MODEL}),
}
