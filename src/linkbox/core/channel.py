"""The interface of a conversation, and the outgoing message with its stage.

`Channel` is the upper seam of the core: operations use it, `Session` (session.py) implements it.
"""

from __future__ import annotations

from linkbox.core.wait_queue import WaitQueue
from linkbox.core.wire import frames
from linkbox.events import Peer, Stage
from linkbox.native import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Unit:
    """An entry of the send window: a message, a piece of one, or a bundle of several."""

    __slots__ = ("number",)

    number: int
    """The number of its last unit on the wire; 0 until that was written."""


class AskHeader:
    """The header fields of a message that belongs to a request or a response."""

    __slots__ = ("deadline", "flags", "id", "kind")

    def __init__(self, kind: int, id: int, flags: int = 0, deadline: float | None = None) -> None:
        self.kind: int = kind
        """ASK, ANSWER, FAIL or CANCEL of frames.py."""
        self.id: int = id
        self.flags: int = flags
        self.deadline: float | None = deadline

    def frame(self, body: bytes, is_first: bool, is_last: bool, now: float) -> bytes:
        """The frame for one piece of the message. The payload of a FAIL or CANCEL is the frame itself."""
        kind, flags = self.kind, self.flags if is_last else self.flags | frames.MORE_OF_MESSAGE
        if kind == frames.ANSWER:
            return frames.encode_answer(self.id, flags, body)
        if kind != frames.ASK:
            return body
        left = None
        if self.deadline is not None and is_first:
            left = max(0, int((self.deadline - now) * 1000))
        return frames.encode_ask(self.id, flags, left, body)


@mypyc_attr(allow_interpreted_subclasses=True)
class OutgoingMessage(Unit):
    """A message to send. The receipts of the front ends are subclasses with a ``wait`` method."""

    __slots__ = ("__weakref__", "channel", "error", "header", "offset", "payload", "stored_number")

    def __init__(
        self, channel: Channel, payload: bytes | None = None, header: AskHeader | None = None
    ) -> None:
        self.number = 0
        self.channel: Channel = channel
        self.payload: bytes | None = payload
        """None once it is acknowledged, or while it is only on disk."""
        self.header: AskHeader | None = header
        """None for a plain message of P2P and P2M."""
        self.error: Exception | None = None
        """Why it failed, or None."""
        self.offset: int = 0
        """Bytes that have been cut off into pieces."""
        self.stored_number: int = 0
        """Its number in the store; 0 without a store."""

    def __repr__(self) -> str:
        return f"<Receipt {self.stage.name}>"

    @property
    def kind(self) -> int:
        """The type of the frame that carries it."""
        return frames.DATA if self.header is None else self.header.kind

    @property
    def stage(self) -> Stage:
        """How far delivery has got. It goes back only when a connection is lost: from SENT to QUEUED."""
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
        self.peer: Peer = peer
        self.changed: WaitQueue = WaitQueue()
        """Woken when the room in the send window, the stage of a message, or the state changes."""
        self.error: Exception | None = None
        """Why the conversation is closed; `EndOfData` after a graceful end; None while it is open."""
        self.first_failure: Exception | None = None
        """The error of the first message that failed."""

    @property
    def endpoint(self) -> object:
        """The object given to the core as ``endpoint``, which the front end needs to wait for a receipt."""
        raise NotImplementedError

    @property
    def is_plain(self) -> bool:
        """With a plain framing nothing is acknowledged: what is written is forgotten."""
        raise NotImplementedError

    @property
    def established(self) -> bool:
        """Was the peer ever reached, also before a restart of the endpoint?"""
        raise NotImplementedError

    @property
    def last_failure(self) -> Exception | None:
        """Why the last attempt to connect failed, or None."""
        raise NotImplementedError

    def was_connected(self) -> bool:
        """Was the peer reached since the endpoint was started?"""
        raise NotImplementedError

    def connect_within(self, deadline: float) -> None:
        """Stop trying to connect at this time at the latest."""
        raise NotImplementedError

    @property
    def is_ending(self) -> bool:
        """Has this side ended the conversation? Then nothing more can be sent."""
        raise NotImplementedError

    def stage_of(self, message: OutgoingMessage) -> Stage:
        """The stage of a message that has not failed."""
        raise NotImplementedError

    def latest(self) -> Channel:
        """The conversation that has taken over the messages of this one, at any remove; usually itself."""
        raise NotImplementedError

    def has_room(self) -> bool:
        """Is the send window open?"""
        raise NotImplementedError

    def send_at_once(self, payload: bytes) -> OutgoingMessage | None:
        """Send a message if a connection can take it now. None: call `send`, which queues it or raises."""
        raise NotImplementedError

    def send(self, payload: bytes) -> OutgoingMessage:
        """Send one message; check `has_room` first. `StateError` after the end; `TooLarge` for this peer."""
        raise NotImplementedError

    def send_later(self, payload: bytes) -> OutgoingMessage | None:
        """Queue one message, to be written with others: call `flush` later. None if the window is full."""
        raise NotImplementedError

    def send_many(self, payloads: list[bytes]) -> int:
        """Queue as many messages as the send window has room for (at least one); return how many."""
        raise NotImplementedError

    def flush(self) -> None:
        """Let the driver write what is queued."""
        raise NotImplementedError

    def end(self) -> None:
        """Send the END mark after the last message; nothing can be sent after that."""
        raise NotImplementedError

    def request_ack(self) -> None:
        """Ask the peer to acknowledge at once, because a receipt is being waited for."""
        raise NotImplementedError

    def in_flight(self) -> int:
        """Units that are queued, only on disk, or not acknowledged."""
        raise NotImplementedError

    def is_delivered(self) -> bool:
        """Has the peer acknowledged the END mark, and so everything before it?"""
        raise NotImplementedError

    def close(self, error: Exception | None) -> None:
        """Close the conversation now. What is not acknowledged fails."""
        raise NotImplementedError
