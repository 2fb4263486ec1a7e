"""The application: OpenAI's endpoints, models, health and metrics around one calibrated model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError

from cogcalib.deployment.calibration_file import Calibration
from cogcalib.inference.experimental.endpoint_client import EndpointError, RefusedError
from cogcalib.serving.api_errors import ApiError, busy, failed, refused, too_late
from cogcalib.serving.asked import Answering, Asked, Served
from cogcalib.serving.batcher import Batcher, FullError, Places
from cogcalib.serving.limits import Guard, log
from cogcalib.serving.monitoring import Monitor
from cogcalib.serving.openai_api import ChatRequest, CompletionRequest, invalid
from cogcalib.serving.replies import chat_reply, completion_reply, model_list, to_json
from cogcalib.serving.serve_settings import ServeSettings

R = TypeVar("R", ChatRequest, CompletionRequest)

GONE = 499
"""What nginx calls a client that has gone before it was answered."""


class Desk:
    """Where requests come in and answers go out; it belongs to one event loop.

    Args:
        answering: The model.
        name: Under which it is served.
        settings: The limits.
    """

    def __init__(self, answering: Answering, name: str, settings: ServeSettings) -> None:
        self.answering, self.name, self.settings = answering, name, settings
        self.created = int(time.time())
        self.places = Places(settings.queue)
        self.monitor = Monitor(answering.calibration, settings.window, lambda: self.places.taken)
        self.batcher: Batcher[Asked, Served] = Batcher(
            self._answer_batch, settings.max_batch, settings.gather
        )
        self._reader = ThreadPoolExecutor(1, "cogcalib-reads")

    async def answer(self, request: Request, kind: type[R]) -> list[Served]:
        """Answer the questions of a request.

        Raises:
            ApiError: If it cannot be answered, or not in time.
            ConnectionAbortedError: If the client has gone; what has not begun is then not asked.
        """
        asked = await self._parse(request, kind)
        inputs = asked.inputs(self.answering.preset)
        if len(inputs) > self.settings.queue:
            raise refused(
                f"a request may have {self.settings.queue} prompts here, got {len(inputs)}",
                "prompt",
            )
        longest, field = asked.longest()
        read = partial(self.answering.read, inputs, longest, asked.listed(), field)
        try:
            with self.places.taking(len(inputs)):
                async with asyncio.timeout(self.settings.timeout):
                    loop = asyncio.get_running_loop()
                    questions = await loop.run_in_executor(self._reader, read)
                    waiting = [self.batcher.submit(each, each.longest) for each in questions]
                    served = await _answered(waiting, request)
        except FullError as error:
            raise busy(str(error)) from error
        except TimeoutError:
            raise too_late(self.settings.timeout) from None
        except (EndpointError, RefusedError) as error:
            log.warning("the endpoint behind: %r", str(error)[:1000])
            raise failed("the endpoint behind this server does not answer", 502) from error
        for each in served:
            self.monitor.record(each.answer)
        return served

    def close(self) -> None:
        """Answer what is in the queue, then stop."""
        self._reader.shutdown()
        self.batcher.close()

    async def _parse(self, request: Request, kind: type[R]) -> R:
        try:
            asked = kind.model_validate_json(await request.body())
        except ValidationError as error:
            raise invalid(error) from None
        if asked.model != self.name:
            raise unknown_model(asked.model)
        asked.check()
        return asked

    def _answer_batch(self, batch: list[Asked]) -> Sequence[Served]:
        self.monitor.batches.observe(len(batch))
        return self.answering.answer(batch)


async def _answered(waiting: Sequence[Future[Served]], request: Request) -> list[Served]:
    """Wait for answers, or for the client to hang up; cancel what is then left."""
    answers = asyncio.ensure_future(_each(waiting))
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait((answers, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            raise ConnectionAbortedError
        return answers.result()
    finally:
        answers.cancel()
        gone.cancel()
        for each in waiting:
            each.cancel()


async def _each(waiting: Sequence[Future[Served]]) -> list[Served]:
    return [await asyncio.wrap_future(each) for each in waiting]


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_app(answering: Answering, name: str, settings: ServeSettings) -> tuple[Guard, Desk]:
    """The application, and the desk behind it, which the application closes in the end.

    Args:
        answering: The model.
        name: Under which it is served.
        settings: The limits.
    """
    desk = Desk(answering, name, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    _add_errors(app)
    _add_answers(app, desk)
    _add_rest(app, desk)
    return Guard(app, desk.monitor, settings), desk


def _add_answers(app: FastAPI, desk: Desk) -> None:
    async def reply(
        request: Request, kind: type[R], make: Callable[..., dict[str, Any]]
    ) -> Response:
        try:
            served = await desk.answer(request, kind)
        except ConnectionAbortedError:
            return Response(status_code=GONE)
        return _json(make(desk.name, served, desk.settings.refuse_text))

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await reply(request, ChatRequest, chat_reply)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await reply(request, CompletionRequest, completion_reply)


def _add_rest(app: FastAPI, desk: Desk) -> None:
    models = model_list(desk.name, desk.created, _about(desk.answering.calibration))

    @app.get("/v1/models")
    async def list_models() -> Response:
        return _json(models)

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        if name != desk.name:
            raise unknown_model(name)
        return _json(models["data"][0])

    @app.get("/healthz")
    async def health() -> Response:
        alive = desk.batcher.alive
        return _json({"status": "ok" if alive else "failed"}, 200 if alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(desk.monitor.page(), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def told(request: Request, error: ApiError) -> Response:
        return _error(error)

    @app.exception_handler(HTTPException)
    @app.exception_handler(404)
    @app.exception_handler(405)
    async def unknown(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:200]
        known = error.status_code != 404
        message = f"{request.method[:20]} {path}: " + (error.detail if known else "no such path")
        return _error(ApiError(error.status_code, message, headers=error.headers))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        # Logged by the guard, which it is passed on to.
        return _error(failed("the server failed; its log says how"))


def unknown_model(name: str) -> ApiError:
    """A model that is not served."""
    return ApiError(
        404, f"the model {name[:200]!r} is not served here", code="model_not_found", param="model"
    )


def _about(calibration: Calibration) -> dict[str, Any]:
    rule = calibration.rules[0] if calibration.rules else None
    promise = rule and {
        "target_error": rule.target_error,
        "delta": rule.delta,
        "threshold": rule.threshold,
    }
    fitted = calibration.map
    return {
        "base_model": calibration.model.name,
        "confidence": calibration.answers.confidence,
        "map": fitted.method if fitted else None,
        "folded_temperature": calibration.folded_temperature,
        "rule": promise,
    }


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(to_json(content), status, media_type="application/json")


def _error(error: ApiError) -> Response:
    return Response(error.body(), error.status, error.headers, media_type="application/json")
