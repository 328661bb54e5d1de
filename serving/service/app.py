"""The service as a FastAPI application: its paths, what they reply, and what they refuse."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from core.image_formats import Undecodable
from core.images import decode_photo
from serving.faces import Pipeline
from serving.records import face_record
from serving.service.batching import Batcher, QueueFull
from serving.service.limits import RateLimit, is_bearer
from serving.service.metrics import CONTENT_TYPE, Metrics
from serving.service.page import HEADERS, page
from serving.service.schema import BODY, DESCRIPTION, Health, Predictions, Refusal
from serving.service.uploads import read_photos
from serving.types import FacePrediction

PREDICT = "/predict"


@dataclass(frozen=True)
class ServiceSettings:
    """Limits of the service. `per_minute` 0: no limit of a client's requests; `token` None: none is asked for."""

    tasks: tuple[str, ...]
    workers: int = 1
    most_waiting: int = 64
    most_bytes: int = 20_000_000
    per_minute: int = 0
    token: str | None = None


@dataclass(frozen=True)
class Picture:
    """A photo that could be read: its size in pixels and the predictions of its faces."""

    width: int
    height: int
    faces: Sequence[FacePrediction]

    def record(self, name: str) -> dict[str, Any]:
        """Return the entry that predict.py writes for a photo."""
        faces = [face_record(face) for face in self.faces]
        return {"photo": name, "width": self.width, "height": self.height, "faces": faces}


def predict_photos(pipeline: Pipeline, photos: Sequence[bytes]) -> list[Picture | str]:
    """Return the predictions of each photo, or the reason why it cannot be read. All faces are classified together."""
    sizes: list[tuple[int, int] | str] = []
    cut = []
    for data in photos:
        try:
            rgb = decode_photo(data)
        except Undecodable as error:
            sizes.append(str(error))
            continue
        sizes.append((rgb.shape[1], rgb.shape[0]))
        cut.append(pipeline.cut(rgb))
    predicted = iter(pipeline.predict(cut))
    return [size if isinstance(size, str) else Picture(*size, next(predicted)) for size in sizes]


class Service:
    """What the paths of the service do."""

    def __init__(self, pipeline: Pipeline, settings: ServiceSettings) -> None:
        self._settings = settings
        self._rate = RateLimit(settings.per_minute) if settings.per_minute else None
        self._metrics = Metrics()
        self._batcher: Batcher[bytes, Picture | str] = Batcher(
            lambda photos: predict_photos(pipeline, photos),
            workers=settings.workers,
            most_waiting=settings.most_waiting,
        )

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with self._batcher.running():
            yield

    async def predict(self, request: Request) -> JSONResponse:
        """Find every face of the photos, and predict each.

        Send one photo as the body, or one or many as files of multipart/form-data. Photos that cannot be read are
        named in `unreadable`; if none can be read, the status is 422.
        """
        began = time.perf_counter()
        self._refuse_stranger(request)
        self._refuse_hasty(request)
        try:
            # A place in the queue bounds the memory of bodies that are still arriving.
            with self._batcher.announced():
                limits = {"most_bytes": self._settings.most_bytes, "most_photos": self._settings.most_waiting}
                photos = await read_photos(request, **limits)
            futures = self._batcher.submit(list(photos.values()))
        except QueueFull as error:
            wait = {"Retry-After": str(error.seconds)}
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, str(error), wait) from None
        content = self._content(dict(zip(photos, await asyncio.gather(*futures), strict=True)))
        if not content["pictures"]:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in content["unreadable"].items())
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"cannot be read: {reasons}")
        self._metrics.add_prediction(time.perf_counter() - began)
        return JSONResponse(content)

    def _content(self, results: dict[str, Picture | str]) -> dict[str, Any]:
        unreadable = {name: result for name, result in results.items() if isinstance(result, str)}
        pictures = [result.record(name) for name, result in results.items() if not isinstance(result, str)]
        self._metrics.photos += len(pictures)
        self._metrics.unreadable += len(unreadable)
        self._metrics.faces += sum(len(picture["faces"]) for picture in pictures)
        return {"unreadable": unreadable, "pictures": pictures}

    def _refuse_stranger(self, request: Request) -> None:
        token = self._settings.token
        if token is not None and not is_bearer(request.headers.get("authorization", ""), token):
            ask = {"WWW-Authenticate": "Bearer"}
            raise HTTPException(HTTPStatus.UNAUTHORIZED, "no valid token: send Authorization: Bearer TOKEN", ask)

    def _refuse_hasty(self, request: Request) -> None:
        client = request.client.host if request.client else ""
        if self._rate and (seconds := self._rate.seconds_to_wait(client)):
            reason = f"more than {self._settings.per_minute} requests in a minute; come back in {seconds} s"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, reason, {"Retry-After": str(seconds)})

    async def health(self) -> Health:
        """Say that the service is there, the tasks it predicts, and how many photos wait."""
        return Health(status="ok", tasks=list(self._settings.tasks), waiting=self._batcher.waiting)

    async def metrics(self, request: Request) -> PlainTextResponse:
        """Give counts since the start, in Prometheus' text form."""
        self._refuse_stranger(request)
        text = self._metrics.text(waiting=self._batcher.waiting, batches=self._batcher.batches)
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    def counted(self, app: Callable) -> Callable:
        """Return the ASGI application with its responses counted."""

        async def counting(scope: dict, receive: Callable, send: Callable) -> None:
            async def count(message: dict) -> None:
                if message["type"] == "http.response.start":
                    # Not any path: each would be a line of the metrics for ever.
                    path = scope["path"] if scope["path"] == PREDICT else "other"
                    self._metrics.add_response(path, message["status"])
                await send(message)

            await app(scope, receive, count)

        return counting


def build_app(pipeline: Pipeline, settings: ServiceSettings) -> FastAPI:
    """Return the application. Its page of the paths needs no script and no other host, unlike FastAPI's own."""
    service = Service(pipeline, settings)
    app = FastAPI(
        title="Mask, gender and age from photos",
        description=DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=service.lifespan,
    )
    refusals = {code: {"model": Refusal} for code in (400, 401, 408, 413, 422, 429, 503)}
    app.add_api_route(
        PREDICT,
        service.predict,
        methods=["POST"],
        responses={200: {"model": Predictions}, **refusals},
        openapi_extra=BODY,
    )
    app.add_api_route("/health", service.health, methods=["GET"])
    app.add_api_route("/metrics", service.metrics, methods=["GET"], response_class=PlainTextResponse)

    async def home() -> HTMLResponse:
        return HTMLResponse(page(app.openapi(), with_form=settings.token is None), headers=HEADERS)

    app.add_api_route("/", home, methods=["GET"], include_in_schema=False)
    app.add_middleware(lambda inner: service.counted(inner))
    return app
