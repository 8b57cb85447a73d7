"""The frames of our own protocol: how they and their payloads are encoded and decoded.

**Layout of a connection.** Each side first sends the preface (8 bytes: `PREFACE` and a version), then
sends frames and nothing else. A frame is a big-endian u32 (type in the top 8 bits, payload length in the
low 24) and the payload. All numbers inside payloads are big-endian too.

**This module checks the layout of frames, not their meaning.** It checks that an ACK has 32 bytes of payload;
it does not check whether an ACK is allowed now, or whether a PART is the first of its message. Links and
sessions do that. So `Decoder` (decoder.py) returns ``(type, payload)`` pairs, and the caller passes the
payload to the matching ``decode_…`` function, which checks every byte of it.

**Limits are checked before memory is used.** As soon as four bytes of a frame have arrived, its type and
length are compared with one table (`MAXIMUM`; a stricter one during the handshake). A frame that is too long,
or has an unknown type below 0x80, is a violation before any of its payload is kept. Unknown types from 0x80
up are reserved for extensions: their payload is skipped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import accumulate, islice
from struct import Struct, iter_unpack, pack, unpack_from
from typing import Final

from linkbox.errors import ProtocolViolation

PREFACE: Final = b"\x89LKB\r\n\x1a"
"""First seven bytes of a connection in both directions; the version follows. The first byte is not ASCII, so
text cannot be mistaken for it; the line ending detects a transfer that converts line endings."""

VERSION: Final = 1  # the protocol version of this library

# All in bytes. Larger messages are sent in pieces.
MAX_PIECE = 1 << 20  # of a message in one DATA or PART frame; tests make it smaller
MAX_BATCH: Final = 256 * 1024  # payload of a BATCH: count, lengths and bodies together
MAX_ASK_PIECE: Final = 256 * 1024  # of a message in an ANSWER or ASK, so that requests can be interleaved
MAX_SMALL: Final = 4096  # payload of a handshake frame, or of a frame with texts (REJECT, FAIL, CANCEL)
MAX_EARLY: Final = 64 * 1024  # complete frames that a client may send behind HELLO before it receives WELCOME

# Flags of ASK and ANSWER.
MORE_OF_MESSAGE: Final = 1  # the next frame with this id continues the same message
MORE_OF_ASK: Final = 2  # this message is not the last one of the request or response
HAS_DEADLINE: Final = 4  # ASK only: the remaining time follows; encode_ask sets it
NO_MESSAGE: Final = 8  # ASK only: a request of several messages is complete; this frame carries no message

_MANY: Final = 4096  # most messages that fits() examines: as many small ones as a BATCH can hold
_U32_MAX: Final = (1 << 32) - 1


class Type(IntEnum):
    """The types of frames. Other types are violations below 0x80, and are skipped from 0x80 up."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    CHALLENGE = 4
    PROOF = 5
    DATA = 16
    BATCH = 17
    PART = 18
    ACK = 19
    ACK_NOW = 20
    REJECT = 21
    PING = 22
    PONG = 23
    ASK = 24
    ANSWER = 25
    FAIL = 26
    CANCEL = 27
    END = 28
    END_ACK = 29
    GOAWAY = 30
    DROPPED = 31


# The same as plain integers: comparing with a member of the enum costs several times as much.
HELLO: Final = 1
WELCOME: Final = 2
REFUSE: Final = 3
CHALLENGE: Final = 4
PROOF: Final = 5
DATA: Final = 16
BATCH: Final = 17
PART: Final = 18
ACK: Final = 19
ACK_NOW: Final = 20
REJECT: Final = 21
PING: Final = 22
PONG: Final = 23
ASK: Final = 24
ANSWER: Final = 25
FAIL: Final = 26
CANCEL: Final = 27
END: Final = 28
END_ACK: Final = 29
GOAWAY: Final = 30
DROPPED: Final = 31

