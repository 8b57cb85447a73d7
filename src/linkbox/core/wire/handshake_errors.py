"""The handshake errors to which a server responds in a particular way."""

from __future__ import annotations

from linkbox.errors import ProtocolViolation


class NotLinkbox(ProtocolViolation):
    """The peer does not use our protocol."""


class OtherVersion(ProtocolViolation):
    """The peer uses another version of our protocol."""


class NotProven(ProtocolViolation):
    """The client has not proven that it knows the secret."""
