"""What servers do that needs no waiting: check the address, bind, pick a peer, answer."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from linkbox.core.asks import Incoming, Request
from linkbox.core.journal import Spool
from linkbox.core.mailbox import Source
from linkbox.core.server import ServerHub
from linkbox.core.session import Session
from linkbox.core.settings import Settings
from linkbox.errors import MailboxFull, StateError
from linkbox.events import Peer, PeerInfo
from linkbox.front.base import Base, StorePath
from linkbox.front.secrets import Secret
from linkbox.limits import Limits
from linkbox.networks.choose import bind
from linkbox.networks.listening import check_server_address, descriptor_bound, release, socket_file
from linkbox.networks.network import Listener

log = logging.getLogger("linkbox")

if TYPE_CHECKING:
    from ssl import SSLContext

Accept = Callable[[PeerInfo], bool]
"""Shall this peer be let in?"""
AcceptLater = Callable[[PeerInfo], Awaitable[bool]]
"""The same as a coroutine function, for aio."""
H = TypeVar("H", bound=Callable[[Request[Any]], Any])


class Serving(Base):
    """Base of the servers of both front ends."""

    _side = "server"

    def __init__(
        self,
        address: str | tuple[str, int] | socket.socket,
        format: Any,
        framing: Any,
        limits: Limits | None,
        overflow: str,
        name: str | None,
        ssl: SSLContext | None,
        secret: Secret | None,
        accept: Accept | AcceptLater | None,
        insecure: bool,
        max_peers: int,
        store: StorePath = None,
    ) -> None:
        if not isinstance(max_peers, int) or max_peers < 1:
            raise ValueError(f"max_peers={max_peers!r}: a whole number from 1 is needed")
        if accept is not None and not callable(accept):
            raise TypeError(f"accept= takes callable(PeerInfo) -> bool, not {type(accept).__name__}")
        self._bound = check_server_address(address, insecure, ssl, secret is not None)
        self._given = address if isinstance(address, socket.socket) else None
        super().__init__(self._bound, format, framing, limits, overflow, name, ssl, secret, store)
        self._accept = accept
        self._file: tuple[int, int] | None = None
        self._max_peers = max_peers

    def _bind(self) -> Listener:
        """A listening socket; the address says the real port from now on."""
        listener, self._bound = bind(self._bound, self._given)
        self._file = socket_file(self._bound, self._given)
        self._address = self._bound
        return listener

    def _make_hub(self) -> ServerHub:
        hub = ServerHub(self._settings(), self._mailbox, self._max_peers, self._now())
        hub.max_links = descriptor_bound(self._limits.connections)
        return hub

    def _settings(self) -> Settings:
        settings = super()._settings()
        settings.asks_first = self._accept is not None
        return settings

    def _accept_failed(self, info: PeerInfo, error: BaseException) -> bool:
        """``accept=`` has raised. Whoever connects decides what it is asked: no harm may come of it."""
        log.error("linkbox: accept= of %s failed for %s, which is turned away", self, info, exc_info=error)
        return False

    def _on_stopped(self) -> None:
        """Give back what is left. Under the lock."""
        release(self._bound, self._file)

    def _server_hub(self) -> ServerHub:
        hub = self._running()
        assert isinstance(hub, ServerHub)
        return hub

    def _session_of(self, hub: ServerHub, peer: Peer) -> Session:
        session = hub.sessions.get(peer.id)
        if session is None:
            raise StateError(f"{peer} is not connected to {self}")
        return session

    def _target(self, hub: ServerHub, to: Peer | None) -> Session:
        """Whom a message is for."""
        if to is not None:
            return self._session_of(hub, to)
        sessions = hub.sessions
        if len(sessions) == 1:
            return next(iter(sessions.values()))
        if not sessions:
            raise StateError(f"nobody is connected to {self} yet; call wait_connected() first")
        raise StateError(
            f"{len(sessions)} peers are connected to {self}: say send(…, to=peer), or broadcast(…)"
        )

    def _send_to_all(self, hub: ServerHub, payload: bytes) -> dict[Peer, Any]:
        """A receipt for each peer; where the send window is full, one that has failed."""
        receipts: dict[Peer, Any] = {}
        for session in self._listeners(hub):
            if session.has_room():
                receipts[session.peer] = hub.send(session, payload)
            else:
                full = MailboxFull(f"{session.peer} does not keep up")
                receipts[session.peer] = self._receipts(session, error=full)
        return receipts

    def _spool_to_all(self, hub: ServerHub, payload: bytes) -> dict[Peer, Spool]:
        """The same with a store: what is to be on disk for each peer. All of it shares a commit."""
        return {each.peer: hub.spool(each, [payload], True) for each in self._listeners(hub)}

    def _listeners(self, hub: ServerHub) -> list[Session]:
        """Who can be sent to."""
        return [each for each in hub.sessions.values() if not each.ending and each.error is None]

    def _source_of(self, peer: Peer) -> Source:
        """A peer's part of the mailbox; also when it has gone, as long as something of it waits."""
        left = next((each for each in self._mailbox.sources if each.peer.id == peer.id), None)
        return left or self._session_of(self._server_hub(), peer).source

    def disconnect(self, peer: Peer, reason: str = "disconnected by the server") -> None:
        """Close the link to a peer. It is told why, and does not come back by itself."""
        with self.lock:
            hub = self._server_hub()
            hub.disconnect(self._session_of(hub, peer), reason, self._now())
            self._update()


