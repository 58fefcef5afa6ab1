"""What comes with ``ack=0``, handed on to all who get it."""

from collections.abc import Mapping, Sequence

from mezzenger.broker.deliveries import Deliveries
from mezzenger.broker.effects import Effect, Publish
from mezzenger.broker.peers import Peer
from mezzenger.broker.retained import LastValues
from mezzenger.broker.routing import Routing
from mezzenger.broker.stats import Counters
from mezzenger.codecs import Buffer
from mezzenger.protocol.bundle import Bundle, part, read_bundle, split_bundle
from mezzenger.protocol.commands import TOKEN_BYTES
from mezzenger.protocol.wire import Header, read_header


class Broadcasts:
    """Hands on data frames, and bundles.

    Args:
        routing: Knows who gets what.
        deliveries: Gives frames to members of groups.
        retained: Keeps the last ones.
        counters: What is counted here is counted there.
        effects: What is to be done is appended there.
    """

    def __init__(
        self,
        routing: Routing,
        deliveries: Deliveries,
        retained: LastValues,
        counters: Counters,
        effects: list[Effect],
    ) -> None:
        self._routing = routing
        self._deliveries = deliveries
        self._retained = retained
        self._counters = counters
        self._effects = effects

    def frame(self, header: Header, frame: Buffer, now: float) -> bool:
        """Hand a data frame on to all subscribers, and to one member of each group.

        Returns:
            Whether there is neither a group that gets it, nor anything that might be kept.
        """
        name, messages, routing = header.name, header.messages, self._routing
        is_calm, is_given = True, False
        if self._retained.is_on:
            self._retained.published(name, bytes(frame), now)
            is_calm = False
        if routing.by_queue:
            for group in routing.groups_of(name):
                is_given |= self._deliveries.broadcast(group, bytes(frame), messages)
                is_calm = False
        if routing.subscribers(name):
            self._effects.append(Publish(frame))
            is_given = True
        if is_given:
            self._counters.published += messages
        else:
            self._counters.dropped["no_subscriber"] += messages
        return is_calm

    def bundle(self, frame: Buffer, now: float) -> bool:
        """Hand the messages of a bundle on to all who get them; the rest is as in ``frame``.

        Each subscriber gets a bundle with what is for it. If some message is for more than subscribers, or if there are
        more subscribers than messages, the bundle is taken apart, and each message goes its own way.

        Raises:
            ProtocolError: It is malformed; nobody gets anything of it.
        """
        bundle = read_bundle(frame)
        names = bundle.names
        subscribers = self._routing.subscribers_of_each(names)
        shares = _shares(subscribers)
        if len(shares) > len(names) or self._routing.have_groups(names) or self._have_last(names):
            return self._take_apart(bundle, now)
        for peer, share in shares.items():
            content = frame[TOKEN_BYTES:] if len(share) == len(names) else part(bundle, share)
            self._effects.append(Publish(b"".join((peer.token, content))))
        lost = subscribers.count(())
        if lost:
            self._counters.dropped["no_subscriber"] += lost
        self._counters.published += len(names) - lost
        return True

    def _have_last(self, names: Sequence[str]) -> bool:
        """Whether the last message of one of these names is to be kept."""
        return self._retained.is_on and any(map(self._retained.is_retaining, names))

    def _take_apart(self, bundle: Bundle, now: float) -> bool:
        is_calm = True
        for frame in split_bundle(bundle):
            is_calm &= self.frame(read_header(frame), frame, now)
        return is_calm


def _shares(subscribers: Sequence[tuple[Peer, ...]]) -> Mapping[Peer, Sequence[int]]:
    """Return, for each peer, which of some messages it gets, given who gets each of them."""
    if len(set(subscribers)) == 1:
        return dict.fromkeys(subscribers[0], range(len(subscribers)))
    shares: dict[Peer, list[int]] = {}
    for index, peers in enumerate(subscribers):
        for peer in peers:
            shares.setdefault(peer, []).append(index)
    return shares
