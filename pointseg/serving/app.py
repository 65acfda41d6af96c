"""The scoring service as a FastAPI application: its routes, and nothing that they do."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as Dependency
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from pointseg.core.package import VERSION
from pointseg.pages import service_page
from pointseg.pages.api_page import api_page
from pointseg.serving.collection import Collection
from pointseg.serving.engine import Engine
from pointseg.serving.model_source import Reloader, Source
from pointseg.serving.refusal import Refusal
from pointseg.serving.schemas import (
    ANSWER_HEADERS,
    BINARY,
    SCORE_BODY,
    Answer,
    Metadata,
    Reload,
    Reloaded,
    ScoreOptions,
    State,
    add_examples,
    error_responses,
)
from pointseg.serving.scoring import Scoring
from pointseg.serving.settings import Settings, require_secret
from pointseg.serving.smoke import sample_scan
from pointseg.serving.telemetry import CONTENT_TYPE, RequestMiddleware, Telemetry, refusal_of_http
from pointseg.serving.wire import JSON, OCTETS, class_table

__all__ = ["create_app"]

ABOUT = """Labels for the points of LiDAR scans: `POST /score` takes a cloud and gives a class for each of its points.

Every error is JSON of one form: what is wrong, where, and what to do about it, with the id of the request."""
LONGEST_RELOAD = 8192  # bytes of a body of /admin/reload
RELOAD_SHAPE = 'Send {"checkpoint": "models:/NAME@ALIAS"}, or nothing.'


class OctetsResponse(Response):
    """Bytes."""

    media_type = OCTETS


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
        >>> app = create_app(Engine(predictor, model))  # uvicorn.run(app), or pointseg.serving.server.serve
    """
    settings = settings or Settings()
    telemetry = Telemetry(engine)
    scoring = Scoring(engine, settings, collection)
    if collection is not None:
        telemetry.count_collected(collection)
    telemetry.add_gauge("pointseg_held_bytes", "Bytes of bodies that are in memory.", lambda: scoring.body_memory.bytes)
    app = FastAPI(
        title="pointseg",
        version=VERSION,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.scoring, app.state.telemetry = scoring, telemetry
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _unknown_option)
    keyed = _asks_for(settings.key, "key", "The key of the service.")
    _add_scoring(app, scoring, settings, keyed)
    _add_state(app, scoring, settings)
    _add_facts(app, engine, settings, telemetry, keyed)
    if source is not None and settings.admin_token:
        _add_reload(app, settings, Reloader(engine, source, telemetry))
    _add_pages(app)
    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(RequestMiddleware, telemetry=telemetry, routes=paths)
    of_routes = app.openapi

    def openapi() -> dict[str, Any]:
        document = of_routes()
        add_examples(document, engine.served, settings.limits)  # each time: a reload changes the model
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _asks_for(secret: str | None, name: str, description: str) -> list[Dependency]:
    """What a route depends on that asks for a secret, if there is one."""
    if secret is None:
        return []

    async def require(request: Request, _: object = Depends(_bearer(name, description))) -> None:
        require_secret(request.headers.get("authorization"), secret, name)

    return [Depends(require)]


def _bearer(name: str, description: str) -> HTTPBearer:
    return HTTPBearer(scheme_name=name, description=description, auto_error=False)


