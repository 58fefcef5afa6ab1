"""A session in an asyncio loop: its descriptors are readers of the loop, and whoever waits is a task.

No thread, and nothing between ZeroMQ and the loop. The descriptor of a ZeroMQ socket tells that something happened,
until the socket is used the next time; so after each use, ``Line.has_more`` is asked in the loop's next turn.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Final, TypeVar

from mezzenger.client.line import Line
from mezzenger.client.runner import Runner, Waiter
from mezzenger.errors import MezzengerError, UsedInAnotherLoop
from mezzenger.protocol.events import Fate
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import State

R = TypeVar("R")

DONE: Final = "cancelled, but it is done"
"""What is noted at a CancelledError that comes too late."""

_TOLD: Final = {
    Fate.UNSENT: "cancelled before anything was sent",
    Fate.UNKNOWN: "cancelled before the server has answered; what was asked may have been done",
    Fate.UNDER_WAY: "cancelled twice before the server has answered; the message may have been stored",
}


class Suspended(Waiter):
    """A task that waits for a ticket.

    Args:
        pump: Runs the session.
        ticket: Of the session.
        is_shared: Whether what it stands for is not the task's alone, and goes on if the task is cancelled.
    """

    def __init__(self, pump: "AsyncPump", ticket: int, *, is_shared: bool = False) -> None:
        super().__init__(ticket)
        self._pump = pump
        self._is_shared = is_shared
        self._future: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait until the ticket is done.

        If the task is cancelled, a message with ``ack=1`` that is under way is waited for all the same: so it is known,
        and noted at the CancelledError, what came of it. All else is given up.

        Raises:
            MezzengerError: It has failed.
        """
        try:
            await self._until_done()
        except asyncio.CancelledError as cancelled:
            await self._on_cancelled(cancelled)
            raise
        if self.error is not None:
            raise self.error

    def abandon(self) -> None:
        """Wait no more."""
        self._pump.forget(self)

    def notify(self) -> None:
        """Let the task go on."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def _until_done(self) -> None:
        while not self.is_done:
            self._future = self._pump.new_future()
            await self._future

    async def _on_cancelled(self, cancelled: asyncio.CancelledError) -> None:
        if self._is_shared and not self.is_done:
            cancelled.add_note("cancelled while the message waits to be sent; the next call tells if it cannot be")
            return
        fate = Fate.UNDER_WAY if self.is_done else self._pump.cancel(self)
        if fate is Fate.UNDER_WAY:
            try:
                await self._until_done()
            except asyncio.CancelledError as again:
                again.add_note(_TOLD[fate])
                self.abandon()
                raise
            cancelled.add_note(DONE if self.error is None else f"cancelled, and it has failed: {self.error}")
        else:
            cancelled.add_note(_TOLD[fate])
            self._pump.forget(self)


class OwnLoop(AbstractContextManager[None]):
    """Lets in who runs in the loop that it is told. No other lock is needed there: nobody else runs meanwhile."""

    loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> None:
        """Do nothing in that loop.

        Raises:
            UsedInAnotherLoop: This is another one.
        """
        if asyncio._get_running_loop() is not self.loop:  # noqa: SLF001  # the public one raises if there is none
            state = "is closed" if self.is_over else "is not this one"
            raise UsedInAnotherLoop(
                f"this client belongs to the loop that it was connected in, which {state}; "
                "make a new one in this loop, and stop each in its own"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will ever run in the loop again."""
        return self.loop is not None and self.loop.is_closed()


