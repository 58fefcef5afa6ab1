"""What happens to clients when their program ends, or forks."""

import atexit
import os
import signal
import sys
import threading
import weakref
from contextlib import suppress
from typing import Final, Protocol

_GLANCE: Final = 0.5
"""Seconds after which the main thread looks for a Ctrl-C: a signal that comes when it is about to wait, or that the
system gives to another thread, does not end the wait."""


class Client(Protocol):
    """What must be known of a client to end it."""

    is_stopping: bool
    """Whether ``stop`` was called."""

    def stop(self) -> None:
        """Finish what is under way, and disconnect."""

    def join_callbacks(self, seconds: float) -> bool:
        """Wait so long at most until no callback will run any more; return whether that is so."""

    def forked(self) -> None:
        """Take note that this is a copy in a child process, which must not be used."""


_running: "weakref.WeakSet[Client]" = weakref.WeakSet()


def began(client: Client) -> None:
    """Take note of a client that is to be stopped when the program ends."""
    _running.add(client)


def ended(client: Client) -> None:
    """Take note that a client was stopped."""
    _running.discard(client)


def running() -> set[Client]:
    """Return the clients of this process that were not stopped."""
    return set(_running)


def _wait_for_callbacks() -> None:
    """Let a program whose main thread has ended go on as long as it has subscribed, until Ctrl-C.

    It does not go on if an exception has ended the main thread: it would look alive to who has started it.
    """
    try:
        if getattr(sys, "last_type", None) is None:
            for client in list(_running):
                while not client.join_callbacks(_GLANCE):
                    pass
        elif any(client.is_stopping and not client.join_callbacks(0) for client in _running):
            _end_at_once()  # Ctrl-C has ended ``stop``, too
    except KeyboardInterrupt:
        pass
    try:
        _stop_all()
    except KeyboardInterrupt:
        _end_at_once()


def _stop_all() -> None:
    for client in list(_running):
        client.stop()


def _end_at_once() -> None:
    """End the program though a callback runs, as Ctrl-C ends one that does not know Python."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)


def _tell_copies() -> None:
    for copy in list(_running):
        copy.forked()
    # The end of this process must not end them: what they have open they share with the parent.
    _running.clear()


os.register_at_fork(after_in_child=_tell_copies)

# The callback threads are no daemons, so Python waits for them anyway; but there a Ctrl-C would print a traceback that
# nobody can prevent. What concurrent.futures uses for the same purpose is called before that.
with suppress(AttributeError):
    threading._register_atexit(_wait_for_callbacks)  # type: ignore[attr-defined]  # noqa: SLF001  # see above
atexit.register(_stop_all)
