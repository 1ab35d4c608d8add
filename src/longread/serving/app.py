"""The web application: paths, limits and what is answered when something is wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from longread import __version__
from longread.serving.batcher import Closed, Overloaded
from longread.serving.metrics import Metrics
from longread.serving.service import Item, Served, Service
from longread.serving.settings import ServeSettings

log = logging.getLogger("longread.serving")
HERE = Path(__file__).parent
PAGES = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript"),
         "/page.css": ("page.css", "text/css"), "/docs": ("docs.html", "text/html"),
         "/docs.js": ("docs.js", "text/javascript")}  # fmt: skip
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
RETRY_SECONDS = 1
TELL_SECONDS = 1.0

Text = Annotated[str, StringConstraints(strict=True)]


class One(BaseModel):
    """A text, with its partner where the model compares two."""

    model_config = ConfigDict(extra="forbid")
    text: Text
    pair: Text | None = None


class PredictRequest(BaseModel):
    """`inputs`: a text, {"text": …, "pair": …}, or a list of either."""

    model_config = ConfigDict(extra="forbid")
    inputs: Text | One | Annotated[list[Text | One], Field(min_length=1)]


class ExplainRequest(BaseModel):
    """A text to explain, and the label to explain instead of the predicted one."""

    model_config = ConfigDict(extra="forbid")
    text: Text
    pair: Text | None = None
    label: Text | None = None


class Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


def create_app(load: Callable[[], Service], settings: ServeSettings) -> FastAPI:
    """`load` makes the service; it runs when the application starts, and until then requests are answered with 503."""
    state = State(load, settings)
    app = FastAPI(title="longread", version=__version__, lifespan=state.lifespan, docs_url=None, redoc_url=None)
    app.state.longread = state

    @app.middleware("http")
    async def answer_every_request(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        return await state.answer(request, call)

    @app.post("/predict", openapi_extra=_body(PredictRequest))
    async def predict(request: Request) -> JSONResponse:
        """Label (or labels, or value) and probabilities, in the order of the inputs."""
        return await state.predict(request)

    @app.post("/explain", openapi_extra=_body(ExplainRequest))
    async def explain(request: Request) -> JSONResponse:
        """Which tokens and sentences decided, by integrated gradients."""
        return await state.explain(request)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/ready")
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


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """The description of a body that we read ourselves, because limits come before parsing."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _file(path: Path, kind: str) -> Callable[[], Awaitable[FileResponse]]:
    async def send() -> FileResponse:
        return FileResponse(path, media_type=kind)

    return send


