"""What clients do that needs no waiting: check what they are made with, begin asks, tell what failed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from linkbox.address import Address
from linkbox.core.asks import Ask
from linkbox.core.backoff import Backoff
from linkbox.core.client import TRY_AGAIN, Answer, ClientHub
from linkbox.core.hub import Hub
from linkbox.core.session import Session
from linkbox.errors import ConnectFailed, DeadlineExceeded, MailboxFull, PeerLost, Refused, StateError
from linkbox.front.base import Base, StorePath
from linkbox.front.secrets import Secret
from linkbox.front.storing import STORE_LINGER, check_reconnect
from linkbox.limits import Limits
from linkbox.networks.listening import check_scheme, with_ssl

if TYPE_CHECKING:
    from ssl import SSLContext

CHUNK = 512
"""Messages that ``send_many`` hands to the core at a time."""


class Calling(Base):
    """Base of the clients of both front ends."""

    _side = "client"
    _resumes = True

    def __init__(
        self,
        address: str | tuple[str, int],
        format: Any,
        framing: Any,
        limits: Limits | None,
        overflow: str,
        name: str | None,
        ssl: SSLContext | None,
        secret: Secret | None,
        connect_timeout: float,
        reconnect: Backoff | None,
        store: StorePath = None,
    ) -> None:
        if not connect_timeout > 0:
            raise ValueError(f"connect_timeout={connect_timeout!r}: seconds above 0 are needed")
        parsed = with_ssl(Address.parse(address), address, ssl)
        check_scheme(parsed)
        super().__init__(parsed, format, framing, limits, overflow, name, ssl, secret, store)
        if self._store_path is not None:
            check_reconnect(reconnect)
        self._connect_timeout = connect_timeout
        self._reconnect = reconnect

    def _make_hub(self) -> ClientHub:
        return ClientHub(
            self._settings(),
            self._mailbox,
            self.address,
            self._reconnect,
            self._connect_timeout,
            random_float,
            self._resumes and self._plain is None,
        )

    def _store_notes(self) -> dict[str, str]:
        address, path = self.address, self._address.path
        if path and not path.startswith(("/", "@")):
            address = f"unix://{os.path.abspath(path)}"  # whoever reads it is somewhere else
        return {"address": address, "name": self._name}

    def _on_start(self, hub: ClientHub) -> None:
        """The rest of starting. Under the lock."""


def random_float() -> float:
    """From 0 up to 1: for the jitter of reconnects."""
    return random.random()


class Conversing(Calling):
    """A client of P2P: one conversation, from the start to the end."""

    def _on_start(self, hub: ClientHub) -> None:
        hub.session = hub.session or hub.begin(self._now())
        self._update()

    def _session(self, hub: Hub) -> Session:
        assert isinstance(hub, ClientHub) and hub.session is not None
        return hub.session

    def _sending(self, hub: Hub) -> Session:
        """The session to send on."""
        session = self._session(hub)
        if not session.established and session.error is None and session.record is None:
            raise StateError(f"{self} is not connected yet; call wait_connected() first")
        return session

    def _is_decided(self, session: Session) -> bool:
        """Is it clear whether the link comes up? With a store it is tried for ever, but not waited for."""
        return self._is_linked(session) or session.error is not None or self._refusal(session) is not None

    def _is_linked(self, session: Session) -> bool:
        """Is the link up, or was it? What a store has kept from an earlier life does not count."""
        return session.established if session.record is None else session.is_up

    def _refusal(self, session: Session) -> Refused | None:
        """The server's no, if trying again will hardly help."""
        failure = session.last_failure
        return failure if isinstance(failure, Refused) and failure.code not in TRY_AGAIN else None

    def _why_down(self, session: Session) -> Exception | None:
        """Why the link did not come up, if so."""
        if self._is_linked(session):
            return None
        late = ConnectFailed(f"no welcome from {self.address} within {self._connect_timeout:g} s")
        return session.error or session.last_failure or late

    def _wait_is_vain(self, hub: Hub) -> bool:
        return hub.stopping or self._session(hub).error is not None

    def _raise_if_vain(self, hub: Hub, count: int) -> None:
        error = self._session(hub).error
        if not hub.peers() and error is not None:
            raise error
        super()._raise_if_vain(hub, count)


