"""A fitted pipeline behind HTTP: images in, decisions out, limits on everything."""

import asyncio
import base64
import contextlib
import hmac
import logging
import math
import os
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import ImageDraw
from sklearn.pipeline import Pipeline

try:
    from fastapi import Depends, FastAPI, File, HTTPException, Response, UploadFile, security
    from fastapi.responses import HTMLResponse
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from pydantic import BaseModel
except ImportError as error:
    raise ImportError(
        f'The service needs {error.name}: pip install "skstructcore[serve]"'
    ) from error

from .._utils.files import stamp
from .._utils.pages import base64_of, fill_page
from .._utils.validation import check_number
from .._version import __version__
from ..images.image_list import as_images
from ..images.reading import ImageReadError
from ..inference.scores import score_batch
from ..lifecycle.drift import DriftMonitor
from ..model_files import info, load
from ..scoring.regions import find_regions
from .latency import warm_up

__all__ = ["make_app"]

_logger = logging.getLogger(__name__)
_N_SHOWN = 50
_POLL_SECONDS = 1.0
_RETRY_SECONDS = 30.0  # after which a file that could not be loaded is tried again
_REFUSALS = {
    400: "The body is a broken multipart form.",
    401: "No valid bearer token.",
    413: "Too many bytes, pixels or images.",
    422: "No image can be read, or none was sent, in a multipart form.",
    429: "Too many requests wait.",
    503: "No model is loaded.",
    504: "It took too long.",
}


class Region(BaseModel):
    """A place that is higher than good images are, in pixels of the upright image."""

    top: float
    left: float
    bottom: float
    right: float
    peak_row: float
    peak_col: float
    area: float
    p_value: float


class ImageAnswer(BaseModel):
    """What was decided about an image; of one that cannot be read there is the error alone."""

    name: str
    decision: Literal["anomalous", "good", "unreadable"]
    score: float | None = None
    p_value: float | None = None
    route: str | None = None
    decided_by: str | None = None
    regions: list[Region] = []
    error: str | None = None


class Answer(BaseModel):
    """What was decided, and by which model."""

    model: str
    threshold: float
    images: list[ImageAnswer]
    alarms: list[str]


class _Loaded(NamedTuple):
    pipe: Pipeline
    version: str
    monitor: DriftMonitor


class LiveModel:
    """A model file that is loaded again when it changes; work goes on with what it began with."""

    def __init__(self, path, weights=None):
        self.path, self.loaded, self.error, self.weights = path, None, None, weights
        self._stamp, self._failed_at, self._lock = None, -math.inf, threading.Lock()

    def refresh(self) -> None:
        """Load the file if it has changed. One that cannot be loaded leaves the old model.

        It is tried again after a while: weights or memory may be missing for a moment.
        """
        with self._lock:
            now = None
            try:
                now = stamp(self.path)
                waits = not self.error or time.monotonic() - self._failed_at < _RETRY_SECONDS
                if now == self._stamp and waits:
                    return
                pipe, header = load(self.path, weights=self.weights), info(self.path)
                if stamp(self.path) != now:  # the header may be of another file than the model
                    raise OSError(f"{str(self.path)!r} was replaced while it was loaded")
                version = f"{header['digest'][:12]} of {header['created']}"
                # The same model in a new file goes on with what was seen of the line.
                is_known = self.loaded is not None and self.loaded.version == version
                monitor = self.loaded.monitor if is_known else DriftMonitor(pipe)
                self.loaded, self.error = _Loaded(warm_up(pipe), version, monitor), None
                _logger.info("Loaded %s, %s", self.path, version)
            except Exception as error:  # of any kind: the next file is looked at all the same
                if self.error != str(error):
                    _logger.error("The model cannot be loaded: %s", error)
                self.error, self._failed_at = str(error), time.monotonic()
            self._stamp = now


