"""The options of the constructors: each is declared, documented and checked here, once."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from linkbox.address import Address
from linkbox.broker import Nats, split_credentials
from linkbox.core.backoff import Backoff
from linkbox.core.decoding import Decoding
from linkbox.core.patterns import P2P, Pattern
from linkbox.core.wire.authentication import Lookup
from linkbox.core.wire.framing import Framing, Linked, PlainFraming
from linkbox.dialogue import Dialogue
from linkbox.events import PeerInfo
from linkbox.formats import Bytes, Format, Typed, as_format
from linkbox.limits import NAME_CHARACTERS, Limits
from linkbox.operations import arguments
from linkbox.operations.addresses import check_connect, check_server_address, client_addresses
from linkbox.operations.brokers import check_broker, check_over_broker
from linkbox.operations.plain_options import (
    PlainServing,
    Proxies,
    check_dialogue,
    check_idle_timeout,
    trusted_proxies,
)
from linkbox.operations.secrets import Secret, lookup_of
from linkbox.operations.storing import check_reconnect, store_path
from linkbox.proxy_header import TrustedProxies

if TYPE_CHECKING:
    from pathlib import Path
    from ssl import SSLContext

ClientAddress = str | tuple[str, int] | list[str] | list[tuple[str, int]]
"""An address to connect to, or a list of them, which are tried in this order."""
Connect = Callable[[], socket.socket]
"""Connects to the server; returns a connected socket."""
ConnectLater = Callable[[], socket.socket | Awaitable[socket.socket]]
"""The same, perhaps as a coroutine function, for aio."""
StorePath = str | os.PathLike[str] | None
Overflow = Literal["block", "drop_oldest", "drop_newest", "error"]
Accept = Callable[[PeerInfo], bool | Literal["later"]]
"""Decides whether to admit a peer. ``"later"``: it is rejected for now, and connects again."""
AcceptLater = Callable[[PeerInfo], Awaitable[bool | Literal["later"]]]
"""The same as a coroutine function, for aio."""
LINGER: Final = 1.0
"""The default of ``linger=`` with ``blocking=False``: else each small group of messages would connect."""
BYTES: Final = Bytes()
"""The default of ``format=``. Type checkers infer the type of the endpoint from its type."""
RECONNECT: Final = Backoff()
"""The default of ``reconnect=``. With a plain framing, `ClientP2P` reconnects only if another is given."""
Handler = Callable[[Any], Any]
"""Takes a `Request`, returns the value of the response; for aio perhaps a coroutine function."""


class Options:
    """The options of every endpoint. The constructor raises an error for an invalid option."""

    more_addresses: tuple[Address, ...] = ()
    """Further addresses that a client tries after the first."""
    connect: Callable[[], Any] | None = None
    """Connects a client; returns a socket."""
    name: str

    def __init__(
        self,
        side: Literal["server", "client"],
        pattern: Pattern,
        address: Address,
        format: Any,
        framing: Framing | type[Framing],
        limits: Limits | None,
        overflow: str,
        store: StorePath,
        name: str | None,
        ssl: SSLContext | None,
        secret: Secret | None,
        broker: Nats | None,
    ) -> None:
        self.side = side
        self.pattern = pattern
        self.address = address
        """The address to listen at or to connect to."""
        self.format: Format[Any, Any] = of_side(as_format(format), side, pattern)
        """Converts messages to bytes and back."""
        self.framing: Framing = framing_of(framing)
        """Converts messages to a stream of bytes and back."""
        self.limits: Limits = _checked_limits(limits)
        """All limits on memory and time."""
        self.overflow: str = arguments.text(overflow, "overflow")
        """What a full mailbox does."""
        self.name = _checked_name(name) if name not in (None, "") else f"{socket.gethostname()}:{os.getpid()}"
        """The name that the peer gets as `Peer.name`."""
        self.plain: PlainFraming | None = self.framing if isinstance(self.framing, PlainFraming) else None
        if self.plain is not None:
            self.plain.check_limit(self.limits.message)  # raises if the limit is below one message
            if secret is not None:
                raise ValueError("a plain framing cannot prove a secret: use framing=Linked()")
        self.secrets: Lookup | None = None
        """Returns the shared secrets of a peer, by its name."""
        self.identifies: bool = False
        """Does each secret belong to one peer, so that it authenticates the peer's name?"""
        if secret is not None:
            self.secrets, self.identifies = lookup_of(secret)
        self.ssl = ssl
        """The TLS context, if the user gave one."""
        self.is_secure: bool = address.scheme == "tls"  # the TLS of a broker is below its messages
        """Is TLS used?"""
        self.store_path: Path | None = store_path(store, side, pattern, self.plain is not None, overflow)
        """The file of the store, or None."""
        self.broker: Nats | None = check_broker(broker, address)
        """Settings of the broker; None if the address is not one of a broker."""
        if self.broker is not None:
            check_over_broker(side, pattern, self.plain is not None, secret is not None, overflow, store)

    @property
    def is_bytes(self) -> bool:
        """Are messages the bytes themselves?"""
        return isinstance(self.format, Bytes)

    @property
    def decoding(self) -> Decoding | None:
        """Decodes messages; None if messages are the bytes themselves."""
        if self.is_bytes:
            return None
        from linkbox.format_costs import cost_of

        cost = cost_of(self.format, self.limits.decoded)
        return Decoding(self.format.decode, None if cost is None else cost.of, self.limits.decoded)


