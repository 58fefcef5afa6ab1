"""A server and its clients in one process, joined in memory."""

import math
from collections.abc import Awaitable, Generator
from types import TracebackType
from typing import Any, Final, Self

from pydantic import TypeAdapter, ValidationError

from mezzenger.broker.stats import BrokerStats
from mezzenger.client.aio import AsyncMezzenger
from mezzenger.client.sync import Mezzenger
from mezzenger.errors import ConfigurationError, MezzengerError
from mezzenger.settings import ClientSettings, Settings
from mezzenger.testing.async_client import MemoryAsyncMezzenger
from mezzenger.testing.client import MemoryMezzenger
from mezzenger.testing.clock import FakeClock
from mezzenger.testing.server import MemoryServer
from mezzenger.testing.turns import Turns
from mezzenger.testing.works import Works
from mezzenger.units import Duration

_HEARTBEATS: Final = {"heartbeat_interval": 3600.0, "heartbeat_timeout": 3 * 3600.0}
"""Seconds, of clients that are told neither: what breaks is noticed at once here, and days pass the faster."""

_DURATION: Final[TypeAdapter[float]] = TypeAdapter(Duration)


class Link:
    """A server and its clients, joined in memory: without sockets, without threads, with a clock that you move.

    All of it is the real thing, but for sockets and time: every frame is packed, and read again; the store is the one
    that the settings say. Whoever waits for something, a confirm or an answer, does what leads to it meanwhile; if
    nothing does, time passes until something happens. What nobody waits for happens in ``settle`` and ``advance``:
    there callbacks run, one after the other, on the thread that calls.

    With clients for asyncio, await ``settle`` and ``advance``: nothing happens there before. What their tasks wait for
    happens in the loop's next turns, except that time passes in ``advance`` only.

    As a context manager it is closed at the end.

    Args:
        settings: Of the server, of its channels, and of clients where ``client`` is not told otherwise. Addresses and
            ports are of no use. A ``persist_file`` is written, and what is in it outlives ``crash_and_restart``.
        clock: Whose time it is; a new one if not given.

    Raises:
        StorageError: The ``persist_file`` cannot be read.
    """

    def __init__(self, settings: Settings | None = None, *, clock: FakeClock | None = None) -> None:
        self.settings = settings or Settings()
        self.clock = clock or FakeClock()
        self._server = MemoryServer(self.settings, self.clock)
        self._works = Works(self._server, self.clock)
        self._clients: list[MemoryMezzenger] = []
        self._async_clients: list[MemoryAsyncMezzenger] = []
        self._turns = Turns(self._works)

    def client(self, **settings: object) -> Mezzenger:
        """Connect a client, which is stopped at the end.

        Args:
            settings: Such as ``send_timeout=0.5``: keys of the client section. Without ``auto_start``, no callback
                runs until its ``start()``.

        Raises:
            ConfigurationError: A setting is wrong.
            ServerUnreachable: The server is down, and not restarted in time.
        """
        client = MemoryMezzenger(self._of_client(settings), self._works)
        self._clients.append(client)
        self._works.receivers.append(client.call_next)
        return client

    def async_client(self, **settings: object) -> AsyncMezzenger:
        """Make a client for asyncio, to be connected as any: ``async with server.async_client() as mc``.

        Args:
            settings: As for ``client``.

        Raises:
            ConfigurationError: A setting is wrong.
        """
        client = MemoryAsyncMezzenger(self._of_client(settings), self._works)
        self._async_clients.append(client)
        return client

    # Time.

    def settle(self) -> Awaitable[None]:
        """Have everything happen that needs no time: frames arrive, commits are made, callbacks run.

        With clients for asyncio, await what this returns. Callbacks that wait for something else than this server, a
        file for example, are waited for as well, for a second.

        Raises:
            MezzengerError: There is no end to it: each callback sends what makes the next one run.
        """
        if self._async_clients:
            return self._turns.settle()
        self._works.settle()
        return _Done()

    def advance(self, duration: float | str) -> Awaitable[None]:
        """Let so much time pass, and have everything happen that happens meanwhile, each at its moment.

        With clients for asyncio, await what this returns.

        Args:
            duration: In seconds, or text such as ``"500ms"``, ``"31s"`` or ``"2h"``.

        Raises:
            ConfigurationError: That is no duration.
            MezzengerError: There is no end to what happens at one moment.
        """
        seconds = _seconds(duration)
        if self._async_clients:
            return self._turns.advance(seconds)
        self._works.advance(seconds)
        return _Done()

    def stats(self) -> BrokerStats:
        """Return what the server has counted since it was started, when all has arrived that is on its way.

        Raises:
            MezzengerError: It is down.
        """
        self._works.move()
        return self._server.stats()

    # What goes wrong.

    def drop_next_ack(self) -> None:
        """Lose the next ack, with its connection: that breaks before the ack has arrived.

        The client connects again by itself, after some time. The server delivers the message again, to whom it may.
        """
        self._server.drop_next_ack()

    def cut(self, client: Mezzenger | AsyncMezzenger, duration: float | str = 0.0) -> None:
        """Break a client's connection, losing what is under way; the client connects again by itself.

        Args:
            client: One of this link.
            duration: For so long it cannot.

        Raises:
            ConfigurationError: That is no duration.
            MezzengerError: The client is another one's.
        """
        own, seconds = self._own(client), _seconds(duration)
        self._works.do(lambda: own.line.cut(seconds))

    def kill(self, client: Mezzenger | AsyncMezzenger) -> None:
        """End a client as a process ends that is killed: nothing more is sent, and no callback begins.

        A callback may kill its own client: what it handles then is never acknowledged. Those of a client for asyncio
        are cancelled.

        Raises:
            MezzengerError: The client is another one's.
        """
        own = self._own(client)
        self._works.do(lambda: own.line.cut(math.inf))
        own.kill()

    def crash_and_restart(self, down: float | str = 0.0) -> None:
        """Have the server end as if it was killed, and come back; clients connect again by themselves.

        What was not committed is lost, and without a ``persist_file`` all that it knew.

        Args:
            down: How long there is no server.

        Raises:
            ConfigurationError: That is no duration.
            MezzengerError: It is down already.
        """
        seconds = _seconds(down)
        if not self._server.is_up:
            raise MezzengerError("the server is down already")
        self._works.do(lambda: self._server.crash_and_restart(seconds))

    def close(self) -> None:
        """Stop all clients, then the server."""
        for client in self._async_clients:
            client.kill()
        for other in self._clients:
            other.stop()
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _of_client(self, settings: dict[str, object]) -> ClientSettings:
        values: dict[str, Any] = self.settings.client.model_dump(exclude_unset=True) | settings
        if _HEARTBEATS.keys().isdisjoint(values):
            values |= _HEARTBEATS
        return ClientSettings(**values)

    def _own(self, client: Mezzenger | AsyncMezzenger) -> MemoryMezzenger | MemoryAsyncMezzenger:
        owned: list[MemoryMezzenger | MemoryAsyncMezzenger] = [*self._clients, *self._async_clients]
        for own in owned:
            if own is client:
                return own
        raise MezzengerError("this client is not one of this link; make it with client()")


class _Done:
    """What need not be awaited, and may be."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


def _seconds(duration: float | str) -> float:
    try:
        return _DURATION.validate_python(duration)
    except ValidationError as error:
        raise ConfigurationError([f"duration: {error.errors()[0]['msg']} (got {duration!r})"]) from None
