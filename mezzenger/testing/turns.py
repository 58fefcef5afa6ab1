"""Has an asyncio loop take turns until all that happens in memory has happened."""

import asyncio
import weakref
from typing import Final

from mezzenger.testing.works import Works

_QUIET_TURNS: Final = 20
"""Turns of the loop in which nothing happens, after which nothing will; a task may need some for its own affairs."""
_PATIENCE: Final = 1.0
"""Real seconds for callbacks that wait for something else than this server: a file, or another server."""
_CALLBACKS: Final = "mezzenger-callbacks"
"""What tasks are called that run callbacks."""


class Turns:
    """Works in an asyncio loop.

    Args:
        works: What is to be done.
    """

    def __init__(self, works: Works) -> None:
        self._works = works
        self._slow: weakref.WeakSet[asyncio.Task[object]] = weakref.WeakSet()
        """Tasks that were waited for once, in vain."""

    async def settle(self) -> None:
        """Do all that is to be done, and let all tasks go on, as far as they can without that time passes."""
        quiet, began = 0, self._works.sent
        while quiet < _QUIET_TURNS:
            before = self._works.carried
            self._works.settle()
            self._works.check_end(began)
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._works.carried == before else 0
            if quiet == _QUIET_TURNS and await self._callbacks_go_on():
                quiet = 0

    async def advance(self, seconds: float) -> None:
        """Let time pass; everything happens at its moment."""
        await self.settle()
        for _ in self._works.moments(seconds):
            await self.settle()

    async def _callbacks_go_on(self) -> bool:
        """Wait until some callback has returned that waits for something else; return whether one has."""
        tasks = {task for task in asyncio.all_tasks() if task.get_name() == _CALLBACKS and not self._is_waiting(task)}
        if not tasks:
            return False
        returned, slow = await asyncio.wait(tasks, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not returned:
            self._slow |= slow
        return bool(returned)

    def _is_waiting(self, task: asyncio.Task[object]) -> bool:
        return task in self._slow or task in self._works.waiting
