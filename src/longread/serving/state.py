"""What the paths of the application share: the service, limits, and the answer where something is wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longread.serving.batcher import Closed, Overloaded
from longread.serving.bodies import Refused, read_explain, read_json, read_predict
from longread.serving.metrics import Metrics
from longread.serving.service import Served, Service
from longread.serving.settings import ServeSettings

log = logging.getLogger("longread.serving")
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
RETRY_SECONDS = 1
TELL_SECONDS = 1.0
CLIENT_LEFT = 499


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

    async def predict(self, request: Request) -> JSONResponse:
        service = self.serving()
        items, several = read_predict(read_json(await self._body(request)))
        if len(items) > self._settings.max_texts:
            raise Refused(422, f"inputs has {len(items)} texts; send at most {self._settings.max_texts} at once")
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
        asked = read_explain(read_json(await self._body(request)))
        check_pair(service, asked.pair)

        def run() -> dict[str, Any]:
            try:
                pairs = None if asked.pair is None else [asked.pair]
                found = service.predictor.explain([asked.text], pairs, label=asked.label)[0]
            except ValueError as error:
                told = str(error).removeprefix(f"{service.predictor.source}: ")  # where it lies is not the client's
                raise Refused(422, told) from None
            if found.why is not None:
                raise Refused(422, f"{found.why}; give one with words")
            return found.to_json()

        async with self._explaining:  # gradients take much more memory than answers: one at a time
            return JSONResponse(await self._before_timeout(request, asyncio.to_thread(run)))

    async def _body(self, request: Request) -> bytes:
        """Refused where it is too large, compressed, or does not come in time."""
        limit, seconds = self._settings.max_body_bytes, self._settings.timeout
        if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise Refused(415, "the body is compressed; send it as it is, without content-encoding")
        too_large = Refused(413, f"the body is larger than {limit:,} bytes")
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told[:20]) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise too_large
        except TimeoutError:
            raise Refused(408, f"the body did not come whole within {seconds:g} seconds") from None
        except ClientDisconnect:
            raise Refused(CLIENT_LEFT, "the client has left") from None
        return bytes(body)

    async def _before_timeout(self, request: Request, work: Awaitable[Any]) -> Any:
        """The result of `work`; dropped when the client leaves or the time is over."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({task, gone}, timeout=self._settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise Refused(CLIENT_LEFT, "the client has left")
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


class Answering:
    """Around the application: every answer has an id, headers and a line in the log, in which no text ever is."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        given = Request(scope).headers.get("x-request-id", "")
        name = (
            given
            if given.isascii() and given.isprintable() and 0 < len(given) <= 128
            else f"{random.getrandbits(128):032x}"
        )
        status, tokens = 0, 0

        async def told(message: Message) -> None:
            nonlocal status, tokens
            if message["type"] == "http.response.start":
                status, headers = message["status"], MutableHeaders(scope=message)
                headers.update(HEADERS | {"x-request-id": name, "x-total-time": milliseconds(time.monotonic() - start)})
                tokens = int(headers.get("x-tokens", 0))
            await send(message)

        try:
            await self._app(scope, receive, told)
        except Exception:
            log.exception("request %s failed", name)
            if status == 0:
                await JSONResponse({"error": "the service failed; its log has more"}, 500)(scope, receive, told)
        route = scope.get("route")
        path = route.path if route is not None else "unknown"
        self._state.metrics.requests.labels(path, str(status)).inc()
        line = {"request": name, "path": path, "status": status,
                "seconds": round(time.monotonic() - start, 6), "tokens": tokens}  # fmt: skip
        log.info(json.dumps(line), extra={"fields": line})


def check_pair(service: Service, pair: str | None) -> None:
    """Refused where a second text is missing, or given to a model or a way of reading that takes one."""
    if pair is None and service.needs_pairs:
        raise Refused(422, "pair: this model compares two texts; send the second one, too")
    if pair is not None and not service.pairs:
        raise Refused(422, "pair: this model reads one text; leave the second one out")
    if pair is not None and service.predictor.cut.truncation not in (None, "head"):
        raise Refused(422, f"pair: this service reads single texts (--truncation {service.predictor.cut.truncation})")


async def _left(request: Request) -> None:
    """Returns when the client closes its connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _times(served: list[Served]) -> dict[str, str]:
    """Milliseconds, the longest of a request's texts; tokens of all of them."""
    return {
        "x-tokenization-time": milliseconds(max(one.tokenization_seconds for one in served)),
        "x-queue-time": milliseconds(max(one.queue_seconds for one in served)),
        "x-inference-time": milliseconds(max(one.inference_seconds for one in served)),
        "x-tokens": str(sum(one.tokens for one in served)),
    }


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
