"""A thread that works for an asyncio loop."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar, TypeVarTuple

R = TypeVar("R")
Arguments = TypeVarTuple("Arguments")


class Worker:
    """Does one thing after another, in the order in which it was asked to, while the loop does others.

    An executor does so too, with more locks, and two turns of the loop until who waits goes on: twice the time.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._has_ended = False

    async def run(self, work: Callable[[*Arguments], R], *arguments: *Arguments) -> R:
        """Return what a function returns, or raise what it raises; it is called even if nobody waits any more.

        Raises:
            RuntimeError: The thread has ended.
        """
        if self._has_ended:
            raise RuntimeError(f"the thread {self._thread.name} has ended")
        if self._thread.ident is None:
            self._thread.start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()

        def carry_out() -> None:
            try:
                result = work(*arguments)
            except BaseException as error:  # noqa: BLE001  # it is raised where the result is waited for
                _tell(loop, _fail, done, error)
            else:
                _tell(loop, _finish, done, result)

        self._orders.put(carry_out)
        return await done

    def end(self) -> None:
        """End the thread once all is done that it was asked to do."""
        self._has_ended = True
        if self._thread.ident is not None:
            self._orders.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            order()
            # What it was about must not be kept until there is more to do.
            del order


def _finish(done: asyncio.Future[R], result: R) -> None:
    if not done.cancelled():
        done.set_result(result)


def _fail(done: asyncio.Future[R], error: BaseException) -> None:
    if not done.cancelled():
        done.set_exception(error)


def _tell(loop: asyncio.AbstractEventLoop, tell: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
    # Nobody waits in a loop that is closed.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(tell, *arguments)
