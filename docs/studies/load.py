"""The page's server under load: fifty clients, a thousand requests, on loopback.

    python docs/studies/load.py                 a real model of digits, two steps
    python docs/studies/load.py --model stub    no model at all: the queue, the uploads and the files alone

Each client sends a picture and a mask, watches the events of its job, and fetches the result. A result counts if every
known pixel is the one that was sent. A client that is refused (429 or 503) comes again when the server says. All that
time, somebody opens the page and asks for its models ten times a second. Nothing may be lost, and the memory of the
server must not grow with the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import io
import json
import os
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def serve(model: str) -> None:
    """Run a server until it is killed; its port is printed."""
    import socket

    import uvicorn

    from lanpaint.painting import open_painter
    from lanpaint.serve.app import make_app
    from lanpaint.serve.settings import table
    from lanpaint.serve.shelf import make_shelf
    from lanpaint.serve.work import Worker

    shelf = make_shelf(["digits"])
    defaults = {name: setting.default for name, setting in table(list(shelf)).items()}
    paint: Any = Worker(shelf, defaults, {"digits": open_painter("digits")}.get)
    if model == "stub":

        def paint(job: Any, number: int, output: Path, report: Any) -> None:
            for made in range(10):
                time.sleep(0.001)
                report(made + 1, 10, None)
            output.write_bytes(job.picture.read_bytes())

    bound = socket.create_server(("127.0.0.1", 0))
    print(bound.getsockname()[1], flush=True)
    app = make_app(shelf, [paint])
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_keep_alive=30)
    uvicorn.Server(config).run(sockets=[bound])


def look(port: int, server: int) -> None:
    """Ask for the page, and look at the server's memory, ten times a second, until stdin ends; print all as JSON."""
    page, memory = [], []
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        for path in ("/", "/api/models"):
            start = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == 200
            answer.read()
            connection.close()
            page.append(time.perf_counter() - start)
        status = Path(f"/proc/{server}/status").read_text()
        memory.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    used = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[11:13]
    print(json.dumps({"page": page, "memory": memory, "cpu": sum(map(int, used)) / os.sysconf("SC_CLK_TCK")}))


class Load:
    """Clients of one server, and what they saw."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.good = self.refused = 0
        self.wrong: list[str] = []
        self.took: list[float] = []

    async def request(self, client: Any, name: str, seed: int) -> None:
        """One picture, from its upload to its result."""
        rng = np.random.default_rng(seed)
        values = rng.integers(0, 256, (8, 8), np.uint8)
        hole = np.zeros((8, 8), np.uint8)
        hole[2:6, 2:6] = 255
        files = {"picture": ("p.png", png(values)), "mask": ("m.png", png(hole))}
        settings = {"settings": f'{{"seed": {seed}, "steps": 2, "inner_steps": 1}}'}
        start = time.perf_counter()
        while True:
            answer = await client.post("/api/inpaint", files=files, data=settings, headers={"X-Lanpaint-Client": name})
            if answer.status_code == 202:
                break
            if answer.status_code not in (429, 503):
                raise RuntimeError(f"{answer.status_code}: {answer.text}")
            self.refused += 1
            await asyncio.sleep(float(answer.headers["retry-after"]) * rng.uniform(0.5, 1))
        id_ = answer.json()["id"]
        async with client.stream("GET", f"/api/jobs/{id_}/events") as events:
            last = [line async for line in events.aiter_lines()]
        last = [line for line in last if line.startswith("data: ") or '"error"' in line][-1]
        result = await client.get(f"/api/jobs/{id_}/results/0")
        painted = np.array(Image.open(io.BytesIO(result.content))) if result.status_code == 200 else None
        known = hole == 0
        if '"state": "done"' in last and painted is not None and np.array_equal(painted[known], values[known]):
            self.good += 1
        else:
            self.wrong.append(f"{result.status_code}, {last[:200]}")
        self.took.append(time.perf_counter() - start)

    async def run(self, clients: int, requests: int) -> None:
        """All clients at once."""
        import httpx

        limits = httpx.Limits(max_connections=None, keepalive_expiry=2)  # below the server's own
        async with httpx.AsyncClient(base_url=self.address, timeout=600, limits=limits) as client:
            each = requests // clients

            async def one(number: int) -> None:
                for turn in range(each):
                    await self.request(client, f"client-{number}", number * each + turn)

            await asyncio.gather(*(one(number) for number in range(clients)))


def png(values: np.ndarray) -> bytes:
    """A PNG file of grey values."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def main() -> None:
    """Start a server, load it, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits", choices=["digits", "stub"])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--look", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look:
        look(*given.look)
        return
    if given.serve:
        serve(given.model)
        return
    command = [sys.executable, __file__, "--serve", "--model", given.model]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        command = [sys.executable, __file__, "--look", str(port), str(process.pid)]
        looker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        load, start = Load(f"http://127.0.0.1:{port}"), time.perf_counter()
        asyncio.run(load.run(given.clients, given.requests))
        seconds = time.perf_counter() - start
        seen = json.loads(looker.communicate("")[0])
    finally:
        process.terminate()
        process.wait(20)
    page, memory = sorted(seen["page"]), seen["memory"]
    tenth = max(1, len(memory) // 10)
    print(f"{given.clients} clients, {given.requests} requests, {given.model}: {seconds:.0f} s")
    print(f"results as they must be: {load.good}, wrong or lost: {given.requests - load.good}")
    for line in load.wrong:
        print(f"    {line}")
    print(f"refused and come again: {load.refused}")
    print(f"a request: median {statistics.median(load.took):.2f} s, longest {max(load.took):.2f} s")
    print(f"the page meanwhile: median {1000 * statistics.median(page):.0f} ms, "
          f"99 % within {1000 * page[int(0.99 * len(page))]:.0f} ms, longest {1000 * page[-1]:.0f} ms")  # fmt: skip
    each = 1000 * seen["cpu"] / given.requests
    print(f"processor time of the server: {seen['cpu']:.0f} s with its start, {each:.0f} ms a request")
    early, late = statistics.median(memory[tenth : 2 * tenth]), statistics.median(memory[-tenth:])
    print(f"memory of the server: {early:.0f} MB after a tenth, {late:.0f} MB at the end, {max(memory):.0f} MB at most")


if __name__ == "__main__":
    main()
