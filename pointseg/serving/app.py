"""The scoring service as a FastAPI application: its routes, and nothing that they do."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import pointseg
from pointseg.serving import front
from pointseg.serving.collection import Collection
from pointseg.serving.description import describe
from pointseg.serving.engine import Engine
from pointseg.serving.models import Reloader, Source
from pointseg.serving.refusal import Refusal
from pointseg.serving.scoring import Scoring
from pointseg.serving.security import require_secret
from pointseg.serving.settings import Settings
from pointseg.serving.telemetry import CONTENT_TYPE, Telemetry
from pointseg.serving.watch import Watch, refusal_of_http
from pointseg.serving.wire import JSON, class_table

__all__ = ["create_app"]

ROUTES = frozenset(
    {
        "/",
        "/score",
        "/healthz",
        "/readyz",
        "/metadata",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/sample.bin",
        "/admin/reload",
    }
)
LONGEST_RELOAD = 8192  # bytes of a body of /admin/reload


def create_app(
    engine: Engine,
    settings: Settings | None = None,
    *,
    source: Source | None = None,
    collection: Collection | None = None,
) -> FastAPI:
    """The application.

    Args:
        engine: that predicts.
        settings: what the service allows.
        source: where models come from; without one, and without an admin token, there is no reload.
        collection: of what scans look like; None: nothing is collected.

    Returns:
        It has `state.scoring` and `state.telemetry`, for what runs it.

    Example:
        >>> predictor, model = Source("RUN_FOLDER").load()
        >>> app = create_app(Engine(predictor, model))  # uvicorn.run(app), or pointseg.serving.connection.serve
    """
    settings = settings or Settings()
    telemetry = Telemetry(engine)
    scoring = Scoring(engine, settings, collection)
    if collection is not None:
        telemetry.count_collected(collection)
    telemetry.show("pointseg_held_bytes", "Bytes of bodies that are in memory.", lambda: scoring.held.bytes)
    reloader = Reloader(engine, source, telemetry) if source is not None and settings.admin_token else None
    app = FastAPI(title="pointseg", version=pointseg.__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.scoring, app.state.telemetry = scoring, telemetry
    app.add_middleware(Watch, telemetry=telemetry, routes=ROUTES)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    _add_scoring(app, scoring)
    _add_state(app, engine, settings, scoring, telemetry)
    _add_reload(app, settings, reloader)
    front.add_pages(app)
    app.openapi = lambda: describe(engine, settings)  # type: ignore[method-assign]
    return app


def _add_scoring(app: FastAPI, scoring: Scoring) -> None:
    @app.post("/score")
    async def score(request: Request) -> Response:
        return await scoring.answer(request)


def _add_state(app: FastAPI, engine: Engine, settings: Settings, scoring: Scoring, telemetry: Telemetry) -> None:
    def require_key(request: Request) -> None:
        if settings.key is not None:
            require_secret(request.headers.get("authorization"), settings.key)

    @app.get("/healthz")
    async def healthz() -> Response:
        return _json({"status": "alive"})

    @app.get("/readyz")
    async def readyz() -> Response:
        scoring.refuse_while_draining()
        return _json({"status": "ready"})

    @app.get("/metadata")
    async def metadata(request: Request) -> Response:
        require_key(request)
        return _json(_metadata(engine, settings))

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        require_key(request)
        return Response(telemetry.text(), headers={"Content-Type": CONTENT_TYPE})


def _metadata(engine: Engine, settings: Settings) -> dict[str, Any]:
    """What a client has to know to ask, and to read the answers."""
    predictor, model = engine.served
    limits = settings.limits
    return {
        "model": dict(model),
        "classes": class_table(predictor.label_map),
        "limits": {
            "body_bytes": limits.body,
            "expanded_bytes": limits.expanded,
            "text_bytes": limits.text,
            "points": limits.points,
            "answer_bytes": limits.answer,
            "seconds": settings.time_limit,
            "waiting_clouds": settings.queue.clouds,
        },
        "strict": predictor.strict,
        "version": pointseg.__version__,
    }


def _add_reload(app: FastAPI, settings: Settings, reloader: Reloader | None) -> None:
    @app.post("/admin/reload")
    async def reload(request: Request) -> Response:
        if reloader is None or settings.admin_token is None:
            raise HTTPException(404)
        require_secret(request.headers.get("authorization"), settings.admin_token, "token")
        return _json(await reloader.reload(_checkpoint_of(await _short_body(request)), request.scope["request_id"]))


async def _short_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_RELOAD:
            raise Refusal(413, f"the body has more than {LONGEST_RELOAD:,} bytes", where="body", remedy=RELOAD_SHAPE)
    return body


RELOAD_SHAPE = 'Send {"checkpoint": "models:/NAME@ALIAS"}, or nothing.'


def _checkpoint_of(body: bytes) -> str | None:
    """What a reload names; None for the service's own."""
    if not body:
        return None
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is no JSON ({error.msg})", where="body", remedy=RELOAD_SHAPE) from None
    if not isinstance(content, dict) or set(content) - {"checkpoint"}:
        raise Refusal(422, "the body holds something else than a checkpoint", where="body", remedy=RELOAD_SHAPE)
    checkpoint = content.get("checkpoint")
    if checkpoint is not None and (not isinstance(checkpoint, str) or not checkpoint or "\0" in checkpoint):
        raise Refusal(422, "the checkpoint is no text", where="checkpoint", remedy=RELOAD_SHAPE)
    return checkpoint


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type=JSON, headers={"Cache-Control": "no-store"})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    raise refusal_of_http(error)


async def _validation_error(request: Request, error: Exception) -> Response:
    raise Refusal(422, "the request is not as the documentation has it", where="query", remedy="See /docs.")
