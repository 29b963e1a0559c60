"""The door of the server: who may ask, and how much a request may carry.

A page on the internet can make a browser send requests to 127.0.0.1. Three checks keep such requests out. The ``Host``
must be an address or a name of this machine, so that a foreign name which is made to resolve to 127.0.0.1 (DNS
rebinding) gets nothing. An ``Origin`` must be this server's own. A request that the browser itself calls cross-site
gets the page at most. Where the server is bound to another address than loopback, each request needs the token too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Guard:
    """An ASGI application behind the checks of this module.

    Args:
        app: The application.
        names: Host names that are this server's own, beside addresses and ``localhost``.
        loopback: Whether the server is bound to a loopback address: then only loopback addresses are its own.
        token: What each request must carry, as a bearer token or in the cookie that ``/?token=…`` sets; None for none.
    """

    def __init__(
        self, app: App, *, names: Collection[str] = (), loopback: bool = True, token: str | None = None
    ) -> None:
        self.app, self.names, self.loopback, self.token = app, {name.lower() for name in names}, loopback, token
        # Browsers share cookies among the ports of a host: each server has a name of its own for its cookie.
        self.cookie = f"lanpaint-{hashlib.sha256((token or '').encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it in one line."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets here
            await send({"type": "websocket.close", "code": 1003})
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        if self.token is not None and (answer := self._without_token(scope, headers)) is not None:
            await _answer(send, *answer)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message.get("headers", ())}
                message["headers"] = [
                    *message.get("headers", ()), *(header for header in _HEADERS if header[0] not in own),
                ]  # fmt: skip
            await send(message)

        await self.app(scope, receive, with_headers)

    def _refused(self, scope: Message, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self.is_own(hosts[0]):
            return 403, "this host name is not the server's; open the address that the server printed at its start"
        own = [f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")]  # a proxy may add TLS
        if any(origin.lower() not in own for origin in headers.get("origin", [])):
            return 403, "requests from other pages are refused"
        site = headers.get("sec-fetch-site", ["none"])
        opens = scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
        if any(where not in ("none", "same-origin") for where in site) and not opens:
            return 403, "requests from other pages are refused"
        return None

    def is_own(self, host: str) -> bool:
        """Whether a ``Host`` header names this server."""
        match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+?)(:\d{1,5})?", host.strip().lower())
        if match is None:
            return False
        name = match[1].strip("[]")
        if name == "localhost" or name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback

    def _without_token(self, scope: Message, headers: dict[str, list[str]]) -> tuple[Any, ...] | None:
        """None for a request with the token; else an answer."""
        assert self.token is not None
        given = [re.sub(r"^bearer ", "", text, flags=re.I).strip() for text in headers.get("authorization", [])]
        for text in headers.get("cookie", []):
            try:
                cookies = SimpleCookie(text)
            except CookieError:
                continue
            given += [cookies[self.cookie].value] if self.cookie in cookies else []
        if any(_is_equal(text, self.token) for text in given):
            return None
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])
        if scope["path"] == "/" and scope["method"] == "GET" and any(_is_equal(text, self.token) for text in asked):
            cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            return 303, "", [(b"location", b"/"), (b"set-cookie", cookie.encode())]
        return (
            401,
            "give the token: open the address that the server printed at its start, or send it as a bearer token",
        )


def _is_equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


async def _answer(send: Send, status: int, text: str, headers: Collection[tuple[bytes, bytes]] = ()) -> None:
    body = json.dumps({"error": text}).encode() if text else b""
    base = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*base, *_HEADERS, *headers]})
    await send({"type": "http.response.body", "body": body})
