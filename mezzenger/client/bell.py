"""Wakes a thread that waits."""

from contextlib import suppress
from threading import Lock
from typing import Final

FOR_EVER: Final = -1.0


class Bell:
    """One thread waits until somebody rings, or not at all if somebody has rung since it waited last.

    It is an ``Event`` that resets itself, but one lock of the interpreter and no more: what a signal handler raises in
    the midst of ``Event.set`` or ``Event.wait`` may leave the lock within the event locked for ever.
    """

    def __init__(self) -> None:
        self._is_silent = Lock()
        self._is_silent.acquire()

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        if self._is_silent.locked():
            with suppress(RuntimeError):  # another thread has rung at the same time
                self._is_silent.release()

    def wait(self, seconds: float = FOR_EVER) -> None:
        """Wait until somebody rings, or so many seconds."""
        self._is_silent.acquire(timeout=seconds)
