"""What waited for a first subscriber, when that one is a group.

A message for which there is neither subscriber nor group waits in the queue of subscribers. If a group comes first, it
gets all that waits there. What is on its way to the store then, or waits for its time, follows.
"""

from mezzenger.broker.effects import Adopt, Effect
from mezzenger.broker.fates import Fates
from mezzenger.broker.routing import Routing
from mezzenger.patterns import matches
from mezzenger.queues import is_group, split_queue


class Adoption:
    """Hands the queues of subscribers, where there are none, to groups.

    Args:
        routing: Knows subscribers and groups.
        fates: Know what is pending.
        effects: What is to be done is appended there.
    """

    def __init__(self, routing: Routing, fates: Fates, effects: list[Effect]) -> None:
        self._routing = routing
        self._fates = fates
        self._effects = effects
        self._orphans: dict[str, None] = {}

    def group_added(self, queue: str) -> None:
        """Take note of a new group, which may inherit something."""
        pattern, _ = split_queue(queue)
        for name in self._fates.pending.queues():
            if not is_group(name) and matches(pattern, name):
                self._orphans[name] = None

    def stored(self, queue: str) -> None:
        """Take note that something is in a queue; it may have been decided before there was a group."""
        if self._routing.by_queue and not is_group(queue):
            self._orphans[queue] = None

    def settle(self) -> None:
        """Hand over what can be, and forget what need not be."""
        for name in list(self._orphans):
            heirs = self._routing.groups_of(name)
            if not heirs or self._routing.subscribers(name) or not self._fates.pending.of(name)[0]:
                del self._orphans[name]
            elif self._fates.pending.is_quiet(name):
                del self._orphans[name]
                self._hand_over(name, heirs[0].queue)

    def _hand_over(self, name: str, heir: str) -> None:
        self._fates.pending.adopt(name, heir)
        self._effects.append(Adopt(name, heir))
        if self._routing.is_served(heir):
            self._fates.load(heir)
