"""Ctrl-C, SIGTERM and SIGHUP: the first one asks a command to stop, the second one ends it."""

import select
import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Takes these signals from now on until the process ends; one that the parent had ignored stays ignored.

    The first signal raises KeyboardInterrupt, or, once ``postpone`` was called, makes ``wait`` return.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._interrupts = True
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def postpone(self) -> None:
        """Interrupt nothing from now on."""
        self._interrupts = False

    def wake(self) -> None:
        """Make ``wait`` return; any thread may call this."""
        # If it is full, it wakes all the same.
        with suppress(BlockingIOError):
            self._writer.send(b"\0")

    def wait(self, seconds: float, output: int | None = None) -> bool:
        """Wait for a signal or a call of ``wake``.

        Args:
            seconds: At most so long.
            output: A file descriptor; waiting ends when it is a pipe that nobody will read any more.

        Returns:
            Whether ``output`` is such a pipe.
        """
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if output is not None:
            poll.register(output, 0)
        return any(descriptor == output for descriptor, _ in poll.poll(seconds * 1000))

    def wait_for_input(self, descriptor: int) -> bool:
        """Wait until something can be read; False if a signal came first."""
        if self.received is None:
            # Not poll: on macOS it does not know terminals.
            select.select([descriptor, self._reader.fileno()], [], [])
        return self.received is None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        for each in _SIGNALS:
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, signal.SIG_DFL)
        if self._interrupts:
            raise KeyboardInterrupt
