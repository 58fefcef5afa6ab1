"""Which callbacks a delivery is for."""

import inspect
import threading
from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar

from mezzenger.channel import Channel
from mezzenger.errors import InvalidCallback, MezzengerError
from mezzenger.message import Message
from mezzenger.pattern_table import PatternTable
from mezzenger.queues import is_group, split_queue

H = TypeVar("H")

Callback = Callable[[Any, Message[Any]], object]
"""What a callback looks like when its payload's type is of no interest."""


class Stream(Protocol):
    """Somebody who asks for messages one by one."""

    def end(self, error: MezzengerError | None = None) -> None:
        """Take note that there will be no more messages, and why, if nobody wanted that."""

    def stop(self) -> None:
        """Do the same, and wait for nobody who may not be there any more: the client stops."""


class Handler(NamedTuple):
    """What is done with the messages of a subscription."""

    callback: Callback
    channel: Channel[Any] | None = None
    """Whose type their payloads must be of, if there is one."""
    concurrency: int = 1
    """How many calls may run at once; more than one only in an asyncio client."""
    stream: Stream | None = None
    """What the callback hands the messages over to, if it does no more than that."""


def check_callback(name: str, callback: object, *, takes_coroutines: bool) -> None:
    """See to it that a callback can be called with a payload and a message, and awaited if it has to be.

    Raises:
        InvalidCallback: It cannot.
    """
    if not callable(callback):
        raise InvalidCallback(f"the callback for {name!r} must be callable, not a {type(callback).__name__}")
    is_coroutine_function = inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(
        type(callback).__call__
    )
    if is_coroutine_function and not takes_coroutines:
        raise InvalidCallback(
            f"the callback for {name!r} is a coroutine function, which nobody here would await; use AsyncMezzenger"
        )
    try:
        inspect.signature(callback).bind(None, None)
    except TypeError as error:
        raise InvalidCallback(
            f"the callback for {name!r} must take two arguments, (payload, msg_obj), as in callback(payload, msg_obj): "
            f"{error}"
        ) from None
    except ValueError:
        pass  # some built-in functions do not tell what they take


def refuse_coroutine(name: str, result: object) -> NoReturn:
    """Raise what tells that a callback has returned a coroutine, which would never be run."""
    if isinstance(result, CoroutineType):
        result.close()
    raise InvalidCallback(
        f"the callback for {name!r} has returned a coroutine, which nobody here awaits; use AsyncMezzenger"
    )


class Handlers(Generic[H]):
    """The handlers of a client, by the queue of each subscription: ``PATTERN`` or ``PATTERN|GROUP``. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_groups: dict[str, H] = {}
        self._by_pattern: dict[str, H] = {}
        self._of_names: PatternTable[H] = PatternTable()
        self._all: PatternTable[H] = PatternTable()
        self.version = 0
        """Another one whenever ``of`` may return something else than before."""

    def add(self, queue: str, handler: H) -> None:
        """Take in the handler of a subscription."""
        with self._lock:
            self._all.add(split_queue(queue)[0], queue, handler)
            if is_group(queue):
                self._of_groups[queue] = handler
            else:
                self._of_names.add(queue, queue, handler)
                self._by_pattern[queue] = handler
            self.version += 1

    def remove(self, queue: str, handler: H | None = None) -> bool:
        """Take out the handler of a subscription, if there is one, and no other than the one given, if one is.

        Returns:
            Whether it was there.
        """
        with self._lock:
            by_queue = self._of_groups if is_group(queue) else self._by_pattern
            found = by_queue.get(queue)
            if found is None or (handler is not None and handler is not found):
                return False
            del by_queue[queue]
            self._all.remove(split_queue(queue)[0], queue)
            if not is_group(queue):
                self._of_names.remove(queue, queue)
            self.version += 1
            return True

    def of(self, name: str, group: str | None, wanted: Sequence[str] | None = None) -> Sequence[H]:
        """Return what handles a message: of a group's queue its handler, else those of all patterns that match.

        Args:
            name: Of the message.
            group: The queue of a group, if it is for one.
            wanted: The patterns that count, if not all do.
        """
        if group is None and wanted is None:
            found = self._of_names.found(name)
            if found is not None:
                return found
        with self._lock:
            if wanted is not None:
                return [self._by_pattern[pattern] for pattern in wanted if pattern in self._by_pattern]
            if group is None:
                return self._of_names.match(name)
            handler = self._of_groups.get(group)
        return () if handler is None else (handler,)

    def responder(self, name: str) -> H | None:
        """Return what answers a request: the handler of a subscription that matches its name, be it of a group."""
        with self._lock:
            return next(iter(self._all.match(name)), None)