def make_app(
    path: str | os.PathLike,
    *,
    token: str | None = None,
    max_bytes: int = 64 * 2**20,
    max_pixels: int = 50_000_000,
    max_images: int = 64,
    max_queue: int = 16,
    timeout: float = 30.0,
    weights: str | Sequence[str] | None = None,
) -> FastAPI:
    """Build the service of a model file.

    Parameters
    ----------
    path : str or path-like
        A file of `skstructcore.save`. When it is replaced, the new model is loaded.
    token : str, default=None
        What the header ``Authorization: Bearer <token>`` has to say, or a browser as the
        password, with any name; None: anybody may ask.
    max_bytes, max_pixels, max_images : int
        Largest body in bytes, largest image in pixels, most images in a request; more is refused
        with status 413. 64 MiB, 50 million and 64 by default.
    max_queue : int, default=16
        Requests that may wait; more are refused with status 429.
    timeout : float, default=30.0
        Seconds that a request may take; then it is answered with status 504.
    weights : path or sequence of paths, default=None
        Where the weights of the network are: see `skstructcore.load`.

    Returns
    -------
    app : FastAPI
        POST ``/score`` takes images as multipart files named ``images``; GET ``/healthz``,
        ``/readyz``, ``/metrics``, and a page with the last decisions at ``/``.
    """
    if token is not None and not (token and token.isascii()):
        raise ValueError("token must be of ASCII characters, or None, so that anybody may ask.")
    limits = {"max_pixels": max_pixels, "max_images": max_images, "max_queue": max_queue}
    for name, limit in {"max_bytes": max_bytes, **limits}.items():
        check_number(limit, name, 1, closed="left", type=Integral)
    check_number(timeout, "timeout", 0)
    service = _Service(LiveModel(path, weights), **limits, timeout=timeout)

    # HTTPBasic itself refuses names beyond ASCII.
    basic = security.http.HTTPBase(scheme="basic", scheme_name="HTTPBasic", auto_error=False)

    def check_token(
        bearer=Depends(security.HTTPBearer(auto_error=False)),  # noqa: B008
        basic=Depends(basic),  # noqa: B008
    ):
        given = bearer.credentials.encode() if bearer else b""
        if basic and basic.scheme.lower() == "basic":
            with contextlib.suppress(ValueError):  # of base64
                given = base64.b64decode(basic.credentials).partition(b":")[2]
        if not hmac.compare_digest(given, token.encode()):
            # Without Bearer: Chromium looks at the first kind alone, and would not ask.
            challenge = {"WWW-Authenticate": 'Basic realm="skstructcore"'}
            raise HTTPException(401, "A bearer token is needed.", challenge)

    app = FastAPI(title="skstructcore", version=__version__, lifespan=service.live)
    app.state.model = service.model
    app.add_middleware(_BodyLimit, max_bytes=max_bytes)
    responses = {status: {"description": text} for status, text in _REFUSALS.items()}
    with_token = {"dependencies": [Depends(check_token)] if token else []}
    app.post("/score", responses=responses, **with_token)(service.score)
    app.get("/healthz")(service.healthz)
    app.get("/readyz", responses={503: responses[503]})(service.readyz)
    app.get("/metrics", response_class=Response, **with_token)(service.metrics_page)
    app.get("/", response_class=HTMLResponse, **with_token)(service.page)
    return app


class _Service:
    """What is answered to requests; one image after the other is judged, in a thread of its own."""

    def __init__(self, model, max_pixels, max_images, max_queue, timeout):
        self.model, self.limits, self.timeout = model, (max_pixels, max_images), timeout
        self._last = deque(maxlen=_N_SHOWN)  # time, decision and thumbnail of each image
        self._worker = ThreadPoolExecutor(1)
        self._queue = threading.BoundedSemaphore(max_queue)
        self._registry = CollectorRegistry()
        options = {"registry": self._registry}
        self._seconds = Histogram("skstructcore_request_seconds", "Time of a request", **options)
        names = ["decision", "route"]
        self._images = Counter("skstructcore_images", "Images that were judged", names, **options)
        self._waiting = Gauge("skstructcore_waiting_requests", "Requests at work", **options)
        alarms = Gauge("skstructcore_drift_alarms", "Drift alarms of this model", **options)
        alarms.set_function(lambda: len(model.loaded.monitor.alarms_) if model.loaded else 0)

    @contextlib.asynccontextmanager
    async def live(self, app):
        """Load the model, and look for a newer one until the service ends."""

        async def keep_fresh():
            while True:
                await asyncio.to_thread(self.model.refresh)
                await asyncio.sleep(_POLL_SECONDS)

        await asyncio.to_thread(self.model.refresh)
        task = asyncio.create_task(keep_fresh())
        yield
        task.cancel()
        self._worker.shutdown(cancel_futures=True)

    async def score(
        self,
        images: list[UploadFile] = File(min_length=1, description="Images, any format"),  # noqa: B008
    ) -> Answer:
        began, loaded = time.perf_counter(), self.model.loaded
        if loaded is None:
            raise HTTPException(503, f"No model is loaded: {self.model.error}")
        if not self._queue.acquire(blocking=False):
            raise HTTPException(429, _REFUSALS[429], {"Retry-After": "1"})
        self._waiting.inc()
        try:
            names = [image.filename or f"image {i}" for i, image in enumerate(images)]
            contents = [await image.read() for image in images]
            job = self._worker.submit(self._judge, began, loaded, contents, names)
        except BaseException:
            self._leave()
            raise
        job.add_done_callback(self._leave)  # work that has begun goes on after a timeout
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), self.timeout)
        except ImageReadError as error:
            raise HTTPException(422, str(error)) from None
        except (TimeoutError, asyncio.TimeoutError):
            raise HTTPException(504, f"No answer within {self.timeout:g} seconds.") from None

    def _judge(self, began, loaded, contents, names):
        """Judge, and count: also for a request that times out meanwhile, but not before."""
        answer, thumbnails = judge(loaded, contents, names, *self.limits)
        self._seconds.observe(time.perf_counter() - began)
        when = time.strftime("%H:%M:%S")
        for image, thumbnail in zip(answer.images, thumbnails, strict=True):
            self._images.labels(image.decision, image.route or "").inc()
            self._last.append((when, image, thumbnail))
        return answer

    def _leave(self, _job=None):
        self._queue.release()
        self._waiting.dec()

    async def healthz(self) -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "alive"}

    async def readyz(self) -> dict[str, str | None]:
        """Whether a model is loaded, which, and what is wrong with a newer file."""
        if self.model.loaded is None:
            raise HTTPException(503, f"No model is loaded: {self.model.error}")
        return {"model": self.model.loaded.version, "error": self.model.error}

    async def metrics_page(self) -> Response:
        """For Prometheus."""
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4")

    async def page(self) -> str:
        """The last decisions."""
        loaded = self.model.loaded
        version, alarms = (loaded.version, loaded.monitor.alarms_) if loaded else (None, [])
        shown = {"error": self.model.error, "shown": [*reversed(self._last)]}
        return fill_page(__package__, version=version, alarms=alarms, **shown)


