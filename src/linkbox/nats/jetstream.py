"""The streams of the broker, as plain requests and replies: the stream of a name, its consumer, the barrier.

The stream is made by whichever end comes first. Its metadata says for which pattern and format, so it is the
handshake of P2M: client and server need not be up at the same time.
"""

from __future__ import annotations

import json
from typing import Any, Final

from linkbox.core.broker.hello import BrokerHello, mismatch
from linkbox.core.broker.subjects import CONSUMER, Subjects
from linkbox.errors import ConnectFailed, LinkError, Refused
from linkbox.nats.client import BrokerClient
from linkbox.text import printable

PATIENCE: Final = 3.0
"""Seconds for the reply to a request."""
OLDEST: Final = (2, 10)
"""The oldest nats-server for P2M: earlier ones know neither metadata nor ``sync_interval``."""
NANO: Final = 1_000_000_000
DUPLICATES: Final = 120
"""Seconds for which the broker knows what it has."""
ACK_WAIT: Final = 10
"""Seconds after which the broker gives a message to another server, unless it still waits here."""
BARRIERS: Final = "BARRIERS"
NO_STREAM: Final = 10059
"""The code of the broker's error: there is no such stream."""
_EXISTS, _OVERLAPS, _NOT_FOUND, _WRONG_SEQUENCE = 10058, 10065, 10037, 10071


