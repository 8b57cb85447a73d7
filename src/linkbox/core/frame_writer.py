"""Writes a session's messages as frames: their order, their sizes and the types of the frames."""

from __future__ import annotations

from typing import Final

from linkbox.core.channel import OutgoingMessage, Unit
from linkbox.core.connection import Buffer
from linkbox.core.ending import wants_end
from linkbox.core.outgoing import Bundle, Piece
from linkbox.core.send_window import BATCH_BODIES, EARLY_BYTES, JOINED
from linkbox.core.session import Session
from linkbox.core.wire import frames

_EARLY_BODIES: Final = EARLY_BYTES // 2
"""Most bytes of payload sent with HELLO; headers and tables of lengths need the rest."""


def write_units(session: Session, out: list[Buffer], budget: int, now: float) -> bool:
    """Write queued messages, within credit and about ``budget`` bytes. True if there may be more to write."""
    while may_send(session):
        budget -= _write_next(session, BATCH_BODIES, out, now)
        if budget <= 0:
            return True
    return False


def write_early(session: Session, out: list[Buffer], now: float) -> None:
    """Write messages together with HELLO, which saves a round trip for a short conversation."""
    sending = session.sending
    while may_send(session) and sending.sent_bytes + sending.next_size() <= _EARLY_BODIES:
        _write_next(session, _EARLY_BODIES - sending.sent_bytes, out, now)
    if wants_end(session):
        session.ending.is_sent = True
        out.append(frames.encode_number(frames.END, sending.sent))


def may_send(session: Session) -> bool:
    """Is anything queued, and do credit and the store allow it to be written?"""
    sending, record = session.sending, session.record
    return bool(sending.queue) and sending.has_credit() and (record is None or not record.is_gated())


def _write_next(session: Session, most: int, out: list[Buffer], now: float) -> int:
    """Write the next units of the queue; return roughly how many bytes that was."""
    units = session.sending.pull(most)
    if len(units) == 1:
        unit = units[0]
        if not isinstance(unit, Bundle):
            return _write_unit(unit, out, now)
        batch = frames.encode_batch(unit.payloads)
    elif units:
        batch = frames.encode_batch([_payload(unit) for unit in units])
    else:
        session.owner.message_failed(session, session.sending.pop_too_large())
        return 0
    out.append(batch)
    return len(batch)


def _payload(unit: Unit) -> bytes:
    """The payload of a message in a BATCH."""
    assert isinstance(unit, OutgoingMessage)
    return unit.payload or b""


def _write_unit(unit: Unit, out: list[Buffer], now: float) -> int:
    """Write the frame of one unit that is not a bundle; return the number of payload bytes."""
    if isinstance(unit, Piece):
        message, start, stop = unit.message, unit.start, unit.stop
    else:
        assert isinstance(unit, OutgoingMessage)
        message, start, stop = unit, 0, unit.size()
    payload, size = message.payload or b"", stop - start
    total = len(payload)
    if message.header is not None:
        whole = size == total
        body = payload if whole else payload[start:stop]
        out.append(message.header.frame(body, start == 0, stop == total, now))
    elif size == total and size <= JOINED:
        out.append(frames.frame(frames.DATA, payload))
    elif stop == total:
        out += (frames.header(frames.DATA, size), memoryview(payload)[start:stop])
    elif start == 0:
        out.append(frames.encode_first_part(total, payload[:stop]))
    else:
        out += (frames.header(frames.PART, size), memoryview(payload)[start:stop])
    return size