def of_side(format: Format[Any, Any], side: str, pattern: Pattern) -> Format[Any, Any]:
    """The format as this side uses it. TypeError for a pair of types without requests and responses."""
    if not isinstance(format, Typed) or not format.is_pair:
        return format
    if not pattern.asks:
        raise TypeError(
            f"format={format!r} has one type for requests and one for responses: only AR has them"
        )
    return format.of_server() if side == "server" else format


def _checked_limits(limits: Any) -> Limits:
    if not isinstance(limits, Limits | None):
        raise TypeError(f"limits= takes a Limits, not {type(limits).__name__}")
    return limits or Limits()


def _checked_name(name: str) -> str:
    """The same name; the peer would refuse every connection with one that it cannot read."""
    arguments.text(name, "name")
    if len(name) > NAME_CHARACTERS:
        raise ValueError(
            f"name={name!r:.40}…: at most {NAME_CHARACTERS} characters are possible, not {len(name)}"
        )
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"name={name!r}: not valid Unicode, it has half of a surrogate pair")
    return name


class ServerOptions(Options):
    """The options of a server."""

    def __init__(
        self,
        pattern: Pattern,
        address: str | tuple[str, int] | socket.socket,
        format: Any,
        framing: Framing | type[Framing],
        limits: Limits | None,
        overflow: str,
        store: StorePath,
        name: str | None,
        ssl: SSLContext | None,
        secret: Secret | None,
        accept: Accept | AcceptLater | None,
        insecure: bool,
        max_peers: int,
        serving: PlainServing,
        proxy_protocol: Proxies,
        handler: Handler | None = None,
        workers: int = 1,
        broker: Nats | None = None,
    ) -> None:
        arguments.whole_number(max_peers, "max_peers", 1)
        arguments.whole_number(workers, "workers", 1)
        arguments.flag(insecure, "insecure")
        if handler is not None:
            check_handler(handler)
        bare, broker = _without_credentials(address, broker, ssl)
        bound = check_server_address(bare, insecure, ssl, secret is not None)
        super().__init__(
            "server", pattern, bound, format, framing, limits, overflow, store, name, ssl, secret, broker
        )
        self.proxies: TrustedProxies | None = trusted_proxies(proxy_protocol, bound)
        """Proxies, whose connections begin with a PROXY protocol header."""
        if accept is not None:
            _check_accept(accept, pattern, self.broker)
        self.listener: socket.socket | None = address if isinstance(address, socket.socket) else None
        """A listening socket that the user gave, or None."""
        self.accept = accept
        """Called for each peer that has passed all other checks."""
        self.max_peers = max_peers
        """Peers at a time."""
        self.handler = handler
        """Responds to requests; None: requests go to the mailbox."""
        self.workers = workers
        """How many requests are handled at a time."""
        self.serving: PlainServing = serving.checked(self.framing)
        """What is for plain framings."""
        dialogue = self.serving.dialogue
        self.greeting: bytes | None = None if dialogue is None else self._greeting_of(dialogue)
        """The first message to each client, encoded."""

    def _greeting_of(self, dialogue: Dialogue) -> bytes | None:
        if dialogue.greeting is None:
            return None
        if callable(dialogue.greeting):
            raise TypeError("greeting= of a server is the message to send, not a function")
        payload: bytes = self.format.encode(dialogue.greeting)
        assert self.plain is not None
        self.plain.check(payload)
        return payload


