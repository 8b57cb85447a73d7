"""The half of a network over a broker that belongs to the loop. See the docstring of the package."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from linkbox.address import Address
from linkbox.core.backoff import Backoff
from linkbox.core.broker.hello import BrokerHello, check_hello, encode_hello
from linkbox.core.broker.subjects import QUEUE, Subjects
from linkbox.core.session import Session
from linkbox.errors import ConnectFailed, LinkError, ListenFailed, Refused
from linkbox.logs import ERROR, INFO, WARNING, write
from linkbox.nats.client import OPENING, BrokerClient
from linkbox.nats.port import LinksPort, Port

if TYPE_CHECKING:
    from nats.aio.msg import Msg

T = TypeVar("T")
AGAIN: Final = Backoff()
"""When a server connects to the broker again."""
HELLO: Final = 2.0
"""Seconds for the reply to a hello."""


class Exchange:
    """The connection of one endpoint to the broker, made again when it is lost. Used on its loop only."""

    def __init__(self, port: Port) -> None:
        context = port.events.hub.context
        self.port = port
        self.address: Address = port.address
        self.subjects: Subjects = Subjects(port.settings.prefix, port.address.path)
        self.hello: BrokerHello = BrokerHello(
            context.pattern.name, context.settings.format_name, name=context.settings.name
        )
        self.client: BrokerClient | None = None
        self.is_closed: bool = False
        self.is_serving: bool = False
        self.is_ready: bool = False
        """Is everything that a dial needs done, on this connection to the broker?"""
        self._is_greeted = False
        """Has a server of the name fitted, on this connection to the broker?"""
        self._connecting: asyncio.Task[BrokerClient] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # -- for subclasses ------------------------------------------------------------------------------------

    async def open_place(self, client: BrokerClient) -> None:
        """A server: subscribe to what the pattern needs, on a new connection."""

    def on_reply(self, token: str, message: Msg) -> None:
        """A message has arrived on the subject ``token`` below the inbox."""

    def on_denied(self, subject: str) -> None:
        """The broker did not let this end publish on the subject."""

    def on_lost(self, error: OSError) -> None:
        """The connection to the broker is lost."""

    # -- connecting ----------------------------------------------------------------------------------------

    async def connect(self) -> BrokerClient:
        """The connection to the broker. Raises `LinkError`."""
        client = self.client
        if client is not None and not client.is_lost:
            return client
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(_retrieve)
        # One task that all callers wait for; one of them may be cancelled.
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> BrokerClient:
        port = self.port
        client = BrokerClient(
            self.address, port.settings, port.access.ssl, self.hello.name, self.on_reply, self.on_denied
        )
        try:
            await client.open()
            self._is_greeted = self.is_ready = False
            if self.is_serving:
                await self.subscribe_server(client)
                await self.open_place(client)
            await client.check()
        except BaseException:
            await client.close()
            raise
        finally:
            self._connecting = None
        if self.is_closed:
            await client.close()
            raise ConnectFailed(f"{self.address}: this end was stopped")
        self.client = client
        self.spawn(self._wait_for_loss(client))
        return client

    async def _wait_for_loss(self, client: BrokerClient) -> None:
        await client.gone.wait()
        if self.client is client:
            self.client = None
        if not self.is_closed:
            self.on_lost(ConnectionResetError("the connection to the broker is lost"))

    async def greeted(self) -> BrokerClient:
        """The connection to the broker, once a server of the name has fitted. Raises `LinkError`."""
        client = await self.connect()
        await self.greet(client)
        return client

    async def within(self, patience: float, work: Awaitable[T]) -> T:
        """Wait for something, at most ``patience`` seconds. Raises `LinkError`."""
        try:
            async with asyncio.timeout(patience):
                return await work
        except LinkError:
            raise
        except TimeoutError as error:
            raise ConnectFailed(f"cannot connect to {self.address}: no answer in time") from error
        except Exception as error:
            raise self._unexpected(error) from error

    def _unexpected(self, error: Exception) -> ConnectFailed:
        """An error that nothing here has expected, for example a reply of the broker that makes no sense."""
        write(ERROR, f"unexpected error of the connection to {self.address}", error)
        return ConnectFailed(f"cannot connect to {self.address}: {type(error).__name__}")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task, which is cancelled when the endpoint stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            write(ERROR, f"unexpected error of the connection to {self.address}", error)

    # -- the handshake of a name ---------------------------------------------------------------------------

    async def greet(self, client: BrokerClient, is_needed: bool = True) -> bool:
        """Ask the servers of the name what they are, once for each connection. Raises `Refused`.

        Returns whether one has answered. Raises `ConnectFailed` if none has, but one is needed.
        """
        if self._is_greeted:
            return True
        answer = await client.request(self.subjects.hello, encode_hello(self.hello), HELLO)
        if answer is None:
            if is_needed:
                raise ConnectFailed(f"no server serves {self.address}; is it started?")
            return False
        refused = check_hello(str(self.address), self.hello, answer.data)
        if refused is not None:
            raise refused
        self._is_greeted = True
        return True

    async def subscribe_server(self, client: BrokerClient) -> None:
        """Serve the name: answer hellos."""

        async def answer(message: Msg) -> None:
            if message.reply:
                client.publish(message.reply, encode_hello(self.hello))

        await client.subscribe(self.subjects.hello, answer, QUEUE)

    # -- serving -------------------------------------------------------------------------------------------

    def start_serving(self) -> None:
        """Serve the name, from now until the endpoint stops."""
        self.spawn(self._serve())

    def stop_serving(self) -> None:
        """Take nothing new."""
        self.is_serving = False

    async def _serve(self) -> None:
        """Open the name; report whether that has worked; then connect again whenever that is needed."""
        error = await self._open()
        if error is not None:
            self.port.notify(self.port.on_open_failed, error)
            return
        self.port.notify(self.port.on_open)
        failures = 0
        while self.is_serving and not self.is_closed:
            client = self.client
            if client is not None:
                failures = 0
                await client.gone.wait()
                if self.is_serving and not self.is_closed:
                    write(WARNING, f"{self.address}: the connection to the broker is lost; connecting again")
            try:
                await self.connect()
                write(INFO, f"{self.address}: connected to the broker again")
            except Exception as failed:
                if failures == 1:
                    write(WARNING, f"{self.address}: {failed}; trying again")
                failures += 1
                await asyncio.sleep(AGAIN.delay(failures, random.random) or 0.0)

    async def _open(self) -> LinkError | None:
        """Connect, and check that no other kind of server serves the name. Returns the error."""
        deadline = asyncio.get_running_loop().time() + OPENING
        failures = 0
        error: LinkError
        while True:
            try:
                client = await self.connect()
                await self.greet(client, is_needed=False)
                self.is_serving = True
                await self.subscribe_server(client)
                await self.open_place(client)
                await client.check()
                return None
            except Refused as refused:
                return refused
            except LinkError as failed:
                error = failed
            except Exception as unexpected:
                error = self._unexpected(unexpected)
            failures += 1
            delay = AGAIN.delay(failures, random.random) or 0.0
            if asyncio.get_running_loop().time() + delay >= deadline:
                failure = ListenFailed(f"cannot serve {self.address}: {error}")
                failure.__cause__ = error
                return failure
            await asyncio.sleep(delay)

    def close_copy(self) -> None:
        """In a forked child: close the copy of the socket."""
        if self.client is not None:
            self.client.close_copy()

    # -- the end -------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Write what is left, and close."""
        self.is_closed = True
        self.is_serving = False
        for task in list(self._tasks):
            task.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        client, self.client = self.client, None
        if client is not None:
            await client.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class DialingExchange(Exchange):
    """The exchange of a client whose sessions need nothing but a name that is ready."""

    port: LinksPort[Any]

    async def reach(self) -> int:
        """Connect to what the pattern needs. Returns the largest message. Raises `LinkError`."""
        raise NotImplementedError

    def dial(self, session: Session, patience: float) -> None:
        """Connect a session: reports `on_dialed` or `on_dial_failed`."""
        self.spawn(self._dial(session, patience))

    async def _dial(self, session: Session, patience: float) -> None:
        port = self.port
        try:
            most = await self.within(patience, self.reach())
        except LinkError as error:
            port.notify(port.on_dial_failed, session, error)
        else:
            port.notify(port.on_dialed, session, most)

    def on_lost(self, error: OSError) -> None:
        self.port.notify(self.port.on_lost, error)


def _retrieve(task: asyncio.Task[BrokerClient]) -> None:
    """The callers that waited for a failed connection may be gone."""
    if not task.cancelled():
        task.exception()
