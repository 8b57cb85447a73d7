"""A peer that is nothing but a socket: it says what it likes, and sees what comes back."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec

from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from tests.core.wire import decode_message, encode_message
from tests.faults.place import PATIENCE, Place

CREDIT = (1 << 40, 1 << 40)
SESSION = "{:032x}"


def hello(
    pattern: str = "p2p", format: str = "bytes", name: str = "bare", session: int = 1, **more: Any
) -> bytes:
    """A HELLO frame."""
    known = {"epoch": 1, "credit": CREDIT, "message": 1 << 30, **more}
    return encode_message(handshake.Hello(pattern, format, name, SESSION.format(session), **known))


def opening(**more: Any) -> bytes:
    """The preface and a HELLO."""
    return frames.preface() + hello(**more)


def data(body: bytes) -> bytes:
    """A DATA frame."""
    return frames.frame(frames.DATA, body)


def header(kind: int, length: int) -> bytes:
    """The first four bytes of a frame, whatever is allowed."""
    return struct.pack(">I", kind << 24 | length)


class Bare:
    """One connection of a bare socket."""

    def __init__(self, place: Place, address: str, sock: socket.socket | None = None) -> None:
        """``sock``: connected already; otherwise it is dialled."""
        self.sock = sock or place.transport.dial(address)
        self.sock.settimeout(PATIENCE)
        self._received = b""
        self._is_greeted = False

    def say(self, *pieces: bytes) -> Bare:
        """Write all of it, as far as anybody takes it."""
        try:
            self.sock.sendall(b"".join(pieces))
        except (ConnectionError, ssl.SSLError):
            pass  # what comes back, or does not, will tell
        return self

    def flood(self, piece: bytes, times: int) -> int:
        """Write that again and again without ever reading; how often, until it was thrown out?"""
        for count in range(times):
            try:
                self.sock.sendall(piece)
            except (ConnectionError, TimeoutError, ssl.SSLError):
                return count
        return times

    def meet(self, **more: Any) -> handshake.Welcome:
        """Introduce yourself, and be welcomed."""
        self.say(opening(**more))
        return self.welcome()

    def welcome(self) -> handshake.Welcome:
        """The WELCOME that must come now."""
        found = decode_message(frames.WELCOME, self.until(frames.WELCOME))
        assert isinstance(found, handshake.Welcome)
        return found

    def refusal(self) -> handshake.Refuse:
        """The REFUSE that must come; then the connection closes."""
        found = decode_message(frames.REFUSE, self.until(frames.REFUSE))
        assert isinstance(found, handshake.Refuse)
        return found

    def as_server(self) -> Bare:
        """This is the server's end: the client has dialled."""
        assert self._take(8) == frames.preface()
        self._is_greeted = True
        return self

    def admit(self, **more: Any) -> None:
        """As a server: read HELLO, for which a client may wait for the preface, and welcome the client."""
        self.say(frames.preface()).until(frames.HELLO)
        known = {"name": "bare", "incarnation": "0" * 32, "credit": CREDIT, "message": 1 << 30, **more}
        self.say(encode_message(handshake.Welcome(**known)))

    def frame(self) -> tuple[int, bytes]:
        """The next frame: type and payload. EOFError when the other side has closed, or reset."""
        if not self._is_greeted:
            assert self._take(8) == frames.preface()
            self._is_greeted = True
        word = struct.unpack(">I", self._take(4))[0]
        return word >> 24, self._take(word & 0xFFFFFF)

    def until(self, kind: int) -> bytes:
        """The payload of the next frame of that type; others are read and forgotten."""
        while True:
            found, payload = self.frame()
            if found == kind:
                return payload
            assert found != frames.REFUSE, payload

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            try:
                more = self.sock.recv(65536)
            except ConnectionError as error:
                raise EOFError("reset") from error
            if not more:
                raise EOFError("closed")
            self._received += more
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def ended(self, within: float = PATIENCE) -> float:
        """Wait until the other side has closed or reset the connection; after how many seconds?"""
        began = time.monotonic()
        try:
            while True:
                self.sock.settimeout(max(0.01, began + within - time.monotonic()))
                if not self.sock.recv(65536):
                    break
        except ConnectionError:
            pass
        return time.monotonic() - began

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close."""
        self.sock.close()

    def __enter__(self) -> Bare:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HostileServer:
    """Accepts one connection after another, and answers each with what ``says`` writes."""

    def __init__(self, says: Callable[[Bare], None]) -> None:
        self._says = says
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="hostile", daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            bare = Bare.__new__(Bare)
            bare.sock, bare._received, bare._is_greeted = sock, b"", False
            try:
                self._says(bare.as_server())
                bare.ended()
            except (EOFError, OSError, AssertionError):
                pass  # the client has left
            sock.close()

    def __enter__(self) -> HostileServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)


def reason_of(payload: bytes) -> str:
    """What a REJECT says."""
    return frames.decode_reject(payload)[2]


def as_json(value: Any) -> bytes:
    """JSON text."""
    return msgspec.json.encode(value)
