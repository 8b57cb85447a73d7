"""Every error linkbox raises, sorted by whose fault it is.

::

    LinkboxError
    ├── AddressError(ValueError)          yours: the address cannot mean anything
    ├── StateError(RuntimeError)          yours: right call, wrong moment
    ├── FormatError(ValueError)           yours: your value does not fit the format
    ├── TooLarge(ValueError)              yours or the peer's: a message over the limit
    ├── DecodeError(ValueError)           the peer's: its bytes do not fit the format
    ├── LinkError(ConnectionError)        the network's or the peer's
    │   ├── ListenFailed                  this address cannot be listened at
    │   ├── ConnectFailed                 nobody answered at that address
    │   ├── Refused                       somebody answered, and said no (``.code``)
    │   │   └── AuthenticationFailed      ... because of who you are, or are not
    │   ├── ProtocolViolation             the peer broke the protocol
    │   └── PeerLost                      the link broke, and will not come back
    │       └── SessionLost               ... because the peer forgot it (``.in_doubt``)
    ├── MailboxEmpty(queue.Empty)         nobody's: nothing has arrived yet
    ├── MailboxFull(queue.Full)           nobody's: no room just now
    ├── EndOfData(EOFError)               nobody's: the conversation is over
    ├── Incomplete(EOFError)              nobody's: it was over too early (``.available``)
    ├── DeadlineExceeded(TimeoutError)    time ran out
    ├── AnswerError                       the remote handler failed (``.type``, ``.text``)
    └── StoreError                        the disk's

Each is also the built-in exception a Python user would reach for, so ``except ConnectionError``,
``except queue.Empty``, ``except EOFError`` and ``except TimeoutError`` work as expected.
"""

from __future__ import annotations

import queue
from typing import Any


class LinkboxError(Exception):
    """Base of every error of linkbox. Never raised itself."""


class AddressError(LinkboxError, ValueError):
    """The address is malformed, or cannot be opened safely.

    Says nothing about whether somebody listens there: that is `ConnectFailed`.
    """


class StateError(LinkboxError, RuntimeError):
    """The call is right, its moment is wrong: not started, stopped, ended, nobody connected.

    Never caused by the network.
    """


class FormatError(LinkboxError, ValueError):
    """The value you gave does not fit the endpoint's format or framing. Nothing was sent."""


class DecodeError(LinkboxError, ValueError):
    """A peer's message does not fit the format. That message is rejected, the stream goes on."""


class TooLarge(LinkboxError, ValueError):
    """A message is larger than a limit allows: your own limit, or the peer's.

    The link is unharmed; send less, or raise ``Limits(message=…)`` on both sides.
    """


class LinkError(LinkboxError, ConnectionError):
    """Something is wrong between here and the peer. Base of all that the network can cause."""


class ListenFailed(LinkError):
    """A server cannot listen at its address: in use, not permitted, or not one of this machine."""


class ConnectFailed(LinkError):
    """No link could be made: nobody listens, no route, no such name, no answer in time."""


class Refused(LinkError):
    """The peer answered and said no.

    ``code`` says why: ``"busy"`` (all places taken), ``"limit"`` (a limit of the server),
    ``"pattern"`` (a P2P client called an AR server, say), ``"format"`` (the formats differ),
    ``"version"``, ``"session"``, ``"denied"`` (its ``accept=`` said no). All but ``busy`` and ``limit``
    are final: trying again cannot help.
    """

    def __init__(self, message: str, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


class AuthenticationFailed(Refused):
    """The peer does not accept who this end is, or this end does not accept the peer."""

    def __init__(self, message: str, code: str = "authentication") -> None:
        super().__init__(message, code)


class ProtocolViolation(LinkError):
    """The peer sent what the protocol does not allow. The link is closed."""


class PeerLost(LinkError):
    """The link to the peer broke and is not coming back. The peer may or may not be alive."""


class SessionLost(PeerLost):
    """The peer is there again but has forgotten the session: it was restarted without a store.

    ``in_doubt`` holds the receipts of what had been sent without an acknowledgement: the peer may
    have had them, or not. They are never sent again silently; that is for you to decide.
    """

    def __init__(self, message: str, in_doubt: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt


class MailboxEmpty(LinkboxError, queue.Empty):
    """Nothing (or not enough) arrived in time. Nothing was taken; the link may be well."""


class MailboxFull(LinkboxError, queue.Full):
    """No room in time: in the send window, or (with ``overflow="error"``) in the peer's mailbox."""


class EndOfData(LinkboxError, EOFError):
    """The conversation is over and everything that arrived has been taken. Not a failure."""


class Incomplete(LinkboxError, EOFError):
    """The conversation is over with less waiting than was asked for.

    ``available`` is how much there is (bytes for Bytes, messages otherwise); it can still be taken.
    """

    def __init__(self, message: str, available: int) -> None:
        super().__init__(message)
        self.available = available


class DeadlineExceeded(LinkboxError, TimeoutError):
    """No answer, or no acknowledgement, came in time. The link may be well."""


class AnswerError(LinkboxError):
    """The remote handler failed. ``type`` is the class name of what it raised, ``text`` its message.

    The link is well, and the traceback is in the server's log.
    """

    def __init__(self, type: str, text: str) -> None:
        super().__init__(f"{type}: {text}" if text else type)
        self.type = type
        self.text = text


class StoreError(LinkboxError):
    """The store on disk cannot be used. What was refused was not accepted; nothing is lost."""