class _BodyLimit:
    """Answer 413 as soon as a body is longer than allowed, whatever its header says."""

    def __init__(self, app, max_bytes):
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope, receive, send):
        n_bytes = 0

        async def counted():
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self.max_bytes:
                raise HTTPException(413, f"The body has more than {self.max_bytes} bytes.")
            return message

        await self.app(scope, counted, send)


def judge(loaded, contents, names, max_pixels, max_images):
    """The answer, and a thumbnail of each image that can be read."""
    with tempfile.TemporaryDirectory(prefix="skstructcore-") as folder:
        paths, names = _received(contents, names, folder)
        if len(paths) > max_images:
            raise HTTPException(413, f"{len(paths)} images, and {max_images} may come at once.")
        images = as_images(paths, max_pixels=sys.maxsize)  # the limit is looked at here
        for i, name in enumerate(names):
            with contextlib.suppress(ImageReadError):
                if math.prod(images.size(i)) > max_pixels:
                    raise HTTPException(413, f"{name!r} has more than {max_pixels} pixels.")
        table, regions = score_batch(loaded.pipe, images, _regions_of)
        judged = [*map(_answered, table.to_dict("records"), regions, paths, names)]
        readable = table["error"].isna()
        if not readable.any():
            raise ImageReadError(judged[0].error)
        alarms = [*map(str, loaded.monitor.update(table[readable]))]
        thumbnails = [
            None if one.error else _thumbnail(images.read(i), one) for i, one in enumerate(judged)
        ]
    threshold = -float(loaded.pipe[-1].offset_)
    answer = Answer(model=loaded.version, threshold=threshold, images=judged, alarms=alarms)
    return answer, thumbnails


def _received(contents, names, folder):
    """Path and name of each image; a file of several pages is as many.

    They are written as files, because these are read in full depth, and by whatever can read them.
    """
    paths, shown = [], []
    for i, (content, name) in enumerate(zip(contents, names, strict=True)):
        path = os.path.join(folder, str(i))
        Path(path).write_bytes(content)
        pages = [path]
        with contextlib.suppress(ImageReadError):  # to be told with the others
            pages = as_images([path], pages="all").items
        paths += pages
        shown += [name + page.removeprefix(path) for page in pages]
    return paths, shown


def _regions_of(scorer, images, maps):
    return find_regions(maps, images.file_names(), scorer.routes_, scorer.resolution)


def _answered(row, regions, path, name):
    if row["error"] is not None:
        error = row["error"].replace(repr(path), repr(name))
        return ImageAnswer(name=name, decision="unreadable", error=error)
    return ImageAnswer(
        name=name,
        decision="anomalous" if row["is_anomalous"] else "good",
        score=row["anomaly_score"],
        p_value=row["p_value"],
        route=str(row["route"]),
        decided_by=row["decided_by"],
        regions=regions,  # of their columns, those of `Region`
    )


def _thumbnail(image, judged, side=160):
    scale = side / max(image.size)
    small = image.resize([max(1, round(length * scale)) for length in image.size])
    draw = ImageDraw.Draw(small)
    for r in judged.regions:
        draw.rectangle([scale * x for x in (r.left, r.top, r.right, r.bottom)], None, "red", 2)
    return base64_of(small.save, "jpeg")
