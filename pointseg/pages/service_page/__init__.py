"""The page of the scoring service, as one HTML document that fetches nothing but the service's own routes.

It asks, by addresses relative to its own: GET metadata, GET sample.bin, POST score and POST score?points=true; `docs` is a
link. The view in 3D is that of the reports. What the document may do is told to the browser by its headers: scripts and
styles run by their hashes alone.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Document", "allowed", "document_of", "page"]

SCRIPTS = (
    ("pointseg.pages", "templates/points.js"),
    ("pointseg.pages", "templates/stage.js"),
    ("pointseg.pages.service_page", "picture.js"),
    ("pointseg.pages.service_page", "server.js"),
    ("pointseg.pages.service_page", "page.js"),
)
STYLE, SCRIPT = "/* style */", "/* scripts */"  # where they go in page.html


class Document(NamedTuple):
    """What a GET of the page answers.

    Attributes:
        body: HTML, UTF-8.
        headers: type, policy and caching; `ETag` is that of the body.
    """

    body: bytes
    headers: dict[str, str]


@cache
def page() -> Document:
    """The page and the headers that belong to it. It holds nothing of a model: names and colours of classes are asked for
    when it is open, so that a model can be swapped under it.

    Example:
        >>> page().headers["Content-Type"]
        'text/html; charset=utf-8'
    """
    style = _text("pointseg.pages.service_page", "page.css")
    script = "\n".join(_text(*place) for place in SCRIPTS)
    text = _text("pointseg.pages.service_page", "page.html").replace(STYLE, style).replace(SCRIPT, script)
    policy = {
        "script-src": allowed(script),
        "style-src": allowed(style),
        "connect-src": "'self'",
        "img-src": "data:",  # the icon
        "require-trusted-types-for": "'script'",  # no text ever becomes HTML
    }
    return document_of(text, policy)


def document_of(text: str, policy: dict[str, str]) -> Document:
    """A page of the service: what it may do beyond showing itself is what `policy` allows."""
    none = ("base-uri", "form-action", "frame-ancestors")
    rules = {"default-src": "'none'", **policy, **dict.fromkeys(none, "'none'")}
    body = text.encode()
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in rules.items()),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"',
    }
    return Document(body, headers)


def allowed(text: str) -> str:
    """As a policy names a script or style of exactly these characters."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
