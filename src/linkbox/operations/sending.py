"""Sending on a channel: waits for room in the send window, and for the disk."""

from __future__ import annotations

from typing import Any, TypeAlias

from linkbox.core.durable.entries import Spool
from linkbox.core.endpoint import Channel
from linkbox.errors import MailboxFull
from linkbox.operations.endpoint import EndpointOperations
from linkbox.operations.predicates import HasRoom, IsOnDisk
from linkbox.operations.steps import NEVER, Operation, Wait
from linkbox.operations.storing import accepted

AnyReceipt: TypeAlias = Any
"""A receipt of the front end's class, which the core makes and operations only return."""
Sent: TypeAlias = Any
"""The receipt of a message that was sent; or, if it must wait, the operation that sends it."""


def wait_for_room(endpoint: EndpointOperations, channel: Channel, deadline: float) -> Operation[None]:
    """Wait until the send window has room; `MailboxFull` at the deadline, and at once inside a callback.

    Also returns when the conversation is closed: then sending raises the reason.
    """
    if endpoint.in_callback():
        raise MailboxFull(f"the send window to {channel.peer} is full, and a callback must not wait for it")
    began = endpoint.now()
    yield Wait(channel.changed, HasRoom(channel), deadline)
    if channel.error is None and not channel.is_ending and not channel.has_room():
        if endpoint.is_stopping:
            raise endpoint.not_running()
        raise MailboxFull(
            f"no room in the send window to {channel.peer} within {max(0.0, deadline - began):.3g} s: "
            "it does not keep up"
        )


def spool(endpoint: EndpointOperations, channel: Channel, payload: bytes) -> Operation[AnyReceipt]:
    """Write a message to the store; returns its receipt once it is on disk."""
    entry = endpoint.running().spool(channel, [payload], True)
    receipts = yield from wait_for_disk(endpoint, entry)
    return receipts[0]


def wait_for_disk(endpoint: EndpointOperations, entry: Spool) -> Operation[list[AnyReceipt]]:
    """Wait until messages are on disk; returns their receipts."""
    endpoint.runtime.settle()
    yield Wait(entry.changed, IsOnDisk(entry), NEVER)
    return accepted(entry)