class State:
    """What the paths share."""

    def __init__(self, load: Callable[[], Service], settings: ServeSettings) -> None:
        self._load, self._settings = load, settings
        self._service: Service | None = None
        self.error: Exception | None = None  # why the model cannot be loaded
        self.stop: Callable[[], None] = lambda: None  # ends the server
        self.on_ready: Callable[[], None] = lambda: None
        self.draining = False
        self._explaining = asyncio.Semaphore(1)
        self.metrics = Metrics(lambda: self._service.batcher.waiting if self._service else 0)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(self._start())
        telling = asyncio.create_task(self._tell_waiting())
        yield
        self.draining = True
        telling.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        if self._service is not None:
            await asyncio.to_thread(self._service.close)

    async def _start(self) -> None:
        try:
            self._service = await asyncio.to_thread(self._load)
        except Exception as error:
            self.error = error
            self.stop()
            return
        self.on_ready()

    async def _tell_waiting(self) -> None:
        """Another worker may be asked for the metrics of all."""
        while True:
            self.metrics.refresh()
            await asyncio.sleep(TELL_SECONDS)

    def serving(self) -> Service:
        if self.draining:
            raise Refused(503, "the service is shutting down", **{"retry-after": str(RETRY_SECONDS)})
        if self._service is None:
            raise Refused(503, str(self.error or "the model is being loaded"), **{"retry-after": str(RETRY_SECONDS)})
        return self._service

    async def answer(self, request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        """Every answer has an id, headers and a line in the log; no text of a request is ever in it."""
        start = time.monotonic()
        given = request.headers.get("x-request-id", "")
        name = given if given.isascii() and given.isprintable() and 0 < len(given) <= 128 else uuid.uuid4().hex
        try:
            response = await call(request)
        except Refused as refused:
            response = JSONResponse({"error": str(refused)}, refused.status, refused.headers)
        except Exception:
            log.exception("request %s failed", name)
            response = JSONResponse({"error": "the service failed; its log has more"}, 500)
        seconds = time.monotonic() - start
        for key, value in (HEADERS | {"x-request-id": name, "x-total-time": _milliseconds(seconds)}).items():
            response.headers[key] = value
        route = request.scope.get("route")
        path = route.path if route is not None else "unknown"
        self.metrics.requests.labels(path, str(response.status_code)).inc()
        line = {"request": name, "path": path, "status": response.status_code, "seconds": round(seconds, 6),
                "tokens": int(response.headers.get("x-tokens", 0))}  # fmt: skip
        log.info(json.dumps(line), extra={"fields": line})
        return response

    async def predict(self, request: Request) -> JSONResponse:
        service = self.serving()
        body = await self._parsed(request, PredictRequest)
        several = isinstance(body.inputs, list)
        inputs = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        if len(inputs) > self._settings.max_texts:
            raise Refused(422, f"inputs: {len(inputs)} texts; at most {self._settings.max_texts} in a request")
        items = [Item(one, None) if isinstance(one, str) else Item(one.text, one.pair) for one in inputs]
        for item in items:
            check_pair(service, item.pair)
        start = time.monotonic()
        served = await self._before_timeout(request, asyncio.gather(*(service.predict(item) for item in items)))
        self.metrics.total.observe(time.monotonic() - start)
        self.metrics.texts.inc(len(served))
        for one in served:
            self.metrics.tokenization.observe(one.tokenization_seconds)
            self.metrics.queue.observe(one.queue_seconds)
            self.metrics.inference.observe(one.inference_seconds)
            self.metrics.tokens.observe(one.tokens)
        bodies = [one.body for one in served]
        return JSONResponse(bodies if several else bodies[0], headers=_times(served))

    async def explain(self, request: Request) -> JSONResponse:
        service = self.serving()
        body = await self._parsed(request, ExplainRequest)
        check_pair(service, body.pair)

        def run() -> dict[str, Any]:
            try:
                pairs = None if body.pair is None else [body.pair]
                return service.predictor.explain([body.text], pairs, label=body.label)[0].to_json()
            except ValueError as error:
                raise Refused(422, str(error)) from None

        async with self._explaining:  # gradients take much more memory than answers: one at a time
            return JSONResponse(await self._before_timeout(request, asyncio.to_thread(run)))

    async def _parsed(self, request: Request, model: type[Any]) -> Any:
        limit = self._settings.max_body_bytes
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise Refused(413, f"the body is larger than {limit:,} bytes")
        try:
            value = json.loads(bytes(body).decode("utf-8"))
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair is no text
        except UnicodeEncodeError:
            raise Refused(422, "a text holds half of a surrogate pair; send whole characters") from None
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the body is not JSON in UTF-8: {error}") from None
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise Refused(422, f"{where}: {first['msg']}") from None

    async def _before_timeout(self, request: Request, work: Awaitable[Any]) -> Any:
        """The result of `work`; dropped when the client leaves or the time is over."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({task, gone}, timeout=self._settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise Refused(499, "the client has left")
            raise Refused(504, f"no answer within {self._settings.timeout:g} seconds")
        except Overloaded:
            message = f"{self._settings.max_concurrent} texts wait already; try again"
            raise Refused(429, message, **{"retry-after": str(RETRY_SECONDS)}) from None
        except Closed:
            raise Refused(503, "the service is shutting down", **{"retry-after": str(RETRY_SECONDS)}) from None
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)


def check_pair(service: Service, pair: str | None) -> None:
    """Refused where a second text is missing, or given to a model or a way of reading that takes one."""
    if pair is None and service.needs_pairs:
        raise Refused(422, "pair: this model compares two texts; send the second one, too")
    if pair is not None and not service.pairs:
        raise Refused(422, "pair: this model reads one text")
    if pair is not None and service.predictor.cut.truncation not in (None, "head"):
        raise Refused(422, f"pair: this service reads single texts (--truncation {service.predictor.cut.truncation})")


async def _left(request: Request) -> None:
    """Returns when the client closes its connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _times(served: list[Served]) -> dict[str, str]:
    """Milliseconds, the longest of a request's texts; tokens of all of them."""
    return {
        "x-tokenization-time": _milliseconds(max(one.tokenization_seconds for one in served)),
        "x-queue-time": _milliseconds(max(one.queue_seconds for one in served)),
        "x-inference-time": _milliseconds(max(one.inference_seconds for one in served)),
        "x-tokens": str(sum(one.tokens for one in served)),
    }


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
