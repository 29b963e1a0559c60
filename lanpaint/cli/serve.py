"""``lanpaint serve``."""

from __future__ import annotations

import functools
import ipaddress
import os
import secrets
import socket
import sys
from typing import Annotated, Any

import typer

from lanpaint.cli.options import find_device, find_dtype


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model of the page, as for `lanpaint inpaint`; may be repeated [emoji-pixel, emoji-flow, digits].",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to bind. Beyond 127.0.0.1, each request needs a token, which is printed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 7860,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Host name by which browsers reach this machine; may be repeated.", show_default=False),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, …, or several with commas: one job at a time on each [the GPU if there is one].",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Data type of the networks: float32, float16 or bfloat16.")] = "float32",
    offload: Annotated[bool, typer.Option("--offload", help="Keep on the GPU only what is in use.")] = False,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="Most jobs that wait.")] = 32,
    megabytes: Annotated[int, typer.Option(min=1, max=4096, help="Largest upload.")] = 32,
    megapixels: Annotated[float, typer.Option(min=0.001, max=1000, help="Largest picture.")] = 40,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Serve a page with a brush: open a picture, paint over what is to change, and see it painted anew."""
    try:
        import uvicorn

        from lanpaint.serve.app import make_app
    except ImportError as error:
        if error.name and error.name.startswith("lanpaint"):
            raise
        raise ImportError(f"the page needs more packages ({error.name}): pip install 'lanpaint[serve]'") from error
    from lanpaint.painting import open_painter
    from lanpaint.serve.jobs import Limits
    from lanpaint.serve.settings import table
    from lanpaint.serve.shelf import DEFAULT_MODELS, make_shelf
    from lanpaint.serve.work import Worker

    shelf = make_shelf(model or DEFAULT_MODELS)
    defaults = {key: setting.default for key, setting in table(list(shelf)).items()}
    kind = find_dtype(dtype)
    devices = [find_device(part.strip()) for part in device.split(",")] if device else [find_device(None)]
    workers = [
        Worker(shelf, defaults, functools.partial(open_painter, device=where, dtype=kind, offload=offload))
        for where in devices
    ]
    loopback = _is_loopback(host)
    token = None if loopback else secrets.token_urlsafe(16)
    bound = _bound(host, port)
    limits = Limits(upload_bytes=megabytes * 2**20, pixels=round(megapixels * 1e6), waiting=queue)
    names = {*(name or ()), *(() if loopback else (socket.gethostname(), socket.getfqdn()))}
    app = make_app(shelf, workers, limits=limits, names=names, loopback=loopback, token=token)
    address = f"http://{_shown(host)}:{bound.getsockname()[1]}/" + (f"?token={token}" if token else "")
    if token:
        print(
            f"note: {host} can be reached from other machines, without encryption; whoever has this address can paint",
            file=sys.stderr,
        )
    print(f"lanpaint paints at {address} with {', '.join(shelf)}; Ctrl-C ends it", flush=True)
    config = uvicorn.Config(
        app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=1,
        timeout_keep_alive=30,
        limit_concurrency=1000, h11_max_incomplete_event_size=32 * 1024, http="h11", ws="none",
    )  # fmt: skip
    if browser:
        _open_browser(address)
    uvicorn.Server(config).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ValueError(
            f"cannot listen at {host}:{port} ({error.strerror or error}); give another --port, or 0 for any"
        ) from error
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    """A bound address as a browser takes it."""
    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _open_browser(address: str) -> Any:
    """Open the page, where there is a desktop to open it on."""
    import webbrowser

    desktop = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return webbrowser.open(address) if desktop else None