class ApiError(Exception):
    """The broker has replied with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code: int = int(error.get("err_code", 0))
        super().__init__(printable(str(error.get("description", "unknown error"))))


class JetStream:
    """The stream of one name, on one connection."""

    def __init__(self, client: BrokerClient, where: str, subjects: Subjects, hello: BrokerHello) -> None:
        self._client = client
        self._where = where
        self._subjects = subjects
        self._hello = hello

    async def _call(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        subject = f"$JS.API.{what}"
        reply = await self._client.request(subject, json.dumps(body).encode(), PATIENCE)
        if reply is None:
            raise self._absent()
        answer: dict[str, Any] = json.loads(reply.data)
        if "error" in answer:
            raise ApiError(answer["error"])
        return answer

    def _absent(self) -> LinkError:
        if not self._client.server_info.get("jetstream"):
            return Refused(
                f"{self._where}: the broker has no JetStream, which P2M needs: start nats-server with a "
                "jetstream { … } block (`linkbox nats-config` prints one)",
                "unsupported",
            )
        return ConnectFailed(f"{self._where}: JetStream of the broker is not ready")

    def check_version(self) -> None:
        """Raises `Refused` if the broker is too old."""
        version = str(self._client.server_info.get("version", "0.0"))
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < OLDEST:
            needed = ".".join(map(str, OLDEST))
            raise Refused(
                f"{self._where}: P2M needs nats-server {needed} or newer, the broker is {printable(version)}",
                "unsupported",
            )

    async def ensure_stream(self, replicas: int) -> None:
        """Make the stream of the name, unless it exists. Raises `Refused` if that is for something else."""
        subjects, hello = self._subjects, self._hello
        self.check_version()
        config = {
            "name": subjects.stream,
            "subjects": [subjects.stream_filter],
            "retention": "workqueue",
            "storage": "file",
            "discard": "new",
            "duplicate_window": DUPLICATES * NANO,
            "num_replicas": replicas,
            "metadata": {
                "linkbox": str(hello.version),
                "linkbox.pattern": hello.pattern,
                "linkbox.format": hello.format,
            },
        }
        try:
            await self._call(f"STREAM.CREATE.{subjects.stream}", config)
        except ApiError as error:
            if error.code != _EXISTS:
                raise self._failed(error) from None
        else:
            return
        await self._check_stream()

    async def _check_stream(self) -> None:
        try:
            info = await self._call(f"STREAM.INFO.{self._subjects.stream}", {})
        except ApiError as error:
            raise self._failed(error) from None
        found = info.get("config", {}).get("metadata") or {}
        version = str(found.get("linkbox", ""))
        if not version.isdigit():
            raise Refused(
                f"{self._where}: the stream {self._subjects.stream} exists, and is none of linkbox",
                "protocol",
            )
        theirs = BrokerHello(
            str(found.get("linkbox.pattern", "")), str(found.get("linkbox.format", "")), int(version)
        )
        refused = mismatch(self._where, self._hello, theirs)
        if refused is not None:
            raise refused

    def _failed(self, error: ApiError) -> LinkError:
        if error.code == _OVERLAPS:
            return Refused(f"{self._where}: another stream has its subjects ({error})", "protocol")
        return ConnectFailed(f"{self._where}: the broker cannot make the stream ({error})")

    async def ensure_consumer(self) -> None:
        """Make the consumer that the servers of the name share."""
        stream = self._subjects.stream
        config = {
            "durable_name": CONSUMER,
            "ack_policy": "explicit",
            "ack_wait": ACK_WAIT * NANO,
            "max_ack_pending": -1,
            "max_waiting": 512,
            "max_deliver": -1,
        }
        try:
            await self._call(
                f"CONSUMER.DURABLE.CREATE.{stream}.{CONSUMER}", {"stream_name": stream, "config": config}
            )
        except ApiError as error:
            raise self._failed(error) from None

    # -- the barrier ---------------------------------------------------------------------------------------

    async def barrier(self, replicas: int) -> int:
        """Up to which message of the stream it is unknown whether it was delivered before.

        A nats-server that was killed forgets what it had delivered. So the first server of a name that finds
        another nats-server than the last one did raises the barrier to the end of the stream. It is kept in a
        stream of its own, for all names.
        """
        mine = str(self._client.server_info.get("server_id", ""))
        try:
            await self._ensure_barriers(replicas)
            for _ in range(20):  # Another server of the name may be faster, each time.
                last = int(
                    (await self._call(f"STREAM.INFO.{self._subjects.stream}", {}))["state"]["last_seq"]
                )
                sequence, known = await self._known_barrier()
                if known is not None and known.get("id") == mine:
                    return int(known.get("barrier", 0))
                barrier = last if known is not None else 0
                if await self._set_barrier(sequence, {"id": mine, "barrier": barrier}):
                    return barrier
        except ApiError as error:
            raise self._failed(error) from None
        raise ConnectFailed(f"{self._where}: the barrier of the stream changes all the time")

    @property
    def _barriers(self) -> tuple[str, str]:
        """The stream with the barriers, and the subject of this name in it."""
        prefix = self._subjects.prefix
        stream = f"{prefix.upper().replace('_', '__').replace('.', '_')}-{BARRIERS}"
        return stream, f"{prefix}.{BARRIERS}.{self._subjects.stream}"

    async def _ensure_barriers(self, replicas: int) -> None:
        stream, _ = self._barriers
        config = {
            "name": stream,
            "subjects": [f"{self._subjects.prefix}.{BARRIERS}.>"],
            "storage": "file",
            "max_msgs_per_subject": 1,
            "num_replicas": replicas,
        }
        try:
            await self._call(f"STREAM.CREATE.{stream}", config)
        except ApiError as error:
            if error.code != _EXISTS:
                raise

    async def _known_barrier(self) -> tuple[int, dict[str, Any] | None]:
        """The number of the entry, and what it says."""
        import base64

        stream, subject = self._barriers
        try:
            answer = await self._call(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        except ApiError as error:
            if error.code == _NOT_FOUND:
                return 0, None
            raise
        message = answer["message"]
        found: dict[str, Any] = json.loads(base64.b64decode(message["data"]))
        return int(message["seq"]), found

    async def _set_barrier(self, sequence: int, value: dict[str, Any]) -> bool:
        """Write the entry, unless it has changed since. Returns whether it was written."""
        _, subject = self._barriers
        headers = {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
        reply = await self._client.request(subject, json.dumps(value).encode(), PATIENCE, headers)
        if reply is None:
            raise self._absent()
        error = json.loads(reply.data).get("error")
        if error is None:
            return True
        if error.get("err_code") == _WRONG_SEQUENCE:
            return False
        raise ApiError(error)
