"""Subscribing and joining: what a client asks for, on each of its connections, until the server has answered."""

from collections.abc import Callable, Sequence

from mezzenger.errors import MezzengerError, NotSubscribed, Rejected
from mezzenger.protocol.commands import Command, Declined, Leave, Subscribe, Subscribed, Unsubscribe
from mezzenger.protocol.events import Action, Ended, Ignore, Listen
from mezzenger.protocol.freshness import Freshness
from mezzenger.protocol.subscriptions import Membership, Subscriptions, prefix_of
from mezzenger.queues import is_group, queue_of, split_queue


class Subscribing:
    """Keeps the server, and the SUB socket, in step with the subscriptions.

    Args:
        subscriptions: What there is.
        freshness: Is told of sync tokens, and tells when one is of no use any more.
        act: Has the shell do something.
        send: Sends a command.
        done: Is given the ticket of each subscription that is active, or failed.
        ended: Is told of those that were active and are so no more.
        random_token: Returns a fresh token at each call.
    """

    def __init__(  # noqa: PLR0917  # both directions of a connection
        self,
        subscriptions: Subscriptions,
        freshness: Freshness,
        act: Callable[[Action], None],
        send: Callable[[Command], None],
        done: Callable[[int, MezzengerError | None], None],
        ended: Callable[[Ended], None],
        random_token: Callable[[], bytes],
    ) -> None:
        self._subscriptions = subscriptions
        self._freshness = freshness
        self._act = act
        self._send = send
        self._done = done
        self._ended = ended
        self._random_token = random_token
        self._is_connected = False

    def subscribe(self, name: str, membership: Membership | None, ticket: int) -> None:
        """Ask for the messages of a name or pattern, as a subscriber or as a member of a group."""
        queue = self._subscriptions.add(name, membership, ticket)
        if self._is_connected:
            self._begin([queue])

    def unsubscribe(self, name: str, group: str | None) -> None:
        """Ask for no more.

        Raises:
            NotSubscribed: It was not asked for.
        """
        queue = queue_of(name, group)
        ticket = self._subscriptions.remove(queue)
        if ticket is not None:
            self._done(ticket, NotSubscribed(f"{name!r} was unsubscribed before the server had answered"))
        self._forget(queue)

    def withdraw(self, ticket: int) -> None:
        """Forget a subscription that nobody waits for any more."""
        queue = self._subscriptions.waits_with(ticket)
        if queue is not None:
            self._subscriptions.remove(queue)
            self._forget(queue)

    def connected(self) -> None:
        """Ask for everything anew."""
        self._is_connected = True
        self._begin(self._subscriptions.queues())

    def disconnected(self) -> None:
        """Take note that nothing more will be heard on this connection."""
        self._is_connected = False
        self._subscriptions.disconnected()
        self._freshness.disconnected()

    def tick(self, now: float) -> None:
        """Ask again for what the server has answered in vain."""
        for names in self._freshness.overdue(now):
            self._request(names)

    def answered(self, answer: Subscribed | Declined, deadline: float) -> None:
        """Take what the server says to a request; what is still to come after that is waited for until a deadline."""
        if isinstance(answer, Declined):
            self._declined(answer)
            return
        request = self._subscriptions.answered(answer.request)
        if request is None:
            return
        if isinstance(request, Subscribe):
            self._freshness.answered(request, deadline)
        for ticket in self._subscriptions.waiting(request):
            self._done(ticket, None)

    def _declined(self, answer: Declined) -> None:
        queue = self._subscriptions.declined(answer.request)
        if queue is None:
            return
        ticket = self._subscriptions.remove(queue)
        # If only its store has failed, the server has the client as a member all the same.
        self._forget(queue)
        error = Rejected(answer.reason, answer.text)
        if ticket is None:
            self._ended(Ended(queue, error))
        else:
            self._done(ticket, error)

    def _begin(self, queues: Sequence[str]) -> None:
        """Ask for what this connection does not have yet."""
        for queue in queues:
            if not is_group(queue):
                self._act(Listen(prefix_of(queue)))
        self._request(queues)

    def _request(self, queues: Sequence[str]) -> None:
        # Once for each connection the SUB socket subscribes to a name, before any token that tells so: it counts.
        for request in self._subscriptions.request(queues, self._random_token):
            if isinstance(request, Subscribe):
                self._act(Listen(request.token))
                self._freshness.requested(request)
            self._send(request)

    def _forget(self, queue: str) -> None:
        if not self._is_connected:
            return
        name, group = split_queue(queue)
        if group is None:
            self._act(Ignore(prefix_of(name)))
            self._send(Unsubscribe(name))
        else:
            self._send(Leave(name, group))
