"""Converts between the error of a rejected message and its REJECT frame."""

from __future__ import annotations

from linkbox.core.values import Value
from linkbox.core.wire import frames
from linkbox.errors import DecodeError, LinkboxError, MailboxFull, TooLarge
from linkbox.formats import Skip


def is_error(value: Value) -> bool:
    """Is this an exception object instead of a message that could not be decoded?"""
    return isinstance(value, (DecodeError, TooLarge))


def is_absent(value: Value) -> bool:
    """Is there no message: an error, or one that the format has skipped?"""
    return is_error(value) or isinstance(value, Skip)


def reject_frame(number: int, error: LinkboxError) -> bytes:
    """The REJECT frame with the reason, for the sender of the message."""
    code = "too large" if isinstance(error, TooLarge) else "decode"
    return frames.encode_reject(number, code, str(error))


def error_of(code: str, text: str) -> LinkboxError:
    """The error for the sender's receipt."""
    if code == "too large":
        return TooLarge(text)
    return MailboxFull(text) if code == "full" else DecodeError(text)
