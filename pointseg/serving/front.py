"""What a browser opens: the page, the documentation, and a sample. Nothing is fetched from elsewhere."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request, Response

from pointseg.serving.page import page
from pointseg.serving.sample import sample_scan
from pointseg.serving.wire import JSON, OCTETS

__all__ = ["add_pages"]

HTML = "text/html; charset=utf-8"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b2127;
  background: #fff; } h2 { margin-top: 2.5rem; border-top: 1px solid #dbe1e7; padding-top: 1rem; }
h2 code { font-size: 1.1rem; }
pre { background: #f1f4f7; padding: .8rem; overflow-x: auto; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #e7ebef; }
@media (prefers-color-scheme: dark) { body { background: #0e1114; color: #e4e9ee; } a { color: #8ab8f0; }
  pre { background: #171c21; } h2, td, th { border-color: #2a323a; } }
"""
EXAMPLES = {
    "/score": (
        "curl -F file=@street.laz URL/score",
        f"curl --data-binary @000000.bin -H 'Content-Type: {OCTETS}' -H 'Accept: {OCTETS}' -o 000000.label URL/score",
        f"curl -d '{{\"data\": [[12.5, -3.2, -1.7, 0.31]]}}' -H 'Content-Type: {JSON}' 'URL/score?probabilities=true'",
    ),
    "/admin/reload": ("curl -X POST -H 'Authorization: Bearer TOKEN' URL/admin/reload",),
}


def add_pages(app: FastAPI) -> None:
    """The routes /, /docs and /sample.bin."""

    @app.get("/")
    async def index() -> Response:
        document = page()
        return Response(document.body, headers=document.headers)

    @app.get("/docs")
    async def docs(request: Request) -> Response:
        address = str(request.base_url).rstrip("/")
        return _document("pointseg: API", _rendered(app.openapi(), address))

    @app.get("/sample.bin")
    async def sample() -> Response:
        return Response(await asyncio.to_thread(sample_scan), media_type=OCTETS)


def _document(title: str, body: str) -> Response:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>{body}</body></html>'
    )
    headers = {"Content-Type": HTML, "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return Response(text, headers=headers)


# ---- the documentation -----------------------------------------------------------------------------------------------


def _rendered(document: dict[str, Any], address: str) -> str:
    """An OpenAPI document as plain HTML."""
    parts = [f"<h1>pointseg {_text(document['info']['version'])}</h1>", _paragraphs(document["info"]["description"])]
    parts.append('<p><a href="openapi.json">openapi.json</a> is the same for programs.</p>')
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(path, method, operation, address))
    for name, schema in document["components"]["schemas"].items():
        parts.append(f'<h2 id="{name}">{name}</h2><pre>{_json(schema)}</pre>')
    return "\n".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any], address: str) -> str:
    parts = [f"<h2><code>{method.upper()} {_text(path)}</code></h2><p><b>{_text(operation['summary'])}.</b></p>"]
    parts.append(_paragraphs(operation.get("description", "")))
    if operation.get("security"):
        parts.append("<p>Needs the header <code>Authorization: Bearer ...</code></p>")
    if calls := EXAMPLES.get(path):
        parts.append(f"<pre>{_text(chr(10).join(calls).replace('URL', address))}</pre>")
    if asked := operation.get("parameters"):
        rows = [(item["name"], item["in"], item["description"] + " " + _short(item["schema"])) for item in asked]
        parts.append(_table(("Parameter", "in", ""), rows))
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body, <code>{_text(kind)}</code>: {_schema(content['schema'])}</p>{_examples(content)}")
    for status, answer in operation["responses"].items():
        kinds = ", ".join(answer.get("content", {}))
        parts.append(f"<p><b>{status}</b> {_text(answer['description'])} <code>{_text(kinds)}</code></p>")
        parts += [_examples(content) for content in answer.get("content", {}).values()]
    return "\n".join(parts)


def _examples(content: dict[str, Any]) -> str:
    values = [entry["value"] for entry in content.get("examples", {}).values()]
    values += [content["example"]] if "example" in content else []
    return "".join(f"<pre>{_text(json.dumps(value, ensure_ascii=False))}</pre>" for value in values)


def _schema(schema: dict[str, Any]) -> str:
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return f'<a href="#{name}">{name}</a>'
    return _text(_short(schema))


def _short(schema: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in schema.items() if key != "description"})


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(part)}</p>" for part in text.split("\n\n") if part).replace("`", "")


def _json(value: Any) -> str:
    return _text(json.dumps(value, indent=1, ensure_ascii=False))


def _text(value: str) -> str:
    return html.escape(value, quote=True)