MAXIMUM: Final[dict[int, int]] = {
    **dict.fromkeys((HELLO, WELCOME, REFUSE, CHALLENGE, PROOF, REJECT, FAIL, CANCEL), MAX_SMALL),
    **dict.fromkeys((PING, PONG, END, END_ACK, GOAWAY), 8),
    DROPPED: 16,
    DATA: MAX_PIECE,
    BATCH: MAX_BATCH,
    PART: MAX_PIECE + 8,  # the first PART of a message begins with its total size
    ACK: 32,
    ACK_NOW: 0,
    ASK: MAX_ASK_PIECE + 13,  # id, flags, deadline
    ANSWER: MAX_ASK_PIECE + 9,  # id, flags
}
"""Most bytes of payload for each type of frame."""

_u32: Final = Struct(">I")
DATA_HEADER: Final = DATA << 24
pack_header: Final = _u32.pack
unpack_header: Final = _u32.unpack_from
"""``pack_header(DATA_HEADER | length)`` is the header of a DATA frame, without a call of `header`."""
_u64: Final = Struct(">Q")
_number_frame: Final = Struct(">IQ")
_ack_frame: Final = Struct(">IQQQQ")
_ack: Final = Struct(">QQQQ")
_pair: Final = Struct(">QQ")
_ask_frame: Final = Struct(">IQB")
_ask_frame_deadline: Final = Struct(">IQBI")
_ask: Final = Struct(">QB")
_ANSWER_FLAGS: Final = MORE_OF_MESSAGE | MORE_OF_ASK
_ASK_FLAGS: Final = _ANSWER_FLAGS | HAS_DEADLINE | NO_MESSAGE
_texts: Final = Struct(">QH")


def type_name(type: int) -> str:
    """Name of a frame type for error texts and logs: ``"ACK"``, or ``"type 0x7f"`` for an unknown one."""
    return Type(type).name if type in MAXIMUM else f"type 0x{type:02x}"


def violation(type: int, what: str) -> ProtocolViolation:
    return ProtocolViolation(f"bad {type_name(type)} frame: {what}")


# --- The preface ----------------------------------------------------------------------------------


def preface() -> bytes:
    """The eight bytes to send before anything else."""
    return PREFACE + bytes((VERSION,))


_HTTP: Final = b"GET ,POST ,PUT ,HEAD ,DELETE ,OPTIONS ,PATCH ,CONNECT ,TRACE ,PRI * HTTP".split(b",")

_PROXIED: Final = (
    "this looks like a PROXY protocol header: use proxy_protocol=True, or switch it off in the load balancer"
)
# Other protocols that may connect to the port: the first bytes, and a text with the remedy. First match wins.
_OTHER_PROTOCOLS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x16\x03", "this looks like a TLS hello; use a tls:// address (ssl=…) on both sides, or on neither"),
    (b"\x15\x03", "this looks like a TLS alert; the peer expects TLS: use a tls:// address (ssl=…)"),
    *((method, "this looks like an HTTP request; this port does not speak HTTP") for method in _HTTP),
    (b"HTTP/", "this looks like an HTTP response; there is a web server at that address"),
    (b"SSH-", "this looks like an SSH server or client; is the port right?"),
    (b"PROXY ", _PROXIED),
    (b"\r\n\r\n\0\r\nQUIT\n", _PROXIED),
    (PREFACE[:4], "this looks like a linkbox preface damaged by a conversion of line endings on the way"),
    (b"\x09LKB", "this looks like a linkbox preface that lost the top bit of each byte on the way"),
)


def check_preface(buffer: bytes) -> int | None:
    """Check the first bytes of a connection. Return the peer's version, or None if more bytes are needed.

    ``buffer`` is everything received so far; eight bytes are enough. The caller then passes ``buffer[8:]`` to
    a `Decoder` and compares the version with `VERSION`: another version is no error here, the caller must
    refuse it. Raises `ProtocolViolation`, with a guess at the protocol, as soon as the bytes cannot be a
    preface.
    """
    start = buffer[: len(PREFACE)]
    if start != PREFACE[: len(start)]:
        raise ProtocolViolation(f"the peer does not speak the linkbox protocol: {_guess(buffer)}")
    return buffer[len(PREFACE)] if len(buffer) > len(PREFACE) else None


