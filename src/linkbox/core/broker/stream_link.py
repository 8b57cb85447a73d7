"""The client's side of P2M over a broker: messages into a stream.

The broker acknowledges each message once it is in the stream (and on its disk, if it is configured so). After
a lost connection everything that is not acknowledged is published again, in order, on the next one. What may
have been published before is marked (`stream_messages.AGAIN`): the broker usually drops what it has already,
but it forgets that with time, and when it is restarted.
"""

from __future__ import annotations

from typing import Final

from linkbox.core.broker import stream_messages
from linkbox.core.broker.ask_messages import PARTS
from linkbox.core.broker.link import BrokerLink
from linkbox.core.broker.marks import Marks
from linkbox.core.broker.stream_messages import Publish, read_ranges
from linkbox.core.context import Context
from linkbox.core.durable.record import Record
from linkbox.core.ending import wants_end
from linkbox.core.frame_writer import may_send
from linkbox.core.link import LinkOwner
from linkbox.core.outgoing import Bundle, OutgoingMessage, Piece, Unit
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.core.wait_queue import ENDLESS
from linkbox.errors import EndOfData, MailboxFull, PeerLost, TooLarge
from linkbox.text import printable

IN_FLIGHT: Final = 256
"""Most messages and packs that are published and not acknowledged."""
PACK_BYTES: Final = 64 * 1024
"""Most bytes of the messages in a pack."""
ACK_WAIT: Final = 5.0
"""Seconds without any acknowledgement after which the connection counts as lost."""


