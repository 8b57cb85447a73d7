"""`BrokerLink`: a link whose far end is a broker. It carries messages instead of bytes."""

from __future__ import annotations

from collections.abc import Iterator

from linkbox.core.arrival import Arrival
from linkbox.core.channel import OutgoingMessage
from linkbox.core.connection import Buffer
from linkbox.core.context import Context
from linkbox.core.link import Link, LinkOwner, State
from linkbox.core.session import Session


class BrokerLink(Link):
    """The base class: open from the beginning, without a wire of its own.

    The port of the network takes what a subclass has to send, and gives it what has arrived.
    """

    __slots__ = ()

    def __init__(
        self, owner: LinkOwner, context: Context, address: str, now: float, session: Session
    ) -> None:
        super().__init__(owner, context, address, now)
        self.state = State.OPEN
        self.carry(session)

    def carried(self, now: float) -> Session | None:
        """The session, if it still has this link: it may send."""
        self.context.effects.now = now
        session = self.session
        return session if session is not None and session.link is self and not self.closed else None

    def whole_messages(self, session: Session) -> Iterator[OutgoingMessage]:
        """What the session has to send. A message that is too large fails."""
        sending = session.sending
        while sending.queue:
            message = sending.pull_whole()
            if message is None:
                session.owner.message_failed(session, sending.pop_too_large())
            else:
                yield message

    def data_to_send(self, now: float) -> list[Buffer]:
        return []  # There are no bytes: see the subclasses.

    def send_control(self, frame: bytes) -> None:
        pass  # Control frames belong to our own wire.

    def receive(self, data: bytes, now: float) -> list[Arrival]:
        return []

    def receive_eof(self, now: float) -> list[Arrival]:
        return []

    def forget_input(self) -> None:
        pass

    def close_soon(self, now: float) -> None:
        self.abort(None)  # The broker expects no close notification.
