"""Which names a client has subscribed to, and which of them the server has answered for."""

from collections.abc import Iterator
from dataclasses import dataclass

from mezzenger.errors import AlreadySubscribed, NotSubscribed
from mezzenger.protocol import wire
from mezzenger.protocol.commands import NAMES_PER_SUBSCRIBE, Subscribe
from mezzenger.protocol.events import Action, Listen, Send
from mezzenger.protocol.freshness import Freshness


@dataclass(slots=True)
class Subscription:
    """One name."""

    ticket: int | None
    """Done, and then None, as soon as the subscription is active."""
    begun: int
    """Which one it is of all that were begun; the first is 1."""
    request: int = 0
    """The last Subscribe command that asked for it."""


class Subscriptions:
    """The names of a client, over all its connections.

    A request is made anew on every connection; the answer to an older one counts no more, since the name may have been
    unsubscribed in between.
    """

    def __init__(self) -> None:
        self.freshness = Freshness()
        self.begun = 0
        """How many names were subscribed so far, those among them that were unsubscribed since."""
        self._by_name: dict[str, Subscription] = {}
        self._requests: dict[int, Subscribe] = {}
        self._last_request = 0
        self._ended: list[bytes] = []

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def require_new(self, name: str) -> None:
        """Raise AlreadySubscribed if the name is there."""
        if name in self._by_name:
            raise AlreadySubscribed(f"this client is subscribed to {name!r} already; unsubscribe first")

    def add(self, name: str, ticket: int) -> None:
        """Take in a name whose subscription somebody waits for."""
        self.begun += 1
        self._by_name[name] = Subscription(ticket, self.begun)

    def begun_at(self, name: str) -> int:
        """Return which one of all that were begun the subscription of a name is."""
        return self._by_name[name].begun

    def remove(self, name: str) -> int | None:
        """Take out a name; return the ticket of who still waits for it.

        Raises:
            NotSubscribed: It is not there.
        """
        if name not in self._by_name:
            raise NotSubscribed(f"this client is not subscribed to {name!r}")
        self.freshness.forget(name)
        return self._by_name.pop(name).ticket

    def waits_with(self, ticket: int) -> str | None:
        """Return the name whose subscription this ticket waits for."""
        for name, subscription in self._by_name.items():
            if subscription.ticket == ticket:
                return name
        return None

    def request(self, names: list[str], token: bytes) -> list[Action]:
        """Return what is to be done to ask for these names."""
        self._last_request += 1
        command = Subscribe(self._last_request, names, token)
        self._requests[self._last_request] = command
        self.freshness.requested(command)
        for name in names:
            self._by_name[name].request = self._last_request
        return [*(Listen(prefix_of(name)) for name in names), Listen(token), Send(wire.encode_command(command))]

    def answered(self, request: int, deadline: float) -> list[int]:
        """Return the tickets of those who waited for what was answered.

        Args:
            request: That was answered; nothing happens if it is of no interest any more.
            deadline: How long to wait for the mark that belongs to it, if one does.
        """
        command = self._requests.pop(request, None)
        if command is None:
            return []
        if self.freshness.answered(command, deadline):
            self._ended.append(command.token)
        tickets = []
        for name in command.names:
            subscription = self._by_name.get(name)
            if subscription and subscription.request == request and subscription.ticket is not None:
                tickets.append(subscription.ticket)
                subscription.ticket = None
        return tickets

    def mark(self, token: bytes) -> None:
        """Take note that the SUB socket has brought a token."""
        if self.freshness.mark(token):
            self._ended.append(token)

    def take_ended(self) -> list[bytes]:
        """Return the tokens to which the SUB socket need not be subscribed any longer."""
        ended, self._ended = self._ended, []
        return ended

    def overdue(self, now: float) -> Iterator[list[str]]:
        """Yield the names that must be asked for anew, for a mark was lost."""
        for command in list(self.freshness.overdue(now)):
            self._ended.append(command.token)
            names = [name for name in command.names if name in self._by_name]
            if names:
                yield names

    def disconnected(self) -> None:
        """Forget the requests: nobody will answer them."""
        self._requests.clear()
        self._ended.clear()
        self.freshness.disconnected()

    def all_names(self) -> Iterator[list[str]]:
        """Yield all names, as many at once as one command holds."""
        names = list(self._by_name)
        for start in range(0, len(names), NAMES_PER_SUBSCRIBE):
            yield names[start : start + NAMES_PER_SUBSCRIBE]


def prefix_of(name: str) -> bytes:
    """Return what a SUB socket subscribes to for a name; names hold no ``|``, so that no other name begins with it."""
    return name.encode() + b"|"
