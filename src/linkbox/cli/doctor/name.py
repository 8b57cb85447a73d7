"""A name at a broker, as a client finds it: credentials, server, stream, and which guarantees apply."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from linkbox import LinkError
from linkbox.cli.doctor.guarantees import guarantees_of, unseen_of
from linkbox.cli.doctor.report import Failed, Report, Status
from linkbox.cli.doctor.speaking import CLIENTS, NAME, PROBE, size_of
from linkbox.core.broker.hello import VERSION, BrokerHello, encode_hello
from linkbox.core.broker.subjects import CONSUMER, Subjects
from linkbox.errors import AuthenticationFailed, ConnectFailed, Refused
from linkbox.nats.client import BrokerClient
from linkbox.nats.jetstream import NO_STREAM, OLDEST
from linkbox.text import printable

if TYPE_CHECKING:
    from ssl import SSLContext

    from linkbox import Address
    from linkbox.cli.doctor.broker import Account

VARIABLES: Final = "NATS_CREDS, NATS_NKEY, NATS_TOKEN, or NATS_USER and NATS_PASSWORD"
CERTIFICATE: Final = "certificate"
TRIES: Final = 3
LIMITS: Final = (("max_msgs", "messages", "{} messages"), ("max_bytes", "bytes", "{} bytes"))
"""Limits of a stream, what of its state they limit, and their text."""


class Guest:
    """A client of the broker that only looks: it makes nothing there, and takes no message."""

    def __init__(
        self,
        report: Report,
        address: Address,
        context: SSLContext | None,
        account: Account,
        timeout: float,
        info: dict[str, Any],
    ) -> None:
        self._report = report
        self._address = address
        self._account = account
        self._timeout = timeout
        self._info = info
        """What the host has sent before any credentials."""
        self._subjects = Subjects(account.settings.prefix, address.path)
        self._context = context
        self._client = self._make_client()

    def _make_client(self) -> BrokerClient:
        def ignore(*arguments: object) -> None:
            pass

        settings = self._account.settings
        return BrokerClient(self._address, settings, self._context, NAME, ignore, ignore)

    def examine(self, pattern: str | None, format: str | None) -> None:
        """Check that a client for this pattern and format would work. Raises `Failed`."""
        asyncio.run(self._examine(pattern, format))

    async def _examine(self, pattern: str | None, format: str | None) -> None:
        await self._authenticate()
        try:
            await self._look(pattern, format)
        except LinkError as error:
            if isinstance(error, Refused):
                raise self._fail_denied(error) from error
            advice = "look into the log of nats-server, and at its load"
            raise self._report.fail(Status.SILENT, "broker", str(error), advice) from error
        finally:
            await self._client.close()

    def _fail_denied(self, error: Refused) -> Failed:
        advice = "give this account the permissions that docs/nats.md lists"
        return self._report.fail(Status.REJECTED, "permissions", str(error), advice)

    # -- credentials ---------------------------------------------------------------------------------------

    async def _authenticate(self) -> None:
        report, account = self._report, self._account
        try:
            await self._open()
        except AuthenticationFailed as error:
            if account.shown:
                text = f"{account.shown}: {error}"
                raise report.fail(
                    Status.SECRET, "credentials", text, "compare them with nats.conf"
                ) from error
            text, advice = "the broker wants credentials", f"set {VARIABLES}"
            raise report.fail(Status.SECRET, "credentials", text, advice) from error
        except Refused as error:
            raise self._fail_denied(error) from error
        except LinkError as error:
            raise self._unopened(error) from error
        if not account.shown:
            report.note("credentials", "none are wanted: all that reach the broker may use every name")
        elif self._info.get("auth_required"):
            report.ok("credentials", f"accepted: {account.shown}")
        else:
            report.note("credentials", f"the broker wants none; not checked: {account.shown}")

    async def _open(self) -> None:
        """Connect: a broker that closes may do so before its reason has arrived, so try again."""
        for _ in range(TRIES - 1):
            try:
                await self._client.open()
            except ConnectFailed as error:
                if isinstance(error.__cause__, TimeoutError):
                    raise
                self._client = self._make_client()
            else:
                return
        await self._client.open()

    def _unopened(self, error: LinkError) -> Failed:
        report, address = self._report, self._address
        is_secure = address.scheme == "nats+tls"
        if self._info.get("tls_required") and not is_secure:
            advice = f"use nats+tls://{address.url.partition('://')[2]}"
            return report.fail(Status.OTHER_PROTOCOL, "TLS", "the broker wants TLS", advice)
        if is_secure and CERTIFICATE in str(error).lower():
            advice = "the broker may require a certificate of the client: --tls-cert and --tls-key"
            return report.fail(Status.CERTIFICATE, "TLS", str(error), advice)
        is_silent = isinstance(error.__cause__, TimeoutError)
        if self._info.get("auth_required") and not is_silent:
            text = f"the broker closes the connection: {self._account.shown or 'it wants credentials'}"
            return report.fail(Status.SECRET, "credentials", text, f"correct or set {VARIABLES}")
        status = Status.SILENT if is_silent else Status.REJECTED
        return report.fail(status, "handshake", str(error), "look into the log of nats-server")

    # -- the broker ----------------------------------------------------------------------------------------

    async def _look(self, pattern: str | None, format: str | None) -> None:
        report = self._report
        if self._info.get("tls_required") and self._address.scheme == "nats":
            report.note("TLS", "wanted by the broker, but this address begins without: use nats+tls://")
        self._check_version(pattern)
        has_streams = await self._check_jetstream(pattern)
        largest = f"{size_of(self._client.most)}: larger ones are TooLarge (P2P cuts them)"
        report.ok("max_payload", largest)
        began = time.monotonic()
        await self._client.check()  # two round trips
        report.ok("round trip", f"{(time.monotonic() - began) / 2 * 1e3:.2g} ms")
        hello = await self._ask_server(pattern, format)
        stream = await self._find_stream() if has_streams else None
        served = hello.pattern if hello is not None else None
        if hello is None:
            served = self._check_absence(pattern, stream, has_streams)
        if stream is not None and served == "p2m":
            spoken = format if hello is None else hello.format
            await self._check_stream(stream, spoken)
        elif served == "p2m":
            text = f"{self._subjects.stream} does not exist yet: the first client or server makes it"
            report.note("stream", text)
        replicas = 1 if stream is None else int(stream["config"].get("num_replicas", 1))
        is_memory = stream is not None and stream["config"].get("storage") == "memory"
        for text in guarantees_of(served or "", replicas, is_memory):
            report.note("guarantee", text)
        for text in unseen_of(served or ""):
            report.note("not seen", text)

    def _check_version(self, pattern: str | None) -> None:
        version = str(self._client.server_info.get("version", "0.0"))
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        needed = ".".join(map(str, OLDEST))
        if numbers >= OLDEST:
            self._report.ok("version", f"{printable(version, 40)}; P2M needs {needed}")
            return
        text = f"nats-server {printable(version, 40)} is too old for P2M"
        if pattern == "p2m":
            advice = f"install nats-server {needed} or newer"
            raise self._report.fail(Status.MISMATCH, "version", text, advice)
        self._report.note("version", f"{text}, which needs {needed}; P2P and AR work")

    async def _check_jetstream(self, pattern: str | None) -> bool:
        """Is there JetStream for this account?"""
        try:
            answer = await self._call("INFO")
        except Refused as error:  # P2M does not need this.
            self._report.note("JetStream", f"its limits are not shown to this account: {error}")
            return bool(self._info.get("jetstream"))
        if answer is not None and "error" not in answer:
            limits = answer.get("limits") or {}
            stored = f"streams: {answer.get('streams', 0)}, {size_of(int(answer.get('storage', 0)))}"
            self._report.ok("JetStream", f"this account: {stored}; {_account_limits(limits)}")
            return True
        text = "none" if answer is None else _description(answer)
        if pattern == "p2m":
            advice = (
                "start nats-server with a jetstream block, for this account: `linkbox nats-config` prints one"
            )
            raise self._report.fail(Status.MISMATCH, "JetStream", f"{text}: P2M needs it", advice)
        self._report.note("JetStream", f"{text}: P2M is not possible, P2P and AR work")
        return False

    async def _call(self, what: str) -> dict[str, Any] | None:
        """The answer of JetStream; None if there is none."""
        reply = await self._client.request(f"$JS.API.{what}", b"", self._timeout)
        if reply is None:
            return None
        try:
            found = json.loads(reply.data)
        except (ValueError, RecursionError):
            found = None
        return found if isinstance(found, dict) else {"error": {"description": "its answer makes no sense"}}

    # -- the server of the name ----------------------------------------------------------------------------

    async def _ask_server(self, pattern: str | None, format: str | None) -> BrokerHello | None:
        """What a server of the name answers; None if nobody serves it."""
        mine = BrokerHello(PROBE, PROBE, name=NAME)
        try:
            reply = await self._client.request(self._subjects.hello, encode_hello(mine), self._timeout)
        except ConnectFailed as error:
            advice = "it may be stuck, or not permitted to publish on _INBOX.>: look into its log"
            raise self._report.fail(Status.SILENT, "server", "it does not answer", advice) from error
        if reply is None:
            return None
        try:
            hello = msgspec.json.decode(reply.data, type=BrokerHello)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            text, advice = "what serves this name is no linkbox", "use another name"
            raise self._report.fail(Status.OTHER_PROTOCOL, "server", text, advice) from error
        name = f", named {printable(hello.name)}" if hello.name else ""
        text = f"linkbox, version {hello.version}, for {printable(hello.pattern, 40)}{name}"
        self._report.ok("server", text)
        self._compare("the server", hello, pattern, format)
        self._report.ok("format", printable(hello.format, 40))
        return hello

    def _compare(self, what: str, found: BrokerHello, pattern: str | None, format: str | None) -> None:
        """Fail if this is for another kind of client."""
        report = self._report
        if found.version != VERSION:
            text = f"{what} has version {found.version}, this linkbox {VERSION}"
            advice = "use the same version of linkbox on both sides"
            raise report.fail(Status.MISMATCH, "version", text, advice)
        if pattern is not None and found.pattern != pattern:
            text = f"{what} is for {printable(found.pattern, 40)}, the client for {pattern}"
            advice = f"use {CLIENTS.get(found.pattern, 'the client of that pattern')}, or another name"
            raise report.fail(Status.MISMATCH, "pattern", text, advice)
        if format is not None and found.format != format:
            spoken = printable(found.format, 40)
            text, advice = f"{what} uses {spoken}, the client {format}", f"use the format {spoken}"
            raise report.fail(Status.MISMATCH, "format", text, advice)

    def _check_absence(self, pattern: str | None, stream: dict[str, Any] | None, has_streams: bool) -> str:
        """Nobody serves the name: only P2M works all the same."""
        if pattern == "p2m" or (pattern is None and stream is not None):
            self._report.note("server", "nobody serves this name now: messages wait in the stream")
            return "p2m"
        text = f"nobody serves the name {self._address.path}"
        advice = "start the server, or correct the name"
        if pattern is None and has_streams:
            advice += ". P2M works without a server: try --pattern p2m"
        raise self._report.fail(Status.SILENT, "server", text, advice)

    # -- the stream ----------------------------------------------------------------------------------------

    async def _find_stream(self) -> dict[str, Any] | None:
        """The stream of the name; None if it does not exist, or may not be seen."""
        try:
            answer = await self._call(f"STREAM.INFO.{self._subjects.stream}")
        except Refused as error:
            self._report.note("stream", str(error))
            return None
        if answer is None or "error" in answer:
            if answer is not None and (answer["error"] or {}).get("err_code") != NO_STREAM:
                self._report.note("stream", _description(answer))
            return None
        return answer

    async def _check_stream(self, stream: dict[str, Any], format: str | None) -> None:
        report, config, state = self._report, stream["config"], stream["state"]
        metadata = config.get("metadata") or {}
        version = str(metadata.get("linkbox", ""))
        if not version.isdigit():
            text = f"{self._subjects.stream} exists, and is none of linkbox"
            raise report.fail(Status.OTHER_PROTOCOL, "stream", text, "use another name, or delete the stream")
        kept = "in memory" if config.get("storage") == "memory" else "in a file"
        spoken = printable(str(metadata.get("linkbox.format", "")), 40)
        text = (
            f"{self._subjects.stream}: format {spoken}, kept {kept}, replicas: {config.get('num_replicas')}"
        )
        report.ok("stream", text)
        found = BrokerHello(str(metadata.get("linkbox.pattern", "")), spoken, int(version))
        self._compare("the stream", found, "p2m", format)
        waiting = f"{state.get('messages', 0)} messages ({size_of(int(state.get('bytes', 0)))})"
        report.ok("waiting", f"{waiting}{await self._with_servers()}")
        self._note_limits(config, state)
        late = [
            printable(str(each.get("name")), 60)
            for each in (stream.get("cluster") or {}).get("replicas") or []
            if each.get("offline") or not each.get("current")
        ]
        if late:
            report.note("replicas", f"offline or behind: {', '.join(late)}")

    async def _with_servers(self) -> str:
        """How many messages the servers have, unacknowledged."""
        try:
            answer = await self._call(f"CONSUMER.INFO.{self._subjects.stream}.{CONSUMER}")
        except Refused:  # A client does not need this.
            return ""
        if answer is None or "error" in answer:
            return ", no server has ever come"
        return f", of these {answer.get('num_ack_pending', 0)} with servers, not yet acknowledged"

    def _note_limits(self, config: dict[str, Any], state: dict[str, Any]) -> None:
        for name, counted, text in LIMITS:
            most = int(config.get(name, -1))
            if most > 0:
                full = ": full, senders get MailboxFull" if int(state.get(counted, 0)) >= most else ""
                self._report.note("limit", f"{text.format(most)}{full}")
        age = int(config.get("max_age", 0))
        if age > 0:
            self._report.note("limit", f"messages older than {age / 1e9:g} s are deleted, taken or not")


def _description(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    text = error.get("description", "unknown error") if isinstance(error, dict) else "unknown error"
    return printable(str(text), 200)


def _account_limits(limits: dict[str, Any]) -> str:
    """The limits of an account; -1 is no limit."""
    storage, streams = int(limits.get("max_storage", -1)), int(limits.get("max_streams", -1))
    most = [f"storage {size_of(storage)}"] if storage >= 0 else []
    if streams >= 0:
        most.append(f"{streams} streams")
    return f"at most {', '.join(most)}" if most else "no limits of its own"
