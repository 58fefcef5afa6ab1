"""Sends ``ack=0`` messages, those of a burst together."""

import threading
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic, time

from mezzenger.client.runner import Runner, Waiter
from mezzenger.errors import MezzengerError
from mezzenger.protocol.gathering import Gathering
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.wire import NO_EXTRA, Extra


class Gatherer:
    """The ``ack=0`` messages that wait for company; any thread may use it.

    Args:
        runner: Sends.
        tell: Is told what leaves.
        patience: How many seconds a frame may wait for the server.
    """

    def __init__(self, runner: Runner, tell: Callable[[Draft | MixedDraft], None], patience: float) -> None:
        self._runner = runner
        self._tell = tell
        self._patience = patience
        self._gathering = Gathering()
        # Held while a frame is handed over: frames must not overtake each other.
        self._lock = threading.Lock()
        self._held: list[Waiter] = []
        """Of frames that left by themselves and found no server; the next call waits for it."""
        self._error: MezzengerError | None = None
        """Why such a frame could not be sent; the next call tells."""

    def send(self, name: str, payload: bytes, codec: int, extra: Extra = NO_EXTRA) -> Awaitable[None] | None:
        """Send an encoded message, now or with others of its burst.

        Returns:
            None, or the wait for what cannot be sent at once. It raises MezzengerError if this one, or one that waited
            since an earlier call, cannot be sent at all.
        """
        gathering = self._gathering
        with self._lock:
            now, former = monotonic(), gathering.deadline
            deadline = gathering.take(name, (time(), payload), codec, now, extra)
            if deadline == former:
                return None
            if deadline > now:
                self._runner.wake_by(deadline)
                return None
            waiters = self._leave()
            gathering.sent(monotonic())
        return self._settle(waiters) if waiters or self._error else None

    def resumed(self) -> None:
        """Take note that who has sent could not send more until now."""
        self._gathering.sent(monotonic())

    async def flush(self) -> None:
        """Send all that waits.

        Raises:
            MezzengerError: It cannot be sent.
        """
        with self._lock:
            waiters = self._leave()
        await self._settle(waiters)

    async def _settle(self, waiters: Sequence[Waiter]) -> None:
        """Wait for what could not be sent at once.

        Raises:
            MezzengerError: It, or what waited since an earlier call, cannot be sent.
        """
        error, self._error = self._error, None
        try:
            for waiter in waiters:
                await waiter.wait()
        except BaseException:
            # The next call tells what came of the others; nobody else would.
            with self._lock:
                self._held[:0] = [waiter for waiter in waiters if not waiter.is_done]
            raise
        if error is not None:
            raise error

    def leave_if_due(self) -> float | None:
        """Send what has waited long enough, waiting for nothing; return when this is to be called next, if at all."""
        if self._gathering.deadline is None:
            return None
        with self._lock:
            deadline = self._gathering.deadline
            if deadline is not None and deadline > monotonic():
                return deadline
            try:
                self._held = self._leave()
            except MezzengerError as error:
                self._error = error
            return None

    def _leave(self) -> list[Waiter]:
        """Hand over all that waits; return whom to wait for."""
        drafts = self._gathering.take_all()
        for draft in drafts:
            self._tell(draft)
        held, self._held = self._held, []
        return [*held, *self._runner.publish(drafts, self._patience)]
