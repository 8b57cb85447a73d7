"""`Channel`: one conversation with one peer, as operations see it."""

from __future__ import annotations

from typing import Any

from linkbox.core.wait_queue import WaitQueue
from linkbox.events import Peer


class Channel:
    """One conversation with one peer. It outlives the connections that carry it.

    After each call that sends, ends or closes, the caller must let the driver settle.
    """

    __slots__ = ()

    peer: Peer
    """The peer; once the server has been reached, under the name that it gave itself."""
    error: Exception | None
    """Why the conversation is over, `EndOfData` after an orderly end; None while it is not."""
    first_failure: Exception | None
    """Why the first of its messages that failed did; None if none has."""
    established: bool
    """Has the peer ever been reached, in this life of the endpoint or an earlier one?"""
    is_plain: bool
    """Is it carried by a plain framing, without acknowledgements?"""
    last_failure: Exception | None
    """Why the last attempt to connect failed, or None."""

    @property
    def is_ending(self) -> bool:
        """Has this side ended it? Then nothing more can be sent."""
        raise NotImplementedError

    @property
    def changed(self) -> WaitQueue:
        """Those who wait for the conversation: for room, for acknowledgements, for its end."""
        raise NotImplementedError

    def was_connected(self) -> bool:
        """Has the peer been reached in this life of the endpoint?"""
        raise NotImplementedError

    def latest(self) -> Channel:
        """The conversation that carries this one on; often this one itself."""
        raise NotImplementedError

    def has_room(self) -> bool:
        """Is there room in the send window?"""
        raise NotImplementedError

    def send(self, payload: bytes) -> Any:
        """Send a message; returns its receipt. The caller checks `has_room` first.

        `StateError` after the end, `TooLarge` for more than the peer takes.
        """
        raise NotImplementedError

    def send_later(self, payload: bytes) -> Any:
        """The same, but the driver chooses when to write it, perhaps together with others."""
        raise NotImplementedError

    def send_many(self, payloads: list[bytes]) -> int:
        """Queue as many messages as there is room for, without receipts; returns how many. Needs room."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what `send_many` has queued."""
        raise NotImplementedError

    def end(self) -> None:
        """Send the END mark once everything queued is sent."""
        raise NotImplementedError

    def request_ack(self) -> None:
        """Ask the peer to acknowledge now."""
        raise NotImplementedError

    def in_flight(self) -> int:
        """How many messages are accepted for sending and not acknowledged."""
        raise NotImplementedError

    def is_delivered(self) -> bool:
        """Has the peer acknowledged everything, the END mark included?"""
        raise NotImplementedError

    def close(self, error: Exception | None) -> None:
        """End it at once; what is not acknowledged fails with the error."""
        raise NotImplementedError