class Pushing(Calling):
    """A client of P2M."""

    _blocking: bool
    _linger: float

    def _set_up(self, blocking: bool, linger: float) -> None:
        if not linger >= 0:
            raise ValueError(f"linger={linger!r}: seconds from 0 are needed")
        self._blocking = blocking
        self._linger = linger

    def _on_start(self, hub: ClientHub) -> None:
        if hub.journal is not None:
            hub.linger = self._linger or STORE_LINGER
        elif not self._blocking or self._linger:
            hub.linger = self._linger

    def _begin(self, hub: ClientHub) -> Session:
        return hub.current(self._now()) if self._linger else hub.begin(self._now())

    def _is_delivered(self, session: Session) -> bool:
        """Does the server have everything of this session?"""
        return not session.held if self._linger else session.end_acked

    def _hurry(self, hub: ClientHub, session: Session) -> None:
        """Somebody waits for that: end, or ask for acknowledgements."""
        if self._linger:
            hub.acknowledge_now(session)
        else:
            hub.end(session)
        self._update()

    def _raise_failure(self, session: Session) -> None:
        """Raise why the first message of this session failed, if any did."""
        if session.first_failure is not None:
            raise session.first_failure

    def _sender(self, hub: ClientHub, session: Session | None) -> Session:
        """The session for the next message; a new one where the old one has ended."""
        if session is not None:
            session = session.latest()
            if self._blocking:
                self._raise_failure(session)
        if session is None or session.error is not None or session.ending:
            session = self._begin(hub) if self._blocking else hub.current(self._now())
        return session

    def _too_late(self, session: Session) -> DeadlineExceeded:
        """Why waiting for it was given up."""
        why = "stopped" if self._is_stopping else "out of time"
        return DeadlineExceeded(f"{why} before {session.peer} had everything")

    def _hurry_all(self, hub: Hub) -> None:
        """Somebody waits for everything that was sent."""
        for session in list(hub.sessions.values()):
            hub.acknowledge_now(session)
        self._update()

    def _unsettled(self, hub: Hub) -> Session | None:
        """A session with messages whose fate is not known."""
        return next((session for session in hub.sessions.values() if session.held), None)

    def _is_settled(self, session: Session) -> Callable[[], bool]:
        return lambda: not session.held or session.error is not None

    def _not_flushed(self, session: Session) -> DeadlineExceeded:
        return DeadlineExceeded(f"{session.held} messages to {self.address} are not acknowledged yet")

    def _give_up(self, session: Session) -> None:
        """The caller of ``send_many`` has lost interest: end what has no linger."""
        with self.lock:
            if self._hub is not None and session.error is None:
                self._hub.close_session(session, PeerLost("sending was given up"))
                self._update()


class Asking(Calling):
    """A client of AR."""

    _keep_alive: bool
    _opens = True

    def _begin_ask(self, hub: ClientHub, deadline: float | None, to_mailbox: bool) -> Ask:
        """A session, and an ask on it. Over a plain framing one ask at a time has a connection."""
        now = self._now()
        if self._keep_alive:
            session = hub.current(now)
            if self._plain is not None and hub.asks.is_busy(session):
                session = hub.idle_session() or hub.begin(now)
            if len(hub.asks.waiting) + self._mailbox.count >= self._limits.asks:
                raise MailboxFull(
                    f"{self._limits.asks} asks wait for their answers, or to be taken: no more for now"
                )
        else:
            session = hub.begin(now)
        if deadline is not None and not self._keep_alive:
            session.connect_by = min(session.connect_by, deadline)
        return hub.asks.begin(session, to_mailbox)

    def _launch(self, hub: ClientHub, ask: Ask) -> None:
        """The ask is whole: off with it. Its own connection needs nothing more from us."""
        session = ask.session
        is_raw = self._framing.name == "raw"
        if (not self._keep_alive and (self._plain is None or is_raw)) or is_raw:
            hub.end(session)
        self._update()

    def _cancel(self, hub: ClientHub, ask: Ask) -> None:
        """Nobody waits any more. Under the lock."""
        if self._hub is not hub:
            return
        hub.asks.cancel(ask, "the asker gave up")
        if not self._keep_alive and ask.session.error is None:
            hub.close_session(ask.session, None)
        self._update()

    def _send_ask(self, hub: ClientHub, payload: bytes) -> Any:
        """An ask whose answer goes to the mailbox; returns its receipt."""
        ask = self._begin_ask(hub, None, to_mailbox=True)
        hub.asks.add(ask, payload, False, None)
        receipt = ask.receipt
        self._launch(hub, ask)
        return receipt

    def _outcome(self, ask: Ask, timeout: float | None) -> Any:
        """The answer, or why there is none."""
        if ask.error is not None:
            raise ask.error
        if not ask.is_done:
            raise DeadlineExceeded(f"no answer from {self.address} within {timeout:g} s")
        return ask.value

    def _open_item(self, item: Any) -> Any:
        assert isinstance(item, Answer)
        if item.error is not None:
            raise item.error
        return item.value
