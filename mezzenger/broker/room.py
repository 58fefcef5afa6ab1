"""How much may be stored, in all and of each name, and what is missing where there is no room."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from mezzenger.broker.leaving import Leaving
from mezzenger.broker.pending import Pending
from mezzenger.policy import Overflow, Policies, Policy

_NOTHING: Final = (0, 0)
_NONE: Final[frozenset[Overflow]] = frozenset()
_WAITING: Final[frozenset[Overflow]] = frozenset({"block"})
_DROPPING: Final[frozenset[Overflow]] = frozenset({"block", "drop_oldest"})
_ALL: Final[frozenset[Overflow]] = frozenset({"block", "drop_oldest", "dead_letter"})


@dataclass(frozen=True, slots=True)
class RoomOptions:
    """What is to be known of the settings; None means without limit."""

    max_pending: int | None
    """Messages that are stored and not yet acknowledged."""
    max_pending_size: int
    """Bytes of all frames that are in the store."""
    policies: Policies


class Copy(NamedTuple):
    """What is to be stored in one queue: all of one publish."""

    queue: str
    is_parted: bool
    """Whether each message is a frame of its own."""
    size: int
    """In bytes, of all frames."""


class Lack(NamedTuple):
    """Why there is no room."""

    queue: str
    """Where there would have to be less."""
    text: str
    cures: frozenset[Overflow]
    """What there can be room by: none if it is too much even where nothing else is stored."""
    needs: tuple[int, int] | None = None
    """How many messages and bytes must be free, if there is too little room in the whole server."""


class Room:
    """Knows what is in the store and what is on its way there.

    Args:
        options: The limits.
        pending: What is in the store.
    """

    def __init__(self, options: RoomOptions, pending: Pending) -> None:
        self._options = options
        self.policies = options.policies
        self._pending = pending
        self._nothing = Leaving(pending)
        self._size = 0
        self._storing = 0
        self._under_way: dict[str, tuple[int, int]] = {}
        """How many messages of a name, and bytes of their frames, are on their way there."""

    def taken(self, name: str, messages: int, size: int) -> None:
        """Take note of a frame that is handed to the store."""
        self._size += size
        self._storing += messages
        waiting, waiting_size = self._under_way.get(name, _NOTHING)
        self._under_way[name] = waiting + messages, waiting_size + size

    def answered(self, name: str, messages: int, size: int) -> None:
        """Take note that the store has answered."""
        self._pending.awaited.changed(name)
        self._size -= size
        self._storing -= messages
        waiting, waiting_size = self._under_way.pop(name)
        if waiting > messages:
            self._under_way[name] = waiting - messages, waiting_size - size

    def is_filling(self, name: str) -> bool:
        """Whether frames of a name are on their way to the store."""
        return name in self._under_way

    def spare(self) -> tuple[float, int]:
        """Return for how many messages and bytes there is room in the whole server; less than 0 if it is too full."""
        limit = inf if self._options.max_pending is None else self._options.max_pending
        messages = limit - self._pending.messages - self._storing
        return messages, self._options.max_pending_size - self._pending.whole_size - self._size

    def lacks(self, name: str, messages: int, copies: Sequence[Copy], leaving: Leaving | None = None) -> list[Lack]:
        """Return why there is no room for so many messages of a name, if there is none.

        Args:
            name: Of the messages.
            messages: How many.
            copies: What is to be stored of them.
            leaving: What is to be taken out before; it counts no more.
        """
        policy = self._options.policies.of(name)
        leaving = self._nothing if leaving is None else leaving
        lacks = []
        if policy.max_pending is not None or policy.max_pending_size is not None:
            lacks = [lack for copy in copies for lack in self._lacks_of_queue(policy, copy, messages, leaving)]
        return lacks + self._lacks_of_all(copies, messages, leaving)

    def _lacks_of_queue(self, policy: Policy, copy: Copy, messages: int, leaving: Leaving) -> Iterator[Lack]:
        queue, size = copy.queue, copy.size
        waiting, waiting_size = self._in_queue(queue, leaving)
        limit = policy.max_pending
        if limit is not None and waiting + messages > limit:
            what = f"{waiting} messages of {queue!r} wait to be acknowledged, and {_more(messages, messages)}"
            text = _text(what, limit, "max_pending in channels", _fewer(messages, fits=messages <= limit))
            yield Lack(queue, text, _NONE if messages > limit else _ALL)
        limit = policy.max_pending_size
        if limit is not None and waiting_size + size > limit:
            what = f"{waiting_size} bytes of {queue!r} wait to be acknowledged, and {_more(size, messages)}"
            text = _text(what, limit, "max_pending_size in channels", _fewer(messages, fits=size <= limit))
            yield Lack(queue, text, _NONE if size > limit else _ALL)

    def _lacks_of_all(self, copies: Sequence[Copy], batch: int, leaving: Leaving) -> list[Lack]:
        messages, size = batch * len(copies), sum(copy.size for copy in copies)
        lacks = []
        waiting, limit = self._pending.messages + self._storing - leaving.messages, self._options.max_pending
        if limit is not None and waiting + messages > limit:
            what = f"{waiting} messages wait to be acknowledged, and {_more(messages, batch)}"
            own, _ = self._own(copies, leaving)
            helps = _ALL if waiting - own + messages <= limit else _WAITING
            cures = _NONE if messages > limit else helps
            text = _text(what, limit, "server.max_pending", _fewer(batch, fits=messages <= limit))
            lacks.append(Lack(self._largest(copies, leaving), text, cures, (messages, size)))
        waiting, limit = self._pending.whole_size + self._size - leaving.size, self._options.max_pending_size
        if waiting + size > limit:
            _, own = self._own(copies, leaving)
            helps = _DROPPING if waiting - own + size <= limit else _WAITING
            cures = _NONE if size > limit else helps
            text = self._size_text(size, batch)
            lacks.append(Lack(self._largest(copies, leaving), text, cures, (messages, size)))
        return lacks

    def _in_queue(self, queue: str, leaving: Leaving) -> tuple[int, int]:
        """Return how many messages are in a queue, or on their way there, and how many bytes."""
        pending, pending_size = self._pending.of(queue)
        storing, storing_size = self._under_way.get(queue, _NOTHING)
        gone, gone_size = leaving.of(queue)
        return pending + storing - gone, pending_size + storing_size - gone_size

    def _own(self, copies: Sequence[Copy], leaving: Leaving) -> tuple[int, int]:
        """Return the same of all queues of a publish: what could make way for it."""
        queues = [self._in_queue(copy.queue, leaving) for copy in copies]
        return sum(messages for messages, _ in queues), sum(size for _, size in queues)

    def _largest(self, copies: Sequence[Copy], leaving: Leaving) -> str:
        """Return in which of the queues the most bytes wait; if none do, in which the most will."""

        def sizes(queue: str) -> tuple[int, int]:
            return self._pending.of(queue)[1] - leaving.of(queue)[1], self._in_queue(queue, leaving)[1]

        return max((copy.queue for copy in copies), key=sizes)

    def _size_text(self, size: int, batch: int) -> str:
        pending, limit = self._pending, self._options.max_pending_size
        what = (
            f"{pending.frames} frames of {pending.size} bytes wait to be acknowledged, {pending.delayed.frames} of "
            f"{pending.delayed.size} bytes are delayed, {pending.dead.frames} of {pending.dead.size} bytes are dead "
            f"letters, {self._size} bytes are being stored, and {_more(size, batch, ' bytes')}"
        )
        return _text(what, limit, "server.max_pending_size", _fewer(batch, fits=size <= limit))


def _more(count: int, batch: int, unit: str = "") -> str:
    return f"{count}{unit} more" if batch == 1 else f"{count}{unit} more in one batch of {batch}"


def _fewer(batch: int, *, fits: bool) -> str:
    """Return what to do with a batch that never finds room."""
    if batch == 1 or fits:
        return ""
    return "; a batch is stored as a whole or not at all: send fewer at once, or one by one with send_message"


def _text(what: str, limit: int, setting: str, remedy: str) -> str:
    return f"{what} would be above the limit of {limit} (its setting {setting}){remedy}"
