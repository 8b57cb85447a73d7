"""One client of a `FakeBroker`, and what it says in the protocol of NATS. Without sockets."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from linkbox.testing._jetstream import FakeJetStream
from linkbox.testing._subjects import matches

MOST: Final = 1024 * 1024
"""The largest message."""
_LONGEST_LINE: Final = 64 * 1024
_LINE: Final = b"NATS/1.0"


@dataclass(slots=True)
class Subscription:
    """Where a client receives."""

    client: FakeClient
    sid: str
    subject: str
    queue: str


class ProtocolError(Exception):
    """What a client says is no NATS, or not allowed: say why and close."""


class FakeRouter:
    """Who receives what."""

    def __init__(self, now: Callable[[], float], user: str, password: str, token: str) -> None:
        self.subscriptions: list[Subscription] = []
        self.jetstream = FakeJetStream(self, now)
        self.life = 1
        """How often the broker was started."""
        self._user, self._password, self._token = user, password, token

    def info(self) -> bytes:
        """The first thing that a client receives."""
        said = {
            "server_id": f"FAKE{self.life}",
            "server_name": "linkbox.testing",
            "version": "2.11.0",
            "headers": True,
            "jetstream": True,
            "max_payload": MOST,
            "proto": 1,
            "auth_required": bool(self._user or self._token),
        }
        return b"INFO " + json.dumps(said).encode() + b"\r\n"

    def lets_in(self, options: Mapping[str, Any]) -> bool:
        """Are these the credentials?"""
        if self._token:
            return bool(options.get("auth_token") == self._token)
        if self._user:
            return (options.get("user"), options.get("pass")) == (self._user, self._password)
        return True

    def publish(
        self, sender: FakeClient, to: str, reply_to: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        """A client has published a message."""
        is_kept = self.jetstream.publish(to, reply_to, headers, body)
        if not self.deliver(to, reply_to, headers, body) and reply_to and not is_kept:
            for each in self.subscriptions:
                if each.client is sender and matches(each.subject, reply_to):
                    sender.send_message(each, reply_to, "", {"Status": "503"}, b"")
                    return

    def deliver(
        self, to: str, reply_to: str, headers: Mapping[str, str], body: bytes, subject: str = ""
    ) -> int:
        """See `Router`."""
        groups: dict[str, list[Subscription]] = {}
        for number, each in enumerate(self.subscriptions):
            if matches(each.subject, to):
                groups.setdefault((each.queue and f"queue {each.queue}") or f"{number}", []).append(each)
        for group in groups.values():
            chosen = random.choice(group)
            chosen.client.send_message(chosen, subject or to, reply_to, headers, body)
        return len(groups)

    def receives(self, subject: str) -> bool:
        """See `Router`."""
        return any(matches(each.subject, subject) for each in self.subscriptions)

    def forget(self, client: FakeClient) -> None:
        """A client is gone."""
        self.subscriptions = [each for each in self.subscriptions if each.client is not client]

    def kill(self) -> None:
        """The process is killed and started again."""
        self.life += 1
        self.subscriptions.clear()
        self.jetstream.kill()


class FakeClient:
    """One connection."""

    def __init__(self, router: FakeRouter, write: Callable[[bytes], None]) -> None:
        self._router = router
        self._write = write
        self._received = bytearray()
        self._is_welcome = False
        write(router.info())

    def send_message(
        self, to: Subscription, subject: str, reply_to: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Give it a message."""
        words = f"{subject} {to.sid} {reply_to}".rstrip()
        if not headers:
            self._write(b"MSG %s %d\r\n%s\r\n" % (words.encode(), len(body), body))
            return
        block = _encode_headers(headers)
        sizes = b"%d %d" % (len(block), len(block) + len(body))
        self._write(b"HMSG %s %s\r\n%s%s\r\n" % (words.encode(), sizes, block, body))

    def receive(self, data: bytes) -> None:
        """Bytes have arrived. Raises `ProtocolError`."""
        self._received += data
        while (end := self._received.find(b"\r\n")) >= 0:
            words = self._received[:end].decode("utf-8", "replace").split()
            after = end + 2
            try:
                if words and words[0].upper() in ("PUB", "HPUB"):
                    size = int(words[-1])
                    if size > MOST:
                        raise ProtocolError("Maximum Payload Violation")
                    if len(self._received) < after + size + 2:
                        return
                    body = bytes(self._received[after : after + size])
                    after += size + 2
                    self._published(words, body)
                else:
                    self._said(words, bytes(self._received[:end]))
            except (ValueError, IndexError, KeyError, AttributeError):
                raise ProtocolError("Unknown Protocol Operation") from None
            del self._received[:after]
        if len(self._received) > _LONGEST_LINE + MOST:
            raise ProtocolError("Maximum Control Line Exceeded")

    def _said(self, words: list[str], line: bytes) -> None:
        router, what = self._router, words[0].upper() if words else ""
        if what == "CONNECT":
            if not router.lets_in(json.loads(line[len("CONNECT ") :])):
                raise ProtocolError("Authorization Violation")
            self._is_welcome = True
        elif not self._is_welcome:
            raise ProtocolError("Authorization Violation")
        elif what == "PING":
            self._write(b"PONG\r\n")
        elif what == "SUB":
            queue = words[2] if len(words) == 4 else ""
            router.subscriptions.append(Subscription(self, words[-1], words[1], queue))
        elif what == "UNSUB":
            if len(words) == 2:  # With a third word it is for later: linkbox does not use that.
                router.subscriptions = [
                    each for each in router.subscriptions if each.client is not self or each.sid != words[1]
                ]
        elif what != "PONG":
            raise ProtocolError("Unknown Protocol Operation")

    def _published(self, words: list[str], body: bytes) -> None:
        if not self._is_welcome:
            raise ProtocolError("Authorization Violation")
        headers: dict[str, str] = {}
        last = -1
        if words[0].upper() == "HPUB":
            last = -2
            size = int(words[-2])
            headers, body = _decode_headers(body[:size]), body[size:]
        subjects = words[1:last]
        reply_to = subjects[1] if len(subjects) > 1 else ""
        self._router.publish(self, subjects[0], reply_to, headers, body)


def _encode_headers(headers: Mapping[str, str]) -> bytes:
    """The status is part of the first line."""
    status = f" {headers['Status']}" if "Status" in headers else ""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name != "Status")
    return _LINE + f"{status}\r\n{lines}\r\n".encode()


def _decode_headers(block: bytes) -> dict[str, str]:
    found = {}
    for line in block.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip()] = value.strip()
    return found
