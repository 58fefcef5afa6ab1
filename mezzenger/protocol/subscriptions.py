"""Which names a client has subscribed to, and which of them the server has answered for."""

from collections.abc import Iterator
from dataclasses import dataclass

from mezzenger.errors import AlreadySubscribed, NotSubscribed
from mezzenger.protocol.commands import NAMES_PER_SUBSCRIBE, Subscribe


@dataclass(slots=True)
class Subscription:
    """One name."""

    ticket: int | None
    """Done, and then None, as soon as the subscription is active."""
    request: int = 0
    """The last Subscribe command that asked for it."""


class Subscriptions:
    """The names of a client, over all its connections.

    A request is made anew on every connection; the answer to an older one counts no more, since the name may have been
    unsubscribed in between.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Subscription] = {}
        self._requests: dict[int, Subscribe] = {}
        self._last_request = 0

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def require_new(self, name: str) -> None:
        """Raise AlreadySubscribed if the name is there."""
        if name in self._by_name:
            raise AlreadySubscribed(f"this client is subscribed to {name!r} already; unsubscribe first")

    def add(self, name: str, ticket: int) -> None:
        """Take in a name whose subscription somebody waits for."""
        self._by_name[name] = Subscription(ticket)

    def remove(self, name: str) -> int | None:
        """Take out a name; return the ticket of who still waits for it.

        Raises:
            NotSubscribed: It is not there.
        """
        if name not in self._by_name:
            raise NotSubscribed(f"this client is not subscribed to {name!r}")
        return self._by_name.pop(name).ticket

    def waits_with(self, ticket: int) -> str | None:
        """Return the name whose subscription this ticket waits for."""
        for name, subscription in self._by_name.items():
            if subscription.ticket == ticket:
                return name
        return None

    def request(self, names: list[str], token: bytes) -> Subscribe:
        """Return the command that asks for these names."""
        self._last_request += 1
        command = Subscribe(self._last_request, names, token)
        self._requests[self._last_request] = command
        for name in names:
            self._by_name[name].request = self._last_request
        return command

    def answered(self, request: int) -> Subscribe | None:
        """Take note of an answer; return the request, or None if it is of no interest any more."""
        return self._requests.pop(request, None)

    def activate(self, request: Subscribe) -> Iterator[int]:
        """Yield the tickets of those who waited for what was answered."""
        for name in request.names:
            subscription = self._by_name.get(name)
            if subscription and subscription.request == request.request and subscription.ticket is not None:
                yield subscription.ticket
                subscription.ticket = None

    def disconnected(self) -> None:
        """Forget the requests: nobody will answer them."""
        self._requests.clear()

    def all_names(self) -> Iterator[list[str]]:
        """Yield all names, as many at once as one command holds."""
        names = list(self._by_name)
        for start in range(0, len(names), NAMES_PER_SUBSCRIBE):
            yield names[start : start + NAMES_PER_SUBSCRIBE]


def prefix_of(name: str) -> bytes:
    """Return what a SUB socket subscribes to for a name; names hold no ``|``, so that no other name begins with it."""
    return name.encode() + b"|"
