"""The server: the page, and the requests that it and programs paint with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lanpaint.serve.guard import Guard
from lanpaint.serve.jobs import Job, Jobs, Limits, Paint
from lanpaint.serve.openapi import document, page
from lanpaint.serve.settings import MOST_TEXT, Setting, changed, parse, table
from lanpaint.serve.shelf import Model
from lanpaint.serve.uploads import Refused, check_pair, store
from lanpaint.serve.work import recipe, resolved, task_settings

PAGE = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".png": "image/png",
          ".svg": "image/svg+xml"}  # fmt: skip
_PAUSE = 0.05  # least seconds between two events of a stream
_BEAT = 10.0  # seconds after which a job is told again though nothing has changed


class InMemory(MultiPartParser):
    """A parser of forms that writes no temporary file: the body is bounded before it is parsed."""

    spool_max_size = 2**40


class Server:
    """The application of one server, see :func:`make_app`."""

    def __init__(self, shelf: Mapping[str, Model], paints: Sequence[Paint], limits: Limits) -> None:
        self.shelf, self.limits = shelf, limits
        self.settings: dict[str, Setting] = table(list(shelf))
        self.defaults = {name: setting.default for name, setting in self.settings.items()}
        self.jobs = Jobs(paints, limits)
        self.document = document(self.settings)
        self.uploads = asyncio.Semaphore(limits.uploads)
        self.assets = {
            str(path.relative_to(PAGE)): path
            for path in PAGE.rglob("*")
            if path.suffix in _KINDS and path.name != "index.html"
        }

    def routes(self) -> list[Route]:
        """All addresses."""
        return [
            Route("/", self.home),
            Route("/favicon.ico", self.icon),
            Route("/assets/{name:path}", self.asset),
            Route("/api", self.reference),
            Route("/api/openapi.json", self.openapi),
            Route("/api/models", self.models),
            Route("/api/recipe", self.recipe, methods=["POST"]),
            Route("/api/inpaint", self.inpaint, methods=["POST"]),
            Route("/api/jobs/{id}", self.job, methods=["GET", "DELETE"]),
            Route("/api/jobs/{id}/events", self.events),
            Route("/api/jobs/{id}/preview", self.preview),
            Route("/api/jobs/{id}/results/{number}", self.result),
        ]

    async def home(self, _: Request) -> Response:
        """The page."""
        return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})

    async def icon(self, _: Request) -> Response:
        """The icon of the page."""
        return FileResponse(PAGE / "icon.svg", media_type="image/svg+xml")

    async def asset(self, request: Request) -> Response:
        """A file of the page: one of those that were there at the start, and no other."""
        path = self.assets.get(request.path_params["name"])
        if path is None:
            raise Refused(404, "there is no such file")
        return FileResponse(path, media_type=_KINDS[path.suffix], headers={"cache-control": "no-cache"})

    async def reference(self, _: Request) -> Response:
        """The interface as a page."""
        return HTMLResponse(page(self.document))

    async def openapi(self, _: Request) -> Response:
        """The interface as an OpenAPI document."""
        return _answer(self.document)

    async def models(self, _: Request) -> Response:
        """The models, the settings, the limits and the examples."""
        models = [
            {"name": m.name, "kind": "pipeline" if m.is_pipeline else "pixel", "side": m.side, "grey": m.grey,
             "sentence": m.sentence, "method": m.method}
            for m in self.shelf.values()
        ]  # fmt: skip
        settings = [
            {name: getattr(setting, name) for name in
             ("name", "kind", "label", "help", "default", "low", "high", "choices", "group", "of", "methods")}
            for setting in self.settings.values()
        ]  # fmt: skip
        limits = {"bytes": self.limits.upload_bytes, "pixels": self.limits.pixels, "text": MOST_TEXT}
        examples = sorted(name for name in self.assets if name.startswith("examples/"))
        return _answer({"models": models, "settings": settings, "limits": limits, "examples": examples})

    async def recipe(self, request: Request) -> Response:
        """The command and the Python for settings."""
        text = (await self._body(request, 64 * 1024)).decode("utf-8", "replace")
        values = self._parsed(text)
        size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", request.query_params.get("size", ""))
        model = self.shelf[values["model"]]
        values = resolved(values, model, None if size is None else (int(size[2]), int(size[1])))
        return _answer(recipe(values, self.defaults, model, request.query_params.get("mask") != "none"))

    async def inpaint(self, request: Request) -> Response:
        """Take a picture, a mask and settings, and let the job wait."""
        client = _client(request)
        self.jobs.queue.check(client)  # before a body is read for nothing
        folder = self.jobs.new_folder()
        try:
            async with self.uploads:
                picture, mask, values, size = await self._read(request, folder)
            model = self.shelf[values["model"]]
            job = Job(client, folder, resolved(values, model, size), picture, mask, size)
            self.jobs.add(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return _answer(self._view(job), 202, {"location": f"/api/jobs/{job.id}"})

    async def _read(self, request: Request, folder: Path) -> tuple[Path, Path | None, dict[str, Any], tuple[int, int]]:
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Refused(415, "send a form (multipart/form-data) with picture, mask and settings")
        body = await self._body(request, self.limits.upload_bytes)

        async def whole() -> Any:
            yield body

        parser = InMemory(request.headers, whole(), max_files=2, max_fields=1, max_part_size=64 * 1024)
        try:
            form = await parser.parse()
        except (MultiPartException, UnicodeError, ValueError) as error:
            line = " ".join(str(getattr(error, "message", error)).split())[:120]
            raise Refused(422, f"the form cannot be read ({line}); send picture, mask and settings once each") from None
        parts = form.multi_items()
        names = [name for name, _ in parts]
        if len(set(names)) < len(names) or set(names) - {"picture", "mask", "settings"}:
            raise Refused(422, "the form has other parts than picture, mask and settings, or one twice")
        found = {name: value if isinstance(value, str) else await value.read() for name, value in parts}
        text = found.get("settings", "")
        values = self._parsed(text if isinstance(text, str) else text.decode("utf-8", "replace"))
        files = {name: found.get(name) for name in ("picture", "mask")}
        if not isinstance(files["picture"], bytes) or isinstance(files["mask"], str):
            raise Refused(422, "picture and mask must be files of the form, and there must be a picture")
        return await run_in_threadpool(self._stored, files["picture"], files["mask"], values, folder)

    def _stored(
        self, picture: bytes, mask: bytes | None, values: dict[str, Any], folder: Path
    ) -> tuple[Path, Path | None, dict[str, Any], tuple[int, int]]:
        most = self.limits.pixels
        path, size = store(picture, folder, "picture", "the picture", most)
        mask_path, mask_size = (None, None) if mask is None else store(mask, folder, "mask", "the mask", most)
        check_pair(mask_path, size, mask_size, values["pad"], most)
        return path, mask_path, values, size

    def _parsed(self, text: str) -> dict[str, Any]:
        from lanpaint.painting import Settings

        try:
            values = parse(text, self.settings, self.shelf)
            own = task_settings({**values, "crop": None}, self.defaults)
            Settings.of(own)  # what only the library knows of them
        except (ValueError, TypeError) as error:
            raise Refused(422, " ".join(str(error).split())) from None
        return values

    async def _body(self, request: Request, most: int) -> bytes:
        """The body of a request, if it is not too large and comes in time."""
        too_large = Refused(413, f"the request is too large; at most {most:,} bytes are taken")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise too_large

        async def read() -> bytes:
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
            return bytes(body)

        try:
            return await asyncio.wait_for(read(), self.limits.upload_seconds)
        except asyncio.TimeoutError:
            raise Refused(408, "the request took too long to arrive; send it again") from None

    async def job(self, request: Request) -> Response:
        """A job as it is now; DELETE cancels it."""
        job = self.jobs.find(request.path_params["id"])
        if request.method == "DELETE":
            self.jobs.cancel(job)
            return _answer(self._view(job), 202)
        return _answer(self._view(job))

    async def events(self, request: Request) -> Response:
        """The job after each change, until it ends."""
        job = self.jobs.find(request.path_params["id"])
        if len(job.watchers) >= 8:
            raise Refused(429, "too many watch this job already")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._stream(job), media_type="text/event-stream", headers=headers)

    async def _stream(self, job: Job) -> AsyncIterator[str]:
        event = asyncio.Event()
        job.watchers.add(event)
        try:
            while True:
                event.clear()
                is_over = job.is_over
                yield f"data: {json.dumps(self._view(job))}\n\n"
                if is_over:
                    return
                await asyncio.sleep(_PAUSE)
                with contextlib.suppress(asyncio.TimeoutError):  # then it is told again: its place may be another
                    await asyncio.wait_for(event.wait(), 1.0 if job.state == "waiting" else _BEAT)
        finally:
            job.watchers.discard(event)
            job.absent = 0.0

    async def preview(self, request: Request) -> Response:
        """The latest preview."""
        job = self.jobs.find(request.path_params["id"])
        if job.preview_png is None:
            return Response(status_code=204)
        return Response(job.preview_png, media_type="image/png", headers={"cache-control": "no-store"})

    async def result(self, request: Request) -> Response:
        """A result."""
        job = self.jobs.find(request.path_params["id"])
        found = {str(number): path for number, path in enumerate(job.results)}.get(request.path_params["number"])
        if found is None:
            raise Refused(404, f"this job has {len(job.results)} results, counted from 0, and not this one")
        return FileResponse(found, media_type="image/png", headers={"cache-control": "no-store"})

    def _view(self, job: Job) -> dict[str, Any]:
        """A job, as clients see it."""
        left = job.seconds_left()
        return {
            "id": job.id,
            "state": job.state,
            "place": self.jobs.place(job),
            "made": job.made,
            "planned": job.planned,
            "seconds_left": None if left is None else round(left, 1),
            "preview": job.preview,
            "results": [
                {"url": f"/api/jobs/{job.id}/results/{number}", "seed": job.settings["seed"] + number}
                for number in range(len(job.results))
            ],
            "settings": changed(job.settings, self.settings),
            "error": job.error,
        }

    async def refused(self, _: Request, error: Exception) -> Response:
        """A request that is refused, in one line."""
        assert isinstance(error, Refused)
        headers = {"retry-after": str(self.jobs.retry_after())} if error.status in (429, 503) else None
        return _answer({"error": str(error)}, error.status, headers)


def make_app(
    shelf: Mapping[str, Model],
    paints: Sequence[Paint],
    *,
    limits: Limits | None = None,
    names: Collection[str] = (),
    loopback: bool = True,
    token: str | None = None,
) -> Any:
    """The server as an ASGI application.

    Args:
        shelf: Name → model, from :func:`lanpaint.serve.shelf.make_shelf`.
        paints: What paints, one for each device.
        limits: What the server takes on.
        names: Host names of its own, see :class:`lanpaint.serve.guard.Guard`.
        loopback: Whether it is bound to a loopback address.
        token: What each request must carry; None for none.
    """
    server = Server(shelf, paints, limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with server.jobs.running():
            yield

    app = Starlette(
        routes=server.routes(),
        lifespan=lifespan,
        exception_handlers={
            Refused: server.refused,
            HTTPException: _plain_error,
            ClientDisconnect: _gone,
            OSError: _no_room,
        },
    )
    guard = Guard(app, names=names, loopback=loopback, token=token)
    guard.server = server  # type: ignore[attr-defined]
    return guard


async def _plain_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = {404: "there is nothing at this address", 405: "this address does not take this method"}
    return _answer({"error": text.get(error.status_code, str(error.detail))}, error.status_code)


async def _gone(_: Request, __: Exception) -> Response:
    return _answer({"error": "the client has gone"}, 400)


async def _no_room(_: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return _answer({"error": f"the server cannot keep this now: {error.strerror or 'no room'}"}, 507)


def _client(request: Request) -> str:
    """Who asks: the name that the client gives itself, at its address."""
    name = request.headers.get("x-lanpaint-client", "")
    address = request.client.host if request.client else ""
    return f"{address} {name}" if re.fullmatch(r"[\w-]{1,64}", name) else address


def _answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(content, status, headers={"cache-control": "no-store", **(headers or {})})
