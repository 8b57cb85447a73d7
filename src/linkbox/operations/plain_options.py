"""The options of servers for devices and foreign programs: checked and documented here, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from linkbox.address import Address
from linkbox.core.wire.framing import Framing
from linkbox.dialogue import Dialogue
from linkbox.operations import arguments
from linkbox.operations.arguments import Given
from linkbox.proxy_header import TrustedProxies

Proxies = bool | Sequence[str]
"""Does each connection begin with a PROXY protocol header? Or the networks of the proxies."""
HALF_CLOSE: Final = 5.0
"""The default of ``half_close=``."""


class PlainServing(msgspec.Struct, frozen=True):
    """Options of a server for plain framings, as they were given until `checked`."""

    keep_alive: Given = True
    """AR: does a connection stay open after a response?"""
    dialogue: Given = None
    """AR: the greeting, and how to respond to a request that fails."""
    idle_timeout: Given = None
    """Seconds after which a peer that sends nothing is disconnected; None: never."""
    half_close: Given = HALF_CLOSE
    """P2P: seconds in which a peer that has closed its half can still be sent to."""
    newest_wins: Given = False
    """When all slots are in use, does a new connection get that of an older one from the same host?"""

    def checked(self, framing: Framing) -> PlainServing:
        """The same; an error for what is invalid, or cannot work with this framing."""
        arguments.flag(self.keep_alive, "keep_alive")
        if not self.keep_alive and framing.linked:
            raise ValueError(
                "keep_alive=False is for plain framings: with Linked() the client ends the connection"
            )
        dialogue = check_dialogue(self.dialogue, framing)
        idle_timeout = check_idle_timeout(self.idle_timeout, framing)
        half_close = arguments.seconds(self.half_close, "half_close")
        if not half_close >= 0:
            raise ValueError(f"half_close={self.half_close!r}: seconds from 0 are needed")
        if framing.linked and half_close != HALF_CLOSE:
            raise ValueError("half_close= is for plain framings: Linked() has an END mark")
        if arguments.flag(self.newest_wins, "newest_wins") and framing.linked:
            raise ValueError("newest_wins= is for plain framings: Linked() resumes the session of a peer")
        return PlainServing(self.keep_alive, dialogue, idle_timeout, half_close, self.newest_wins)


def trusted_proxies(value: Given, address: Address) -> TrustedProxies | None:
    """The proxies of ``proxy_protocol=``; an error for what is invalid. None: there are none."""
    if value is False:
        return None
    if address.scheme == "memory":
        raise ValueError("proxy_protocol= is for sockets, not for memory:// addresses")
    if value is True:
        return TrustedProxies(None)
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or not all(isinstance(e, str) for e in value)
    ):
        raise TypeError(f"proxy_protocol={value!r}: True, False or a list of networks is needed")
    if address.scheme == "unix":
        raise ValueError("proxy_protocol= has no networks at a unix:// address, which has no hosts: use True")
    try:
        return TrustedProxies(tuple(value))
    except ValueError as error:
        raise ValueError(f"proxy_protocol={value!r}: {error}") from None


def check_idle_timeout(seconds: Given, framing: Framing) -> float | None:
    """The same as a float; an error if it is invalid, or cannot work with this framing."""
    if seconds is None:
        return None
    if not (checked := arguments.seconds(seconds, "idle_timeout")) > 0:
        raise ValueError(f"idle_timeout={seconds!r}: seconds above 0 are needed")
    if framing.linked:
        raise ValueError("idle_timeout= is for plain framings: with Linked() heartbeats detect a dead peer")
    return checked


def check_dialogue(dialogue: Any, framing: Framing) -> Dialogue | None:
    """The same dialogue; an error if it is none, or cannot work with this framing."""
    if dialogue is None:
        return None
    if not isinstance(dialogue, Dialogue):
        raise TypeError(f"dialogue= takes a Dialogue, not {type(dialogue).__name__}")
    if framing.linked or framing.name == "raw":
        raise ValueError("dialogue= is for plain framings that have messages: not for Linked() or Raw()")
    return dialogue
