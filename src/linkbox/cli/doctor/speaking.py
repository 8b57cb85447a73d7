"""What speaks at an address: linkbox, with which pattern and format, or another protocol.

Pattern and format of a linkbox server are found out with handshakes that it must refuse: its reason names
them, and the application behind it notices nothing. Only the last handshake is one of a real client.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from linkbox import Limits, LinkError
from linkbox.cli.doctor.network import Way, certificate_hash, speaks_tls
from linkbox.cli.doctor.report import Report, Status
from linkbox.core.wire import authentication, frames, handshake_messages
from linkbox.core.wire.authentication import ClientSide, Lookup
from linkbox.core.wire.decoder import Decoder
from linkbox.core.wire.handshake_messages import Hello, Refuse, Welcome
from linkbox.text import printable

NAME: Final = "linkbox doctor"
PROBE: Final = "linkbox-doctor"
"""A pattern and a format that no server has."""
_PATTERN = re.compile(r"this is a server for (\w+)")
_FORMAT = re.compile(r"the format here is ([\w.+-]+)")
CLIENTS: Final = {"p2p": "ClientP2P", "p2m": "ClientP2M", "ar": "ClientAR"}


class Other(NamedTuple):
    """A protocol that is not Linked."""

    name: str
    advice: str


class Answer(NamedTuple):
    """What came back after HELLO: a message of the handshake, or else the first bytes."""

    message: Welcome | Refuse | None = None
    challenge: str | None = None
    """The name of a server that wants a secret, if none was given."""
    version: int | None = None
    """The version of its protocol, if it is not ours."""
    data: bytes = b""
    is_closed: bool = False
    error: str = ""


# -- another protocol -----------------------------------------------------------------------------------


def identify(open_bare: Callable[[], socket.socket], timeout: float) -> Other:
    """What speaks there, if it is not TLS? Tries what a linkbox client, then what a browser sends."""
    for request in (frames.preface(), b"GET / HTTP/1.0\r\n\r\n"):
        try:
            with open_bare() as sock:
                sock.settimeout(timeout)
                sock.sendall(request)
                data = sock.recv(4096)
        except OSError:
            data = b""
        if data:
            return protocol_of(data)
    return Other("nothing that can be recognized", "check the port")


def protocol_of(data: bytes) -> Other:
    """Which protocol begins like this?"""
    if data.startswith(frames.PREFACE[:4]):
        return Other("linkbox", "use a tcp:// address")
    if data.startswith(b"HTTP/"):
        return Other("HTTP", "this is a web server: check the port")
    if data[:1] in (b"\x15", b"\x16") and data[1:2] == b"\x03":
        return Other("TLS", "use a tls:// address")
    if data.startswith(
        b"INFO {"
    ):  # A broker has a scheme of its own: its checks belong into a module like this.
        return Other("NATS", "this is a NATS server, not a linkbox server")
    line = data[:200].split(b"\n")[0].decode("utf-8", "replace").strip()
    if line.isprintable() and line:
        return Other(
            f"a text protocol, which begins with {printable(line, 80)!r}",
            "check the port; a device that sends lines needs framing=Lines()",
        )
    return Other(
        f"a binary protocol, which begins with {data[:16].hex(' ')}",
        "check the port; a device with a protocol of its own needs a plain framing",
    )


# -- linkbox --------------------------------------------------------------------------------------------


class Visitor:
    """Shakes hands with a linkbox server."""

    def __init__(self, way: Way, lookup: Lookup | None) -> None:
        self._way = way
        self._lookup = lookup
        self.sock: socket.socket | None = None
        self.decoder: Decoder = Decoder(small=True)
        self._until = 0.0
        """When the answer must be complete."""

    def shake_hands(self, pattern: str, format: str) -> Answer:
        """Connect and send HELLO; returns what came back. The connection stays open after a welcome."""
        self.close()
        self.decoder = Decoder(small=True)
        self._until = time.monotonic() + self._way.timeout
        limits = Limits()
        hello = Hello(
            pattern=pattern,
            format=format,
            name=NAME,
            session=os.urandom(16).hex(),
            epoch=1,
            credit=(limits.mailbox_bytes, 1000),
            message=limits.message,
            resumes=False,
        )
        frame = handshake_messages.encode_hello(hello)
        data = b""
        try:
            self.sock = self._way.open()
            self.sock.sendall(frames.preface() + frame)
            auth = None if self._lookup is None else ClientSide(self._lookup, frame[4:])
            while len(data) < 8 and (got := self._receive()):
                data += got
                if not frames.PREFACE.startswith(data[:7]):
                    break
            if len(data) < 8 or not data.startswith(frames.PREFACE):
                return Answer(data=data, is_closed=len(data) < 8)
            if data[7] != frames.VERSION:
                return Answer(version=data[7])
            return self._read(data[8:], auth)
        except TimeoutError:
            return Answer(data=data, error=f"no answer within {self._way.timeout:g} s")
        except (OSError, LinkError) as error:
            return Answer(data=data, is_closed=True, error=str(error))

    def _read(self, data: bytes, auth: ClientSide | None) -> Answer:
        assert self.sock is not None
        while True:
            for kind, payload in self.decoder.receive(data):
                if kind == frames.CHALLENGE:
                    nonce = os.urandom(authentication.NONCE)
                    proof = None if auth is None else auth.prove(payload, nonce, certificate_hash(self.sock))
                    if proof is None:
                        name = msgspec.json.decode(payload).get("name", "")
                        return Answer(challenge=str(name))
                    self.sock.sendall(proof)
                elif kind == frames.PROOF:
                    if auth is None or not auth.check(payload):
                        return Answer(Refuse("authentication", authentication.NOT_PROVEN))
                elif kind == frames.WELCOME:
                    if auth is not None and not auth.is_proven:
                        return Answer(Refuse("authentication", authentication.NOT_ASKED))
                    return Answer(handshake_messages.decode_welcome(payload))
                elif kind == frames.REFUSE:
                    refuse = handshake_messages.decode_refuse(payload)
                    if auth is not None and not auth.is_proven and refuse.code in ("pattern", "format"):
                        return Answer(Refuse("authentication", authentication.NOT_ASKED))
                    return Answer(refuse)
            if self.decoder.error is not None:
                raise self.decoder.error
            data = self._receive()
            if not data:
                return Answer(is_closed=True)

    def round_trip(self) -> float | None:
        """Seconds until the server has answered a PING; None if it did not."""
        assert self.sock is not None
        began = time.monotonic()
        self._until = began + self._way.timeout
        self.sock.sendall(frames.encode_number(frames.PING, 1))
        self.decoder.small = False
        try:
            return time.monotonic() - began if self._wait_for(frames.PONG) else None
        except OSError:
            return None

    def leave(self) -> None:
        """End the conversation gracefully."""
        assert self.sock is not None
        try:
            self.sock.sendall(frames.encode_number(frames.END, 0))
            self._wait_for(frames.END_ACK)
        except OSError:
            pass
        self.close()

    def _wait_for(self, wanted: int) -> bool:
        assert self.sock is not None
        data = b""
        while True:
            if any(kind == wanted for kind, _ in self.decoder.receive(data)):
                return True
            data = self._receive()
            if not data or self.decoder.error is not None:
                return False

    def _receive(self) -> bytes:
        assert self.sock is not None
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        return self.sock.recv(65536)

    def close(self) -> None:
        """Close the connection."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None


