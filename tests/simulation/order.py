"""What one client's callbacks are given of names that retain: it goes forward only, from the last message on."""

from collections.abc import Mapping

from mezzenger.protocol.events import Delivery
from tests.simulation.clock import Clock
from tests.simulation.ledger import Ledger
from tests.simulation.policies import RULES
from tests.simulation.values import Id


class Order:
    """Of each name, what was given since it was subscribed.

    Args:
        ledger: Knows what came to the server later.
        clock: Is told what happens.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._values = ledger.values
        self._clock = clock
        self._given: dict[str, list[Id]] = {}
        self._retained: dict[str, Id] = {}
        """The last one of these that had been kept."""
        self._deliveries: dict[str, list[Delivery]] = {}
        self._unmarked: list[Delivery] = []
        """Last messages whose mark is lost: nobody can tell whether they are older than what came, or came before."""
        self._handled: dict[str, set[int]] = {}
        self._failed: set[Id] = set()
        """The frames, by their last messages, for which a callback has raised: they may be given again."""

    def subscribed(self, name: str) -> None:
        """Take note that a subscription begins."""
        self._given[name] = []
        self._retained.pop(name, None)
        self._deliveries[name] = []
        self._handled[name] = set()

    def handled(self, delivery: Delivery, number: int) -> None:
        """Take note of a message, by its payload, whose callback has returned; it may be of an earlier subscription."""
        name = delivery.contents.header.name
        if RULES[name].retain is not None and any(one is delivery for one in self._deliveries[name]):
            self._handled[name].add(number)

    def failed(self, delivery: Delivery) -> None:
        """Take note that a callback has raised."""
        self._failed.add(_last_of(delivery))

    def may_be_handled(self, delivery: Delivery, number: int) -> bool:
        """Whether a callback may be given a message, by its payload, though it was handled before."""
        name = delivery.contents.header.name
        if not delivery.is_retained:
            return False
        if any(one is delivery for one in self._unmarked):
            return True
        return number not in self._handled[name] or self._is_last_again(name, _last_of(delivery))

    def arrived(self, delivery: Delivery, *, has_lost_mark: bool) -> None:
        """Check what is given to a callback."""
        header = delivery.contents.header
        if RULES[header.name].retain is None or delivery.served is not None:
            return
        id_ = _last_of(delivery)
        if delivery.is_retained:
            self._clock.tell("last message seen", header.name, *id_)
            newer = [one for one in self._given[header.name] if not self._is_before(one, id_)]
            newer = [
                one for one in newer if one != id_ or not (id_ in self._failed or self._is_last_again(header.name, id_))
            ]
            assert has_lost_mark or not newer, f"{id_} of {header.name} had been kept, and is given after {newer}"
            self._retained[header.name] = id_
            if has_lost_mark:
                self._unmarked.append(delivery)
        elif not header.ack and header.name in self._retained:
            kept = self._retained[header.name]
            assert self._is_before(kept, id_), f"{id_} of {header.name} is given after {kept}, which had been kept"
        self._given[header.name].append(id_)
        self._deliveries[header.name].append(delivery)

    def answered(self, name: str, kept: Mapping[str, Id]) -> None:
        """Check, when a subscription is active, that its callback is given what was kept, or something newer."""
        id_ = kept.get(name)
        if id_ is None:
            return
        newest = [one for one in self._given[name] if not self._is_before(one, id_)]
        assert newest, f"{id_} of {name} had been kept, and is not given: {self._given[name]}"
        if id_ not in self._retained.values():
            self._clock.tell("last message seen before", name)

    def _is_last_again(self, name: str, id_: Id) -> bool:
        """Whether a crash has lost what was given after a message."""
        given = self._given[name]
        return any(one in self._values.lost for one in given[given.index(id_) :])

    def _is_before(self, one: Id, other: Id) -> bool:
        """Whether a message came to the server before another one, or a crash has made it as if it had never come."""
        return self._values.orders[one] < self._values.orders[other] or one in self._values.lost


def _last_of(delivery: Delivery) -> Id:
    header = delivery.contents.header
    return header.client, header.sequence + header.messages - 1
