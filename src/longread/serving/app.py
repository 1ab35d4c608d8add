"""The web application: its paths, its pages and its OpenAPI."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from longread import __version__
from longread.serving.bodies import ExplainRequest, PredictRequest, Refused, Wrong
from longread.serving.service import Service
from longread.serving.settings import ServeSettings
from longread.serving.state import Answering, State

HERE = Path(__file__).parent
PAGES = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript"),
         "/page.css": ("page.css", "text/css"), "/docs": ("docs.html", "text/html"),
         "/docs.js": ("docs.js", "text/javascript")}  # fmt: skip
ERRORS = {
    400: "the body is not JSON in UTF-8",
    408: "the body did not come in time",
    413: "the body is too large",
    415: "the body is compressed",
    422: "the body is not as it should be",
    429: "too many texts wait; the header retry-after says when to ask again",
    500: "the service failed",
    503: "the model is being loaded, or the service is shutting down",
    504: "no answer in time",
}


def create_app(load: Callable[[], Service], settings: ServeSettings) -> FastAPI:
    """`load` makes the service; it runs when the application starts, and until then requests are answered with 503."""
    state = State(load, settings)
    app = FastAPI(title="longread", version=__version__, lifespan=state.lifespan, docs_url=None, redoc_url=None)
    app.state.longread = state
    app.add_middleware(Answering, state=state)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _no_such)
    wrong = _errors(*ERRORS)

    @app.post("/predict", openapi_extra=_body(PredictRequest), responses=wrong)
    async def predict(request: Request) -> JSONResponse:
        """Label (or labels, or value) and probabilities, in the order of the inputs."""
        return await state.predict(request)

    @app.post("/explain", openapi_extra=_body(ExplainRequest), responses=wrong)
    async def explain(request: Request) -> JSONResponse:
        """Which tokens and sentences decided, by integrated gradients."""
        return await state.explain(request)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/ready", responses=_errors(503))
    async def ready() -> dict[str, Any]:
        """The model is loaded and takes requests; 503 while it is not."""
        service = state.serving()
        scorer = service.predictor.scorer
        return {
            "status": "ready",
            "attention": scorer.attention,
            "problem_type": service.predictor.problem_type,
            "labels": list(service.predictor.label_names),
            "max_length": scorer.positions,
            "pairs": service.pairs,
        }

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters and histograms for Prometheus."""
        return Response(state.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/favicon.ico", include_in_schema=False, status_code=204)
    async def favicon() -> None:
        """Browsers ask for it; there is none."""

    for path, (name, kind) in PAGES.items():
        app.add_api_route(path, _file(HERE / name, kind), include_in_schema=False)
    return app


async def _refused(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return JSONResponse({"error": str(refused)}, refused.status, refused.headers)


async def _no_such(request: Request, error: Exception) -> Response:
    """A path or a method that there is none of."""
    assert isinstance(error, HTTPException)
    allowed = Headers(error.headers).get("allow", "")
    told = {
        404: "there is no such path; there are POST /predict and /explain, GET /, /docs, /health, /ready and /metrics",
        405: f"this path does not take {request.method}; send {allowed}",
    }.get(error.status_code, str(error.detail))
    return JSONResponse({"error": told}, error.status_code, error.headers)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Wrong, "description": ERRORS[status]} for status in statuses}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """The description of a body that we read ourselves, because limits come before parsing."""
    schema = model.model_json_schema()
    for name, inner in schema.pop("$defs", {}).items():
        reference = json.dumps({"$ref": f"#/$defs/{name}"})
        schema = json.loads(json.dumps(schema).replace(reference, json.dumps(inner)))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _file(path: Path, kind: str) -> Callable[[], Awaitable[FileResponse]]:
    async def send() -> FileResponse:
        return FileResponse(path, media_type=kind)

    return send
