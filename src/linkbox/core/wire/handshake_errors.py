"""Why a handshake fails, where that needs an answer of its own."""

from __future__ import annotations

from linkbox.errors import ProtocolViolation


class NotLinkbox(ProtocolViolation):
    """The peer does not speak our protocol at all."""


class OtherVersion(ProtocolViolation):
    """The peer speaks another version of it."""


class NotProven(ProtocolViolation):
    """The client has not proven that it knows the secret."""
