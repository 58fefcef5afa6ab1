"""What is given to a callback, in view of the last message that the server has kept of its name.

The two come on different roads: what is published with ``ack=0`` over the SUB socket, what was kept over the DEALER
socket. So one could overtake the other, and a callback be given the older one last. The server decides what it gives
to a new subscriber at one moment, and marks that moment on the SUB socket with the subscription's sync token: what
comes before the mark was published before, and is older than what was kept, or the same; what comes after it is newer.
"""

from collections.abc import Iterator
from typing import NamedTuple

from mezzenger.protocol.commands import Subscribe
from mezzenger.protocol.wire import Header


class _Given(NamedTuple):
    client: int
    sequence: int


class Freshness:
    """Keeps a callback from being given, on account of what was kept, an older message after a newer, or one twice."""

    def __init__(self) -> None:
        self.is_on = False
        """Whether the server keeps anything."""
        self._given: dict[str, _Given] = {}
        """Of each name, the last message with ``ack=0`` that was given."""
        self._requests: dict[bytes, Subscribe] = {}
        """By the token that marks the moment."""
        self._stale: dict[str, int] = {}
        """The names of which the SUB socket brings what is older than what was kept, until the mark of that request."""
        self._marked: dict[int, set[str]] = {}
        """Requests whose mark has come before their answer: the names of which something has come since."""
        self._overdue: dict[int, float] = {}
        """Requests that are answered and whose mark has not come: when it is not waited for any longer."""

    def requested(self, command: Subscribe) -> None:
        """Take note of a request of this connection."""
        self._requests[command.token] = command

    def forget(self, name: str) -> None:
        """Take note that a name is not subscribed any more: its next subscriber is a new one."""
        self._given.pop(name, None)
        self._stale.pop(name, None)

    def disconnected(self) -> None:
        """Forget what has a meaning on one connection only."""
        for of_connection in (self._requests, self._stale, self._marked, self._overdue):
            of_connection.clear()

    def published(self, header: Header) -> bool:
        """Return whether a frame that the SUB socket has brought is to be given."""
        if not self.is_on:
            return True
        if header.name in self._stale:
            return False
        for names in self._marked.values():
            names.add(header.name)
        self._given[header.name] = _Given(header.client, header.sequence + header.messages - 1)
        return True

    def kept(self, request: int, header: Header) -> bool:
        """Return whether a message that was kept is to be given, as far as what came over the SUB socket tells."""
        name = header.name
        if request not in self._marked:
            self._stale[name] = request
        elif name in self._marked[request]:
            return False
        if header.ack:
            return True
        given = self._given.get(name)
        # After a crash a server may have an older one than this client has seen.
        if given is not None and given.client == header.client and header.sequence <= given.sequence:
            return False
        self._given[name] = _Given(header.client, header.sequence)
        return True

    def mark(self, token: bytes) -> bool:
        """Take note of what may be a mark; return whether the token is not needed any more."""
        command = self._requests.get(token)
        if command is None:
            return False
        self._end(command, command.request)
        if self._overdue.pop(command.request, None) is None:
            self._marked[command.request] = set()
            return False
        del self._requests[token]
        return True

    def answered(self, command: Subscribe, deadline: float) -> bool:
        """Take note that a request is answered; return whether its token is not needed any more."""
        if command.request in self._stale.values():
            self._overdue[command.request] = deadline
            return False
        self._marked.pop(command.request, None)
        self._requests.pop(command.token, None)
        # What was kept when this was asked before is not kept any more.
        self._end(command, command.request)
        return True

    def next_deadline(self) -> float | None:
        """Return when ``overdue`` must be asked."""
        return min(self._overdue.values(), default=None)

    def overdue(self, now: float) -> Iterator[Subscribe]:
        """Yield the requests whose marks are lost, for want of room in a queue: they must be made anew."""
        for command in list(self._requests.values()):
            if self._overdue.get(command.request, now + 1) <= now:
                del self._overdue[command.request], self._requests[command.token]
                yield command

    def _end(self, command: Subscribe, request: int) -> None:
        for name in command.names:
            if self._stale.get(name, request + 1) <= request:
                del self._stale[name]