class StreamLink(BrokerLink):
    """The way of a client's messages into the stream."""

    __slots__ = ("_ack_by", "_acked", "_again", "_base", "_flying", "_most", "_orders", "_taken")

    def __init__(
        self, owner: LinkOwner, context: Context, address: str, now: float, session: Session, most: int
    ) -> None:
        super().__init__(owner, context, address, now, session)
        self._most = most
        """The largest body that the broker accepts."""
        self._orders: list[Publish] = []
        self._flying: dict[int, Publish] = {}
        """What is published and not acknowledged, by the first numbers."""
        self._ack_by = NEVER
        self._acked = Marks(session.sending.acked)
        self._taken = Marks(session.sending.taken)
        self._base = 0
        self._again = 0

    def start(self) -> None:
        """Go on after what the broker has acknowledged. The session must have this link."""
        session = self.session
        assert session is not None
        sending, record = session.sending, session.record
        sending.peer_bytes = sending.peer_units = ENDLESS
        if not isinstance(record, Record):
            sending.peer_message = self._most
            session.rewind(sending.acked)
            self._again = sending.most_sent
            return
        spool = record.spool
        received = spool.acked - spool.base if spool.is_stub else sending.acked
        self._base = spool.base
        self._acked.reached, self._taken.reached = received, min(sending.taken, received)
        record.resume(received)
        self._again = max(spool.stub_most, sending.most_sent + spool.base)

    # -- sending -------------------------------------------------------------------------------------------

    def take_orders(self, now: float) -> list[Publish]:
        """What the network must publish now."""
        session = self.carried(now)
        if session is not None:
            while len(self._flying) < IN_FLIGHT and may_send(session):
                self._publish(session, session.sending.pull(PACK_BYTES), now)
            self._check_end(session)
        orders, self._orders = self._orders, []
        return orders

    def _publish(self, session: Session, units: list[Unit], now: float) -> None:
        if not units:
            session.owner.message_failed(session, session.sending.pop_too_large())
            return
        last, unit = units[-1].number, units[0]
        if isinstance(unit, Bundle):
            payloads = unit.payloads
        elif isinstance(unit, Piece):
            self._too_large(session, unit.message if unit.is_last else None, last)
            return
        else:
            payloads = [_payload(each) for each in units]
        if isinstance(unit, OutgoingMessage) and len(payloads[0]) > self._most:
            self._too_large(session, unit, last)  # A store has accepted it.
            return
        first = last - len(payloads) + 1
        headers = {
            stream_messages.ID: f"{session.peer.id}:{last + self._base}",
            stream_messages.NAME: printable(self.context.settings.name),
        }
        if len(payloads) > 1:
            headers[PARTS] = ",".join([str(len(each)) for each in payloads])
        if first + self._base <= self._again:
            headers[stream_messages.AGAIN] = "1"
        body = payloads[0] if len(payloads) == 1 else b"".join(payloads)
        order = Publish(session.peer.id, first, last, headers, body)
        self._flying[first] = order
        self._orders.append(order)
        if self._ack_by == NEVER:
            self._ack_by = now + ACK_WAIT
            self.schedule(self._ack_by)

    def _too_large(self, session: Session, message: OutgoingMessage | None, number: int) -> None:
        """The broker would not accept this message: it fails."""
        if message is not None:
            message.error = TooLarge(
                f"{self.address} takes messages of at most {self._most} bytes, not {message.size()}; "
                "raise max_payload of the broker"
            )
            session.owner.message_failed(session, message)
        self._done(session, range(number, number + 1))

    # -- acknowledgements ----------------------------------------------------------------------------------

    def on_stored(self, first: int, error: str, is_full: bool, now: float) -> None:
        """The broker has acknowledged a message or a pack, or it has an ``error``. ``is_full``: no room."""
        self.context.effects.now = now
        session, order = self.session, self._flying.pop(first, None)
        if session is None or session.link is not self or order is None:
            return
        if error and not (is_full and session.record is None):
            self.abort(PeerLost(f"{self.address}: the broker has not stored a message: {printable(error)}"))
            return
        self._ack_by = now + ACK_WAIT if self._flying else NEVER
        self.schedule(self._ack_by)
        numbers = range(order.first, order.last + 1)
        if error:
            full = MailboxFull(f"{self.address}: the stream of the broker is full ({printable(error)})")
            for number in numbers:
                message = session.sending.on_reject(number, full)
                if message is not None:
                    session.owner.message_failed(session, message)
        self._done(session, numbers)
        self._check_end(session)

    def _done(self, session: Session, numbers: range) -> None:
        self._acked.add(numbers)
        self._ack(session)

    def on_taken(self, text: str, now: float) -> None:
        """A server reports which messages were taken."""
        self.context.effects.now = now
        session = self.session
        if session is None or session.link is not self:
            return
        for numbers in read_ranges(text):
            if numbers.stop - self._base <= session.sending.sent + 1 and len(numbers) <= session.sending.sent:
                self._taken.add(range(numbers.start - self._base, numbers.stop - self._base))
        self._ack(session)

    def _ack(self, session: Session) -> None:
        sending = session.sending
        acked = max(self._acked.reached, sending.acked)
        taken = max(min(self._taken.reached, acked), sending.taken)
        if acked > sending.acked or taken > sending.taken:
            session.owner.acked(session, sending.on_ack(acked, taken, ENDLESS, ENDLESS))
            self.context.effects.to_write.append(self)

    def silence_deadline(self) -> float:
        return self._ack_by

    def on_silence(self, now: float) -> None:
        self.abort(PeerLost(f"{self.address}: the broker has acknowledged nothing for {ACK_WAIT:g} s"))

    # -- the end -------------------------------------------------------------------------------------------

    def _check_end(self, session: Session) -> None:
        """Close the conversation, once it has ended and the broker has everything."""
        ending, sending, record = session.ending, session.sending, session.record
        if wants_end(session):
            ending.is_sent = True
        if not ending.is_sent or sending.queue or sending.acked < sending.sent:
            return
        ending.is_acked = True
        if record is not None and not record.is_settled():
            record.touch(is_urgent=True)
            return  # What the disk does not know would be sent again.
        session.receiving.end_reason = EndOfData(f"{self.address} has everything")
        self.eof = True
        self.abort(None)


def _payload(unit: Unit) -> bytes:
    assert isinstance(unit, OutgoingMessage)
    return unit.payload or b""
