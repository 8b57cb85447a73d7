"""One connection to the broker: a fresh client of nats-py, which is never used again once it is lost.

The reconnect of nats-py is not used: it writes what was left over before anything of ours, and so in another
order. Its ``closed_cb`` may never be called, so the connection is watched.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import nats.errors
from nats.aio.client import Client as NatsClient

from linkbox.broker import Nats
from linkbox.errors import AuthenticationFailed, ConnectFailed, LinkError, Refused
from linkbox.text import printable

if TYPE_CHECKING:
    from ssl import SSLContext

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from linkbox.address import Address

OPENING: Final = 5.0
"""Seconds to connect, authenticate and subscribe."""
CONNECT: Final = 2.0
"""Seconds for one of the broker's servers."""
TRIES: Final = 3
"""Most connections in a row that a broker cuts while this end authenticates."""
LOOK: Final = 0.25
"""Seconds between two looks at whether the connection is closed."""
CLOSING: Final = 1.0
"""Seconds for the last bytes."""
NOBODY: Final = "503"
"""The status of the broker's reply when nobody receives a message."""
_DENIED: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)
_WRONG: Final = re.compile(r"authorization violation|authentication|account", re.IGNORECASE)

Failures: tuple[type[OSError], type[nats.errors.Error], type[TimeoutError]] = (
    OSError,
    nats.errors.Error,
    TimeoutError,
)


def status_of(message: Msg) -> str:
    """The status that the broker itself has set; empty for a message of a client."""
    return message.headers.get("Status", "") if message.headers else ""


def is_same(subject: str, reported: str) -> bool:
    """Is this the subject in an error of the broker? nats-py makes such texts lower case."""
    return subject.lower() == reported.lower()


