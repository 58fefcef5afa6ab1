"""Sends ``ack=0`` messages, those of a burst together."""

from collections.abc import Awaitable, Callable, Sequence
from time import time
from typing import Any

from mezzenger.channel import Channel
from mezzenger.client.payloads import Payloads
from mezzenger.client.runner import Runner, Waiter
from mezzenger.errors import MezzengerError, UsedInAnotherLoop
from mezzenger.protocol.gathering import LONGEST, MAX_PAYLOAD, MIN_FRAME, Gathering, Item, Outlet, draft_of_one
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.states import State


class Gatherer:
    """The ``ack=0`` messages that wait for company; any thread may use it.

    Args:
        payloads: Encodes.
        runner: Sends.
        tell: Is told what leaves.
        patience: How many seconds a frame may wait for the server.
    """

    def __init__(
        self, payloads: Payloads, runner: Runner, tell: Callable[[Draft | MixedDraft], None], patience: float
    ) -> None:
        self._payloads = payloads
        self._outlets = payloads.outlets
        self._runner = runner
        self._tell = tell
        self._patience = patience
        self._gathering = Gathering()
        self._due: float | None = None
        """When what waits must have left, by the clock that never jumps; None if nothing does."""
        self._clock = runner.clock
        self._lock = runner.lock
        self._held: Sequence[Waiter] = ()
        """Of frames that left by themselves and found no server; the next call waits for it."""
        self._error: MezzengerError | None = None
        """Why such a frame could not be sent; the next call tells."""

    def send(self, msg_name: str | Channel[Any], payload: object) -> Awaitable[None] | None:
        """Send a message with nothing beside its payload, now or with others of its burst.

        Returns:
            None, or the wait for what cannot be sent at once. It raises MezzengerError if this one, or one that waited
            since an earlier call, cannot be sent at all.

        Raises:
            InvalidName: The name cannot be used.
            PayloadNotEncodable: The payload cannot be written.
            PayloadInvalid: It is not of the channel's type.
        """
        # All that is done for each message of a burst is here, and without the lock, which takes as long as the rest.
        try:
            outlet = self._outlets[msg_name]
        except TypeError:
            outlet = self._payloads.outlet(msg_name)
        try:
            encoded = outlet.dumps(payload)
        except Exception as error:  # noqa: BLE001  # an object may raise anything when it is written
            outlet.refuse(payload, error)
        now = time()
        if len(encoded) > MAX_PAYLOAD:
            outlet.wrote(len(encoded))
            return self._send_alone(outlet, (now, encoded))
        gathering = self._gathering
        gathering.put((outlet, (now, encoded)))
        return None if now < gathering.deadline else self._wait_or_leave(now)

    def send_with(self, outlet: Outlet, item: Item) -> Awaitable[None] | None:
        """Send an encoded message likewise, whatever travels beside it."""
        created, encoded = item
        if len(encoded) + outlet.beside > MAX_PAYLOAD:
            return self._send_alone(outlet, item)
        self._gathering.put((outlet, item))
        return self._wait_or_leave(created)

    def _send_alone(self, outlet: Outlet, item: Item) -> Awaitable[None] | None:
        with self._lock:
            waiters = self._leave(draft_of_one(outlet, item))
            self._gathering.sent(time())
        return self._settle(waiters) if waiters or self._error else None

    def _wait_or_leave(self, now: float) -> Awaitable[None] | None:
        """Have what was put at this time wait, if it is one of a burst; else, or if it has waited, send all."""
        try:
            with self._lock:
                if self._gathering.is_burst(now):
                    if self._due is None:
                        self._due = self._clock() + LONGEST
                        self._runner.wake_by(self._due)
                    return None
                waiters = self._leave()
                self._gathering.sent(time())
        except UsedInAnotherLoop:
            self._gathering.take_back(now)
            raise
        return self._settle(waiters) if waiters or self._error else None

    def resumed(self) -> None:
        """Take note that who has sent could not send more until now."""
        self._gathering.sent(time())

    def leave(self) -> None:
        """Send all that waits, as soon as that can be; ``settle`` and ``check`` tell what came of it.

        Raises:
            MezzengerError: It cannot be sent.
        """
        with self._lock:
            self._held = self._leave()

    async def settle(self) -> None:
        """Wait until all that has left has been sent.

        Raises:
            MezzengerError: It cannot be sent.
        """
        with self._lock:
            held, self._held = self._held, ()
        await self._settle(held)

    async def check(self) -> None:
        """Do the same without waiting for what is not known yet."""
        with self._lock:
            done = [waiter for waiter in self._held if waiter.is_done]
            self._held = [waiter for waiter in self._held if not waiter.is_done]
        await self._settle(done)

    async def _settle(self, waiters: Sequence[Waiter]) -> None:
        """Wait for what could not be sent at once.

        Raises:
            MezzengerError: Some of it, or of what waited since an earlier call, cannot be sent; notes tell how much.
        """
        error, self._error = self._error, None
        try:
            for waiter in waiters:
                try:
                    await waiter.wait()
                except MezzengerError as failure:
                    error = error or failure
                    if waiter.messages > 1:
                        error.add_note(f"{waiter.messages} messages that were to leave together were not sent")
        except BaseException:
            # The next call tells what came of the others; nobody else would.
            with self._lock:
                self._held = [*(waiter for waiter in waiters if not waiter.is_done), *self._held]
                self._error = error
            raise
        if error is not None:
            raise error

    def unsent(self) -> int:
        """Return how many messages have not left that no call waits for, nor was told of."""
        with self._lock:
            held = [waiter.messages for waiter in self._held if waiter.error is not None or not waiter.is_done]
            return len(self._gathering) + sum(held)

    def leaves_by(self) -> float | None:
        """Return when what waits must have left, if anything does; takes no lock."""
        return self._due

    def leave_if_due(self) -> float | None:
        """Send what has waited long enough, waiting for nothing; return when this is to be called next, if at all."""
        if self._due is None:
            return None
        with self._lock:
            due = self._due
            if due is not None and due > self._clock():
                return due
            try:
                self._held = self._leave()
            except MezzengerError as error:
                self._error = error
            return None

    def _leave(self, last: Draft | None = None) -> Sequence[Waiter]:
        """Hand over all that waits, and what goes behind it; return whom to wait for."""
        self._due = None
        session = self._runner.session
        limit = session.outgoing.max_message_size if session.state is State.OPEN else None
        # Without a connection nobody knows yet what the server takes that will be there.
        drafts = self._gathering.take_all(limit or MIN_FRAME)
        if last is not None:
            drafts = (*drafts, last)
        for draft in drafts:
            self._tell(draft)
        waiters = self._runner.publish(drafts, self._patience)
        if not self._held:
            return waiters
        held, self._held = self._held, ()
        return [*held, *waiters]