def _guess(buffer: bytes) -> str:
    """Guess the protocol from the first bytes of an unknown peer; the text says what to do about it."""
    shown = repr(bytes(buffer[:16]))
    for begin, meaning in _OTHER_PROTOCOLS:
        if buffer.startswith(begin):
            return f"{meaning} (it begins with {shown})"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in buffer[:16]):
        return f"this looks like text; did you mean framing=Lines()? (it begins with {shown})"
    return f"it begins with {shown}; do both sides use the same framing?"


# --- Encoding -------------------------------------------------------------------------------------


def header(type: int, length: int) -> bytes:
    """The four bytes before a payload of ``length`` bytes. ValueError if that is over the type's maximum."""
    if length > MAXIMUM[type]:
        raise _too_long(type, length)
    return _u32.pack(type << 24 | length)


def frame(type: int, payload: bytes = b"") -> bytes:
    """A complete frame, ready to write. ValueError if the payload is over the type's maximum."""
    length = len(payload)
    if length > MAXIMUM[type]:
        raise _too_long(type, length)
    return _u32.pack(type << 24 | length) + payload


def _too_long(type: int, length: int) -> ValueError:
    return ValueError(f"{type_name(type)} frame: {length} bytes of payload, at most {MAXIMUM[type]} allowed")


def fits(payloads: Iterable[bytes], limit: int = MAX_BATCH) -> int:
    """How many of the next messages fit one BATCH whose payload is at most ``limit`` bytes.

    Examines at most 4096 messages. 0 means that the first one is too large for a BATCH (or that there is
    none): send it as DATA, or in parts.
    """
    lengths = list(map(len, islice(payloads, _MANY)))
    if sum(lengths) + 4 * len(lengths) + 4 <= limit:
        return len(lengths)
    sums = list(accumulate(lengths))
    return bisect_right(range(len(sums)), limit, key=lambda index: sums[index] + 4 * index + 8)


def encode_batch(payloads: Sequence[bytes]) -> bytes:
    """One BATCH frame with all these messages, ready to be written.

    Call `fits` first: ValueError if there are no messages, or more than fit one BATCH.
    """
    count = len(payloads)
    bodies = b"".join(payloads)
    length = 4 + 4 * count + len(bodies)
    if length > MAX_BATCH or not count:
        raise ValueError(f"BATCH frame: {count} messages, {length} bytes in all, 1 to {MAX_BATCH} allowed")
    return pack(f">II{count}I", BATCH << 24 | length, count, *map(len, payloads)) + bodies


def encode_first_part(total: int, body: bytes) -> bytes:
    """The first PART of a message of ``total`` bytes. The others are ``frame(PART, body)``."""
    return header(PART, 8 + len(body)) + _u64.pack(total) + body


def encode_ack(received: int, taken: int, byte_limit: int, message_limit: int) -> bytes:
    """An ACK frame. All four numbers are counted from the beginning of the session and never decrease."""
    return _ack_frame.pack(ACK << 24 | 32, received, taken, byte_limit, message_limit)


def encode_number(type: int, number: int) -> bytes:
    """A frame that carries one u64: PING, PONG, END, END_ACK, GOAWAY."""
    return _number_frame.pack(type << 24 | 8, number)


def encode_dropped(first: int, last: int) -> bytes:
    """A DROPPED frame: the mailbox dropped these messages after they had been acknowledged."""
    return frame(DROPPED, _pair.pack(first, last))