class AsyncPump(Runner):
    """Runs a session in a loop; all tasks of that loop may use it.

    Args:
        session: To be used through this object only.
        line: How it reaches the server.
    """

    is_attended = True

    def __init__(self, session: ClientSession, line: Line) -> None:
        super().__init__(session, line)
        self._line.wake = self._wake
        self._line.before_close = self._unwatch
        self.lock = self._own = OwnLoop()
        self._watched: Sequence[int] = ()
        self._generation = -1
        """Of the descriptors that are watched."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        """When it fires; uvloop's handle of a timer that is due at once cannot tell."""
        self.is_turn_due = False
        """Whether something was done since the loop had its last turn; who sends on and on must let it have one."""

    def open(self) -> None:
        """Take the loop that runs; to be called before all else, and again only in that loop.

        Raises:
            UsedInAnotherLoop: It was called in another one before.
        """
        if self._own.loop is None:
            self._own.loop = asyncio.get_running_loop()
        self.check_loop()

    def check_loop(self) -> None:
        """Do nothing in the loop that was taken; if that is closed, let go of the connection.

        Raises:
            UsedInAnotherLoop: This is another one.
        """
        if self.is_deserted:
            self.close()
        with self._own:
            pass

    @property
    def is_deserted(self) -> bool:
        """Whether the loop was closed; all that is left to do then is to close this, too."""
        return self._own.is_over

    def new_future(self) -> asyncio.Future[None]:
        """Return something that a task can wait for."""
        return self._running_loop.create_future()

    def run(self, request: Callable[[ClientSession, float], R]) -> R:
        """Use the session for what needs no waiting."""
        now = self._take_in()
        try:
            return request(self.session, now)
        finally:
            self._carry_out(now)

    def submit(self, request: Callable[[ClientSession, float], int | None]) -> Suspended | None:
        """Use the session for what gives a ticket; wait with what is returned, unless that is None."""
        now = self._take_in()
        try:
            ticket = request(self.session, now)
            return None if ticket is None else self._suspended(ticket)
        finally:
            self._carry_out(now)

    def publish(self, drafts: Sequence[Draft | MixedDraft], patience: float) -> Sequence[Suspended]:
        """Publish what needs no answer; wait with each that is returned, for it could not be sent yet."""
        waiters: list[Suspended] = []
        session, now = self.session, self._take_in()
        try:
            for draft in drafts:
                frame = session.express(draft, now)
                if frame is not None:
                    self._line.send(frame)
                else:
                    waiter = self._suspended(session.hold(draft, now, now + patience), is_shared=True)
                    waiter.messages = len(draft.items)
                    waiters.append(waiter)
        finally:
            if waiters:
                self._carry_out(now)
            else:
                self._pump_soon()
        return waiters

    def wake_by(self, deadline: float) -> None:
        """See to it that ``before_sleep`` is called at that time."""
        self._set_timer(deadline)

    def cancel(self, waiter: Suspended) -> Fate:
        """Give up what somebody waited for, if that can be; return what came of it."""
        return self.run(lambda session, _now: session.cancel(waiter.ticket))

    def forget(self, waiter: Suspended) -> None:
        """Tell somebody nothing any more."""
        waiter.is_done = True
        if self._waiting.pop(waiter.ticket, None) is not None:
            self.run(lambda session, _now: session.abandon(waiter.ticket))

    def close(self, error: MezzengerError | None = None) -> None:
        """Close the session; whoever waits gets an error."""
        self.session.close(error)
        self._line.perform(self.clock())
        if self.is_deserted:
            return  # whoever waits was a task of it
        self._pass_on()
        self._log_state()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Inside.

    @property
    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._own.loop is None:
            raise TypeError("this was not opened")
        return self._own.loop

    def _suspended(self, ticket: int, *, is_shared: bool = False) -> Suspended:
        waiter = self._waiting[ticket] = Suspended(self, ticket, is_shared=is_shared)
        return waiter

    def _carry_out(self, now: float) -> None:
        """Do what the session asks for, tell those who wait, and see to it that the rest is done."""
        self._line.perform(now)
        self._pass_on()
        self._set_due()
        self._pump_soon()
        self._log_state()

    def _set_due(self) -> None:
        super()._set_due()
        self._set_timer(self._due)
        if self._generation != self._line.generation:
            self._watch()

    def _pump_soon(self) -> None:
        """Look in the next turn what a use of the sockets may have hidden."""
        if not self.is_turn_due:
            self.is_turn_due = True
            self._running_loop.call_soon(self._pump)

    def _pump(self) -> None:
        self.is_turn_due = False
        if self.session.state is State.CLOSED:
            return
        if self._line.has_more():
            self._receive(self.clock())
            # What came with it may not be all, and what was sent in answer may have hidden more.
            self._pump_soon()

    def _signalled(self, descriptor: int) -> None:
        self._line.signalled((descriptor,))
        self._receive(self.clock())
        self._pump_soon()

    def _wake(self) -> None:
        # From another thread, or after the loop's end.
        with suppress(RuntimeError):
            self._running_loop.call_soon_threadsafe(self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, math.inf
        if self.session.state is State.CLOSED:
            return
        # The loop may have been busy for long: what has arrived counts before the silence does.
        self._line.doubt_all()
        self._receive(self.clock())
        self._set_due()
        due = self.before_sleep()
        if due is not None:
            self._set_timer(due)
        self._pump_soon()

    def _set_timer(self, due: float) -> None:
        """See to it that the timer fires at that time, or before."""
        if due >= self._timer_due or self.session.state is State.CLOSED:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._running_loop.call_later(max(due - self.clock(), 0.0), self._on_timer)

    def _watch(self) -> None:
        self._unwatch()
        self._generation = self._line.generation
        self._watched = self._line.descriptors()
        for descriptor in self._watched:
            self._running_loop.add_reader(descriptor, self._signalled, descriptor)

    def _unwatch(self) -> None:
        """Watch nothing any more, as long as the descriptors are what they were."""
        if self.is_deserted:
            return
        for descriptor in self._watched:
            self._running_loop.remove_reader(descriptor)
        self._watched = ()
