"""The part of JetStream that linkbox uses: streams, consumers, requests to fetch. Without sockets."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final, Protocol

from linkbox.testing._stream import FakeStream, Kept
from linkbox.testing._subjects import matches

API, ACKS = "$JS.API.", "$JS.ACK."
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
NANO: Final = 1_000_000_000
_EXISTS = 400, 10058, "stream name already in use with a different configuration"
_OVERLAPS = 400, 10065, "subjects overlap with an existing stream"
_NO_STREAM = 404, 10059, "stream not found"
_NO_CONSUMER = 404, 10014, "consumer not found"
_NO_MESSAGE = 404, 10037, "no message found"
_WRONG_SEQUENCE = 400, 10071, "wrong last sequence"
_FULL = 503, 10077
_UNKNOWN = 400, 10000, "the fake broker does not know this request"


class Router(Protocol):
    """The other part of the broker."""

    def deliver(
        self, to: str, reply_to: str, headers: Mapping[str, str], body: bytes, subject: str = ""
    ) -> int:
        """Give a message to those who receive on ``to``; returns how many. It shows ``subject``, if given."""

    def receives(self, subject: str) -> bool:
        """Does anybody?"""


class Refusal(Exception):
    """A request has failed."""

    def __init__(self, code: int, number: int, text: str) -> None:
        self.answer = {"error": {"code": code, "err_code": number, "description": text}}
        super().__init__(text)


class Fetch:
    """A request for messages that waits."""

    def __init__(self, reply_to: str, body: Mapping[str, Any], now: float) -> None:
        self.reply_to = reply_to
        self.left = int(body.get("batch", 1))
        self.ends_at = now + float(body.get("expires", 0)) / NANO
        self.beat = float(body.get("idle_heartbeat", 0)) / NANO
        self.beat_at = now + self.beat


class Consumer:
    """Shared by all servers of a name."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.fetches: list[Fetch] = []
        self.delivered = count(1)
        self.ack_wait = float(config.get("ack_wait", 30 * NANO)) / NANO