async def _no_store(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


# ---- labels ----------------------------------------------------------------------------------------------------------


def _add_scoring(app: FastAPI, scoring: Scoring, settings: Settings, keyed: list[Dependency]) -> None:
    async def open_for_requests() -> None:
        scoring.refuse_while_draining()

    labels = {
        "description": "A raw id for each point, in the order of the points; as octets uint32, little-endian, then float32 "
        "rows of probabilities and float32 rows of x, y, z, each where it is asked for.",
        "headers": ANSWER_HEADERS,
        "content": {OCTETS: {"schema": BINARY}},
    }
    codes = [400, *([401] if keyed else []), 406, 408, 413, 415, 422, 500, 503, 504]

    @app.post(
        "/score",
        summary="Label a cloud",
        description="As JSON, as octets (little-endian float32 rows of four, a SemanticKITTI `.bin`, or of three with "
        "`columns=3`), or as a file of any kind that pointseg reads. JSON and octets may be compressed. The answer is JSON, "
        f"or octets with `Accept: {OCTETS}`.",
        response_model=Answer,
        responses={200: labels, **error_responses(settings.limits, *codes)},
        dependencies=[*keyed, Depends(open_for_requests), Depends(_each_once)],
        openapi_extra=SCORE_BODY,
    )
    async def score(
        request: Request,
        options: Annotated[ScoreOptions, Query()],
        content_encoding: Annotated[
            str,
            Header(
                alias="Content-Encoding",
                description="Of JSON and octets.",
                json_schema_extra={"enum": ["identity", "gzip", "zstd"]},
            ),
        ] = "identity",
        x_request_id: Annotated[
            str | None,
            Header(
                alias="X-Request-Id",
                description="A name for this request, in the answer and the log; else one is made.",
                json_schema_extra={"pattern": "^[A-Za-z0-9._-]{1,128}$"},
            ),
        ] = None,
    ) -> Response:
        return await scoring.answer(request, options)


async def _each_once(request: Request) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if names.count(name) > 1:
            raise Refusal(422, f"{name[:40]!r} is given twice", where="query", remedy="Give it once.")


# ---- the service itself ----------------------------------------------------------------------------------------------


def _add_state(app: FastAPI, scoring: Scoring, settings: Settings) -> None:
    @app.get("/healthz", summary="Whether the process is alive", dependencies=[Depends(_no_store)])
    async def healthz() -> State:
        return State(status="alive")

    @app.get(
        "/readyz",
        summary="Whether it answers",
        responses=error_responses(settings.limits, 503),
        dependencies=[Depends(_no_store)],
    )
    async def readyz() -> State:
        scoring.refuse_while_draining()
        return State(status="ready")


def _add_facts(app: FastAPI, engine: Engine, settings: Settings, telemetry: Telemetry, keyed: list[Dependency]) -> None:
    unkeyed = error_responses(settings.limits, 401) if keyed else {}

    @app.get(
        "/metadata",
        summary="What the model knows, and what may be sent",
        responses=unkeyed,
        dependencies=[*keyed, Depends(_no_store)],
    )
    async def metadata() -> Metadata:
        return _metadata(engine, settings)

    @app.get(
        "/metrics",
        summary="Metrics, as Prometheus reads them",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **unkeyed},
        dependencies=keyed,
    )
    async def metrics() -> Response:
        return Response(telemetry.text(), headers={"Content-Type": CONTENT_TYPE})


def _metadata(engine: Engine, settings: Settings) -> Metadata:
    predictor, model = engine.served
    limits = settings.limits
    return Metadata.model_validate(
        {
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
            "version": VERSION,
        }
    )


def _add_reload(app: FastAPI, settings: Settings, reloader: Reloader) -> None:
    @app.post(
        "/admin/reload",
        summary="Load another model, or the same name again",
        description="Without a body: what the service was started with, whose alias may have moved. Requests are answered "
        "meanwhile; where the new model cannot be used, the one before stays.",
        responses=error_responses(settings.limits, 400, 401, 409, 413, 422, 500),
        dependencies=[
            *_asks_for(settings.admin_token, "token", "The token of whoever runs it."),
            Depends(_no_store),
        ],
        openapi_extra={
            "requestBody": {"required": False, "content": {JSON: {"schema": Reload.model_json_schema()}}},
            "x-codeSamples": [
                {"lang": "Shell", "source": "curl -X POST -H 'Authorization: Bearer TOKEN' URL/admin/reload"}
            ],
        },
    )
    async def reload(request: Request) -> Reloaded:
        checkpoint = _checkpoint_of(await _short_body(request))
        return Reloaded.model_validate(await reloader.reload(checkpoint, request.scope["request_id"]))


async def _short_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_RELOAD:
            raise Refusal(413, f"the body has more than {LONGEST_RELOAD:,} bytes", where="body", remedy=RELOAD_SHAPE)
    return body


def _checkpoint_of(body: bytes) -> str | None:
    """What a reload names; None for the service's own."""
    if not body:
        return None
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is no JSON ({error.msg})", where="body", remedy=RELOAD_SHAPE) from None
    if not isinstance(content, dict) or set(content) - set(Reload.model_fields):
        raise Refusal(422, "the body holds something else than a checkpoint", where="body", remedy=RELOAD_SHAPE)
    checkpoint = content.get("checkpoint")
    if checkpoint is not None and (not isinstance(checkpoint, str) or not checkpoint or "\0" in checkpoint):
        raise Refusal(422, "the checkpoint is no text", where="checkpoint", remedy=RELOAD_SHAPE)
    return checkpoint


# ---- for browsers ----------------------------------------------------------------------------------------------------


def _add_pages(app: FastAPI) -> None:
    """Nothing of these is fetched from elsewhere."""

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        page = service_page.page()
        return Response(page.body, headers=page.headers)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        page = api_page(app.openapi(), str(request.base_url))
        return Response(page.body, headers=page.headers)

    @app.get(
        "/sample.bin",
        summary="A synthetic street to try",
        response_class=OctetsResponse,
        response_description="float32 rows of four.",
    )
    async def sample() -> Response:
        return OctetsResponse(await asyncio.to_thread(sample_scan))


# ---- errors ----------------------------------------------------------------------------------------------------------


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    raise refusal_of_http(error)


async def _unknown_option(request: Request, error: Exception) -> Response:
    """What FastAPI itself finds wrong: the values of options are refused by what reads them."""
    assert isinstance(error, RequestValidationError)
    name = min(str(one["loc"][-1]) for one in error.errors())
    raise Refusal(422, f"there is no option {name!r}", where="query", remedy="Use probabilities and columns.")
