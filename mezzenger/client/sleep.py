"""Waits on file descriptors, and can be woken."""

import select
import selectors
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, Protocol


class Sleeping(Protocol):
    """How the leader sleeps. One thread sleeps at a time; any may wake it."""

    generation: int
    """Of the descriptors that are watched."""

    def watch(self, generation: int, descriptors: Callable[[], Iterable[int]]) -> None:
        """Watch these descriptors from now on, if their generation is another one."""

    def until_signalled(self, seconds: float) -> Sequence[int]:
        """Sleep for so long, or until woken; return the descriptors that are readable, others perhaps among them."""

    def wake(self) -> None:
        """End the sleep, or the next one."""

    def close(self) -> None:
        """Let go of what sleeping needs."""


class _Watch(Protocol):
    """Waits on descriptors; what ``select.epoll`` has of that."""

    def register(self, descriptor: int, events: int, /) -> None:
        """Watch a descriptor."""

    def poll(self, seconds: float, /) -> list[tuple[int, int]]:
        """Wait until one is readable, or for so long; return those that are, and what happened to them."""

    def close(self) -> None:
        """Watch none any more."""


class _Selector:
    """The same where there is no epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, descriptor: int, events: int, /) -> None:
        self._selector.register(descriptor, events)

    def poll(self, seconds: float, /) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(seconds)]

    def close(self) -> None:
        self._selector.close()


# What ``selectors`` puts around epoll takes longer than a message should.
_watch: Callable[[], _Watch] = getattr(select, "epoll", _Selector)
_READABLE: Final = int(getattr(select, "EPOLLIN", selectors.EVENT_READ))


class Sleep:
    """Sleeps until a descriptor is readable."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)  # noqa: FBT003  # the standard library's way
        self._descriptor = self._reader.fileno()
        self._watched: _Watch | None = None
        self.generation = -1
        """Of the descriptors that are watched."""

    def watch(self, generation: int, descriptors: Callable[[], Iterable[int]]) -> None:
        """Watch these descriptors from now on, if their generation is another one."""
        if generation == self.generation:
            return
        former = self._watched
        try:
            self._watched = _watch()
        except OSError:
            if former is None:
                raise
            # No descriptor is free now: the former one can be woken, at least, and next time this is tried again.
            return
        self.generation = generation
        for descriptor in (*descriptors(), self._descriptor):
            self._watched.register(descriptor, _READABLE)
        if former is not None:
            former.close()

    def until_signalled(self, seconds: float) -> Sequence[int]:
        """Sleep for so long, or until woken; return the descriptors that are readable."""
        if self._watched is None:
            raise TypeError("nothing is watched")
        ready = [descriptor for descriptor, _ in self._watched.poll(max(seconds, 0.0))]
        if self._descriptor in ready:
            with suppress(BlockingIOError):
                while self._reader.recv(4096):
                    pass
        return ready

    def wake(self) -> None:
        """End the sleep, or the next one."""
        # If so many wakes are on their way that the buffer is full, one more would tell nothing.
        with suppress(OSError):
            self._writer.send(b"\0")

    def close(self) -> None:
        """Let go of what sleeping needs."""
        self._reader.close()
        self._writer.close()
        if self._watched is not None:
            self._watched.close()
