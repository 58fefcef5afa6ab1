"""What the broker has counted: typed, and safe to hand out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mezzenger.broker.pending import Pending


@dataclass(slots=True)
class Counters:
    """Everything that is counted as it happens; all of it since the server started."""

    published: int = 0
    """Messages with ``ack=0`` that were handed on to subscribers."""
    stored: int = 0
    """Messages with ``ack=1``."""
    repeated: int = 0
    """Frames that were published again and had been stored before."""
    delivered: int = 0
    """Deliveries of ``ack=1`` frames, redeliveries among them."""
    redelivered: int = 0
    acked: int = 0
    """Messages settled by an ack."""
    nacked: int = 0
    """Nacks: a subscriber's callback failed."""
    buried: int = 0
    """Messages that became dead letters."""
    resent: int = 0
    """Messages of dead letters that were put among what is to be delivered again."""
    discarded: int = 0
    """Messages of dead letters that were dropped."""
    unretained: int = 0
    """Messages that were not kept as the last of their names, for lack of room."""
    requests: int = 0
    """Those that were as the protocol has them."""
    responses: int = 0
    """Handed to who asked."""
    unserved: Counter[str] = field(default_factory=Counter)
    """By reason: requests to which nobody responds."""
    unwanted: int = 0
    """Responses that nobody waited for any more, or to what their sender was not given."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason: messages that were published and will not be delivered to some or any subscriber."""
    malformed: Counter[str] = field(default_factory=Counter)
    """By reason: frames from peers that were not as the protocol has them."""


@dataclass(frozen=True, slots=True)
class BrokerStats:
    """A snapshot of the broker."""

    peers: int
    """Clients that are connected."""
    names: int
    """Names with a subscriber."""
    pending: int
    """Frames stored and not yet acknowledged."""
    pending_size: int
    """Bytes of these frames."""
    delayed: int
    """Frames that are not due yet."""
    delayed_size: int
    dead: int
    """Dead letters."""
    dead_size: int
    retained: int
    """Names whose last message is kept."""
    retained_size: int
    in_flight: int
    """Deliveries sent and not yet acknowledged."""
    open_requests: int
    """Requests that are not answered."""
    published: int
    stored: int
    repeated: int
    delivered: int
    redelivered: int
    acked: int
    nacked: int
    buried: int
    resent: int
    discarded: int
    unretained: int
    requests: int
    responses: int
    unserved: Mapping[str, int]
    unwanted: int
    dropped: Mapping[str, int]
    malformed: Mapping[str, int]


class Present(NamedTuple):
    """What is there now, beside what is kept."""

    peers: int
    names: int
    in_flight: int
    open_requests: int
    retained: int
    retained_size: int


def snapshot(counters: Counters, pending: Pending, present: Present) -> BrokerStats:
    """Return what was counted, and what is there now."""
    return BrokerStats(
        peers=present.peers,
        names=present.names,
        pending=pending.frames,
        pending_size=pending.size,
        delayed=pending.delayed.frames,
        delayed_size=pending.delayed.size,
        dead=pending.dead.frames,
        dead_size=pending.dead.size,
        retained=present.retained,
        retained_size=present.retained_size,
        in_flight=present.in_flight,
        open_requests=present.open_requests,
        published=counters.published,
        stored=counters.stored,
        repeated=counters.repeated,
        delivered=counters.delivered,
        redelivered=counters.redelivered,
        acked=counters.acked,
        nacked=counters.nacked,
        buried=counters.buried,
        resent=counters.resent,
        discarded=counters.discarded,
        unretained=counters.unretained,
        requests=counters.requests,
        responses=counters.responses,
        unserved=dict(counters.unserved),
        unwanted=counters.unwanted,
        dropped=dict(counters.dropped),
        malformed=dict(counters.malformed),
    )
