"""What a client subscribes to, and which groups it joins, up to a limit."""

from mezzenger.broker.connections import Connections
from mezzenger.broker.deliveries import Deliveries
from mezzenger.broker.memberships import Memberships
from mezzenger.broker.peers import Peer
from mezzenger.errors import InvalidName, ProtocolError
from mezzenger.patterns import check_pattern
from mezzenger.protocol.commands import Declined, Join, Leave, Subscribe, Unsubscribe
from mezzenger.queues import queue_of


class Subscribing:
    """Takes subscriptions in.

    Args:
        max_names: How many names and patterns one peer may subscribe to, and how many groups it may join.
        connections: Answers, and dismisses.
        deliveries: Are told who subscribes.
        memberships: Are told who joins.
    """

    def __init__(
        self, max_names: int, connections: Connections, deliveries: Deliveries, memberships: Memberships
    ) -> None:
        self._max_names = max_names
        self._connections = connections
        self._deliveries = deliveries
        self._memberships = memberships

    def receive(self, peer: Peer, command: Subscribe | Unsubscribe | Join | Leave, now: float) -> None:
        """Take what a peer says about its subscriptions.

        Raises:
            ProtocolError: It is not as the protocol has it.
        """
        match command:
            case Subscribe():
                self._subscribe(peer, command, now)
            case Unsubscribe():
                if command.name in peer.names:
                    self._deliveries.unsubscribe(peer, command.name, now)
            case Join():
                self._join(peer, command, now)
            case _:
                self._memberships.leave(peer, command, now)

    def _subscribe(self, peer: Peer, command: Subscribe, now: float) -> None:
        for name in command.names:
            try:
                check_pattern(name)
            except InvalidName as error:
                raise ProtocolError("name", str(error)) from None
        limit = self._max_names
        # What it has already it may ask for again, as a client does that has missed a mark.
        new = set(command.names) - peer.names
        if len(peer.names) + len(new) > limit or len(peer.sync_tokens) >= limit:
            text = f"a client may subscribe to {limit} names at most (the server's setting server.max_names)"
            self._connections.dismiss(peer, "names", text, now, retry=False)
            raise ProtocolError("names", f"a peer that subscribes to more than {limit} names")
        self._connections.require_unclaimed(command.token)
        for name in command.names:
            if name not in peer.names:
                self._deliveries.subscribe(peer, name, now)
        self._connections.await_sync(peer, command, now)

    def _join(self, peer: Peer, join: Join, now: float) -> None:
        limit = self._max_names
        if queue_of(join.name, join.group) not in peer.members and len(peer.members) >= limit:
            text = f"a client may join {limit} groups at most (the server's setting server.max_names)"
            self._connections.answer(peer.id, Declined(join.request, "names", text))
        else:
            self._memberships.join(peer, join, now)
