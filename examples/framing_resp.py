"""A framing of your own: RESP, the protocol of Redis. A message is one value, as its bytes.

The decoder keeps what is missing of nested arrays, so it looks at each byte once, however it arrives.
"""

import socket
import threading

from linkbox import ClientP2P, Framing


class Resp(Framing):
    def encode(self, payload: bytes) -> bytes:
        return payload

    def decoder(self, limit: int) -> "RespDecoder":
        return RespDecoder(limit)


class RespDecoder:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.buffer = bytearray()
        self.position = 0  # up to here it has been looked at
        self.missing = [1]  # values that are missing: of the message, of its array, of an array in that, …

    @property
    def pending(self) -> int:
        return len(self.buffer)

    def feed(self, data: bytes):
        self.buffer += data
        while self.value():
            while len(self.missing) > 1 and not self.missing[-1]:
                self.missing.pop()
            if self.missing == [0]:
                message = bytes(self.buffer[: self.position])
                del self.buffer[: self.position]
                self.position, self.missing = 0, [1]
                yield message

    def value(self) -> bool:
        """Step over a value, or the beginning of an array. False: it has not arrived yet."""
        end = self.buffer.find(b"\r\n", self.position, self.position + 65_536)
        if end < 0:
            if len(self.buffer) - self.position > 65_535:
                raise ValueError("a line of more than 64 KiB")
            return False
        kind, text = self.buffer[self.position : self.position + 1], self.buffer[self.position + 1 : end]
        after = end + 2
        if kind == b"$" and int(text) >= 0:
            after += int(text) + 2
            if len(self.buffer) < after:
                return False
            if self.buffer[after - 2 : after] != b"\r\n":
                raise ValueError(f"a string of {int(text)} bytes without its end")
        elif kind not in (b"+", b"-", b":", b"$", b"*"):
            raise ValueError(f"no RESP value begins with {bytes(kind)!r}")
        self.missing[-1] -= 1
        if kind == b"*" and int(text) > 0:
            self.missing.append(int(text))
            if len(self.missing) > 100:
                raise ValueError("nested more than 100 deep")
        self.position = after
        return True

    def eof(self):
        if self.buffer:
            raise ValueError("the stream ended inside a value")
        return []


def command(*words: bytes) -> bytes:
    parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(parts)


def database(listener: socket.socket) -> None:
    """Plays Redis: responds to SET, GET and MGET."""
    connection, _ = listener.accept()
    stored: dict[bytes, bytes] = {}
    with connection, connection.makefile("rb") as lines:
        while first := lines.readline():
            words = []
            for _ in range(int(first[1:])):
                size = int(lines.readline()[1:])
                words.append(lines.read(size + 2)[:size])
            if words[0] == b"SET":
                stored[words[1]] = words[2]
                connection.sendall(b"+OK\r\n")
            else:
                found = b"".join(b"$%d\r\n%b\r\n" % (len(stored[key]), stored[key]) for key in words[1:])
                connection.sendall((b"*%d\r\n" % len(words[1:]) if words[0] == b"MGET" else b"") + found)


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=database, args=(listener,), daemon=True).start()
        with ClientP2P(("127.0.0.1", listener.getsockname()[1]), framing=Resp()) as redis:
            for words in ("SET a 1", "SET b 2", "GET a", "MGET a b"):
                redis.send(command(*words.encode().split()))
                print(words, "->", redis.data_get(timeout=5))
