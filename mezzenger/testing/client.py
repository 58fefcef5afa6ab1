"""``Mezzenger`` in memory: the thread that waits for something has all others work meanwhile, and runs callbacks."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from mezzenger.channel import Channel
from mezzenger.client.dispatch import Dispatcher
from mezzenger.client.handlers import Callback, Handler
from mezzenger.client.pump import Blocked, Pump
from mezzenger.client.sync import Mezzenger
from mezzenger.client.threads import Parts, ThreadEngine
from mezzenger.client.tracing import new_engine
from mezzenger.errors import MezzengerError
from mezzenger.message import Message
from mezzenger.protocol.session import ClientSession
from mezzenger.settings import ClientSettings
from mezzenger.testing.line import MemoryLine


class Home(Protocol):
    """What a client must know of the link that it is a part of."""

    def new_line(self, session: ClientSession) -> MemoryLine:
        """Make the line of a session."""

    def step(self) -> None:
        """Do something that is to be done; if nothing is, let time pass until something is."""

    def log(self, level: int, text: str, *values: object) -> None:
        """Have the log tell something, as soon as its handlers may use clients."""


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
        home: Does something, or lets time pass.
    """

    def __init__(self, line: MemoryLine, home: Home) -> None:
        super().__init__(line.session, line, _NoSleep())
        line.wake = self._take_in_now
        self._home = home

    def start(self) -> None:
        """Do nothing: what arrives is taken in as it comes."""

    def log(self, level: int, text: str, *values: object) -> None:
        """Have the log tell something when all has been carried."""
        self._home.log(level, text, *values)

    def _lead_or_follow(self, waiter: Blocked, is_over: Callable[[], object]) -> None:  # noqa: ARG002  # nobody follows
        while not is_over():
            self._home.step()

    def _take_in_now(self) -> None:
        with self._lock:
            self._receive(self.clock())


class MemoryDispatcher(Dispatcher):
    """Runs callbacks when it is told to, on the thread that tells it; one at a time, as any client does.

    That is the thread of a test, most often: so Ctrl-C and ``pytest.fail`` end the test from within a callback, too.
    """

    _runner: int | None = None
    """The thread in which a callback runs."""
    _is_open = False
    _is_over = False
    """Whether the last callback has returned, after which the client ends."""
    _is_forsaken = False
    """Whether nobody is to wait for a callback that runs."""
    _end: BaseException | None = None
    """What is to end the test."""

    def start(self) -> None:
        """Have callbacks run from now on."""
        self._is_open = True

    @property
    def has_started(self) -> bool:
        """Whether a callback runs, at whose end the client ends if it was stopped."""
        return not self._is_forsaken and (self._is_over or self._runner is not None)

    def forsake(self) -> None:
        """Have nobody wait for the callback that runs."""
        self._is_forsaken = True

    def is_current_thread(self) -> bool:
        """Whether a callback is asking."""
        return self._runner == threading.get_ident()

    def minding_ends(self, callback: Callback) -> Callback:
        """Return a callback that takes note of what is to end the test, and is called no more in vain."""

        def call(payload: object, message: Message[Any]) -> object:
            if self._end is not None:
                raise MezzengerError(f"not begun, for the test ends: {self._end!r}")
            try:
                return callback(payload, message)
            except Exception:
                raise
            except BaseException as end:
                self._end = end
                raise

        return call

    def call_next(self) -> bool:
        """Run the callbacks of what has arrived first; return whether there was something to run.

        Raises:
            BaseException: One of them has raised what is no ``Exception``. What it was given is nacked.
        """
        with self._lifecycle:
            if not self._is_open or self._is_stopping or self._runner is not None or not self._queue:
                return False
            self._runner = threading.get_ident()
        try:
            arrival = self._take()
            if arrival is not None:
                self._dispatch(arrival)
        finally:
            with self._lifecycle:
                self._runner = None
                self._is_over = self._is_stopping
            if self._is_over:
                self._ended()
        end, self._end = self._end, None
        if end is not None:
            raise end
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
        return MemoryPump(self.line, self._home)

    def kill(self) -> None:
        """End it at once, whatever its callback is doing."""
        self._dispatcher.forsake()
        self.stop()

    def call_next(self) -> bool:
        """Run the callbacks of what has arrived first; return whether there was something to run."""
        return self._dispatcher.call_next()

    @property
    def _dispatcher(self) -> MemoryDispatcher:
        dispatcher = self._engine.dispatcher
        if not isinstance(dispatcher, MemoryDispatcher):
            raise TypeError("this is not made of the parts that it was given")
        return dispatcher

    def _new_handler(self, callback: Callback, channel: Channel[Any] | None, concurrency: int) -> Handler:
        return super()._new_handler(self._dispatcher.minding_ends(callback), channel, concurrency)
