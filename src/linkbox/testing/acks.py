"""Removes acknowledgements from a stream of the linkbox protocol."""

from __future__ import annotations

import struct

from linkbox.core.wire import frames

_header = struct.Struct("!I")
_PREFACE = len(frames.preface())


class AckEater:
    """Filters a stream frame by frame. A stream of another protocol passes unchanged."""

    def __init__(self) -> None:
        self._preface = b""
        self._head = b""
        """The received part of a frame header, and how much of it was passed on."""
        self._head_passed = 0
        self._left = 0
        """Missing bytes of the current frame, and whether the frame is dropped."""
        self._drops = False

    def feed(self, data: bytes, eats: bool) -> bytes:
        """Return the bytes that pass. With ``eats``, acknowledgements that begin in them are removed."""
        passed = []
        if len(self._preface) < _PREFACE:
            passed.append(data[: _PREFACE - len(self._preface)])
            self._preface += passed[0]
            data = data[len(passed[0]) :]
        if not self._preface.startswith(frames.PREFACE[: len(self._preface)]):
            return b"".join((*passed, data))
        at = 0
        while at < len(data):
            end = at + (self._left or _header.size - len(self._head))
            piece = data[at:end]
            passed.append(self._body(piece) if self._left else self._header(piece, eats))
            at = end
        return b"".join(passed)

    def _body(self, piece: bytes) -> bytes:
        self._left -= len(piece)
        return b"" if self._drops else piece

    def _header(self, piece: bytes, eats: bool) -> bytes:
        self._head += piece
        if len(self._head) == _header.size:
            word = _header.unpack(self._head)[0]
            self._left = word & 0xFFFFFF
            self._drops = eats and word >> 24 == frames.ACK and not self._head_passed
            rest, self._head, self._head_passed = self._head[self._head_passed :], b"", 0
            return b"" if self._drops else rest
        if eats:
            return b""  # It may be an acknowledgement: wait for the rest of the header.
        rest, self._head_passed = self._head[self._head_passed :], len(self._head)
        return rest
