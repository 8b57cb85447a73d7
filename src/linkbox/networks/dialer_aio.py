"""Connects sockets for the asyncio endpoints: resolves names, tries the addresses one by one."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

from linkbox.address import Address
from linkbox.core.connection import Connection as Link
from linkbox.core.session import Session
from linkbox.networks.network import AioNetwork
from linkbox.networks.sockets import (
    IN_PROGRESS,
    KnownTargets,
    Target,
    as_os_error,
    checked_socket,
    connect_now,
    prepare,
)

_EAGER = sys.platform != "win32"
"""Whether an event loop can go on with a socket that has begun to connect."""


class AioDialer:
    """Makes the connections of a client."""

    def __init__(
        self,
        network: AioNetwork,
        loop: asyncio.AbstractEventLoop,
        carry: Callable[[socket.socket, Link], Awaitable[None]],
    ) -> None:
        self._network = network
        self._loop = loop
        self._carry = carry
        self._known = KnownTargets()

    async def dial(self, session: Session) -> None:
        """Connect for a session."""
        network = self._network
        try:
            await self._connect_any(session)
        except BaseException as error:
            if is_cancelled(error):
                raise
            network.events.dial_failed(session, error)
            network.events.turn_done(network.now())

    async def _connect_any(self, session: Session) -> None:
        """Try the addresses one by one."""
        network = self._network
        events, routes = network.events, network.routes_of(session)
        failure = OSError("no address")
        for number, route in enumerate(routes):
            try:
                if network.make_socket is not None:
                    sock = await self._call_connect(network.make_socket)
                    await self._connected(session, sock, route.address)
                    return
                targets = await self._resolve(route.address)
            except OSError as error:
                failure, targets = error, []
            others = len(routes) - number - 1 + len(targets)
            for family, target in targets:
                if session.error is not None:
                    return
                others -= 1
                try:
                    sock = await self._connect(
                        family, target, events.patience(session, others, network.now())
                    )
                except OSError as error:  # includes TimeoutError
                    failure = error.with_traceback(None)  # It would refer to this frame.
                    continue
                await self._connected(session, sock, route.address)
                return
        events.connect_failed(session, network.failure(failure), network.now())
        events.turn_done(network.now())

    async def _connected(self, session: Session, sock: socket.socket, address: Address) -> None:
        network = self._network
        link = network.events.connected(session, network.now(), address.url)
        if link is None:
            sock.close()
        else:
            await self._carry(sock, link)
        network.events.turn_done(network.now())

    async def _call_connect(self, connect: Callable[[], Any]) -> socket.socket:
        """Let the user's function connect, on a thread unless it is a coroutine function."""
        try:
            found = connect() if iscoroutinefunction(connect) else asyncio.to_thread(connect)
            sock = checked_socket(await found)
        except Exception as error:
            raise as_os_error(error) from error
        self._prepare(sock, sock.family)
        return sock

    def _prepare(self, sock: socket.socket, family: int) -> None:
        events = self._network.events
        prepare(sock, family, events.limits, events.hub.context.is_plain)

    async def _resolve(self, address: Address) -> list[Target]:
        if not self._known.asks_name_server(address):
            return self._known.find(address)  # A thread, as the loop takes, costs more than a connection.
        try:
            found = await self._loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except RuntimeError as error:  # asyncio.run() has ended, and has closed the threads of the loop
            raise OSError(str(error)) from error
        return [(family, target) for family, _, _, _, target in found]

    async def _connect(self, family: int, target: Any, patience: float) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            code = connect_now(sock, target) if _EAGER else errno.EINPROGRESS
            if code in IN_PROGRESS:
                async with asyncio.timeout(patience):
                    await self._loop.sock_connect(sock, target)
            elif code:
                raise OSError(code, os.strerror(code))
            self._prepare(sock, family)
        except BaseException:  # includes a cancellation
            sock.close()
            raise
        return sock


def is_cancelled(error: BaseException) -> bool:
    """Is the current task being cancelled? Otherwise a CancelledError is an error like any other."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
