"""A server with painters that need no model, and one with the models that come with the project."""

import io
import json
import threading
import time
from contextlib import contextmanager

import pytest
from PIL import Image

from lanpaint.serve.shelf import Model

starlette = pytest.importorskip("starlette", reason="the page needs: pip install 'lanpaint[serve]'")

SHELF = {
    "pixels": Model("pixels", "pixels", False, 32, False),
    "pipe": Model("pipe", "/models/pipe", True, 512, False),
}


class StubPainter:
    """Paints the hole black, in ten evaluations. ``gate`` holds it up; ``names`` are the clients in their order."""

    def __init__(self):
        self.gate, self.names, self.running, self.most = threading.Event(), [], 0, 0
        self.gate.set()
        self.evaluations = 0
        self._lock = threading.Lock()

    def __call__(self, job, number, output, report):
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.names.append(job.client.split()[-1])
        try:
            for made in range(10):
                while not self.gate.wait(0.01):
                    report(made, 10, None)
                self.evaluations += 1
                report(made + 1, 10, lambda: png((4, 4)))
            if job.settings["prompt"] == "name":
                raise ValueError(f"the image {job.picture} cannot be read")
            if job.settings["prompt"] == "diverge":
                raise ValueError("the state is no longer finite")
            if job.settings["prompt"] == "break":
                raise RuntimeError("secret of /root/file")
            with Image.open(job.picture) as picture:
                painted = picture.convert("RGB")
            if job.mask is not None:
                with Image.open(job.mask) as mask:
                    painted.paste((0, 0, 0), mask=mask.convert("L").point(lambda v: 255 * (v >= 128)))
            painted.save(output)
        finally:
            with self._lock:
                self.running -= 1


def png(size=(16, 16), colour=(200, 40, 90), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return file.getvalue()


def mask_png(size=(16, 16)):
    mask = Image.new("L", size)
    mask.paste(255, (4, 4, 8, 8))
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


@contextmanager
def serving(painter, devices=1, limits=None, **options):
    """A client of a server that runs for the length of the block."""
    from starlette.testclient import TestClient

    from lanpaint.serve.app import make_app

    app = make_app(SHELF, [painter] * devices, limits=limits, **options)
    with TestClient(app, base_url="http://127.0.0.1:7860", client=("127.0.0.1", 5000)) as client:
        client.jobs = app.server.jobs
        yield client


def send(client, picture=None, mask=None, settings=None, name="me"):
    files = {"picture": ("p.png", png() if picture is None else picture, "image/png")}
    if mask is not False:
        files["mask"] = ("m.png", mask_png() if mask is None else mask, "image/png")
    data = {} if settings is None else {"settings": settings if isinstance(settings, str) else json.dumps(settings)}
    return client.post("/api/inpaint", files=files, data=data, headers={"X-Lanpaint-Client": name})


def wait(client, job, *states, seconds=20):
    """The job, as soon as it is in one of these states."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = client.get(f"/api/jobs/{job['id']}").json()
        if found["state"] in states:
            return found
        time.sleep(0.01)
    raise AssertionError(f"the job is still {found['state']}")


@pytest.fixture
def painter():
    return StubPainter()


@pytest.fixture
def client(painter):
    with serving(painter) as made:
        yield made