def diagnose_linked(way: Way, lookup: Lookup | None, pattern: str | None, format: str | None) -> None:
    """Check that a linkbox client as described would work. Raises `Failed`."""
    visitor = Visitor(way, lookup)
    try:
        found = _refusal(way, visitor.shake_hands(PROBE, PROBE))
        served = _named(_PATTERN, found) or pattern or "p2p"
        way.report.ok("protocol", f"linkbox, version {frames.VERSION}, a server for {served}")
        if lookup is not None:
            way.report.ok("secret", "both sides know it")
        if pattern is not None and served != pattern:
            advice = f"use {CLIENTS.get(served, 'the client of that pattern')}, or another port"
            text = f"the server is for {served}, the client for {pattern}"
            raise way.report.fail(Status.MISMATCH, "pattern", text, advice)
        found = _refusal(way, visitor.shake_hands(served, PROBE))
        spoken = _named(_FORMAT, found) or format or "bytes"
        if format is not None and spoken != format:
            text, advice = f"the server uses {spoken}, the client {format}", f"use the format {spoken}"
            raise way.report.fail(Status.MISMATCH, "format", text, advice)
        way.report.ok("format", spoken)
        answer = visitor.shake_hands(served, spoken)
        if not isinstance(answer.message, Welcome):
            _refusal(way, answer, is_last=True)
            return
        _welcomed(way.report, visitor, answer.message)
    finally:
        visitor.close()