class SwitchedOff:
    """A method that a subclass does not have: ``hasattr`` is False, and a type checker objects."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> SwitchedOff:
        kind = (owner or type(instance)).__name__
        raise AttributeError(f"{kind} has no {self._name}(): it only receives")


class Answering(Base):
    """What a server of asks does, and what a `Request` needs of it."""

    _handler: Callable[[Any], Any] | None
    _workers: int

    def _set_handler(self, handler: Callable[[Any], Any] | None, workers: int) -> None:
        if not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers={workers!r}: a whole number from 1 is needed")
        self._handler = handler
        self._workers = workers

    def handler(self, fn: H) -> H:
        """Decorator: answer asks with ``fn(request)``. Before ``start()``."""
        with self.lock:
            if self._hub is not None:
                raise StateError(f"{self} is started already: set the handler before start()")
            self._handler = fn
        return fn

    def _settings(self) -> Settings:
        settings = super()._settings()
        settings.join = self.join_messages
        return settings

    def _is_obsolete(self, request: Request[Any]) -> bool:
        """Nobody waits for the answer any more: do not even start."""
        incoming = request._incoming
        if incoming.is_cancelled:
            return True
        if self.is_late(incoming):
            self.fail_request(
                incoming, "linkbox.DeadlineExceeded", "the deadline passed before work on it began"
            )
            return True
        return False

    def _on_handled(self, request: Request[Any], value: Any) -> None:
        """The handler has returned."""
        if not request._incoming.is_finished:
            self.answer_request(request._incoming, value)

    def _on_failed(self, request: Request[Any], error: BaseException) -> None:
        """The handler, or encoding what it returned, has raised: the asker is told."""
        incoming = request._incoming
        if not incoming.is_cancelled:
            log.error("linkbox: the handler of %s failed on an ask of %s", self, request.peer, exc_info=error)
        if not incoming.is_finished:
            self.fail_request(incoming, type(error).__name__, str(error))

    def join_messages(self, messages: list[Any]) -> Any:
        """One value out of the messages of an ask."""
        if self._is_bytes:
            return messages[0] if len(messages) == 1 else b"".join(messages)
        if len(messages) != 1:
            raise StateError(f"this ask has {len(messages)} messages: use request.messages")
        return messages[0]

    def is_late(self, incoming: Incoming) -> bool:
        """Is the asker's deadline over?"""
        return incoming.deadline is not None and self._now() >= incoming.deadline

    def answer_request(self, incoming: Incoming, value: Any) -> None:
        """Send an answer."""
        payload = self._payload(value)
        with self.lock:
            if self._hub is not None:
                self._hub.answer(incoming, payload)
                self._update()

    def fail_request(self, incoming: Incoming, type: str, text: str) -> None:
        """Send a failure."""
        with self.lock:
            if self._hub is not None:
                self._hub.fail_ask(incoming, type, text)
                self._update()

    @property
    def forgotten(self) -> Any:
        """Where a `Request` that was dropped unanswered is left, from any thread, without a lock."""
        hub = self._hub
        return [] if hub is None else hub.forgotten
