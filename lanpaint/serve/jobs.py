"""Jobs: a bounded fair queue, one worker for each device, and what becomes of a job that nobody waits for.

A job lives in a folder of its own, inside of the server's temporary folder: the picture, the mask, and the results. So
what waits takes disk and no memory. Clients take turns: whoever has waited longest since their last job is next. A job
whose client neither watches it nor has asked for it lately is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lanpaint.callbacks import DivergenceError
from lanpaint.serve.uploads import Refused


@dataclass(frozen=True)
class Limits:
    """What the server takes on.

    Attributes:
        upload_bytes: Largest request, in bytes.
        pixels: Most pixels of a picture, frame included.
        waiting: Most jobs that wait.
        waiting_each: Most jobs that wait for one client.
        kept: Most jobs that are kept after their end, with their results, when their clients have left; ten times as
            many in all.
        kept_seconds: How long a job is kept after its end.
        patience: Seconds after which a job is cancelled that nobody watches or asks for.
        uploads: Most requests whose bodies are read at a time.
        upload_seconds: Most time for the body of a request.
    """

    upload_bytes: int = 32 * 2**20
    pixels: int = 40_000_000
    waiting: int = 32
    waiting_each: int = 8
    kept: int = 100
    kept_seconds: float = 3600.0
    patience: float = 20.0
    uploads: int = 4
    upload_seconds: float = 60.0


class Cancelled(Exception):  # noqa: N818 - no error
    """Raised inside of a job that is cancelled."""


@dataclass(eq=False)
class Job:
    """One task of a client: a picture, a mask, settings, and one or more results.

    Attributes:
        client: Who asked for it.
        folder: Where its files are.
        settings: All its settings, see :mod:`lanpaint.serve.settings`.
        picture: The file of the picture.
        mask: The file of the mask; None where only the frame is painted.
        size: (height, width) of the picture.
        id: A name that nobody can guess.
        state: "waiting", "running", "done", "failed" or "cancelled".
        error: Why it failed, in one line.
        results: Files of the results so far.
        made: Evaluations of the model so far, for the present result.
        planned: Evaluations of one result; 0 while unknown.
        preview: Number of the latest preview, from 1; 0 for none.
        preview_png: The latest preview, encoded.
        cancelled: Set to end it.
        absent: Seconds since its client was last heard of, as far as the server had time to listen.
    """

    client: str
    folder: Path
    settings: dict[str, Any]
    picture: Path
    mask: Path | None
    size: tuple[int, int]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: str = "waiting"
    error: str | None = None
    results: list[Path] = field(default_factory=list)
    made: int = 0
    planned: int = 0
    preview: int = 0
    preview_png: bytes | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    absent: float = 0.0
    started: float | None = None
    ended: float | None = None
    watchers: set[asyncio.Event] = field(default_factory=set)
    version: int = 0

    @property
    def is_over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.ended is not None

    @property
    def wants_preview(self) -> bool:
        """Whether somebody watches."""
        return bool(self.watchers)

    def seconds_left(self) -> float | None:
        """An estimate of the time until its end; None where nothing is known yet."""
        count = self.settings["count"]
        done = len(self.results) * self.planned + self.made
        if self.state != "running" or self.started is None or not self.planned or not done:
            return None
        return (time.monotonic() - self.started) / done * max(0, count * self.planned - done)


class Paint(Protocol):
    """Paints one result of a job, and writes it to a file.

    It calls ``report(made, planned, preview)`` after each evaluation or nearly so: evaluations so far, evaluations in
    all, and a function that gives a small PNG, or None. ``report`` raises :class:`Cancelled` to end it.
    """

    def __call__(  # noqa: D102
        self, job: Job, number: int, output: Path, report: Callable[[int, int, Callable[[], bytes] | None], None]
    ) -> None: ...


class FairQueue:
    """A queue in which clients take turns. All methods can be called from any thread.

    Args:
        most: Most jobs that wait.
        most_each: Most jobs that wait for one client.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self.most, self.most_each = most, most_each
        self._lines: OrderedDict[str, deque[Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def check(self, client: str) -> None:
        """Raise Refused where no job of this client may wait: 429 for too many of its own, 503 for too many in all."""
        with self._changed:
            if len(self._lines.get(client, ())) >= self.most_each:
                raise Refused(429, f"you have {self.most_each} jobs waiting; wait for one, or cancel one")
            if len(self) >= self.most:
                raise Refused(503, f"{self.most} jobs are waiting already; come back in a moment")

    def put(self, job: Job) -> None:
        """Let a job wait. Raises Refused as :meth:`check`."""
        with self._changed:
            self.check(job.client)
            self._lines.setdefault(job.client, deque()).append(job)
            self._changed.notify()

    def take(self) -> Job | None:
        """The next job, as soon as there is one; None when the queue is closed."""
        with self._changed:
            while not self._lines and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            client, line = next(iter(self._lines.items()))
            job = line.popleft()
            del self._lines[client]
            if line:
                self._lines[client] = line  # at the end: the others are next
            return job

    def remove(self, job: Job) -> bool:
        """Take a job out that waits; False where it waits no longer."""
        with self._changed:
            line = self._lines.get(job.client)
            if line is None or job not in line:
                return False
            line.remove(job)
            if not line:
                del self._lines[job.client]
            return True

    def order(self) -> list[Job]:
        """The waiting jobs, in the order in which they will be taken."""
        with self._changed:
            lines = [list(line) for line in self._lines.values()]
        longest = max(map(len, lines), default=0)
        return [line[turn] for turn in range(longest) for line in lines if turn < len(line)]

    def close(self) -> None:
        """Let :meth:`take` return None from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._lines.values()))


class Jobs:
    """All jobs of a server, and the workers that do them.

    Args:
        paints: What paints, for each device.
        limits: What the server takes on.
    """

    def __init__(self, paints: Sequence[Paint], limits: Limits) -> None:
        self.limits, self.paints = limits, list(paints)
        self.queue = FairQueue(limits.waiting, limits.waiting_each)
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []
        self._took = deque[float](maxlen=20)

    @contextlib.asynccontextmanager
    async def running(self) -> Any:
        """The workers, the temporary folder, and the end of abandoned jobs, for as long as the block lasts."""
        self._loop = asyncio.get_running_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="lanpaint-serve-"))
        self._threads = [
            threading.Thread(target=self._work, args=(paint,), name=f"painter-{number}", daemon=True)
            for number, paint in enumerate(self.paints)
        ]
        for thread in self._threads:
            thread.start()
        reaper = asyncio.create_task(self._reap_for_ever())
        try:
            yield
        finally:
            reaper.cancel()
            self.queue.close()
            for job in list(self.jobs.values()):
                job.cancelled.set()
            await asyncio.to_thread(self._join)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(10)

    def new_folder(self) -> Path:
        """An empty folder for a job."""
        return Path(tempfile.mkdtemp(prefix="job-", dir=self.folder))

    def add(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            Refused: When too many wait.
        """
        with self._lock:
            self.jobs[job.id] = job
        try:
            self.queue.put(job)
        except Refused:
            with self._lock:
                del self.jobs[job.id]
            raise
        self._prune()

    def find(self, id_: str) -> Job:
        """The job of that name, which its client has asked for now.

        Raises:
            Refused: Where there is none.
        """
        with self._lock:
            job = self.jobs.get(id_)
        if job is None:
            raise Refused(404, "there is no such job; it may have ended long ago")
        job.absent = 0.0
        return job

    def cancel(self, job: Job) -> None:
        """End a job: at once if it waits, else within one evaluation of the model."""
        job.cancelled.set()
        if self.queue.remove(job):
            self._end(job, "cancelled")

    def place(self, job: Job) -> int | None:
        """How many jobs are taken before a waiting job, plus one; None for one that does not wait."""
        if job.state != "waiting":
            return None
        order = self.queue.order()
        return order.index(job) + 1 if job in order else 1

    def retry_after(self) -> int:
        """Seconds after which a refused client should come again."""
        each = sum(self._took) / len(self._took) if self._took else 1.0
        return max(1, min(60, round(each * len(self.queue) / (2 * len(self.paints)))))

    def changed(self, job: Job) -> None:
        """Wake all who watch a job. Can be called from any thread."""
        job.version += 1
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, job)

    @staticmethod
    def _wake(job: Job) -> None:
        for event in job.watchers:
            event.set()

    def _end(self, job: Job, state: str, error: str | None = None) -> None:
        job.error, job.preview_png = error, None
        job.state, job.ended = state, time.monotonic()
        self.changed(job)

    def _work(self, paint: Paint) -> None:
        while (job := self.queue.take()) is not None:
            try:
                self._do(job, paint)
            except Cancelled:
                self._end(job, "cancelled")
            except Exception as error:
                self._end(job, "failed", told(error).replace(f"{job.folder}/", ""))
            self._took.append(time.monotonic() - (job.started or 0.0))

    def _do(self, job: Job, paint: Paint) -> None:
        job.started = time.monotonic()
        shown = 0.0

        def report(made: int, planned: int, preview: Callable[[], bytes] | None) -> None:
            nonlocal shown
            if job.cancelled.is_set():
                raise Cancelled
            job.made, job.planned = made, planned
            if preview is not None and job.wants_preview and time.monotonic() - shown > 0.15:
                job.preview_png = preview()
                job.preview, shown = job.preview + 1, time.monotonic()
            self.changed(job)

        job.state = "running"
        self.changed(job)
        for number in range(job.settings["count"]):
            if job.cancelled.is_set():
                raise Cancelled
            output = job.folder / f"result-{number}.png"
            paint(job, number, output, report)
            job.results.append(output)
            job.made = 0
            self.changed(job)
        self._end(job, "done")

    async def _reap_for_ever(self) -> None:
        pause = min(1.0, self.limits.patience / 4)
        last = time.monotonic()
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            self._reap(min(now - last, 2 * pause))  # a server that had no time to listen has not been left
            last = now

    def _reap(self, seconds: float) -> None:
        """Cancel jobs that nobody waits for, and forget old ones."""
        for job in list(self.jobs.values()):
            job.absent = 0.0 if job.watchers else job.absent + seconds
            if not job.is_over and job.absent > self.limits.patience:
                self.cancel(job)
        self._prune()

    def _prune(self) -> None:
        """Forget jobs that ended long ago, and where there are many those whose clients have left."""
        now, limits = time.monotonic(), self.limits
        with self._lock:
            over = sorted((job for job in self.jobs.values() if job.is_over), key=lambda job: job.ended or 0.0)
            old = [job for job in over if now - (job.ended or now) > limits.kept_seconds]
            left = [job for job in over if job.absent > limits.patience and job not in old]
            old += left[: max(0, len(over) - len(old) - limits.kept)]
            if len(over) - len(old) > 10 * limits.kept:
                old = over[: len(over) - 10 * limits.kept]
            for job in old:
                del self.jobs[job.id]
        for job in old:
            shutil.rmtree(job.folder, ignore_errors=True)


def told(error: Exception) -> str:
    """What a client is told of an error, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError):  # without the name of a file of this machine
        return f"the server cannot do this now: {error.strerror or type(error).__name__}"
    if isinstance(error, (ValueError, DivergenceError, ImportError)):
        return text
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return "there is not enough memory; paint a smaller picture, or crop around the hole"
    print(f"lanpaint: {type(error).__name__}: {text[:300]}", file=sys.stderr)
    return f"the painter failed with {type(error).__name__}; the server's terminal tells more"
