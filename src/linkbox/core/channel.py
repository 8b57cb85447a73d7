"""What an endpoint sees of one conversation, and of one message that it sends.

`Channel` is the upper seam of the core: operations use it, `Session` (session.py) implements it.
"""

from __future__ import annotations

from linkbox.core.wait_queue import WaitQueue
from linkbox.core.wire import frames
from linkbox.events import Peer, Stage


class Unit:
    """What has a number on the wire, see `SendWindow`: a message, a piece of one, or a bundle of several."""

    __slots__ = ("number",)

    number: int
    """The number of its last unit; 0 until that was written."""


class AskHeader:
    """What a message of a request or a response says besides its payload."""

    __slots__ = ("deadline", "flags", "id", "kind")

    def __init__(self, kind: int, id: int, flags: int = 0, deadline: float | None = None) -> None:
        self.kind = kind
        """ASK, ANSWER, FAIL or CANCEL of frames.py."""
        self.id = id
        self.flags = flags
        self.deadline = deadline


class OutgoingMessage(Unit):
    """A message that is sent. The receipts of the front ends are subclasses that can be waited for."""

    __slots__ = ("__weakref__", "channel", "error", "header", "offset", "payload", "stored_number")

    def __init__(
        self, channel: Channel, payload: bytes | None = None, header: AskHeader | None = None
    ) -> None:
        self.number = 0
        self.channel = channel
        self.payload = payload
        """None once it is acknowledged, or while it is on disk only."""
        self.header = header
        """None for a plain message of P2P and P2M."""
        self.error: Exception | None = None
        """Why it failed, or None."""
        self.offset = 0
        """How much of it has been cut into pieces."""
        self.stored_number = 0
        """Its number in the store, if it is in one."""

    def __repr__(self) -> str:
        return f"<Receipt {self.stage.name}>"

    @property
    def kind(self) -> int:
        """The type of the frame that carries it."""
        return frames.DATA if self.header is None else self.header.kind

    @property
    def stage(self) -> Stage:
        """How far the message has come. Only a dropped connection sets it back, from SENT to QUEUED."""
        if self.error is not None:
            return Stage.FAILED
        return self.channel.stage_of(self)

    @property
    def failed(self) -> bool:
        """Has the message failed? ``error`` says why."""
        return self.stage is Stage.FAILED

    def size(self) -> int:
        """Bytes of payload that are in memory."""
        return 0 if self.payload is None else len(self.payload)


class Channel:
    """One conversation with one peer."""

    __slots__ = ("changed", "error", "first_failure", "peer")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.changed = WaitQueue()
        """Its room, the stages of its messages, its end."""
        self.error: Exception | None = None
        """Set when it is over for good; `EndOfData` after an orderly end."""
        self.first_failure: Exception | None = None
        """Why the first of its messages that failed did."""

    @property
    def endpoint(self) -> object:
        """What was given to the core as ``endpoint``: what a receipt needs to be waited for."""
        raise NotImplementedError

    @property
    def is_plain(self) -> bool:
        """Over a plain framing nothing is acknowledged: what is written is forgotten."""
        raise NotImplementedError

    @property
    def established(self) -> bool:
        """Was the peer ever reached, in this life of the endpoint or an earlier one?"""
        raise NotImplementedError

    @property
    def last_failure(self) -> Exception | None:
        """Why the last attempt to connect failed, or None."""
        raise NotImplementedError

    def was_connected(self) -> bool:
        """Was the peer reached in this life of the endpoint?"""
        raise NotImplementedError

    def connect_within(self, deadline: float) -> None:
        """Give up connecting at that time, if not earlier."""
        raise NotImplementedError

    @property
    def is_ending(self) -> bool:
        """Has this side ended the conversation? Then nothing more can be sent."""
        raise NotImplementedError

    def stage_of(self, message: OutgoingMessage) -> Stage:
        """How far a message has come that has not failed."""
        raise NotImplementedError

    def latest(self) -> Channel:
        """The conversation that has taken over from this one, after any number of take-overs; often itself."""
        raise NotImplementedError

    def has_room(self) -> bool:
        """Is the send window open?"""
        raise NotImplementedError

    def send_at_once(self, payload: bytes) -> OutgoingMessage | None:
        """Send a message if a connection takes it now. None: call `send`, which queues it or says what is wrong."""
        raise NotImplementedError

    def send(self, payload: bytes) -> OutgoingMessage:
        """Send one message: check `has_room` first. `StateError` after the end, `TooLarge` for this peer."""
        raise NotImplementedError

    def send_later(self, payload: bytes) -> OutgoingMessage:
        """Queue one message, to be written with others: call `flush` later."""
        raise NotImplementedError

    def send_many(self, payloads: list[bytes]) -> int:
        """Queue as many messages as the send window has room for (it must have some); returns how many."""
        raise NotImplementedError

    def flush(self) -> None:
        """Let the driver write what is queued."""
        raise NotImplementedError

    def end(self) -> None:
        """Send nothing more: the END mark follows the last message."""
        raise NotImplementedError

    def request_ack(self) -> None:
        """Ask the peer to acknowledge at once: somebody waits for a receipt."""
        raise NotImplementedError

    def in_flight(self) -> int:
        """Messages (units) that are queued, on disk only, or not acknowledged."""
        raise NotImplementedError

    def is_delivered(self) -> bool:
        """Has the peer acknowledged the END mark, and so everything?"""
        raise NotImplementedError

    def close(self, error: Exception | None) -> None:
        """End the conversation now. What is not acknowledged fails."""
        raise NotImplementedError
