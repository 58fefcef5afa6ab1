"""``Mezzenger`` in memory: the thread that waits for something has all others work meanwhile, and runs callbacks."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from mezzenger.client.dispatch import Dispatcher
from mezzenger.client.pump import Blocked, Pump
from mezzenger.client.sync import Mezzenger
from mezzenger.client.threads import Parts, ThreadEngine
from mezzenger.client.tracing import new_engine
from mezzenger.protocol.session import ClientSession
from mezzenger.settings import ClientSettings
from mezzenger.testing.line import MemoryLine


class Home(Protocol):
    """What a client must know of the link that it is a part of."""

    def new_line(self, session: ClientSession) -> MemoryLine:
        """Make the line of a session."""

    def step(self) -> None:
        """Do something that is to be done; if nothing is, let time pass until something is."""


class _NoSleep:
    """Nobody sleeps."""

    generation = 0

    def watch(self, generation: int, descriptors: Callable[[], Iterable[int]]) -> None:
        """Do nothing."""

    def until_signalled(self, seconds: float) -> Sequence[int]:
        """Be called by nobody: in memory nobody waits."""
        raise NotImplementedError

    def wake(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class MemoryPump(Pump):
    """A pump that needs no thread: who waits for an answer does what leads to it.

    Args:
        line: In memory.
        step: Does something, or lets time pass.
    """

    def __init__(self, line: MemoryLine, step: Callable[[], None]) -> None:
        super().__init__(line.session, line, _NoSleep())
        line.wake = self._take_in_now
        self._step = step

    def start(self) -> None:
        """Do nothing: what arrives is taken in as it comes."""

    def _lead_or_follow(self, waiter: Blocked, is_over: Callable[[], object]) -> None:  # noqa: ARG002  # nobody follows
        while not is_over():
            self._step()
            self._tell()

    def _take_in_now(self) -> None:
        with self._lock:
            self._receive(self.clock())
        self._tell()


class MemoryDispatcher(Dispatcher):
    """Runs callbacks when it is told to, on the thread that tells it; one at a time, as any client does."""

    _runner: int | None = None
    """The thread in which a callback runs."""
    _is_open = False

    def start(self) -> None:
        """Have callbacks run from now on."""
        self._is_open = True

    def is_current_thread(self) -> bool:
        """Whether a callback is asking."""
        return self._runner == threading.get_ident()

    def call_next(self) -> bool:
        """Run the callbacks of what has arrived first; return whether there was something to run."""
        with self._lifecycle:
            if not self._is_open or self._is_stopping or self._runner is not None or not self._queue:
                return False
            self._runner = threading.get_ident()
        try:
            arrival = self._take()
            if arrival is not None:
                self._dispatch(arrival)
        finally:
            self._runner = None
            if self._is_stopping:
                self._ended()
        return True


class MemoryMezzenger(Mezzenger):
    """A ``Mezzenger`` in memory; ``Link.client`` makes it."""

    def __init__(self, settings: ClientSettings, home: Home) -> None:
        self._home = home
        super().__init__(settings=settings)

    def _new_engine(self, settings: ClientSettings) -> ThreadEngine:
        return new_engine(settings, Parts(self._new_pump, MemoryDispatcher))

    def _new_pump(self, session: ClientSession, _settings: ClientSettings) -> Pump:
        self.line = self._home.new_line(session)
        return MemoryPump(self.line, self._home.step)

    def end(self) -> None:
        """Stop it."""
        self.stop()

    def call_next(self) -> bool:
        """Run the callbacks of what has arrived first; return whether there was something to run."""
        dispatcher = self._engine.dispatcher
        return isinstance(dispatcher, MemoryDispatcher) and dispatcher.call_next()