def encode_ask(id: int, flags: int, deadline_ms: int | None, body: bytes) -> bytes:
    """The ASK frame for a piece (at most `MAX_ASK_PIECE` bytes) of a message of the request ``id``.

    ``deadline_ms`` is the remaining time in milliseconds (None: unlimited; more than 49 days count as 49
    days, less than 0 as 0). Its flag is set here.
    """
    if len(body) > MAX_ASK_PIECE:
        raise ValueError(f"ASK frame: {len(body)} bytes of message, at most {MAX_ASK_PIECE} allowed")
    if deadline_ms is None:
        return _ask_frame.pack(ASK << 24 | 9 + len(body), id, flags) + body
    left = min(max(deadline_ms, 0), _U32_MAX)
    return _ask_frame_deadline.pack(ASK << 24 | 13 + len(body), id, flags | HAS_DEADLINE, left) + body


def encode_answer(id: int, flags: int, body: bytes) -> bytes:
    """The ANSWER frame for a piece (at most `MAX_ASK_PIECE` bytes) of the response to the request ``id``."""
    if len(body) > MAX_ASK_PIECE:
        raise ValueError(f"ANSWER frame: {len(body)} bytes of message, at most {MAX_ASK_PIECE} allowed")
    return _ask_frame.pack(ANSWER << 24 | 9 + len(body), id, flags) + body


def encode_reject(seq: int, code: str, reason: str) -> bytes:
    """A REJECT frame: message ``seq`` counts as received, but its receipt fails. Long texts are cut."""
    return _encode_texts(REJECT, seq, code, reason)


def encode_fail(id: int, type: str, message: str) -> bytes:
    """A FAIL frame: the request ``id`` failed with this exception class and text. Long texts are cut."""
    return _encode_texts(FAIL, id, type, message)


def encode_cancel(id: int, reason: str) -> bytes:
    """A CANCEL frame: the client no longer waits for the response to ``id``. A long reason is cut."""
    return frame(CANCEL, _u64.pack(id) + _cut(reason, MAX_SMALL - 8))


def _encode_texts(type: int, number: int, short: str, long: str) -> bytes:
    """u64 number, u16 length of the first text, first text, second text: REJECT and FAIL."""
    first = _cut(short, 255)
    return frame(type, _texts.pack(number, len(first)) + first + _cut(long, MAX_SMALL - 10 - len(first)))


def _cut(text: str, limit: int) -> bytes:
    """UTF-8, at most ``limit`` bytes without a partial character at the end; lone surrogates are escaped."""
    encoded = text[:limit].encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded
    return encoded[:limit].decode("utf-8", "ignore").encode()


# --- Decoding of payloads -------------------------------------------------------------------------


def decode_batch(payload: bytes) -> list[bytes]:
    """The messages of a BATCH, in order: at least one. `ProtocolViolation` if lengths are inconsistent."""
    size = len(payload)
    if size < 4:
        raise violation(BATCH, f"{size} bytes of payload, at least 4 needed for the count")
    count = _u32.unpack_from(payload)[0]
    if not count:
        raise violation(BATCH, "it holds no messages")
    start = 4 + 4 * count
    if start > size:
        raise violation(BATCH, f"{count} lengths need {4 * count} bytes, {size - 4} are there")
    lengths = unpack_from(f">{count}I", payload, 4)
    if start + sum(lengths) != size:
        raise violation(BATCH, f"the {count} messages have {sum(lengths)} bytes, {size - start} are there")
    first = lengths[0]
    if count > 8 and first and lengths.count(first) == count:
        # All of one size, as with samples of a device: struct splits them 1.5 times as fast.
        return [body for (body,) in iter_unpack(f"{first}s", memoryview(payload)[start:])]
    bodies = []
    for length in lengths:
        end = start + length
        bodies.append(payload[start:end])
        start = end
    return bodies


def decode_dropped(payload: bytes) -> tuple[int, int]:
    """``(first, last)``: acknowledged messages that a full mailbox dropped before they were taken."""
    if len(payload) != 16:
        raise violation(DROPPED, f"{len(payload)} bytes of payload, must be 16")
    first, last = _pair.unpack(payload)
    if first > last:
        raise violation(DROPPED, f"it says from {first} to {last}")
    return first, last


