"""Finds frames in a stream of bytes, whatever pieces it arrives in. frames.py defines the frames.

**Frames before an error are valid.** TCP may split the stream anywhere, so valid frames and an invalid one
often arrive in one chunk. `Decoder.receive` therefore never raises: it returns the valid frames, keeps the
violation in ``error``, and returns nothing from then on. The caller must handle the frames first and then
check ``error``, so that the result does not depend on how the stream was split.
"""

from __future__ import annotations

from typing import Final

from linkbox.core.wire.frames import MAX_EARLY, MAX_SMALL, MAXIMUM, WELCOME, unpack_header, violation
from linkbox.errors import ProtocolViolation, TooLarge

HEADER_SIZE: Final = 4
_COLLECT: Final = 4096  # bytes; chunks below this are gathered instead of kept one by one
_SKIPPED_FROM: Final = 0x80
_ENDLESS: Final = 1 << 30

# Indexed by the type byte, -1 for unknown types: one lookup and one comparison find everything unusual.
LIMITS: Final = tuple(MAXIMUM.get(type, -1) for type in range(256))
_SMALL_LIMITS: Final = tuple(min(limit, MAX_SMALL) for limit in LIMITS)


class Pile:
    """Collects bytes in the pieces in which they arrived, and joins them once.

    Small pieces are merged early: kept as separate objects, pieces of two bytes would take twenty times their
    size in memory. ``size`` is the number of bytes held.
    """

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray | memoryview] = []
        self.size: int = 0

    def add(self, data: bytes | memoryview) -> None:
        """Keep ``data``, which must not be modified afterwards."""
        self.size += len(data)
        if len(data) >= _COLLECT:
            self._pieces.append(data)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray):
            last += data
        else:
            self._pieces.append(bytearray(data))

    def add_rest(self, data: bytes, start: int) -> None:
        """Keep ``data[start:]``: as a copy, unless it is most of ``data``, which a view would keep alive."""
        self.add(memoryview(data)[start:] if start < len(data) // 2 else data[start:])

    def take(self) -> bytes:
        """Return everything, in order, and hold nothing afterwards."""
        joined = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return joined

    def join(self, data: bytes, wanted: int) -> bytes | None:
        """Return what is held, and ``data`` behind it. If nothing is held: ``data``, of any size.

        None: both together are less than ``wanted`` bytes, and are held.
        """
        if self.size:
            self.add(data)
            return None if self.size < wanted else self.take()
        return data


class Assembly(Pile):
    """Assembles a message from its pieces. Of a message that is too large, only the size is kept."""

    __slots__ = ("arrived", "limit", "pieces", "total")

    def __init__(self, total: int, limit: int) -> None:
        super().__init__()
        self.total: int = total
        self.limit: int = limit
        self.arrived: int = 0
        self.pieces: int = 0

    def put(self, body: bytes) -> None:
        """Add a piece. `ProtocolViolation` if there is more than was announced."""
        self.pieces += 1
        self.arrived += len(body)
        if self.arrived > self.total:
            raise self._violation()
        if self.total <= self.limit:
            self.add(body)

    def whole(self, body: bytes) -> bytes | TooLarge:
        """Add the last piece; return the message, or the error to reject it with."""
        self.put(body)
        if self.total > self.limit:
            return too_large(self.total, self.limit)
        if self.arrived != self.total:
            raise self._violation()
        return self.take()

    def _violation(self) -> ProtocolViolation:
        return ProtocolViolation(
            f"a message of {self.total} bytes was announced, and {self.arrived} were sent"
        )


def too_large(size: int, limit: int) -> TooLarge:
    """The error to reject a message with."""
    return TooLarge(f"a message of {size} bytes; this end takes at most {limit}")


class Decoder:
    """Finds frames in a stream of bytes, whatever pieces it arrives in.

    With ``small=True`` (during the handshake) no frame may have more than `MAX_SMALL` bytes, and the decoder
    stops behind HELLO and behind WELCOME. The bytes that follow are held unread, up to `MAX_EARLY`. When the
    handshake is complete, set ``small = False`` and call ``receive(b"")`` to process the held bytes. To
    continue with the strict limits instead (PROOF after HELLO), call `proceed`, then ``receive(b"")``.

    ``error`` is None, or the violation that follows the frames returned so far: check it after handling them.
    From then on `receive` returns nothing. ``missing`` is the number of bytes that complete the current
    frame, 0 if there is none: a good size for the next read. ``has_more``: the last `receive` has returned as
    many frames as it may, and holds the bytes behind them.
    """

    __slots__ = (
        "_head",
        "_pile",
        "_skip",
        "_stopped",
        "_type",
        "busy",
        "error",
        "has_more",
        "missing",
        "small",
    )

    def __init__(self, small: bool = False) -> None:
        self.small: bool = small
        self.error: ProtocolViolation | None = None
        self.missing: int = 0
        self._type = 0  # of the current frame
        self._pile = Pile()  # its bytes so far; or, when stopped, the held bytes
        self._head = b""  # up to three bytes of a header
        self._skip = 0  # bytes of an unknown frame that must still be dropped
        self._stopped = False  # behind HELLO or WELCOME
        self.busy: bool = False  # is anything left over? One check for the fast path
        self.has_more: bool = False

    @property
    def buffered(self) -> int:
        """Bytes held in memory: an incomplete frame, or bytes that wait for the end of the handshake."""
        return len(self._head) + self._pile.size

    def proceed(self) -> None:
        """Stop holding bytes but keep ``small``; you must now call ``receive(b"")``."""
        self._stopped = False

    def take_held(self) -> bytes:
        """Return the held bytes, for the decoder of the open link."""
        held = self._head + self._pile.take()
        self._head = b""
        self.busy = self._stopped = False
        return held

    def hold(self, data: bytes) -> None:
        """Process these bytes with the next call of `receive`."""
        if data:
            self._pile.add(data)
            self.busy = True

    def receive(self, data: bytes, most: int = _ENDLESS) -> list[tuple[int, bytes]]:
        """Return the frames that are complete now, as ``(type, payload)``, in order; keep the rest.

        ``most``: the number of frames to look at now. Never raises. You must handle the frames first, and
        then check ``error``.
        """
        frames: list[tuple[int, bytes]] = []
        position = 0
        if self.busy:
            data, position = self._carry_on(data, frames)
        size = len(data)
        last = size - HEADER_SIZE
        limits = _SMALL_LIMITS if self.small else LIMITS
        unpack = unpack_header
        for _ in range(most):
            if position > last:
                break
            word = unpack(data, position)[0]
            position += HEADER_SIZE
            type = word >> 24
            length = word & 0xFFFFFF
            if length > limits[type]:
                position = self._unusual(type, length, data, position)
                continue
            end = position + length
            if end > size:
                self._type = type
                self.missing = end - size
                self._pile.add_rest(data, position)
                self.busy = True
                return frames
            frames.append((type, data[position:end]))
            position = end
            if type <= WELCOME and self.small:
                self._stop(data[position:])
                return frames
        if position < size:
            self.busy = True
            if position > last:
                self._head = data[position:]
            else:
                self.has_more = True
                self._pile.add(data[position:])
        return frames

    def _carry_on(self, data: bytes, frames: list[tuple[int, bytes]]) -> tuple[bytes, int]:
        """Combine with what was left over; return the bytes to decode now, and where to begin in them."""
        if self.error:
            return b"", 0
        if self._stopped and self.small:
            self._hold(data)
            return b"", 0
        self.busy = self._stopped = self.has_more = False
        if self.missing:
            return data, self._fill(data, frames)
        if self._pile.size:
            self._pile.add(data)
            return self._pile.take(), 0
        if self._head:
            data = self._head + data
            self._head = b""
            return data, 0
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self.busy = self._skip > 0
        return data, skipped

    def _fill(self, data: bytes, frames: list[tuple[int, bytes]]) -> int:
        """Add to the current frame; return where the next one begins in ``data``."""
        missing = self.missing
        if len(data) < missing:
            self._pile.add(data)
            self.missing = missing - len(data)
            self.busy = True
            return len(data)
        self._pile.add(memoryview(data)[:missing])
        self.missing = 0
        frames.append((self._type, self._pile.take()))
        if self._type <= WELCOME and self.small:
            self._stop(data[missing:])
            return len(data)
        return missing

    def _unusual(self, type: int, length: int, data: bytes, position: int) -> int:
        """Skip a frame of an unknown type, or set ``error``. Return where to continue in ``data``."""
        if type >= _SKIPPED_FROM and (length <= MAX_SMALL or not self.small):
            there = min(length, len(data) - position)
            self._skip = length - there
            self.busy = self._skip > 0
            return position + there
        self.busy = True
        if type not in MAXIMUM and type < _SKIPPED_FROM:
            self.error = violation(type, "there is no such type in this version of the protocol")
        else:
            allowed = MAXIMUM.get(type, MAX_SMALL)
            when = ""
            if self.small and allowed >= MAX_SMALL:
                allowed, when = MAX_SMALL, " before the handshake is complete"
            self.error = violation(type, f"{length} bytes of payload, at most {allowed} allowed{when}")
        return len(data)

    def _stop(self, rest: bytes) -> None:
        """Stop behind HELLO or WELCOME: hold the bytes that follow."""
        self.busy = self._stopped = True
        self._hold(rest)

    def _hold(self, data: bytes) -> None:
        """Hold bytes unread until the handshake is complete."""
        if self._pile.size + len(data) > MAX_EARLY + HEADER_SIZE:
            self._pile.take()
            self.error = ProtocolViolation(f"more than {MAX_EARLY} bytes before the handshake was complete")
        elif data:
            self._pile.add(data)
