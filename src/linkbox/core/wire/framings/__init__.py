"""The plain framings, loaded by a program that uses one. `Linked`, our own, is in core/wire/framing.py.

A framing is a small immutable description; equal framings are interchangeable. The plain framings are for
peers without linkbox, so they have no acknowledgements, no resume, no heartbeat, and no END mark other than
the end of the stream.

A plain framing encodes messages and makes a `PlainDecoder` for each connection. As with our own protocol, a
decoder never raises: it returns the valid messages, keeps the error that follows them in ``error``, and
returns nothing from then on. A message over ``max_message`` is an error before memory is used for it. Where
the next message can be found with certainty, a bad frame does not end the stream: it is left out, and its
error is in ``rejected``.

Decoders are linear: they look at each byte once, in whatever pieces it arrives.
"""

from linkbox.core.wire.framing import Framing, Linked, PlainDecoder, PlainFraming
from linkbox.core.wire.framings.choose import as_framing
from linkbox.core.wire.framings.coded import Cobs, Slip
from linkbox.core.wire.framings.enclosed import Enclosed
from linkbox.core.wire.framings.json_stream import JsonStream
from linkbox.core.wire.framings.lengths import FixedSize, LengthPrefixed
from linkbox.core.wire.framings.numbers import DecimalPrefixed, Netstring, VarintPrefixed
from linkbox.core.wire.framings.split import Delimited, Lines, Raw
from linkbox.core.wire.framings.users import UserFraming

__all__ = [
    "Cobs",
    "DecimalPrefixed",
    "Delimited",
    "Enclosed",
    "FixedSize",
    "Framing",
    "JsonStream",
    "LengthPrefixed",
    "Lines",
    "Linked",
    "Netstring",
    "PlainDecoder",
    "PlainFraming",
    "Raw",
    "Slip",
    "UserFraming",
    "VarintPrefixed",
    "as_framing",
]
