"""REJECT: how the reason why a message is refused is said, and what it means to whoever sent the message."""

from __future__ import annotations

from linkbox.core import frames
from linkbox.errors import DecodeError, LinkboxError, MailboxFull, TooLarge


def refusal_of(number: int, error: LinkboxError) -> bytes:
    """The REJECT that tells the sender of a message why it is refused."""
    code = "too large" if isinstance(error, TooLarge) else "decode"
    return frames.encode_reject(number, code, str(error))


def meaning_of(code: str, text: str) -> LinkboxError:
    """The error that the sender's receipt fails with."""
    if code == "too large":
        return TooLarge(text)
    return MailboxFull(text) if code == "full" else DecodeError(text)
