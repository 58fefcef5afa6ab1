"""Threads around one session: any of them may use it, and one at a time waits on the sockets for all.

The one who waits is the leader. Who waits for an answer leads until it is there, if nobody else does, and passes the
lead on to the next who still waits. The callback thread leads while it has nothing to do: so what arrives meets its
callback without a hop from thread to thread. The I/O thread stands in: it leads if there is no callback thread, and
when that is busy for long, or something is to be sent meanwhile.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from mezzenger.client.bell import FOR_EVER, Bell
from mezzenger.client.line import Line
from mezzenger.client.log import log
from mezzenger.client.runner import Runner, Waiter
from mezzenger.client.sleep import Sleeping
from mezzenger.errors import MezzengerError
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import State

_LONGEST_WAIT: Final = 60.0
_AT_ONCE: Final = 0.0
_BUSY: Final = 0.5
"""Seconds between two looks of the I/O thread; it leads if nobody has begun to lead since the last one.

With each look it competes for the GIL, and with many clients in a process these looks add up. Nobody waits for them:
who waits for an answer leads, and if something must leave soon, the I/O thread is told.
"""

R = TypeVar("R")


class Blocked(Waiter):
    """A thread that waits: for a ticket, or for the lead."""

    def __init__(self, pump: "Pump", ticket: int = 0) -> None:
        super().__init__(ticket)
        self._pump = pump
        self.bell = Bell()

    async def wait(self) -> None:
        """Block the thread until the ticket is done.

        Raises:
            MezzengerError: It has failed.
        """
        self._pump.wait(self)

    def abandon(self) -> None:
        """Wait no more."""
        self._pump.abandon(self)

    def notify(self) -> None:
        """Let the thread go on, if only to see that it has to wait."""
        self.bell.ring()


class Pump(Runner):
    """Runs a session with threads; all that it calls is called with the lock held, ``before_sleep`` excepted.

    The lock is no reentrant one. Who waits lets go of it, within the block that takes it again: a signal handler may
    raise at any time. Who leads gives up the lead, too, to tell the log something: a handler of the log may use the
    client to send it on, and wait for the server.

    Args:
        session: To be used through this object only.
        line: How it reaches the server.
        sleep: How the leader sleeps.
    """

    def __init__(self, session: ClientSession, line: Line, sleep: Sleeping) -> None:
        super().__init__(session, line)
        self._lock = threading.Lock()
        self._followers: dict[Blocked, None] = {}
        self._callbacks = Blocked(self)
        """The callback thread."""
        self._has_callbacks = False
        """Whether there is a callback thread."""
        self._stand_in = Blocked(self)
        """The I/O thread."""
        self._is_stand_in_asleep = False
        self._is_stand_in_needed = False
        self._turns = 0
        """How often somebody has begun to lead."""
        self._untold: deque[Callable[[], None]] = deque()
        """What tells the log something; called without the lock, by who does not lead."""
        self._leader_deadline: float | None = None
        """When the leader will look by itself; None if there is no leader."""
        self._sleep = sleep
        line.wake = sleep.wake
        self._io_thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the I/O thread; to be called once."""
        thread = threading.Thread(target=self.stand_in, name="mezzenger-io", daemon=True)
        thread.start()
        self._io_thread = thread  # not one that could not be started

    def join(self) -> None:
        """Wait until the I/O thread has ended, if there is one; it ends when the session is closed."""
        if self._io_thread is not None:
            self._io_thread.join()

    @property
    def is_attended(self) -> bool:
        """Whether what waits for company is sent in time: whether there is an I/O thread."""
        return self._io_thread is not None

    def run(self, request: Callable[[ClientSession, float], R]) -> R:
        """Use the session for what needs no waiting."""
        with self._lock:
            try:
                return request(self.session, self._take_in())
            finally:
                self._carry_out()

    def submit(self, request: Callable[[ClientSession, float], int | None]) -> Blocked | None:
        """Use the session for what gives a ticket; wait with what is returned, unless that is None."""
        with self._lock:
            try:
                ticket = request(self.session, self._take_in())
                if ticket is None:
                    return None
                waiter = self._waiting[ticket] = Blocked(self, ticket)
                return waiter
            finally:
                self._carry_out()

    def publish(self, drafts: Sequence[Draft | MixedDraft], patience: float) -> Sequence[Blocked]:
        """Publish what needs no answer; wait with each that is returned, for it could not be sent yet."""
        waiters: list[Blocked] = []
        session = self.session
        with self._lock:
            now = self._take_in()
            try:
                for draft in drafts:
                    frame = session.express(draft, now)
                    if frame is not None:
                        self._line.send(frame)
                        continue
                    ticket = session.hold(draft, now, now + patience)
                    waiter = self._waiting[ticket] = Blocked(self, ticket)
                    waiter.messages = len(draft.items)
                    waiters.append(waiter)
            finally:
                if waiters:
                    self._carry_out()
                elif self._leader_deadline:
                    self._wake_for_more()
        return waiters

    def wake_by(self, deadline: float) -> None:
        """See to it that the leader calls ``before_sleep`` at that time."""
        leader_deadline = self._leader_deadline
        if leader_deadline is None:
            self._is_stand_in_needed = True
            self._stand_in.bell.ring()
        # A leader that is not asleep has asked already, and does not know yet.
        elif not _AT_ONCE < leader_deadline <= deadline:
            self._sleep.wake()

    def wait(self, waiter: Blocked) -> None:
        """Wait until a ticket is done.

        Raises:
            MezzengerError: It has failed.
        """
        try:
            self._lead_or_follow(waiter, lambda: waiter.is_done)
        except BaseException:
            self.abandon(waiter)
            raise
        if waiter.error is not None:
            raise waiter.error

    def abandon(self, waiter: Blocked) -> None:
        """Wait no more for a ticket."""
        if not waiter.is_done:
            with self._lock:
                self._waiting.pop(waiter.ticket, None)
                waiter.is_done = True
                self.session.abandon(waiter.ticket)
                self._carry_out()

    def rest(self, is_over: Callable[[], object]) -> None:
        """Wait until there is something to do, leading if nobody else does; for the callback thread."""
        self._has_callbacks = True
        try:
            self._lead_or_follow(self._callbacks, is_over)
        except Exception as error:  # noqa: BLE001  # told by what it calls
            self._fail(error)

    def rouse(self) -> None:
        """Have the callback thread look whether there is something to do."""
        with self._lock:
            self._callbacks.bell.ring()
            self._sleep.wake()

    def stand_in(self) -> None:
        """Lead when nobody else does and somebody should, until the session is closed; for the I/O thread."""
        try:
            turns = -1
            while self.session.state is not State.CLOSED:
                with self._lock:
                    is_quiet, turns = turns == self._turns, self._turns
                    is_needed = self._is_stand_in_needed or is_quiet or not self._has_callbacks
                    leads = is_needed and self._may_lead()
                    # A leader for as long as that has nothing to do; when it has, it wakes who is asleep.
                    self._is_stand_in_asleep = is_quiet and not leads
                    self._is_stand_in_needed = False
                    if leads:
                        self._lead(lambda: self._callbacks in self._followers or self.session.state is State.CLOSED)
                        if self._untold:
                            # Not set back otherwise: others set it without the lock.
                            self._is_stand_in_needed = True
                        self._pass_lead_on()
                self._tell()
                if not leads:
                    self._stand_in.bell.wait(FOR_EVER if self._is_stand_in_asleep else _BUSY)
        except Exception as error:  # noqa: BLE001  # told by what it calls
            self._fail(error)

    def close(self, error: MezzengerError | None = None) -> None:
        """Close the session; whoever waits gets an error."""
        with self._lock:
            self.session.close(error)
            self._carry_out()
            self._sleep.wake()
            self._stand_in.bell.ring()
            self._pass_lead_on()
        self._tell()

    def log(self, level: int, text: str, *values: object) -> None:
        """Have the log tell something as soon as somebody neither has the lock nor leads."""
        self._untold.append(partial(log, level, text, *values))
        self.wake_by(_AT_ONCE)

    def _fail(self, error: Exception) -> None:
        """See to it that whoever waits gets an error if the one who waits for all fails."""
        log(logging.ERROR, "the client fails", error=error)
        self.close(MezzengerError(f"the client has failed, see its log: {error!r}"))

    def _lead_or_follow(self, waiter: Blocked, is_over: Callable[[], object]) -> None:
        """Wait until it is over; what tells that is asked with the lock held."""
        while not self._is_over(waiter, is_over):
            self._tell()

    def _is_over(self, waiter: Blocked, is_over: Callable[[], object]) -> bool:
        """Wait until it is over, or the leader has something to tell; return whether it is over."""
        with self._lock:
            try:
                while not is_over():
                    if self._untold:
                        return False
                    if self._may_lead():
                        self._lead(is_over)
                    else:
                        self._follow(waiter)
                return True
            finally:
                self._pass_lead_on()

    def _tell(self) -> None:
        """Tell the log what it has not been told yet."""
        with suppress(IndexError):  # others do the same
            while self._untold:
                self._untold.popleft()()

    # With the lock held; who waits lets go of it meanwhile.

    def _follow(self, waiter: Blocked) -> None:
        self._followers[waiter] = None
        try:
            self._lock.release()
            waiter.bell.wait()
        finally:
            self._lock.acquire()
            del self._followers[waiter]

    def _lead(self, is_over: Callable[[], object]) -> None:
        """Take in what arrives until it is over, or the log is to be told something; for who may lead."""
        try:
            self._leader_deadline = _AT_ONCE
            self._turns += 1
            while not (is_over() or self._untold):
                self._take_in_more()
        finally:
            self._leader_deadline = None

    def _take_in_more(self) -> None:
        """Take in what has arrived, or wait until something does, and take that in."""
        line, sleep, now = self._line, self._sleep, self.clock()
        if line.has_more():
            self._receive(now)
            return
        # Known not to sleep before it asks: so who lets something wait from now on wakes it.
        due = self.leaves_by()
        if due is not None and due <= now:
            self._send_what_is_due()
            return
        sleep.watch(line.generation, line.descriptors)
        deadline = self._leader_deadline = min(now + _LONGEST_WAIT, self._due, math.inf if due is None else due)
        try:
            self._lock.release()
            descriptors = sleep.until_signalled(deadline - now)
        finally:
            self._lock.acquire()
            self._leader_deadline = _AT_ONCE
        line.signalled(descriptors)
        self._receive(self.clock())

    def _send_what_is_due(self) -> None:
        try:
            self._lock.release()
            self.before_sleep()
        finally:
            self._lock.acquire()

    def _may_lead(self) -> bool:
        return self._leader_deadline is None and self.session.state is not State.CLOSED

    def _pass_lead_on(self) -> None:
        if self._leader_deadline is not None:
            return
        for follower in self._followers:
            follower.bell.ring()
            return
        if self._is_stand_in_asleep or not self._has_callbacks:
            self._is_stand_in_asleep = False
            self._stand_in.bell.ring()
        if self.session.state is State.CLOSED:
            # Nobody will ever wait again.
            self._sleep.close()

    def _carry_out(self) -> None:
        """Do what the session asks for, tell those who wait, and see to it that the rest is done."""
        now = self.clock()
        self._line.perform(now)
        self._pass_on()
        self._set_due()
        if self._leader_deadline:
            if self._leader_sleeps_wrongly():
                self._sleep.wake()
            else:
                self._wake_for_more()
        self._log_state()

    def _wake_for_more(self) -> None:
        """Wake the leader, who sleeps, if there is something of which no descriptor will tell it.

        Who does not sleep, or leads next, asks before it sleeps.
        """
        if self._line.has_more():
            self._sleep.wake()

    def _leader_sleeps_wrongly(self) -> bool:
        """Whether the leader sleeps too long, or on descriptors that are no more."""
        is_late = self._leader_deadline is not None and self._due < self._leader_deadline
        return is_late or self._sleep.generation != self._line.generation

    def _pass_on(self) -> bool:
        has_arrived = super()._pass_on()
        if has_arrived and self._callbacks in self._followers:
            self._callbacks.bell.ring()
        return has_arrived