def decode_first_part(payload: bytes) -> tuple[int, bytes]:
    """Total size of the message in bytes, and its first piece. Check the total before keeping anything."""
    if len(payload) < 8:
        raise violation(PART, f"{len(payload)} bytes of payload, at least 8 needed in the first of a message")
    total: int = _u64.unpack_from(payload)[0]
    if len(payload) - 8 > total:
        raise violation(PART, f"{len(payload) - 8} bytes of a message that has {total} in all")
    return total, payload[8:]


def decode_ack(payload: bytes) -> tuple[int, int, int, int]:
    """``(received, taken, byte_limit, message_limit)``, all counted from the beginning of the session."""
    if len(payload) != 32:
        raise violation(ACK, f"{len(payload)} bytes of payload, must be 32")
    return _ack.unpack(payload)


def decode_number(type: int, payload: bytes) -> int:
    """The u64 of a PING, PONG, END, END_ACK or GOAWAY."""
    if len(payload) != 8:
        raise violation(type, f"{len(payload)} bytes of payload, must be 8")
    number: int = _u64.unpack(payload)[0]
    return number


def decode_ask(payload: bytes) -> tuple[int, int, int | None, bytes]:
    """``(id, flags, deadline_ms, body)``; the deadline is None if the client set none."""
    if len(payload) < 9:
        raise violation(ASK, f"{len(payload)} bytes of payload, at least 9 needed")
    id, flags = _ask.unpack_from(payload)
    if flags & ~_ASK_FLAGS:
        raise violation(ASK, f"unknown flags 0x{flags & ~_ASK_FLAGS:02x}")
    start, left = 9, None
    if flags & HAS_DEADLINE:
        start = 13
        if len(payload) < start:
            raise violation(ASK, f"{len(payload)} bytes of payload, at least 13 needed with a deadline")
        left = _u32.unpack_from(payload, 9)[0]
    if flags & NO_MESSAGE and (flags & _ANSWER_FLAGS or len(payload) > start):
        raise violation(ASK, "it carries no message, and a part of one")
    if not id:
        raise violation(ASK, "request 0; the first is 1")
    return id, flags, left, payload[start:]


def decode_answer(payload: bytes) -> tuple[int, int, bytes]:
    """``(id, flags, body)``."""
    if len(payload) < 9:
        raise violation(ANSWER, f"{len(payload)} bytes of payload, at least 9 needed")
    id, flags = _ask.unpack_from(payload)
    if flags & ~_ANSWER_FLAGS:
        raise violation(ANSWER, f"unknown flags 0x{flags & ~_ANSWER_FLAGS:02x}")
    return id, flags, payload[9:]


def decode_reject(payload: bytes) -> tuple[int, str, str]:
    """``(seq, code, reason)``."""
    return _decode_texts(REJECT, payload)


def decode_fail(payload: bytes) -> tuple[int, str, str]:
    """``(id, type, message)``: the class name of the exception, and its text."""
    return _decode_texts(FAIL, payload)


def decode_cancel(payload: bytes) -> tuple[int, str]:
    """``(id, reason)``."""
    if len(payload) < 8:
        raise violation(CANCEL, f"{len(payload)} bytes of payload, at least 8 needed")
    id: int = _u64.unpack_from(payload)[0]
    text = _text(CANCEL, payload[8:])
    if not id:
        raise violation(CANCEL, "request 0; the first is 1")
    return id, text


def _decode_texts(type: int, payload: bytes) -> tuple[int, str, str]:
    if len(payload) < 10:
        raise violation(type, f"{len(payload)} bytes of payload, at least 10 needed")
    number, length = _texts.unpack_from(payload)
    if 10 + length > len(payload):
        raise violation(type, f"the first text has {length} bytes, {len(payload) - 10} are there")
    return number, _text(type, payload[10 : 10 + length]), _text(type, payload[10 + length :])


def _text(type: int, encoded: bytes) -> str:
    try:
        return encoded.decode()
    except UnicodeDecodeError as error:
        raise violation(type, f"a text is not UTF-8 ({error.reason} at byte {error.start})") from None