class BrokerClient:
    """One connection to the broker. Used on its event loop only."""

    def __init__(
        self,
        address: Address,
        settings: Nats,
        ssl: SSLContext | None,
        name: str,
        on_reply: Callable[[str, Msg], None],
        on_denied: Callable[[str], None],
    ) -> None:
        self._address = address
        self._settings = settings
        self._ssl = ssl
        self._name = name
        self._on_reply = on_reply
        """Takes what arrives on a subject below `inbox`, with the rest of the subject."""
        self._on_denied = on_denied
        """Takes the subject of a message that the broker did not let this end publish."""
        self._nc = NatsClient()
        self.gone: asyncio.Event = asyncio.Event()
        """Set when the connection is lost or closed."""
        self._last_error: Exception | None = None
        self._denied: list[str] = []
        """What was denied: publish or subscription, and the subject."""
        self._requests: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        self._next_request = 0
        self.inbox: str = ""
        """The prefix of the subjects where this end alone receives."""
        self._watcher: asyncio.Task[None] | None = None
        self._last_work: set[asyncio.Task[None]] = set()

    # -- opening ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and authenticate. Raises `ConnectFailed` or `AuthenticationFailed`."""
        try:
            async with asyncio.timeout(OPENING):
                await self._authenticate()
                self.inbox = self._nc.new_inbox()
                await self.subscribe(f"{self.inbox}.>", self._replied)
                await self.check()
        except LinkError:
            await self.close()
            raise
        except Failures as error:
            # Before it is closed: that may report a reset, as the broker has closed it before it read all.
            failure = self._failure(self._last_error or error)
            await self.close()
            raise failure from failure.__cause__
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _authenticate(self) -> None:
        """Connect. A broker that does not accept the credentials reports that and closes the connection.

        If that is before this end has written everything, its report is lost. Then connect once more.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                await self._connect()
                return
            except ConnectionError:
                if not (tries_left and self.server_info.get("auth_required")):
                    raise
            await self._close_connection()
            self._nc, self.gone, self._last_error = NatsClient(), asyncio.Event(), None

    async def _connect(self) -> None:
        settings = self._settings
        options: dict[str, Any] = {}
        if settings.nkey is not None:
            options["nkeys_seed_str" if settings.nkey.startswith("SU") else "nkeys_seed"] = settings.nkey
        if settings.creds is not None:
            options["user_credentials"] = str(settings.creds)
        if self._address.scheme == "nats+tls":
            # TLS from the first byte: else a broker that does not ask for TLS gets the password in the clear.
            options |= {"tls": self._ssl or _default_context(), "tls_handshake_first": True}
        hosts = self._address.all_hosts
        servers = [
            f"nats://[{host}]:{port}" if ":" in host else f"nats://{host}:{port}" for host, port in hosts
        ]
        try:
            await self._nc.connect(
                servers,
                error_cb=self._failed,
                disconnected_cb=self._closed,
                closed_cb=self._closed,
                name=self._name,
                user=settings.user,
                password=settings.password,
                token=settings.token,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0.02,  # type: ignore[arg-type]
                connect_timeout=CONNECT,  # type: ignore[arg-type]
                pending_size=-1,
                **options,
            )
        except Failures:
            raise
        except Exception as error:  # an nkey or a credentials file that cannot be read
            what = f"{self._address}: the credentials cannot be used ({type(error).__name__})"
            raise AuthenticationFailed(what) from None

    def _failure(self, error: BaseException) -> LinkError:
        """The error for the application. Nothing in it is secret: nats-py shows no credentials."""
        text = printable(str(error)).removeprefix("nats: ").strip("'") or type(error).__name__
        if _WRONG.search(text):
            what = f"{self._address}: the broker does not accept the credentials"
            return AuthenticationFailed(f"{what}: {text}")
        if self._settings.has_file and isinstance(
            error, FileNotFoundError | IsADirectoryError | PermissionError
        ):
            what = type(error).__name__
            return AuthenticationFailed(f"{self._address}: the credentials cannot be read ({what})")
        failure = ConnectFailed(f"cannot reach the broker of {self._address}: {text}")
        failure.__cause__ = error
        return failure

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]], queue: str = ""
    ) -> Callable[[], None]:
        """Receive what is published on this subject; then call `check`.

        Returns a function that ends it: what is on its way is still received.
        """
        # Callbacks only put messages into a queue of ours: they never wait, and nothing may be dropped.
        subscription = await self._nc.subscribe(
            subject, queue=queue, cb=callback, pending_msgs_limit=0, pending_bytes_limit=0
        )

        def end() -> None:
            if not self.is_lost:
                # At once: what this end publishes next must not come back to it.
                self._run(self._nc._send_unsubscribe(subscription._id))
                self.finish_first(self._drain(subscription))

        return end

    def finish_first(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this in the background; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._last_work.add(task)
        task.add_done_callback(self._last_work.discard)

    async def _flush(self) -> None:
        """Wait until the broker has processed everything that was sent before.

        Twice: nats-py writes the PING of a flush at once, perhaps before what waits to be written.
        """
        await self._nc.flush(int(OPENING))
        await self._nc.flush(int(OPENING))

    async def _drain(self, subscription: Subscription) -> None:
        try:
            await self._flush()
            await subscription.drain()  # type: ignore[no-untyped-call]
        except Failures:
            pass  # The connection is lost, and the subscription with it.

    async def check(self) -> None:
        """Wait until the broker has processed everything. Raises `Refused` if a subscription is denied."""
        await self._flush()
        for kind, subject in [each.split(" ", 1) for each in self._denied]:
            if kind == "subscription":
                raise Refused(f"{self._address}: the broker denies to receive on {subject}", "denied")

    # -- the connection --------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Is the connection lost or closed?"""
        return self.gone.is_set() or self._nc.is_closed

    @property
    def most(self) -> int:
        """The largest message that the broker accepts, in bytes."""
        return int(self._nc.max_payload)

    @property
    def server_info(self) -> dict[str, Any]:
        """What the broker says about itself."""
        return dict(self._nc._server_info)

    async def _failed(self, error: Exception) -> None:
        self._last_error = error
        found = _DENIED.search(str(error))
        if found is None:
            return
        kind, subject = found[1].lower(), found[2]
        self._denied.append(f"{kind} {subject}")
        if kind == "publish":
            for token, (wanted, future) in list(self._requests.items()):
                if is_same(wanted, subject) and not future.done():
                    del self._requests[token]
                    future.set_exception(self.denial(wanted))
            self._on_denied(subject)

    def denial(self, subject: str) -> Refused:
        """The error of a message that may not be published."""
        return Refused(f"{self._address}: the broker denies to publish on {subject}", "denied")

    async def _closed(self) -> None:
        self.gone.set()

    async def _watch(self) -> None:
        """Wait until the connection is lost; then close it. Also when the event loop cancels its tasks."""
        try:
            while not self.is_lost:
                try:
                    await asyncio.wait_for(self.gone.wait(), LOOK)
                except TimeoutError:
                    pass
        finally:
            self.gone.set()
            await self.close()

    async def close(self) -> None:
        """Write what is left, and close."""
        if self._last_work and not self.is_lost:
            await asyncio.wait(self._last_work, timeout=CLOSING)
        self.gone.set()
        for _, future in self._requests.values():
            if not future.done():
                future.set_exception(ConnectFailed(f"{self._address}: the connection to the broker is lost"))
                future.exception()  # it may be that nobody waits for it any more
        self._requests.clear()
        await self._close_connection()

    async def _close_connection(self) -> None:
        try:
            async with asyncio.timeout(CLOSING):
                await self._nc.close()
        except Exception:
            pass  # nats-py and asyncio may fail anyhow while they close what is broken, or was never made
        for task in (self._nc._reading_task, self._nc._flusher_task, self._nc._ping_interval_task):
            if task is not None:
                task.add_done_callback(_retrieve)
        transport = self._nc._transport
        if transport is not None:
            try:
                transport.close()  # type: ignore[no-untyped-call]
            except (*Failures, AttributeError, RuntimeError):
                pass

    # -- messages --------------------------------------------------------------------------------------

    def publish(
        self, subject: str, payload: bytes, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish one message; it is written soon. Nothing happens on a lost connection."""
        if not self.is_lost:
            self._run(self._nc.publish(subject, payload, reply, headers))

    def _run(self, coroutine: Any) -> None:
        """Run a coroutine of nats-py that does not wait, because nothing limits what may be pending."""
        try:
            coroutine.send(None)
        except StopIteration:
            return
        except Failures as error:
            self._last_error = error
            self.gone.set()
            return
        coroutine.close()
        raise RuntimeError("nats-py has waited where it never does")

    async def request(
        self, subject: str, payload: bytes, timeout: float, headers: dict[str, str] | None = None
    ) -> Msg | None:
        """Publish, and wait for the reply; None if nobody receives it. Raises `LinkError`."""
        self._next_request += 1
        token = f"r{self._next_request}"
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._requests[token] = subject, future
        try:
            self.publish(subject, payload, f"{self.inbox}.{token}", headers)
            async with asyncio.timeout(timeout):
                message = await future
        except TimeoutError:
            raise ConnectFailed(f"{self._address}: no reply on {subject} within {timeout:g} s") from None
        finally:
            self._requests.pop(token, None)
        return None if status_of(message) == NOBODY else message

    async def _replied(self, message: Msg) -> None:
        token = message.subject[len(self.inbox) + 1 :]
        waiting = self._requests.get(token)
        if waiting is None:
            self._on_reply(token, message)
        elif not waiting[1].done():
            waiting[1].set_result(message)

    def close_copy(self) -> None:
        """In a forked child: close the copy of the socket."""
        import os

        transport = self._nc._transport
        writer = getattr(transport, "_io_writer", None)
        sock = None if writer is None else writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            os.close(sock.fileno())


def _retrieve(task: asyncio.Task[Any]) -> None:
    """A task of nats-py may fail with its connection: that is known already."""
    if not task.cancelled():
        task.exception()


def _default_context() -> SSLContext:
    from linkbox.tls import client_context

    return client_context()
