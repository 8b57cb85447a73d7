"""``linkbox top --web``: the page, its files, and the stream of numbers (server-sent events).

The page is for this machine only. Elsewhere it needs the token of the printed address, once: a cookie keeps
it. Requests for another host name are refused, so that a foreign web page cannot read the numbers by pointing
a name of its own at this machine. The page loads nothing from anywhere else, and runs no script but its own
(`POLICY`); names of peers are put into it as text.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from linkbox import Address, ListenFailed
from linkbox.monitor import Reader, Row

STATIC: Final = Path(__file__).parent / "static"
FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/top.js": ("top.js", "text/javascript; charset=utf-8"),
    "/top.css": ("top.css", "text/css; charset=utf-8"),
    "/uplot.js": ("uplot.js", "text/javascript; charset=utf-8"),
    "/uplot.css": ("uplot.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
COOKIE: Final = "linkbox_token"
MOST_PEERS: Final = 100
"""Peers of an endpoint that the page shows."""
MOST_STREAMS: Final = 32
"""Pages that are open at a time."""


class Feed:
    """Reads the numbers while pages are open, and gives each of them the newest ones."""

    def __init__(self, reader: Reader, interval: float) -> None:
        self._reader = reader
        self._interval = interval
        self._changed = asyncio.Condition()
        self._newest = b""
        self._version = 0
        self.streams: int = 0

    async def run(self) -> None:
        """Read again and again."""
        while True:
            if self.streams:
                newest = await asyncio.to_thread(self._read)
                async with self._changed:
                    self._newest = newest
                    self._version += 1
                    self._changed.notify_all()
            await asyncio.sleep(self._interval)

    def _read(self) -> bytes:
        rows, failed = self._reader.rows()
        return msgspec.json.encode({"rows": [_shortened(row) for row in rows], "failed": failed})

    async def stream(self) -> AsyncIterator[bytes]:
        """The events for one page."""
        self.streams += 1
        seen = self._version
        try:
            yield b": the numbers follow\n\n"
            while True:
                async with self._changed:
                    while self._version == seen:
                        await self._changed.wait()
                    seen, newest = self._version, self._newest
                yield b"data: " + newest + b"\n\n"
        finally:
            self.streams -= 1


def _shortened(row: Row) -> Row:
    endpoint = msgspec.structs.replace(row.endpoint, peers=row.endpoint.peers[:MOST_PEERS])
    return msgspec.structs.replace(row, endpoint=endpoint)


Handler = Callable[[Request], Awaitable[Response]]


class Guard:
    """Answers requests of this machine, or of who has the token, and refuses others."""

    def __init__(self, hosts: frozenset[str], token: str) -> None:
        self._hosts = hosts
        self._token = token

    def __call__(self, handler: Handler) -> Handler:
        """The same handler, for allowed requests; with `HEADERS` in every response."""

        async def guarded(request: Request) -> Response:
            response = self._refusal(request)
            if response is None:
                response = await handler(request)
            response.headers.update(HEADERS)
            return response

        return guarded

    def _refusal(self, request: Request) -> Response | None:
        if self._hosts and request.url.hostname not in self._hosts:
            return PlainTextResponse("this page is not served under that name", 421)
        if not self._token:
            return None
        given = request.query_params.get("token")
        if given is not None and _is_same(given, self._token):
            redirect = RedirectResponse("/", 303)
            redirect.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return redirect
        if _is_same(request.cookies.get(COOKIE, ""), self._token):
            return None
        return PlainTextResponse("open the address that linkbox top has printed: it has the token", 403)


def _is_same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def application(reader: Reader, interval: float, hosts: frozenset[str], token: str) -> Starlette:
    """The application. ``hosts``: the names it is served under, empty for any; ``token``: empty for none."""
    feed, guard = Feed(reader, interval), Guard(hosts, token)

    @guard
    async def file(request: Request) -> Response:
        name, kind = FILES[request.url.path]
        return FileResponse(STATIC / name, media_type=kind)

    @guard
    async def events(request: Request) -> Response:
        if feed.streams >= MOST_STREAMS:
            return PlainTextResponse("too many pages are open", 503)
        return StreamingResponse(feed.stream(), media_type="text/event-stream")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(feed.run())
        try:
            yield
        finally:
            task.cancel()

    routes = [*(Route(path, file) for path in FILES), Route("/events", events)]
    return Starlette(routes=routes, lifespan=lifespan)


def serve(reader: Reader, address: str, interval: float, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C."""
    listener = _listen(address)
    host, port = listener.getsockname()[:2]
    is_local = ipaddress.ip_address(host).is_loopback
    token = "" if is_local else secrets.token_urlsafe(24)
    hosts = frozenset({"localhost", "127.0.0.1", "::1", host}) if is_local else frozenset[str]()
    shown = f"[{host}]" if ":" in host else host
    if not is_local:
        say("the page can be reached from other machines, unencrypted: keep the token to yourself")
    say(f"serving at http://{shown}:{port}/{f'?token={token}' if token else ''} (Ctrl-C ends it)")
    config = uvicorn.Config(
        application(reader, interval, hosts, token),
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(address: str) -> socket.socket:
    parsed = Address.parse(address if "://" in address else f"tcp://{address}", server=True)
    try:
        found = socket.getaddrinfo(parsed.host, parsed.port, type=socket.SOCK_STREAM)
        return socket.create_server(found[0][4][:2], family=found[0][0])
    except OSError as error:
        raise ListenFailed(f"cannot serve the page at {parsed.host}:{parsed.port}: {error}") from error
