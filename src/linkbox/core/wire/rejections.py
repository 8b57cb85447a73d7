"""REJECT: how the reason why a message is rejected is written, and what it means to the sender of the message."""

from __future__ import annotations

from linkbox.core.values import Value
from linkbox.core.wire import frames
from linkbox.errors import DecodeError, LinkboxError, MailboxFull, TooLarge


def is_error(value: Value) -> bool:
    """Is it in the place of a message that could not be decoded?"""
    return isinstance(value, (DecodeError, TooLarge))


def reject_frame(number: int, error: LinkboxError) -> bytes:
    """The REJECT that tells the sender of a message why it is rejected."""
    code = "too large" if isinstance(error, TooLarge) else "decode"
    return frames.encode_reject(number, code, str(error))


def error_of(code: str, text: str) -> LinkboxError:
    """The error that the sender's receipt fails with."""
    if code == "too large":
        return TooLarge(text)
    return MailboxFull(text) if code == "full" else DecodeError(text)
