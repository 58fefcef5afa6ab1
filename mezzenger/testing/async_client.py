"""``AsyncMezzenger`` in memory: what it sends is carried in the loop's next turn, and callbacks are its tasks."""

import asyncio
from contextlib import suppress
from typing import Protocol

from mezzenger.client.aio import AsyncMezzenger
from mezzenger.client.async_engine import AsyncEngine, AsyncParts
from mezzenger.client.async_pump import AsyncPump
from mezzenger.client.tracing import new_async_engine
from mezzenger.protocol.session import ClientSession
from mezzenger.settings import ClientSettings
from mezzenger.testing.line import MemoryLine


class AsyncHome(Protocol):
    """What a client must know of the link that it is a part of."""

    def new_line(self, session: ClientSession) -> MemoryLine:
        """Make the line of a session."""

    def move(self) -> bool:
        """Carry all that is under way; return whether there was anything."""

    def log(self, level: int, text: str, *values: object) -> None:
        """Have the log tell something, as soon as its handlers may use clients."""

    waiting: set[object]
    """Tasks that wait for an answer of the server."""


class MemoryAsyncPump(AsyncPump):
    """A pump that needs no descriptors and no timer.

    Args:
        line: In memory.
        home: Carries what is under way.
    """

    is_attended = False

    def __init__(self, line: MemoryLine, home: AsyncHome) -> None:
        super().__init__(line.session, line)
        line.wake = self._take_in_soon
        self._home = home

    def new_future(self) -> asyncio.Future[None]:
        """Return something that a task can wait for, and know as long as it is not done that it does."""
        future, task = super().new_future(), asyncio.current_task()
        self._home.waiting.add(task)
        future.add_done_callback(lambda _: self._home.waiting.discard(task))
        return future

    def log(self, level: int, text: str, *values: object) -> None:
        """Have the log tell something when all has been carried."""
        self._home.log(level, text, *values)

    def wake_by(self, deadline: float) -> None:
        """Do nothing: nothing waits for company."""

    def _set_timer(self, due: float) -> None:
        """Do nothing: who moves the clock knows what is due."""

    def _pump(self) -> None:
        self.is_turn_due = False
        self._home.move()

    def _take_in_soon(self) -> None:
        """Take in what has arrived: at once, if this is the thread of the loop; if that has ended, end too."""
        if self.is_deserted:
            self.close()
        elif asyncio._get_running_loop() is self._own.loop:  # noqa: SLF001  # the public one raises
            self._take_in_now()
        else:
            with suppress(RuntimeError):  # the loop has ended just now
                self._running_loop.call_soon_threadsafe(self._take_in_now)

    def _take_in_now(self) -> None:
        self._set_due()
        self._receive(self.clock())


class MemoryAsyncMezzenger(AsyncMezzenger):
    """An ``AsyncMezzenger`` in memory; ``Link.async_client`` makes it."""

    def __init__(self, settings: ClientSettings, home: AsyncHome) -> None:
        self._home = home
        super().__init__(settings=settings)

    def _new_engine(self, settings: ClientSettings) -> AsyncEngine:
        return new_async_engine(settings, AsyncParts(self._new_pump))

    def _new_pump(self, session: ClientSession, _settings: ClientSettings) -> AsyncPump:
        self.line = self._home.new_line(session)
        return MemoryAsyncPump(self.line, self._home)

    def kill(self) -> None:
        """End it at once, and cancel the callbacks that run."""
        self._engine.kill()