class ClientOptions(Options):
    """The options of a client."""

    dialogue: Dialogue | None
    responses: PlainFraming | None

    def __init__(
        self,
        pattern: Pattern,
        address: ClientAddress,
        format: Any,
        framing: Framing | type[Framing],
        limits: Limits | None,
        overflow: str,
        store: StorePath,
        name: str | None,
        ssl: SSLContext | None,
        secret: Secret | None,
        connect_timeout: float,
        reconnect: Backoff | None,
        *,
        blocking: bool = True,
        linger: float | None = None,
        keep_alive: bool = True,
        dialogue: Dialogue | None = None,
        connections: int | None = None,
        idle_timeout: float | None = None,
        broker: Nats | None = None,
        connect: Callable[[], Any] | None = None,
    ) -> None:
        _check_times(connect_timeout, linger, reconnect)
        bare, broker = _without_credentials(address, broker, ssl)
        parsed, *more = client_addresses(bare, ssl)
        super().__init__(
            "client", pattern, parsed, format, framing, limits, overflow, store, name, ssl, secret, broker
        )
        self.more_addresses: tuple[Address, ...] = tuple(more)
        self.connect: Callable[[], Any] | None = check_connect(connect, (parsed, *more))
        check_reconnect(reconnect, self.store_path is not None)
        self.connect_timeout: float = float(connect_timeout)
        """Seconds to connect, including the handshake."""
        self.reconnect = reconnect
        """When to reconnect; None: never."""
        self.blocking: bool = arguments.flag(blocking, "blocking")
        """Does each push wait until the server has the message?"""
        self.linger: float = (0.0 if blocking else LINGER) if linger is None else float(linger)
        """Seconds that an idle connection is kept for the next push."""
        self.keep_alive: bool = arguments.flag(keep_alive, "keep_alive")
        """Do all requests share a connection?"""
        self.dialogue, self.responses = client_dialogue(check_dialogue(dialogue, self.framing))
        """With a plain framing: how requests and responses follow each other."""
        self.connections: int = self._most_connections(connections)
        """AR with a plain framing: connections that are open at a time; 0: any number."""
        self.idle_timeout: float | None = check_idle_timeout(idle_timeout, self.framing)
        """With a plain framing: seconds after which a server that sends nothing is left; None: never."""

    @property
    def comes_back(self) -> bool:
        """With a plain framing: does FIN not end the conversation, but the client connects again?"""
        is_given = self.reconnect is not None and self.reconnect is not RECONNECT
        return is_given and self.plain is not None and self.pattern.server_sends

    def _most_connections(self, connections: int | None) -> int:
        if connections is None:
            return 1 if self.plain is not None and self.pattern.asks else 0
        most = arguments.whole_number(connections, "connections", 1)
        if self.plain is None:
            raise ValueError("connections= is for plain framings: with Linked() one connection is enough")
        return most


def _check_times(connect_timeout: float, linger: float | None, reconnect: Any) -> None:
    if not isinstance(reconnect, Backoff | None):
        raise TypeError(f"reconnect= takes a Backoff or None, not {type(reconnect).__name__}")
    if not arguments.seconds(connect_timeout, "connect_timeout") > 0:
        raise ValueError(f"connect_timeout={connect_timeout!r}: seconds above 0 are needed")
    if linger is not None and not arguments.seconds(linger, "linger") >= 0:
        raise ValueError(f"linger={linger!r}: seconds from 0 are needed")


def framing_of(value: Any) -> Framing:
    """Convert ``framing=``. The plain framings are loaded only for a program that may use one."""
    if isinstance(value, Linked):
        return value
    from linkbox.core.wire.framings import as_framing

    return as_framing(value)


def client_dialogue(dialogue: Dialogue | None) -> tuple[Dialogue | None, PlainFraming | None]:
    """The dialogue of a client, and the framing of its responses if that is another one."""
    if dialogue is None:
        return None, None
    greeting, answer = dialogue.greeting, dialogue.answer
    is_count = isinstance(greeting, int) and not isinstance(greeting, bool) and greeting > 0
    if not (greeting is None or callable(greeting) or is_count):
        raise TypeError(f"greeting= of a client takes a number of messages or a function, not {greeting!r}")
    if not hasattr(answer, "decoder"):
        return dialogue, None
    responses = framing_of(answer)
    if not isinstance(responses, PlainFraming) or responses.name == "raw":
        raise ValueError(f"answer= takes a plain framing that has messages, not {answer!r}")
    return msgspec.structs.replace(dialogue, answer=None), responses


def _check_accept(accept: Any, pattern: Pattern, broker: Nats | None) -> None:
    arguments.function(accept, "accept", "callable(PeerInfo) -> bool")
    if broker is not None and pattern is not P2P:
        raise ValueError("accept= needs connections: over nats:// only P2P has them")


def check_handler(handler: Handler) -> None:
    """TypeError for what cannot be called."""
    arguments.function(handler, "handler", "callable(Request)")


def _without_credentials(address: Any, broker: Nats | None, ssl: Any) -> tuple[Any, Nats | None]:
    """The address of the user, and the settings of the broker with the credentials that were in the address.

    Checks ``ssl=`` first, because the address depends on it.
    """
    _check_ssl(ssl)
    return split_credentials(address, broker)


def _check_ssl(context: Any) -> None:
    if context is not None:
        from ssl import SSLContext  # It is loaded already, unless the argument is wrong.

        if not isinstance(context, SSLContext):
            raise TypeError(
                f"ssl= takes an ssl.SSLContext, as from linkbox.tls, not {type(context).__name__}"
            )
