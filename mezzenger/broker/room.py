"""How much may be stored, in all and of each name, and what is missing where there is no room."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mezzenger.broker.pending import Pending
from mezzenger.policy import Policies, Policy

_NOTHING: Final = (0, 0)


@dataclass(frozen=True, slots=True)
class RoomOptions:
    """What is to be known of the settings; None means without limit."""

    max_pending: int | None
    """Messages that are stored and not yet acknowledged."""
    max_pending_size: int
    """Bytes of all frames that are in the store."""
    policies: Policies


class Copy(NamedTuple):
    """What is to be stored in one queue."""

    queue: str
    frames: tuple[bytes, ...]
    """All of one publish: the frame itself, or each of its messages as a frame of its own."""
    size: int
    """In bytes, of all of them."""


class Lack(NamedTuple):
    """Why there is no room."""

    queue: str
    """Where there would have to be less."""
    text: str
    is_final: bool
    """Whether there would be none if nothing else were stored."""
    burying_helps: bool = True
    """Whether there would be more room if something became a dead letter."""


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
        self._size -= size
        self._storing -= messages
        waiting, waiting_size = self._under_way.pop(name)
        if waiting > messages:
            self._under_way[name] = waiting - messages, waiting_size - size

    def is_filling(self, name: str) -> bool:
        """Whether frames of a name are on their way to the store."""
        return name in self._under_way

    def lack(self, name: str, messages: int, copies: Sequence[Copy]) -> Lack | None:
        """Return why there is no room for so many messages of a name, if there is none."""
        policy = self._options.policies.of(name)
        for copy in copies:
            lack = self._lack_of_queue(policy, copy, messages)
            if lack is not None:
                return lack
        return self._lack_of_all(copies, messages)

    def _lack_of_queue(self, policy: Policy, copy: Copy, messages: int) -> Lack | None:
        queue, size = copy.queue, copy.size
        pending, pending_size = self._pending.of(queue)
        storing, storing_size = self._under_way.get(queue, _NOTHING)
        waiting, limit = pending + storing, policy.max_pending
        if limit is not None and waiting + messages > limit:
            what = f"{waiting} messages of {queue!r} wait to be acknowledged, and {messages} more"
            return Lack(queue, _text(what, limit, "max_pending in channels"), messages > limit)
        waiting, limit = pending_size + storing_size, policy.max_pending_size
        if limit is not None and waiting + size > limit:
            what = f"{waiting} bytes of {queue!r} wait to be acknowledged, and {size} more"
            return Lack(queue, _text(what, limit, "max_pending_size in channels"), size > limit)
        return None

    def _lack_of_all(self, copies: Sequence[Copy], messages: int) -> Lack | None:
        messages, size = messages * len(copies), sum(copy.size for copy in copies)
        waiting, limit = self._pending.messages + self._storing, self._options.max_pending
        if limit is not None and waiting + messages > limit:
            what = f"{waiting} messages wait to be acknowledged, and {messages} more"
            return Lack(self._largest(copies), _text(what, limit, "server.max_pending"), messages > limit)
        limit = self._options.max_pending_size
        if self._pending.whole_size + self._size + size > limit:
            return Lack(self._largest(copies), self._size_text(size), size > limit, burying_helps=False)
        return None

    def _largest(self, copies: Sequence[Copy]) -> str:
        """Return in which of the queues the most bytes wait."""
        return max((copy.queue for copy in copies), key=lambda queue: self._pending.of(queue)[1])

    def _size_text(self, size: int) -> str:
        pending = self._pending
        what = (
            f"{pending.frames} frames of {pending.size} bytes wait to be acknowledged, {pending.delayed.frames} of "
            f"{pending.delayed.size} bytes are delayed, {pending.dead.frames} of {pending.dead.size} bytes are dead "
            f"letters, {self._size} bytes are being stored, and {size} bytes more"
        )
        return _text(what, self._options.max_pending_size, "server.max_pending_size")


def _text(what: str, limit: int, setting: str) -> str:
    return f"{what} would be above the limit of {limit} (its setting {setting})"