class Stream:
    """A stream and its consumers."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config: dict[str, Any] = {}
        self.messages = FakeStream()
        self.consumers: dict[str, Consumer] = {}
        self.update(config)

    def update(self, config: dict[str, Any]) -> dict[str, Any]:
        """Another configuration."""
        self.config = config
        self.is_queue = config.get("retention") == "workqueue"
        most = int(config.get("max_msgs", -1))
        self.messages.most = most if most > 0 else None
        return self.info()

    def takes(self, subject: str) -> bool:
        """Are messages on this subject kept here?"""
        return any(matches(each, subject) for each in self.config.get("subjects", ()))

    def last_on(self, subject: str) -> Kept | None:
        """The last message on a subject."""
        found = [kept for kept in self.messages.kept.values() if kept.subject == subject]
        return found[-1] if found else None

    def info(self) -> dict[str, Any]:
        """What the broker says about it."""
        kept = self.messages.kept
        state = {
            "messages": len(kept),
            "bytes": sum(len(each.body) for each in kept.values()),
            "first_seq": next(iter(kept), self.messages.last + 1),
            "last_seq": self.messages.last,
            "consumer_count": len(self.consumers),
        }
        return {"config": self.config, "state": state}


class FakeJetStream:
    """All streams of a broker."""

    def __init__(self, router: Router, now: Callable[[], float]) -> None:
        self._router = router
        self._now = now
        self.streams: dict[str, Stream] = {}

    # -- publishing ------------------------------------------------------------------------------------

    def publish(self, subject: str, reply_to: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Keep, answer or acknowledge a message. Returns whether it was for a stream."""
        if subject.startswith(API):
            if subject.startswith(f"{API}CONSUMER.MSG.NEXT."):
                self._fetch(subject, reply_to, body)
            else:
                self._reply(reply_to, lambda: self._answer(subject[len(API) :], body))
            return True
        if subject.startswith(ACKS):
            self._acknowledged(subject, body)
            return True
        stream = next((each for each in self.streams.values() if each.takes(subject)), None)
        if stream is None:
            return False
        self._reply(reply_to, lambda: self._keep(stream, subject, headers, body))
        self._pump(stream)
        return True

    def _reply(self, reply_to: str, work: Callable[[], dict[str, Any]]) -> None:
        try:
            answer = work()
        except Refusal as refusal:
            answer = refusal.answer
        if reply_to:
            self._router.deliver(reply_to, "", {}, json.dumps(answer).encode())

    def _keep(self, stream: Stream, subject: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        last = stream.last_on(subject) if EXPECTED in headers or not stream.is_queue else None
        if EXPECTED in headers and int(headers[EXPECTED]) != (0 if last is None else last.sequence):
            raise Refusal(*_WRONG_SEQUENCE)
        before = stream.messages.last
        sequence, error = stream.messages.publish(subject, headers, body)
        if error:
            raise Refusal(*_FULL, error)
        if last is not None and stream.config.get("max_msgs_per_subject") == 1:
            stream.messages.acknowledge(last.sequence)
        answer: dict[str, Any] = {"stream": stream.config["name"], "seq": sequence}
        return answer if sequence > before else answer | {"duplicate": True}

    # -- requests --------------------------------------------------------------------------------------

    def _answer(self, what: str, body: bytes) -> dict[str, Any]:
        words = what.split(".")
        asked: dict[str, Any] = json.loads(body) if body else {}
        kind, names = ".".join(words[:2]), words[2:]
        if kind == "STREAM.CREATE":
            return self._create(asked)
        if kind == "STREAM.INFO":
            return self._stream(names[0]).info()
        if kind == "STREAM.UPDATE":
            return self._stream(names[0]).update(asked)
        if kind == "STREAM.DELETE":
            self._stream(names[0])
            del self.streams[names[0]]
            return {"success": True}
        if kind == "STREAM.MSG":
            return self._message(self._stream(names[1]), str(asked.get("last_by_subj")))
        if what.startswith("CONSUMER.DURABLE.CREATE."):
            consumers = self._stream(names[1]).consumers
            if names[2] not in consumers:
                consumers[names[2]] = Consumer(asked["config"])
            return {"stream_name": names[1], "name": names[2], "config": consumers[names[2]].config}
        if kind == "CONSUMER.INFO":
            return self._about(self._stream(names[0]), names[1])
        if kind == "INFO":
            return {"streams": len(self.streams), "limits": {}}
        raise Refusal(*_UNKNOWN)

    def _create(self, config: dict[str, Any]) -> dict[str, Any]:
        name = config["name"]
        known = self.streams.get(name)
        if known is None:
            for stream in self.streams.values():
                if set(stream.config.get("subjects", ())) & set(config.get("subjects", ())):
                    raise Refusal(*_OVERLAPS)
            known = self.streams[name] = Stream(config)
        elif known.config != config:
            raise Refusal(*_EXISTS)
        return known.info()

    def _stream(self, name: str) -> Stream:
        if name not in self.streams:
            raise Refusal(*_NO_STREAM)
        return self.streams[name]

    def _message(self, stream: Stream, subject: str) -> dict[str, Any]:
        kept = stream.last_on(subject)
        if kept is None:
            raise Refusal(*_NO_MESSAGE)
        data = base64.b64encode(kept.body).decode()
        return {"message": {"subject": kept.subject, "seq": kept.sequence, "data": data}}

    def _about(self, stream: Stream, name: str) -> dict[str, Any]:
        consumer = stream.consumers.get(name)
        if consumer is None:
            raise Refusal(*_NO_CONSUMER)
        self._drop_lost(consumer)
        held = [kept for kept in stream.messages.kept.values() if kept.holder is not None]
        return {
            "name": name,
            "config": consumer.config,
            "num_ack_pending": len(held),
            "num_pending": len(stream.messages.kept) - len(held),
            "num_waiting": len(consumer.fetches),
        }

    # -- fetching --------------------------------------------------------------------------------------

    def _fetch(self, subject: str, reply_to: str, body: bytes) -> None:
        _, _, _, _, _, stream_name, consumer_name = subject.split(".")
        stream = self.streams.get(stream_name)
        consumer = None if stream is None else stream.consumers.get(consumer_name)
        if stream is None or consumer is None:
            self._router.deliver(reply_to, "", {"Status": "503"}, b"")
            return
        consumer.fetches.append(Fetch(reply_to, json.loads(body or b"{}"), self._now()))
        self._pump(stream)

    def _drop_lost(self, consumer: Consumer) -> None:
        """Drop the requests of those who receive no more."""
        consumer.fetches = [each for each in consumer.fetches if self._router.receives(each.reply_to)]

    def _pump(self, stream: Stream) -> None:
        """Give messages to those who wait for some."""
        for name, consumer in stream.consumers.items():
            while consumer.fetches:
                fetch = consumer.fetches[0]
                kept = stream.messages.next(fetch, self._now() + consumer.ack_wait)
                if kept is None:
                    break
                place = f"{kept.delivered}.{kept.sequence}.{next(consumer.delivered)}"
                ack = f"{ACKS}{stream.config['name']}.{name}.{place}.0.0"
                del consumer.fetches[0]
                if not self._router.deliver(fetch.reply_to, ack, kept.headers, kept.body, kept.subject):
                    kept.delivered -= 1
                    stream.messages.give_back(kept.sequence)
                    continue
                fetch.left -= 1
                fetch.beat_at = self._now() + fetch.beat
                if fetch.left:
                    consumer.fetches.append(fetch)  # In turn.

    def _acknowledged(self, subject: str, what: bytes) -> None:
        words = subject.split(".")
        stream = self.streams.get(words[2])
        if stream is None:
            return
        consumer, sequence = stream.consumers.get(words[3]), int(words[5])
        if what in (b"", b"+ACK", b"+TERM"):
            stream.messages.acknowledge(sequence)
        elif what.startswith(b"-NAK"):
            stream.messages.give_back(sequence)
            self._pump(stream)
        elif what == b"+WPI" and consumer is not None:
            stream.messages.hold_on(sequence, self._now() + consumer.ack_wait)

    # -- time ------------------------------------------------------------------------------------------

    def look_at_time(self) -> None:
        """What nobody has acknowledged goes to others; signs of life; requests end."""
        now = self._now()
        for stream in self.streams.values():
            stream.messages.lose(lambda kept: kept.again_at <= now)
            for consumer in stream.consumers.values():
                for fetch in list(consumer.fetches):
                    if fetch.ends_at <= now:
                        consumer.fetches.remove(fetch)
                        headers = {"Status": "408 Request Timeout", "Nats-Pending-Messages": str(fetch.left)}
                        self._router.deliver(fetch.reply_to, "", headers, b"")
                    elif fetch.beat and fetch.beat_at <= now:
                        fetch.beat_at = now + fetch.beat
                        self._router.deliver(fetch.reply_to, "", {"Status": "100 Idle Heartbeat"}, b"")
            self._pump(stream)

    def kill(self) -> None:
        """The process of the broker is killed: streams are on its disk, the rest is forgotten."""
        for stream in self.streams.values():
            stream.messages.kill()
            for consumer in stream.consumers.values():
                consumer.fetches.clear()
