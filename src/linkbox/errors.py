"""Every error that linkbox raises, sorted by whose fault it is.

::

    LinkboxError
    ├── AddressError(ValueError)          yours: the address is malformed or unsafe
    ├── StateError(RuntimeError)          yours: a valid call at the wrong time
    ├── FormatError(ValueError)           yours: your value does not fit the format
    ├── TooLarge(ValueError)              yours or the peer's: a message over the limit
    ├── DecodeError(ValueError)           the peer's: its bytes do not fit the format
    ├── LinkError(ConnectionError)        the network's or the peer's
    │   ├── ListenFailed                  the server cannot listen at this address
    │   ├── ConnectFailed                 no server answered at that address
    │   ├── Refused                       the peer rejected the connection (``.code``)
    │   │   └── AuthenticationFailed      ... because authentication failed
    │   ├── ProtocolViolation             the peer broke the protocol
    │   └── PeerLost                      the connection broke and is not restored
    │       └── SessionLost               ... because the peer lost the session (``.in_doubt``)
    ├── MailboxEmpty(queue.Empty)         nobody's: nothing has arrived yet
    ├── MailboxFull(queue.Full)           nobody's: no room at the moment
    ├── EndOfData(EOFError)               nobody's: the conversation is over
    ├── Incomplete(EOFError)              nobody's: it was over too early (``.available``)
    ├── DeadlineExceeded(TimeoutError)    time ran out
    ├── AnswerError                       the remote handler failed (``.type``, ``.text``)
    └── StoreError                        the disk's

Each error is also the built-in exception that a Python user expects: ``except ConnectionError``,
``except queue.Empty``, ``except EOFError`` and ``except TimeoutError`` work. Every error can be pickled and
copied.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from .text import LONGEST_MESSAGE, printable

_LONGEST_ANSWER = 1000
"""Most characters of a remote exception that ``str(error)`` shows."""


class LinkboxError(Exception):
    """Base of every error of linkbox. Never raised itself.

    Text from a peer may be part of an error: ``str(error)`` escapes control characters and cuts long texts.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), LONGEST_MESSAGE)

    def __reduce__(self) -> tuple[Callable[..., LinkboxError], tuple[Any, ...]]:
        # Exception.__reduce__ calls the class with `args`, which not every constructor takes.
        return _restore, (type(self), self.args, self._attributes())

    def _attributes(self) -> dict[str, Any]:
        """The attributes to pickle or copy."""
        return dict(self.__dict__)


def _restore(cls: type[LinkboxError], args: tuple[Any, ...], attributes: dict[str, Any]) -> LinkboxError:
    """Make an unpickled or copied error, without its constructor."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class AddressError(LinkboxError, ValueError):
    """The address is malformed, or cannot be opened safely.

    It does not mean that no server listens there: that is `ConnectFailed`.
    """


class StateError(LinkboxError, RuntimeError):
    """The call is valid, but not now: the endpoint is not started, is stopped, has ended, or has no peer.

    Never caused by the network.
    """


class FormatError(LinkboxError, ValueError):
    """Your value does not fit the format or the framing of the endpoint. Nothing was sent."""


class DecodeError(LinkboxError, ValueError):
    """A message from a peer does not fit the format. That message is rejected, the conversation continues."""


class TooLarge(LinkboxError, ValueError):
    """A message is larger than a limit allows: your own limit, or the peer's.

    The connection is unharmed. Send less, or raise ``Limits(message=…)`` on both sides.
    """


class LinkError(LinkboxError, ConnectionError):
    """The connection to the peer failed. Base of all errors that the network can cause."""


class ListenFailed(LinkError):
    """A server cannot listen at its address: in use, not permitted, or not an address of this machine."""


class ConnectFailed(LinkError):
    """No connection was made: no server listens there, no route, no such name, or no answer in time."""


class Refused(LinkError):
    """The peer rejected the connection.

    ``code`` says why: ``"busy"`` (the server has as many peers as it allows), ``"limit"`` (another limit of
    the server), ``"pattern"`` (for example a P2P client that connected to an AR server), ``"format"`` (the
    formats differ), ``"version"``, ``"session"``, ``"denied"`` (the server's ``accept=`` returned False),
    ``"later"`` (it returned ``"later"``), ``"protocol"``, ``"disconnected"`` (``server.disconnect(peer)``).
    Of a broker: ``"denied"`` (it does not permit a subject), ``"unsupported"`` (it lacks what P2M needs). All
    but ``busy``, ``limit`` and ``later`` are final: another attempt cannot help.
    """

    def __init__(self, message: str, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


class AuthenticationFailed(Refused):
    """The peer does not accept the identity of this end, or this end does not accept the peer's."""

    def __init__(self, message: str, code: str = "authentication") -> None:
        super().__init__(message, code)


class ProtocolViolation(LinkError):
    """The peer sent something that the protocol does not allow. The connection is closed."""


class PeerLost(LinkError):
    """The connection to the peer broke and is not restored. The peer may or may not be alive."""


class SessionLost(PeerLost):
    """The peer is back but has lost the session: it was restarted without a store.

    ``in_doubt`` holds the receipts of the messages that were sent and not acknowledged: the peer may
    have received them, or not. linkbox never sends them again by itself; that is your decision. Of the ERROR
    events, only the one without a receipt has them: it is the last. In an error that was pickled or copied,
    ``in_doubt`` holds the payloads instead.
    """

    def __init__(self, message: str, in_doubt: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt

    def _attributes(self) -> dict[str, Any]:
        # A receipt belongs to its endpoint, which cannot be pickled. Payloads of an earlier copy stay.
        payloads = tuple(getattr(each, "payload", each) for each in self.in_doubt)
        return {**self.__dict__, "in_doubt": payloads}


class MailboxEmpty(LinkboxError, queue.Empty):
    """Nothing (or not enough) arrived in time. Nothing was taken; the connection may be healthy."""


class MailboxFull(LinkboxError, queue.Full):
    """No room in time: in the send window, or (with ``overflow="error"``) in the peer's mailbox."""


class EndOfData(LinkboxError, EOFError):
    """The conversation is over and everything that arrived has been taken. Not a failure."""


class Incomplete(LinkboxError, EOFError):
    """The conversation is over and less is waiting than was requested.

    ``available`` is how much there is (bytes for Bytes, messages otherwise); it can still be taken.
    """

    def __init__(self, message: str, available: int) -> None:
        super().__init__(message)
        self.available = available


class DeadlineExceeded(LinkboxError, TimeoutError):
    """No response, or no acknowledgement, came in time. The connection may be healthy."""


class AnswerError(LinkboxError):
    """The remote handler failed. ``type`` is the class name of its exception, ``text`` the message.

    Both are as the peer sent them; ``str(error)`` escapes and cuts them. The connection is unharmed, and the
    traceback is in the server's log.
    """

    def __init__(self, type: str, text: str) -> None:
        super().__init__(printable(f"{type}: {text}" if text else type, _LONGEST_ANSWER))
        self.type = type
        self.text = text


class StoreError(LinkboxError):
    """The store on disk cannot be used. What this call offered was not accepted; nothing else is lost."""
