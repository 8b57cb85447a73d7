"""``broker=``, and which options a ``nats://`` address cannot have: checked at construction."""

from __future__ import annotations

from typing import Any

from linkbox.address import Address
from linkbox.broker import Nats
from linkbox.core.patterns import P2P, Pattern
from linkbox.extras import how_to_install


def check_broker(broker: Any, address: Address) -> Nats | None:
    """Return the settings of the broker of a ``nats://`` address; None for every other address."""
    if not isinstance(broker, Nats | None):
        raise TypeError(f"broker= takes a Nats, not {type(broker).__name__}")
    if address.is_broker:
        from importlib.util import find_spec

        if find_spec("nats") is None:
            raise ModuleNotFoundError(f"{address} needs nats-py: {how_to_install('nats')}")
        return broker or Nats()
    if broker is not None:
        raise ValueError(f"broker= is for nats:// addresses, not for {address}: leave it out")
    return None


def check_over_broker(
    side: str, pattern: Pattern, is_plain: bool, has_secret: bool, overflow: str, store: Any
) -> None:
    """ValueError for an option that means nothing over a broker."""
    if is_plain:
        raise ValueError("a plain framing speaks to a socket: over nats:// use framing=Linked()")
    if pattern is P2P:
        return
    if has_secret:
        raise ValueError(
            "secret= is between two ends of a connection: over nats:// P2M and AR have none, and the broker "
            "authenticates with broker=Nats(token=…), user and password, nkey, creds or ssl="
        )
    if pattern.asks:
        return
    if overflow != "block":
        raise ValueError(
            f'overflow={overflow!r}: over nats:// what does not fit the mailbox waits in the stream ("block")'
        )
    if side == "server" and store is not None:
        raise ValueError("store= of a ServerP2M: over nats:// the broker keeps the messages; leave it out")
