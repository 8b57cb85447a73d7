"""What every endpoint is, however it waits: its settings, its callbacks, its mailbox."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from linkbox.core.auth import Lookup
from linkbox.core.framings import Framing, PlainFraming, as_framing
from linkbox.core.hub import Hub
from linkbox.core.journal import Journal
from linkbox.core.mailbox import BytesMailbox, MailboxState
from linkbox.core.patterns import Pattern
from linkbox.core.restoring import Left
from linkbox.core.session import Session
from linkbox.core.settings import Counters, Settings
from linkbox.core.snapshot import statistics
from linkbox.core.units import Delivery
from linkbox.errors import EndOfData, FormatError, MailboxFull, StateError, TooLarge
from linkbox.events import Callback, EventKind, Peer, Stage, Statistics
from linkbox.formats import Bytes, as_format
from linkbox.front.callbacks import Callbacks
from linkbox.front.secrets import Secret, lookup_of
from linkbox.front.storing import open_store, store_path, take_up
from linkbox.limits import Limits
from linkbox.networks.choose import time_source

if TYPE_CHECKING:
    from ssl import SSLContext

    from linkbox.networks.tls_link import TlsLink
    from linkbox.store.sqlite import Store

log = logging.getLogger("linkbox")

F = TypeVar("F", bound=Callback)
StorePath = str | os.PathLike[str] | None
Overflow = Literal["block", "drop_oldest", "drop_newest", "error"]


class Base:
    """Base of all endpoints. Not generic: nothing here depends on the type of the messages."""

    _pattern: Pattern
    _side: str
    _receipts: type[Delivery]
    _is_fork = False
    lock: Any
    """Held around every call into the core. Not for you."""

    def __init__(
        self,
        address: Any,
        format: Any,
        framing: Any,
        limits: Limits | None,
        overflow: str,
        name: str | None,
        ssl: SSLContext | None,
        secret: Secret | None,
        store: StorePath = None,
    ) -> None:
        self._format = as_format(format)
        self._framing: Framing = as_framing(framing)
        self._limits = limits or Limits()
        self._name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._plain = self._framing if isinstance(self._framing, PlainFraming) else None
        if self._plain is not None:
            self._plain.decoder(self._limits.message)  # raises when it cannot hold one message
            if secret is not None:
                raise ValueError("a plain framing cannot prove a secret: use framing=Linked()")
        self._lookup: Lookup | None = None
        self._identifies = False
        if secret is not None:
            self._lookup, self._identifies = lookup_of(secret)
        self._tls: Callable[[], TlsLink] | None = None
        """Makes the TLS of a connection."""
        if address.scheme == "tls":
            from linkbox.networks.tls_link import tls_maker

            self._tls = tls_maker(address, ssl, self._side == "server", secret is not None)
        self._store_path = store_path(store, self._pattern, self._plain is not None, overflow)
        self._journal: Journal | None = None
        """What the last life with a store wanted on disk."""
        self._is_bytes = isinstance(self._format, Bytes)
        self._as_it_is = self._is_bytes and self._plain is None
        self._encode_value = self._format.encode
        self._mailbox = self._make_mailbox(overflow)
        self._callbacks = Callbacks()
        self._counters = Counters()
        self._hub: Hub | None = None
        self._is_stopping = False
        self._address = address
        self._now = time_source(address)
        """The clock of this endpoint: seconds, as of ``time.monotonic()``."""

    def _make_mailbox(self, overflow: str) -> MailboxState:
        kind = BytesMailbox if self._is_bytes and not self._pattern.asks else MailboxState
        return kind(self._limits, overflow)

    def _settings(self) -> Settings:
        return Settings(
            pattern=self._pattern,
            format_name=self._format.name,
            framing=self._framing,
            limits=self._limits,
            name=self._name,
            receipts=self._receipts,
            entropy=os.urandom,
            wall=time.time() - self._now(),
            counters=self._counters,
            secrets=self._lookup,
            identifies=self._identifies,
            secure=self._tls is not None,
        )

    def _take_up(self, left: Left, hub: Any, wake: Callable[[], None]) -> None:
        """Begin a life with what was in the store."""
        self._journal = take_up(left, hub, self._mailbox, self._decode(), wake, self._now())

    def _opening(self, hub: Any) -> Callable[[], tuple[Store, Left]] | None:
        """What opens the store and reads it, which may take its time. None: there is none."""
        if self._store_path is None:
            return None
        label, notes = self._store_label(), self._store_notes()
        return partial(open_store, self._store_path, label, notes, self._journal, hub.incarnation)

    def _store_label(self) -> dict[str, str]:
        """What the store is for: that of another kind of endpoint is refused."""
        return {"side": self._side, "pattern": self._pattern.name, "format": self._format.name}

    def _store_notes(self) -> dict[str, str]:
        """What the store is to remember of who used it last."""
        return {}

    def _decode(self) -> Callable[[bytes], Any] | None:
        """How messages become values; None: they are the bytes themselves."""
        return None if self._is_bytes else self._format.decode

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    @property
    def address(self) -> str:
        """The endpoint's address as a URL. A server's says the real port once it was started."""
        return str(self._address)

    def _running(self) -> Hub:
        """The hub of a started endpoint. Under the lock."""
        hub = self._hub
        if hub is None or self._is_stopping:
            raise self._not_running()
        return hub

    def _not_running(self) -> StateError:
        if self._is_fork:
            return StateError(f"{self} belongs to the parent process; make a new one after fork")
        what = "was stopped" if self._is_stopping or self._mailbox.over is not None else "is not started"
        return StateError(f"{self} {what}: call start(), or use it in a with block")

    def _forked(self) -> None:
        """This is the copy in a child process: it only gives back its descriptors."""
        raise NotImplementedError

    def _update(self) -> None:
        """Write, dial and tell what a call into the hub has changed. Under the lock."""
        raise NotImplementedError

    def _in_callback(self) -> bool:
        """Is this one of the endpoint's own callbacks?"""
        raise NotImplementedError

    def _may_wait_for_room(self, session: Session) -> None:
        """Not inside a callback."""
        if self._in_callback():
            raise MailboxFull(
                f"the send window to {session.peer} is full, and a callback must not wait for it"
            )

    def _check_room(self, session: Session, timeout: float | None) -> None:
        """Somebody has waited for room: is there some? If the session is over, sending will say why."""
        if session.error is None and not session.ending and not session.has_room():
            if self._is_stopping:
                raise self._not_running()
            raise MailboxFull(
                f"no room in the send window to {session.peer} within {timeout} s: it does not keep up"
            )

    def _over(self) -> Exception | None:
        """Why nothing more will come, if so."""
        over = self._mailbox.over
        if over is None and self._hub is None and not self._is_stopping:
            raise self._not_running()
        return over

    def _declare_over(self, hub: Hub) -> None:
        """The end, ordered or not: whoever waits is told. Under the lock."""
        hub.abort()
        if self._mailbox.over is None:
            self._mailbox.over = EndOfData(f"{self} was stopped")
        hub.changed += (self._mailbox.end_box, hub.box)

    # -- callbacks ------------------------------------------------------------------------------------

    def add_callback(self, fn: Callback, *kinds: EventKind) -> None:
        """Call ``fn(event)`` whenever one of these happens; by default for `EventKind.DATA`.

        Callbacks of one endpoint run one at a time, and never in the way of data. A callback may call
        anything, and may raise: that is logged, and the stream goes on. Messages that are waiting when
        the first DATA callback is added ring at once.
        """
        kinds = kinds or (EventKind.DATA,)
        with self.lock:
            had_data = EventKind.DATA in self._callbacks.kinds()
            self._callbacks.add(fn, kinds)
            if self._hub is not None:
                self._hub.listening = self._callbacks.kinds()
                if EventKind.DATA in kinds and not had_data:
                    self._ring_waiting(self._hub)
                self._on_listening()

    def _on_listening(self) -> None:
        """There are callbacks now, and perhaps events for them. Under the lock."""
        raise NotImplementedError

    def _ring_waiting(self, hub: Hub) -> None:
        """Messages that are there already ring the bell that has just been hung up."""
        self._mailbox.settle_hand()  # what was taken from it does not ring
        waiting = self._mailbox.count
        if waiting:
            hub.emit(EventKind.DATA, None, count=waiting)

    def remove_callback(self, fn: Callback) -> None:
        """Call ``fn`` no more, for any kind. `ValueError` if it was not added."""
        with self.lock:
            self._callbacks.remove(fn)
            if self._hub is not None:
                self._hub.listening = self._callbacks.kinds()
                if EventKind.DATA not in self._hub.listening:
                    self._hub.forget_data_events()

    def on(self, *kinds: EventKind) -> Callable[[F], F]:
        """Decorator: ``@endpoint.on(EventKind.ERROR)``."""

        def register(fn: F) -> F:
            self.add_callback(fn, *kinds)
            return fn

        return register

    # -- peers and numbers ------------------------------------------------------------------------------

    def peers(self) -> tuple[Peer, ...]:
        """Who is connected now."""
        with self.lock:
            return () if self._hub is None else self._hub.peers()

    def statistics(self) -> Statistics:
        """A snapshot of all counters, in all and for each peer that is connected."""
        with self.lock:
            return statistics(self._hub, self._counters, self._mailbox)

    def _wait_is_vain(self, hub: Hub) -> bool:
        """Can nobody connect any more? Then `wait_connected` need not wait."""
        return hub.stopping

    def _raise_if_vain(self, hub: Hub, count: int) -> None:
        if len(hub.peers()) < count:
            raise self._not_running()

    # -- values to bytes ----------------------------------------------------------------------------------

    def _payload(self, data: Any) -> bytes:
        """The bytes of one message, checked. In the caller's own time: its error, at once."""
        if data.__class__ is bytes and self._as_it_is and len(data) <= self._limits.message:
            return data
        return self._checked(self._encode_value(data))

    def _payloads(self, values: list[Any]) -> list[bytes]:
        """The same for many messages: mostly all are well, and one look at them together is quicker."""
        is_ready = self._is_bytes and set(map(type, values)) == {bytes}
        payloads = values if is_ready else list(map(self._encode_value, values))
        are_bytes = self._plain is None and set(map(type, payloads)) == {bytes}
        if are_bytes and max(map(len, payloads)) <= self._limits.message:
            return payloads
        return list(map(self._checked, payloads))

    def _checked(self, payload: bytes) -> bytes:
        if len(payload) > self._limits.message:
            raise TooLarge(
                f"the message has {len(payload)} bytes encoded, at most {self._limits.message} are allowed; "
                "raise Limits(message=...) on both sides"
            )
        if self._plain is not None:
            self._plain.check(payload)
        elif payload.__class__ is not bytes:
            raise FormatError(f"{self._format!r} encoded to {type(payload).__name__}, bytes are needed")
        return payload

    # -- receipts -----------------------------------------------------------------------------------------

    def _settles(self, receipt: Delivery, session: Session, stage: Stage) -> Callable[[], bool]:
        """Has it come so far, or will it never? Another session may have taken it over: then ask again."""
        return lambda: receipt.stage >= stage or receipt.session is not session or session.error is not None


def log_notes(hub: Hub) -> None:
    """Write what the hub wants logged."""
    notes, hub.notes = hub.notes, []
    for note in notes:
        log.log(logging.WARNING if note.level == "warning" else logging.INFO, "linkbox: %s", note.text)
