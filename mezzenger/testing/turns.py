"""Has an asyncio loop take turns until all that happens in memory has happened."""

import asyncio
import weakref
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from mezzenger.testing.works import Works

_QUIET_TURNS: Final = 20
"""Turns of the loop in which nothing happens, after which nothing will; a task may need some for its own affairs."""
_PATIENCE: Final = 1.0
"""Real seconds for callbacks that wait for something else than this server: a file, or another server."""
_CALLBACKS: Final = "mezzenger-callbacks"
"""What tasks are called that run callbacks."""

Callback = asyncio.Task[Any] | None
"""The task of a callback; None for whoever is none."""


class Turns:
    """Works in an asyncio loop.

    A callback may settle all, too, and have time pass, as one without asyncio may. It waits for other callbacks than
    itself, and than those which do the same: these go on by themselves. Who is no callback waits for all of them.

    Args:
        works: What is to be done.
    """

    def __init__(self, works: Works) -> None:
        self._works = works
        self._slow: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        """Tasks that were waited for once, in vain."""
        self._within: list[asyncio.Task[Any]] = []
        """Callbacks that wait here."""
        self._entered = 0
        """How often one has begun to."""

    def settle(self) -> Coroutine[None, None, None]:
        """Do all that is to be done, and let all tasks go on, as far as they can without that time passes."""
        # Asked now: what this returns may be awaited by another task than the callback's.
        return self._settle_for(_callback())

    def advance(self, seconds: float) -> Coroutine[None, None, None]:
        """Let time pass; everything happens at its moment."""
        return self._advance_for(_callback(), seconds)

    async def _settle_for(self, me: Callback) -> None:
        with self._waiting_here(me):
            await self._settle(me)

    async def _advance_for(self, me: Callback, seconds: float) -> None:
        with self._waiting_here(me):
            await self._settle(me)
            for _ in self._works.moments(seconds):
                await self._settle(me)

    @contextmanager
    def _waiting_here(self, me: Callback) -> Iterator[None]:
        if me is None:
            yield
            return
        self._within.append(me)
        self._entered += 1
        try:
            yield
        finally:
            self._within.remove(me)

    async def _settle(self, me: Callback) -> None:
        quiet, began = 0, self._works.sent
        while quiet < _QUIET_TURNS:
            before = self._works.carried
            self._works.settle()
            self._works.check_end(began)
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._works.carried == before else 0
            if quiet == _QUIET_TURNS and await self._callbacks_go_on(me):
                quiet = 0

    async def _callbacks_go_on(self, me: Callback) -> bool:
        """Wait until some callback has returned that waits for something else; return whether one may go on."""
        within, entered = set(self._within), self._entered
        callbacks = {task for task in asyncio.all_tasks() if task is not me and task.get_name() == _CALLBACKS}
        tasks = {task for task in callbacks - within if not self._is_waiting(task)}
        if me is None:
            tasks |= callbacks & within
        if not tasks:
            return False
        returned, left = await asyncio.wait(tasks, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if returned or self._entered > entered or not left.isdisjoint(self._within):
            return True
        self._slow |= left
        return False

    def _is_waiting(self, task: asyncio.Task[Any]) -> bool:
        return task in self._slow or task in self._works.waiting


def _callback() -> Callback:
    """Return the callback that asks, if it is one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # there is no loop yet
        return None
    return task if task is not None and task.get_name() == _CALLBACKS else None
