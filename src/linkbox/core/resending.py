"""Resuming: what of a send window must be sent again."""

from __future__ import annotations

from linkbox.core.outgoing import Bundle, Piece, Unit, count_of, size_of
from linkbox.core.send_window import SendWindow
from linkbox.errors import ProtocolViolation


def rewind(window: SendWindow, arrived: int) -> None:
    """Move the units that the peer has not received back to the front of the queue.

    After ``arrived`` the peer has received none. It costs as much as was sent behind that, which is little if
    nothing was acknowledged since the last time (`FIRST_AGAIN`).
    """
    if not window.acked <= arrived <= window.sent:
        raise ProtocolViolation(
            f"{window.channel.peer} resumes at unit {arrived}; {window.acked} to {window.sent} are possible"
        )
    window.most_sent = max(window.most_sent, window.sent)
    again: list[Unit] = []
    sent, nbytes, messages, message_bytes = window.sent, 0, 0, 0
    while sent > arrived:
        unit = window.unacked[-1]
        count = count_of(unit)
        if sent - count < arrived:
            assert isinstance(unit, Bundle)
            window.unbundle_last()
            continue
        window.unacked.pop()
        again.append(unit)
        sent -= count
        size = size_of(unit)
        nbytes += size
        if not isinstance(unit, Piece):
            messages += count
            message_bytes += size
        elif unit.is_last:
            messages += 1
            message_bytes += unit.message.size()
    if again:
        window.queue.extendleft(again)
    window.sent = sent
    window.sent_bytes -= nbytes
    window.messages_sent -= messages
    window.bytes_sent -= message_bytes
