"""A broker, from outside: do its hosts answer, do they speak NATS, is TLS as expected, which credentials?

Each host is examined without a client of NATS: that would report only that it cannot connect.
"""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from linkbox import Address, Nats
from linkbox.broker import split_credentials
from linkbox.cli.broker import broker_of
from linkbox.cli.doctor.network import Way, speaks_tls
from linkbox.cli.doctor.report import Failed, Report, Status
from linkbox.cli.doctor.speaking import identify, protocol_of
from linkbox.text import printable

if TYPE_CHECKING:
    from ssl import SSLContext

INFO: Final = b"INFO "
LONGEST: Final = 1 << 16
"""Most bytes of a greeting."""


class Account(NamedTuple):
    """The credentials of the client."""

    settings: Nats
    shown: str
    """What they are and where they are from, without any secret; empty if there are none."""


class Greeting(NamedTuple):
    """What a host sends first: its INFO, or other bytes."""

    info: dict[str, Any] | None
    data: bytes = b""
    error: OSError | None = None


def diagnose_broker(
    report: Report,
    given: str,
    context: SSLContext | None,
    timeout: float,
    pattern: str | None,
    format: str | None,
) -> None:
    """Check that a client as described would work over this broker. Raises `Failed`.

    ``given`` is the address, perhaps with credentials.
    """
    from linkbox.cli.doctor.name import Guest  # It loads nats-py.

    account = account_of(given)
    address = Address.parse(given)
    working = _working_hosts(report, address, context, timeout)
    first, *others = [host for host, _ in working]
    usable = msgspec.structs.replace(address, host=first[0], port=first[1], others=tuple(others))
    Guest(report, usable, context, account, timeout, working[0][1]).examine(pattern, format)


def account_of(given: str) -> Account:
    """The credentials in the address, or else in the environment, as all commands take them."""
    settings = split_credentials(given, None)[1]
    source = "in the address"
    if settings is None:
        settings, source = broker_of(given), "in the environment"
    if settings is None:
        return Account(Nats(), "")
    kinds = {
        "a token": settings.token,
        f"the user {settings.user}": settings.user,
        "an nkey": settings.nkey,
        "a credentials file": settings.creds,
    }
    kind = next(name for name, value in kinds.items() if value is not None)
    return Account(settings, f"{printable(kind)}, {source}")


def _working_hosts(
    report: Report, address: Address, context: SSLContext | None, timeout: float
) -> list[tuple[tuple[str, int], dict[str, Any]]]:
    """The hosts that a client could use, and what each says about itself. `Failed` if there is none."""
    working = []
    failed: Failed | None = None
    for host, port in address.all_hosts:
        place = Address("tcp" if context is None else "tls", host, port)
        try:
            info = _Host(report, place, context, timeout, address).examine()
        except Failed as error:
            failed = error
        else:
            working.append(((host, port), info))
    if not working:
        assert failed is not None
        raise failed
    if failed is not None:
        report.status, report.advice = Status.FINE, ""
        report.note("hosts", f"a client uses the others: {len(working)} of {len(address.all_hosts)} work")
    return working


class _Host(Way):
    """One host of a broker."""

    def __init__(
        self, report: Report, place: Address, context: SSLContext | None, timeout: float, broker: Address
    ) -> None:
        super().__init__(report, place, context, timeout)
        self._rest = broker.url.partition("://")[2]
        """The address of the user, without its scheme."""

    def examine(self) -> dict[str, Any]:
        """Check that a client of NATS could begin here. Returns its INFO. Raises `Failed`."""
        self.explore()
        greeting = read_greeting(self.open, self.timeout)
        if greeting.info is None:
            raise self._not_nats(greeting)
        version = printable(str(greeting.info.get("version", "unknown")), 40)
        node = printable(str(greeting.info.get("server_name") or "without a name"), 60)
        self.report.ok("protocol", f"NATS: nats-server {version}, node {node}")
        if not self.is_secure and not greeting.info.get("tls_required"):
            self._note_missing_tls(bool(greeting.info.get("tls_available")))
        return greeting.info

    def _note_missing_tls(self, is_available: bool) -> None:
        if is_available:
            self.report.note("TLS", f"none, although the broker has it: nats+tls://{self._rest}")
        elif not self.address.is_local:
            self.report.note("TLS", "none: all is readable on the network, credentials too")

    def without_tls(self, reason: str) -> Failed:
        greeting = read_greeting(self.open_bare, self.timeout)
        if greeting.info is None:
            other = protocol_of(greeting.data) if greeting.data else identify(self.open_bare, self.timeout)
            text = f"no TLS handshake: {reason}; the server speaks {other.name}"
            return self.report.fail(Status.OTHER_PROTOCOL, "TLS", text, "check the port")
        if greeting.info.get("tls_required") or greeting.info.get("tls_available"):
            text = "the broker begins TLS only after its greeting"
            advice = "a client begins with TLS: add handshake_first: auto to the tls block of nats-server"
        else:
            text = "the broker speaks NATS without TLS"
            advice = f"configure tls at nats-server, or use nats://{self._rest}"
        return self.report.fail(Status.OTHER_PROTOCOL, "TLS", text, advice)

    def _not_nats(self, greeting: Greeting) -> Failed:
        report, error, data = self.report, greeting.error, greeting.data
        if self.is_secure and isinstance(error, ssl.SSLError):
            advice = "the broker requires a certificate of the client: --tls-cert and --tls-key"
            return report.fail(Status.CERTIFICATE, "TLS", error.reason or str(error), advice)
        if data.startswith(INFO):
            text = "it begins like NATS, but its greeting makes no sense"
            return report.fail(Status.OTHER_PROTOCOL, "protocol", text, "check the port")
        if not data and not self.is_secure and speaks_tls(self.open_bare, self.timeout):
            text = "the server speaks TLS"
            return report.fail(Status.OTHER_PROTOCOL, "protocol", text, f"use nats+tls://{self._rest}")
        other = protocol_of(data) if data else identify(self.open, self.timeout)
        if other.name == "linkbox":
            text = "a linkbox server listens here itself, and no broker"
            place = f"{'tls' if self.is_secure else 'tcp'}://{self.address.url.partition('://')[2]}"
            return report.fail(Status.OTHER_PROTOCOL, "protocol", text, f"use {place}")
        if data or not other.name.startswith("nothing"):
            text = f"the server speaks {other.name}, not NATS"
            advice = "check the port: nats-server listens at 4222 by default"
            return report.fail(Status.OTHER_PROTOCOL, "protocol", text, advice)
        is_silent = error is not None
        text = "silence: no greeting of NATS" if is_silent else "the server closes the connection at once"
        advice = "the port may belong to another program, or nats-server is stuck: look into its log"
        return report.fail(Status.SILENT, "protocol", text, advice)


def read_greeting(connect: Any, timeout: float) -> Greeting:
    """Connect, and read the first line: a nats-server sends its INFO at once."""
    data = b""
    try:
        with connect() as sock:
            sock.settimeout(timeout)
            while b"\n" not in data and len(data) < LONGEST:
                got = sock.recv(4096)
                if not got:
                    break
                data += got
    except OSError as error:
        return Greeting(None, data, error)
    return Greeting(_info_in(data), data)


def _info_in(data: bytes) -> dict[str, Any] | None:
    if not data.startswith(INFO):
        return None
    try:
        found = json.loads(data[len(INFO) :].partition(b"\n")[0])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