def _welcomed(report: Report, visitor: Visitor, welcome: Welcome) -> None:
    largest, ours = welcome.message, Limits().message
    report.ok("handshake", f"welcomed by {printable(welcome.name)}")
    seconds = visitor.round_trip()
    if seconds is None:
        report.note("round trip", "the server did not answer a ping")
    else:
        report.ok("round trip", f"{seconds * 1e3:.2g} ms")
    mark = report.ok if largest == ours else report.note
    mark("limits", f"it takes messages of {size_of(largest)}, a client by default {size_of(ours)}")
    if not welcome.credit[1]:
        report.note("limits", "its mailbox is full: messages wait until its application takes some")
    visitor.leave()


def _refusal(way: Way, answer: Answer, is_last: bool = False) -> str:
    """The reason of an expected refusal. Raises `Failed` for everything else."""
    report, message = way.report, answer.message
    if isinstance(message, Refuse):
        reason = printable(message.reason)
        if message.code == "authentication":
            advice = "compare the secrets of both sides: --secret-file, or LINKBOX_SECRET"
            raise report.fail(Status.SECRET, "secret", reason, advice)
        if message.code in ("pattern", "format") and not is_last:
            return reason
        if message.code in ("pattern", "format", "version"):
            raise report.fail(Status.MISMATCH, "handshake", reason, "use the same on both sides")
        advice = {
            "busy": "another client is connected: raise max_peers=, or stop that one",
            "limit": "try again later; if its mailbox is full, its application takes too little",
            "denied": "the accept= of the server decides that: ask who runs it",
        }.get(message.code, "look into the log of the server")
        raise report.fail(
            Status.REJECTED, "handshake", f"refused ({printable(message.code)}): {reason}", advice
        )
    if isinstance(message, Welcome):  # It accepts any pattern or format: that is no server of ours.
        return ""
    if answer.challenge is not None:
        text = f"the server {printable(answer.challenge)} wants a secret"
        raise report.fail(Status.SECRET, "secret", text, "give it: --secret-file FILE, or LINKBOX_SECRET")
    if answer.version is not None:
        text = f"its protocol has version {answer.version}, this linkbox has {frames.VERSION}"
        raise report.fail(Status.MISMATCH, "protocol", text, "use the same version of linkbox on both sides")
    raise _not_linkbox(way, answer)


def _not_linkbox(way: Way, answer: Answer) -> Exception:
    report = way.report
    if "certificate" in answer.error.lower() and way.is_secure:
        advice = "the server requires a certificate of the client: --tls-cert and --tls-key"
        return report.fail(Status.CERTIFICATE, "TLS", answer.error, advice)
    if not answer.data and not way.is_secure and speaks_tls(way.open_bare, way.timeout):
        return report.fail(
            Status.OTHER_PROTOCOL, "protocol", "the server speaks TLS", f"use tls://{way.address.url[6:]}"
        )
    other = protocol_of(answer.data) if answer.data else identify(way.open, way.timeout)
    if answer.data or not other.name.startswith("nothing"):
        return report.fail(Status.OTHER_PROTOCOL, "protocol", f"the server speaks {other.name}", other.advice)
    text = "the server closes the connection at once" if answer.is_closed else f"silence: {answer.error}"
    advice = (
        "the port may belong to another program, or the program is stuck: look into its log. "
        "A device without linkbox needs a plain framing, such as --framing lines"
    )
    return report.fail(Status.SILENT, "protocol", text, advice)


def diagnose_plain(way: Way, framing: str) -> None:
    """A plain framing has no handshake: wait for what the other side sends by itself."""
    report, data = way.report, b""
    try:
        with way.open() as sock:
            sock.settimeout(min(1.0, way.timeout))
            data = sock.recv(4096)
            is_closed = not data
    except TimeoutError:
        is_closed = False
    except OSError as error:
        raise report.fail(Status.SILENT, "protocol", str(error), "look into the log of the server") from error
    if data.startswith(frames.PREFACE[:4]):
        raise report.fail(
            Status.OTHER_PROTOCOL,
            "protocol",
            "the server speaks linkbox",
            "use the framing linked (the default)",
        )
    if is_closed:
        advice = "it may have as many clients as it takes, or expect another protocol"
        raise report.fail(Status.SILENT, "protocol", "the server closes the connection at once", advice)
    if data:
        report.note("greeting", protocol_of(data).name)
    report.note("framing", f"{framing} has no handshake: nothing more can be checked from here")


def _named(pattern: re.Pattern[str], reason: str) -> str | None:
    found = pattern.search(reason)
    return found[1] if found else None


def size_of(number: int) -> str:
    """A number of bytes, for a person."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} bytes"
