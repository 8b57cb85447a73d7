"""Starts and stops endpoints. A *life* of an endpoint is the time from ``start()`` to ``stop()``."""

from __future__ import annotations

from sys import is_finalizing
from typing import TYPE_CHECKING

from linkbox import logs
from linkbox.core.durable.journal import Journal
from linkbox.core.endpoint import EndpointCore
from linkbox.errors import ConnectFailed, EndOfData, ListenFailed
from linkbox.operations import process_hooks
from linkbox.operations.arguments import Given, seconds
from linkbox.operations.callbacks import CallbackLoop
from linkbox.operations.endpoint import EndpointOperations
from linkbox.operations.predicates import IsIdle
from linkbox.operations.steps import Call, Operation, Wait
from linkbox.operations.storing import DISK_WAIT, Opening

if TYPE_CHECKING:  # loaded only for a store
    from linkbox.operations.disk_writer import DiskWriter

STOP = 10.0
"""Most seconds that a stop takes, unless the caller gives a timeout."""


class Life(EndpointOperations):
    """The operations that start and stop an endpoint."""

    writer: DiskWriter | None = None
    number = 0
    """Identifies the endpoint in this process, for snapshots."""
    _stopper: object = None
    """The thread or task whose ``stop()`` is in progress."""

    def make_core(self) -> EndpointCore:
        """Make the core for a start."""
        raise NotImplementedError

    def begin(self, core: EndpointCore) -> Operation[None]:
        """Do what this kind of endpoint does first after a start."""
        raise NotImplementedError

    def shut_down(self, core: EndpointCore) -> None:
        """Let the core send what is left and close."""
        core.shutdown(self.now())

    @property
    def busy(self) -> dict[int, float]:
        """The handlers that are running, each with the time when it was called."""
        return {}

    def waits_for_workers(self) -> str:
        """A text for people if requests wait because all workers are busy."""
        return ""

    def on_stopped(self) -> None:
        """Release what this kind of endpoint holds, after a stop."""

    # -- start -----------------------------------------------------------------------------------------

    def start(self) -> Operation[None]:
        """Start, unless started. Waits for a stop that is in progress."""
        self.was_stopped: bool = False
        yield from self.ensure_started()

    def ensure_started(self) -> Operation[None]:
        """Start, unless started; for calls that may start the endpoint, but not after a stop."""
        if self.core is not None and not self.is_stopping:
            return
        if self.is_stopping:
            yield Call(self.runtime.wait_until_set, self.runtime.stopped, None)
        if self.is_fork:
            raise self.not_running()
        yield Call(self.runtime.starting.acquire)
        try:
            if self.core is None and not self.was_stopped:
                yield from self.begin(self.make_core())
        finally:
            self.runtime.starting.release()
        if self.was_stopped:  # while it was starting: there was nothing to stop yet
            yield from self.stop(0.0)

    def open(self, core: EndpointCore) -> Operation[None]:
        """Make the driver, open the store, start calling callbacks."""
        core.context.endpoint = self.runtime.errors.endpoint = self
        core.listen_for(self.callbacks.kinds())
        path = self.options.store_path
        if path is None:
            self._go(core)
            return
        context = core.context
        opening = Opening(
            path,
            self.store_label(),
            self.store_notes(),
            self.journal,
            context.incarnation,
            context.settings.wall,
        )
        try:
            left = yield Call(self.runtime.blocking, opening.run)
            from linkbox.operations.disk_writer import DiskWriter

            writer = DiskWriter(core, self.runtime)
            self.journal: Journal | None = writer.take_up(opening, left, self.options.decoding)
            self._go(core)
        except BaseException:
            opening.close()
            raise
        self.writer = writer
        writer.start()

    def _go(self, core: EndpointCore) -> None:
        self.mailbox.end_reason = None
        self.is_stopping: bool = False
        self.callback_loop: CallbackLoop | None = None
        self.writer = None
        self.runtime.services = []
        self.runtime.is_closing = False
        try:
            self.runtime.open(core)
        except (OSError, RuntimeError) as error:  # no descriptor, no thread
            self.runtime.give_up()
            kind = ListenFailed if self.area == "server" else ConnectFailed
            hint = "stop() what is not needed, or raise the limits of this process (ulimit)"
            raise kind(f"cannot start {self}: {error}; {hint}") from error
        self.core = core
        process_hooks.add(self)
        self.hold_owner()
        if self.callbacks.kinds():
            self.emit_waiting(core)  # messages left from before the last stop
            self.start_callbacks(core)
        self.runtime.update()

    def store_label(self) -> dict[str, str]:
        """The label of the store: a store with another label is refused."""
        options = self.options
        label = {"side": options.side, "pattern": options.pattern.name, "format": options.format.name}
        return label if options.plain is None else {**label, "framing": "plain"}

    def store_notes(self) -> dict[str, str]:
        """Notes in the store about the endpoint that used it last."""
        return {}

    # -- stop ------------------------------------------------------------------------------------------

    def stop(self, timeout: Given) -> Operation[bool]:
        """Send what is queued, end gracefully, close. Returns whether everything was acknowledged."""
        patience = seconds(timeout, "timeout")
        deadline = self.now() + patience
        core, runtime = self.core, self.runtime
        self.was_stopped = True
        if core is None:
            return self.was_clean
        if self.is_stopping and self._stopper == runtime.caller():
            # In a signal handler that has interrupted the first stop, which continues when this one returns.
            is_idle = bool((yield Wait(core.changed, IsIdle(core), deadline)))
            return self.was_clean or (is_idle and not core.undelivered)
        if self.is_stopping:
            # The first stop waits for our own threads or tasks, so a callback must not wait for the stop.
            over = runtime.closed if runtime.is_ours() else runtime.stopped
            is_over: bool = yield Call(runtime.wait_until_set, over, patience)
            return is_over and self.was_clean
        self.is_stopping = runtime.is_closing = True
        self.was_clean: bool = False
        self._stopper = runtime.caller()
        # Every waiter must be woken also after an error. No step is in an `except` or a `finally`, where the
        # compiler loses the error.
        error: BaseException | None = None
        try:
            runtime.stop_listening()
            self.shut_down(core)
            runtime.update()
            is_idle = bool((yield Wait(core.changed, IsIdle(core), deadline)))
            self.was_clean = is_idle and not core.undelivered
        except BaseException as raised:
            error = raised
        try:
            yield from self._close_connections(core, deadline)
            runtime.closed.set()
            yield Call(runtime.join, deadline)
        except BaseException as raised:
            error = error or raised
        runtime.closed.set()
        if error is not None:  # a later stop() says whether everything was acknowledged
            self.was_clean = not core.undelivered
        self.core = None
        self.is_stopping, self._stopper = False, None
        self.owner.release()
        self.on_stopped()
        runtime.forget()
        runtime.stopped.set()
        self._log_stopped(core)
        if error is not None:
            raise error
        return self.was_clean

    def forgotten(self, endpoint: object) -> bool:
        """Nobody refers to the public object any more: let the endpoint stop, if it is started.

        Returns whether it had an open conversation, or messages: such a client should be stopped.

        Called by the finalizer, on any thread, also on one that holds the lock: it takes no lock, and
        waits for nothing.
        """
        core = self.core
        if core is None or self.is_stopping or is_finalizing():
            return False
        channels = list(core.channels.values())
        had_work = self.mailbox.count > 0 or any(not each.is_ending or each.in_flight() for each in channels)
        self.owner.keep(endpoint)  # for the callbacks of the stop
        self.runtime.abandon(self.stop_forgotten, self.lost)
        return had_work

    def stop_forgotten(self) -> Operation[None]:
        """Stop an endpoint to which nobody refers any more. Log what is lost with it."""
        core = self.core
        if core is None:
            return
        yield from self.stop(STOP)
        left, unread = core.undelivered - core.kept, self.mailbox.count
        if left or unread:
            lost = f"{left} messages were not delivered or not confirmed, {unread} were not taken"
            fields = {"event": "forgotten", "undelivered": left, "unread": unread}
            text = f"stopped, because nothing refers to it any more; {lost}"
            logs.write(logs.WARNING, text, area=self.area, endpoint=self, fields=fields)

    def _log_stopped(self, core: EndpointCore) -> None:
        left, kept = core.undelivered, core.kept
        text = "; ".join(["stopped", *self._left_behind(left - kept, kept)])
        fields = {"event": "stopped", "undelivered": left, "kept": kept}
        logs.write(logs.INFO, text, area=self.area, endpoint=self, fields=fields)

    def _left_behind(self, lost: int, kept: int) -> list[str]:
        """What has become of messages that are not known to be delivered: texts for the log."""
        texts = [f"{lost} messages were not delivered or not confirmed"] if lost else []
        return texts + ([f"{kept} messages stay in {self.options.store_path}"] if kept else [])

    def _close_connections(self, core: EndpointCore, deadline: float) -> Operation[None]:
        runtime = self.runtime
        self._declare_over(core)
        runtime.settle()
        error: BaseException | None = None
        if self.writer is not None:  # before waits for the disk are interrupted
            try:
                yield from self.writer.close(max(DISK_WAIT, deadline - self.now()))
            except BaseException as raised:
                error = raised
        if self.callback_loop is not None:
            self.callback_loop.close()
            runtime.settle()
        yield Call(runtime.close)
        process_hooks.started.discard(self)
        if error is not None:
            raise error

    def _declare_over(self, core: EndpointCore) -> None:
        core.abort()
        if self.mailbox.end_reason is None:
            self.mailbox.end_reason = EndOfData(f"{self} was stopped")
        core.effects.to_wake += (self.mailbox.end_changed, core.changed)

    # -- processes that end or fork --------------------------------------------------------------------

    def undelivered(self) -> int:
        """The number of messages that are not known to be delivered."""
        core = self.core
        return 0 if core is None else sum(channel.in_flight() for channel in core.channels.values())

    def left_behind(self) -> list[str]:
        core, held = self.core, self.undelivered()
        is_kept = core is not None and core.has_store
        return self._left_behind(0, held) if is_kept else self._left_behind(held, 0)

    def forked(self) -> None:
        """In a forked child: only close the copies of the descriptors."""
        self.is_fork = True
        self._drop()

    def lost(self) -> None:
        """The event loop was closed under the endpoint: nothing can end this life gracefully."""
        if self.writer is not None and self.journal is not None:
            self.journal.leave_inbox()
        self.was_clean = not self.undelivered()
        left = self.left_behind()
        self._drop()
        if left:
            text = f"the event loop of {self} was closed without stop(); {left[0]}"
            logs.write(logs.WARNING, text, area=self.area, endpoint=self, fields={"event": "lost"})

    def _drop(self) -> None:
        process_hooks.started.discard(self)
        self.core = None
        self.is_stopping = False
        self._stopper = None
        self.owner.release()
        self.mailbox.end_reason = None
        self.mailbox.changed.waiters.clear()
        self.runtime.forked()
