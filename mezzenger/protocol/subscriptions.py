"""What a client has subscribed to, and for which of it the server has answered."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mezzenger import patterns
from mezzenger.errors import AlreadySubscribed, NotSubscribed
from mezzenger.pattern_table import PatternTable
from mezzenger.protocol.commands import NAMES_PER_SUBSCRIBE, Join, Subscribe
from mezzenger.queues import is_group, queue_of, split_queue


class Membership(NamedTuple):
    """As what a client is a member of a group."""

    group: str
    prefetch: int
    """Messages that it takes before it has handled the first of them."""
    max_runtime: float | None = None
    """Seconds after which another member may have what it has not handled; None for never, as long as it lives."""
    order_by: str | None = None
    """A header: messages with equal values of it come to one member, one after the other."""


@dataclass(slots=True)
class Subscription:
    """To one name or pattern, as a subscriber or as a member of a group."""

    membership: Membership | None
    ticket: int | None
    """Done, and then None, as soon as the subscription is active."""
    begun: int
    """Which one it is of all that were begun; the first is 1."""
    request: int = 0
    """The last command that asked for it."""


class Subscriptions:
    """The subscriptions of a client, over all its connections, each known by its queue.

    A request is made anew on every connection; the answer to an older one counts no more, since the subscription may
    have ended in between.
    """

    def __init__(self) -> None:
        self._by_queue: dict[str, Subscription] = {}
        self._patterns: PatternTable[str] = PatternTable()
        self._all_patterns: PatternTable[None] = PatternTable()
        """Those of groups among them."""
        self._requests: dict[int, Subscribe | Join] = {}
        self._last_request = 0
        self.begun = 0
        """How many subscriptions were begun so far, those among them that have ended since."""

    def __contains__(self, queue: object) -> bool:
        """Whether messages of a name, or of a group's queue, are wanted."""
        if not isinstance(queue, str):
            return False
        return queue in self._by_queue or (not is_group(queue) and bool(self._patterns.match(queue)))

    def queues(self) -> list[str]:
        """Return the queues of all that is subscribed to."""
        return list(self._by_queue)

    def serves(self, name: str) -> bool:
        """Whether there is a callback for a name, be it as a member of a group."""
        return bool(self._all_patterns.match(name))

    def require_new(self, queue: str) -> None:
        """Raise AlreadySubscribed if this is there."""
        if queue in self._by_queue:
            raise AlreadySubscribed(f"this client is {_told(queue)} already; unsubscribe first")

    def add(self, name: str, membership: Membership | None, ticket: int) -> str:
        """Take in a subscription that somebody waits for; return its queue."""
        queue = queue_of(name, membership and membership.group)
        self.begun += 1
        self._by_queue[queue] = Subscription(membership, ticket, self.begun)
        self._all_patterns.add(name, queue, None)
        if membership is None:
            self._patterns.add(name, queue, name)
        return queue

    def matching(self, name: str) -> Sequence[str]:
        """Return the names and patterns that are subscribed to, groups left aside, and match a name."""
        return self._patterns.match(name)

    def begun_at(self, pattern: str) -> int:
        """Return which one of all that were begun the subscription to a name or pattern is."""
        return self._by_queue[pattern].begun

    def remove(self, queue: str) -> int | None:
        """Take out a subscription; return the ticket of who still waits for it.

        Raises:
            NotSubscribed: It is not there.
        """
        if queue not in self._by_queue:
            raise NotSubscribed(f"this client is not {_told(queue)}")
        self._all_patterns.remove(split_queue(queue)[0], queue)
        if not is_group(queue):
            self._patterns.remove(queue, queue)
        return self._by_queue.pop(queue).ticket

    def waits_with(self, ticket: int) -> str | None:
        """Return the queue whose subscription this ticket waits for."""
        for queue, subscription in self._by_queue.items():
            if subscription.ticket == ticket:
                return queue
        return None

    def request(self, queues: Iterable[str], random_token: Callable[[], bytes]) -> Iterator[Subscribe | Join]:
        """Yield the commands that ask for these: names as many at once as one command holds, groups one by one."""
        queues = list(queues)
        names = [queue for queue in queues if not is_group(queue)]
        for start in range(0, len(names), NAMES_PER_SUBSCRIBE):
            some = names[start : start + NAMES_PER_SUBSCRIBE]
            yield self._asked(Subscribe(self._next_request(), some, random_token()), some)
        for queue in queues:
            membership = self._by_queue[queue].membership
            if membership is not None:
                name, _ = split_queue(queue)
                yield self._asked(Join(self._next_request(), name, *membership), [queue])

    def answered(self, request: int) -> Subscribe | Join | None:
        """Take note of an answer; return what was asked, or None if it is of no interest any more."""
        return self._requests.pop(request, None)

    def waiting(self, asked: Subscribe | Join) -> Iterator[int]:
        """Yield the tickets of those who waited for what was answered."""
        for queue in asked.names if isinstance(asked, Subscribe) else [queue_of(asked.name, asked.group)]:
            subscription = self._by_queue.get(queue)
            if subscription and subscription.request == asked.request and subscription.ticket is not None:
                yield subscription.ticket
                subscription.ticket = None

    def declined(self, request: int) -> str | None:
        """Take note that a group does not take the client; return its queue if that is of interest still."""
        asked = self.answered(request)
        if not isinstance(asked, Join):
            return None
        queue = queue_of(asked.name, asked.group)
        subscription = self._by_queue.get(queue)
        return queue if subscription is not None and subscription.request == request else None

    def disconnected(self) -> None:
        """Forget the requests: nobody will answer them."""
        self._requests.clear()

    def _next_request(self) -> int:
        self._last_request += 1
        return self._last_request

    def _asked(self, command: Subscribe | Join, queues: Iterable[str]) -> Subscribe | Join:
        self._requests[command.request] = command
        for queue in queues:
            self._by_queue[queue].request = command.request
        return command


def prefix_of(pattern: str) -> bytes:
    """Return what a SUB socket subscribes to for a name or pattern.

    Names hold no ``|``, so that no other name begins with what stands for one; for a pattern more may come.
    """
    prefix = patterns.prefix_of(pattern)
    return prefix.encode() if patterns.is_wild(pattern) else prefix.encode() + b"|"


def _told(queue: str) -> str:
    name, group = split_queue(queue)
    return f"subscribed to {name!r}" if group is None else f"a member of group {group!r} of {name!r}"
