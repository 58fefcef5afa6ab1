"""What is given to callbacks, in view of the last message that the server has kept of a name.

The two come on different roads: what is published with ``ack=0`` over the SUB socket, what was kept over the DEALER
socket. So one could overtake the other, and a callback be given the older one last. The server decides what it gives
to a new subscriber at one moment, and marks that moment on the SUB socket with the subscription's sync token: what
comes before the mark was published before, and is older than what was kept, or the same; what comes after it is newer.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from mezzenger.protocol.commands import Subscribe
from mezzenger.protocol.events import Delivery
from mezzenger.protocol.subscriptions import Subscriptions
from mezzenger.protocol.wire import Header

REMEMBERED_NAMES: Final = 100_000
"""Of how many names it is known which message was given last."""


class _Given(NamedTuple):
    client: int
    sequence: int
    begun: int
    """How many subscriptions had begun then: only these were given it."""


class Freshness:
    """Keeps a callback from being given, on account of what was kept, an older message after a newer, or one twice.

    Args:
        subscriptions: Of the client.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self.is_on = False
        """Whether the server keeps anything."""
        self._given: dict[str, _Given] = {}
        """Of each name, the last message with ``ack=0`` that was given; that of the last name last."""
        self._requests: dict[bytes, Subscribe] = {}
        """By the token that marks the moment."""
        self._stale: dict[str, dict[str, int]] = {}
        """By name, the subscriptions for which the SUB socket brings nothing new until the mark of a request."""
        self._marked: dict[int, set[str]] = {}
        """Requests whose mark has come before their answer: the names of which something has come since."""
        self._overdue: dict[int, float] = {}
        """Requests that are answered and whose mark has not come: when it is not waited for any longer."""
        self.ended: list[bytes] = []
        """What ``take_ended`` returns."""

    def requested(self, command: Subscribe) -> None:
        """Take note of a request of this connection."""
        self._requests[command.token] = command

    def disconnected(self) -> None:
        """Forget what has a meaning on one connection only."""
        for of_connection in (self._requests, self._stale, self._marked, self._overdue):
            of_connection.clear()
        self.ended.clear()

    def published(self, delivery: Delivery) -> Delivery | None:
        """Return the part of what the SUB socket has brought that is to be given."""
        header = delivery.contents.header
        name = header.name
        stale = self._stale.get(name)
        if stale is not None:
            others = [pattern for pattern in self._subscriptions.matching(name) if pattern not in stale]
            if not others:
                return None
            delivery = delivery._replace(wanted=others)
        for names in self._marked.values():
            names.add(name)
        self._note(header, header.sequence + header.messages - 1)
        return delivery

    def kept(self, request: int, header: Header) -> Sequence[str]:
        """Return the subscriptions to which a message that was kept is to be given, as far as is known here."""
        name = header.name
        command = next((command for command in self._requests.values() if command.request == request), None)
        asked = () if command is None else command.names
        patterns = [pattern for pattern in self._subscriptions.matching(name) if pattern in asked]
        if request not in self._marked:
            self._stale.setdefault(name, {}).update(dict.fromkeys(patterns, request))
        elif name in self._marked[request]:
            return ()
        if header.ack:
            return patterns
        given = self._given.get(name)
        # After a crash a server may have an older one than this client has seen.
        if given is not None and given.client == header.client and header.sequence <= given.sequence:
            patterns = [pattern for pattern in patterns if self._subscriptions.begun_at(pattern) > given.begun]
        if patterns:
            self._note(header, header.sequence)
        return patterns

    def mark(self, token: bytes) -> None:
        """Take note that the SUB socket has brought a token."""
        command = self._requests.get(token)
        if command is None:
            return
        self._end(command.request)
        if self._overdue.pop(command.request, None) is None:
            self._marked[command.request] = set()
        else:
            self._forget(command)

    def answered(self, command: Subscribe, deadline: float) -> None:
        """Take note that a request is answered; if it has a mark that has not come, wait for that until a deadline."""
        if any(command.request in stale.values() for stale in self._stale.values()):
            self._overdue[command.request] = deadline
            return
        self._marked.pop(command.request, None)
        self._forget(command)
        # What was kept when this was asked before is not kept any more.
        self._end(command.request, command.names)

    def take_ended(self) -> list[bytes]:
        """Return the tokens to which the SUB socket need not be subscribed any longer."""
        ended, self.ended = self.ended, []
        return ended

    def next_deadline(self) -> float | None:
        """Return when ``overdue`` must be asked."""
        return min(self._overdue.values(), default=None)

    def overdue(self, now: float) -> Iterator[Sequence[str]]:
        """Yield the names and patterns that must be asked for anew: their mark is lost, for want of room in a queue."""
        for command in list(self._requests.values()):
            if self._overdue.get(command.request, now + 1) <= now:
                del self._overdue[command.request]
                self._forget(command)
                present = self._subscriptions.queues()
                names = [name for name in command.names if name in present]
                if names:
                    yield names

    def _note(self, header: Header, sequence: int) -> None:
        self._given.pop(header.name, None)
        self._given[header.name] = _Given(header.client, sequence, self._subscriptions.begun)
        if len(self._given) > REMEMBERED_NAMES:
            del self._given[next(iter(self._given))]

    def _forget(self, command: Subscribe) -> None:
        self._requests.pop(command.token, None)
        self.ended.append(command.token)

    def _end(self, request: int, patterns: Sequence[str] | None = None) -> None:
        """Have what comes from now on given to those for which nothing new came because of this request, or former."""
        for name, stale in list(self._stale.items()):
            for pattern, since in list(stale.items()):
                if since <= request and (patterns is None or pattern in patterns):
                    del stale[pattern]
            if not stale:
                del self._stale[name]
