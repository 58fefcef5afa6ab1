"""An ``AsyncMezzenger`` that tests written for ``Mezzenger`` can use: one suite for both clients."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from mezzenger import AsyncMezzenger, ClientSettings, Mezzenger

R = TypeVar("R")

_CALLBACKS: Final = 64
"""Threads for callbacks; tests block in them, which would be wrong in a loop."""
_PARTS: Final = {"dead", "groups", "retained"}


class LoopThread:
    """An asyncio loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop of the tests", daemon=True)
        self._thread.start()
        self.callbacks = ThreadPoolExecutor(_CALLBACKS, thread_name_prefix="callback of the tests")

    def run(self, awaitable: Awaitable[R]) -> R:
        """Have the loop run a coroutine, with the context of the thread that asks; return what it returns."""

        async def run() -> R:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result()

    def iterate(self, items: AsyncIterator[R]) -> Iterator[R]:
        """Yield what an asynchronous iterator yields."""
        while True:
            try:
                yield self.run(anext(items))
            except StopAsyncIteration:
                return

    def close(self) -> None:
        """End the loop; whatever still runs in it is an error of the test."""
        left = self.run(self._others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self.callbacks.shutdown()
        assert not left, left

    async def _others(self) -> list[asyncio.Task[Any]]:
        # What the end of the last test has set going comes to its end first.
        for _ in range(10):
            await asyncio.sleep(0)
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


class Driven:
    """Has the names of what it stands for; what that would await is waited for here, whatever thread asks."""

    def __init__(self, subject: object, loop: LoopThread) -> None:
        self._subject: Any = subject
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._subject, name)
        if name in _PARTS:
            return Driven(value, self._loop)
        return self._waiting(value) if callable(value) else value

    def subscribe(self, msg_name: object, callback: Callable[..., object], **options: object) -> None:
        """Subscribe with a coroutine function that runs the callback in a thread."""
        self._loop.run(self._subject.subscribe(msg_name, self._as_coroutine(callback), **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.run(self._subject.stop())

    def _waiting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object, **options: object) -> Any:
            result = method(*args, **options)
            if isinstance(result, AsyncIterator):
                return self._loop.iterate(result)
            return self._loop.run(result) if asyncio.iscoroutine(result) else result

        return call

    def _as_coroutine(self, callback: Callable[..., object]) -> Callable[..., object]:
        if not callable(callback) or asyncio.iscoroutinefunction(callback):
            return callback

        @functools.wraps(callback)
        async def call(*args: object) -> object:
            context = copy_context()
            return await self._loop.loop.run_in_executor(self._loop.callbacks, context.run, callback, *args)

        return call


def drive(settings: ClientSettings, loop: LoopThread) -> Mezzenger:
    """Connect an ``AsyncMezzenger`` in a loop; return what looks like a ``Mezzenger``."""

    async def connect() -> AsyncMezzenger:
        return await AsyncMezzenger(settings=settings)

    return cast("Mezzenger", Driven(loop.run(connect()), loop))
