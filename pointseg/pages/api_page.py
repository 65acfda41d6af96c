"""The documentation of the scoring service for people: its OpenAPI document as a page that fetches nothing."""

from __future__ import annotations

from typing import Any

from pointseg.pages.html import own_file, render
from pointseg.pages.service_page import Document, allowed, document_of

__all__ = ["api_page"]


def api_page(document: dict[str, Any], address: str) -> Document:
    """The page and the headers that belong to it.

    Args:
        document: in the form of OpenAPI 3.1; schemas of bodies that stand in it in full are shown with the others.
        address: of the service, for the examples.

    Example:
        >>> api_page(app.openapi(), "http://127.0.0.1:8000").headers["Content-Type"]
        'text/html; charset=utf-8'
    """
    style = own_file("api.css")
    schemas = dict(document["components"]["schemas"])
    for operations in document["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if title := content["schema"].get("title"):
                    schemas[title] = content["schema"]
    text = render("api.html", document=document, schemas=schemas, address=address.rstrip("/"), style=style)
    return document_of(text, {"style-src": allowed(style)})
