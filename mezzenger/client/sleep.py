"""Waits on file descriptors, and can be woken."""

import selectors
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol


class Sleeping(Protocol):
    """How the leader sleeps. One thread sleeps at a time; any may wake it."""

    generation: int
    """Of the descriptors that are watched."""

    def watch(self, generation: int, descriptors: Callable[[], Iterable[int]]) -> None:
        """Watch these descriptors from now on, if their generation is another one."""

    def until_signalled(self, seconds: float) -> list[int]:
        """Sleep for so long, or until woken; return the descriptors that are readable."""

    def wake(self) -> None:
        """End the sleep, or the next one."""

    def close(self) -> None:
        """Let go of what sleeping needs."""


class Sleep:
    """Sleeps until a descriptor is readable."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)  # noqa: FBT003  # the standard library's way
        self._descriptor = self._reader.fileno()
        self._selector: selectors.BaseSelector | None = None
        self.generation = -1
        """Of the descriptors that are watched."""

    def watch(self, generation: int, descriptors: Callable[[], Iterable[int]]) -> None:
        """Watch these descriptors from now on, if their generation is another one."""
        if generation == self.generation:
            return
        if self._selector is not None:
            self._selector.close()
        self.generation = generation
        self._selector = selectors.DefaultSelector()
        for descriptor in (*descriptors(), self._descriptor):
            self._selector.register(descriptor, selectors.EVENT_READ)

    def until_signalled(self, seconds: float) -> list[int]:
        """Sleep for so long, or until woken; return the descriptors that are readable."""
        if self._selector is None:
            raise TypeError("nothing is watched")
        ready = [key.fd for key, _ in self._selector.select(max(seconds, 0.0))]
        if self._descriptor in ready:
            ready.remove(self._descriptor)
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
        if self._selector is not None:
            self._selector.close()
