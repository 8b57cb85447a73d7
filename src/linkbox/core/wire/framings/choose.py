"""What the user may write as ``framing=``."""

from __future__ import annotations

from typing import Final

from linkbox.core.wire.framing import Framing, Linked, PlainFraming
from linkbox.core.wire.framings.enclosed import Enclosed
from linkbox.core.wire.framings.lengths import FixedSize
from linkbox.core.wire.framings.numbers import DecimalPrefixed
from linkbox.core.wire.framings.split import Delimited
from linkbox.core.wire.framings.users import UserFraming

_CHOICE: Final = (
    "Linked(), Raw(), Lines(), Delimited(b'…'), LengthPrefixed(), FixedSize(n), another of the framings in "
    "docs/framings-and-devices.md, or an instance of your own subclass of Framing"
)
_EXAMPLES: Final[dict[object, str]] = {
    Delimited: "the bytes between messages, as in framing=Delimited(b'\\r\\n')",
    FixedSize: "the size of a message in bytes, as in framing=FixedSize(64)",
    Enclosed: "the marks around a message, as in framing=Enclosed(b'\\x02', b'\\x03')",
    DecimalPrefixed: "what follows the number, as in framing=DecimalPrefixed(b' ')",
}


def as_framing(value: object) -> Framing:
    """Convert the ``framing=`` argument: a framing, or a framing class that needs no arguments.

    TypeError, with the possible values, for anything else.
    """
    if isinstance(value, Linked | PlainFraming):
        return value
    if isinstance(value, Framing):
        return UserFraming(value)
    if isinstance(value, type) and issubclass(value, Framing) and value is not Framing:
        try:
            return as_framing(value())
        except TypeError as error:
            needed = _EXAMPLES.get(value, str(error))
            raise TypeError(f"framing={value.__name__} needs more than its name: {needed}") from None
    raise TypeError(f"framing must be {_CHOICE}, not {value!r}")
