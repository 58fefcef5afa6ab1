"""Coroutines that run to their end without any loop.

What both clients do is written once, as coroutines. In the one with threads they never suspend: where they wait, their
pump blocks the thread. So one step is all that it takes.
"""

from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import TypeVar

R = TypeVar("R")


def run_now(awaitable: Awaitable[R]) -> R:
    """Return what a coroutine returns that never suspends; raise what it raises.

    Raises:
        TypeError: It has suspended.
    """
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as done:
        value: R = done.value
        return value
    raise TypeError("what runs without a loop has nobody to wait for")


def iterate_now(items: AsyncIterator[R]) -> Iterator[R]:
    """Yield what an asynchronous iterator yields that never suspends."""
    while True:
        try:
            item = run_now(anext(items))
        except StopAsyncIteration:
            return
        yield item
