"""What waited for a first subscriber, when that one is a group.

A message for which there is neither subscriber nor group waits in the queue of subscribers. If a group comes first, it
gets all that waits there. What is on its way to the store then, or waits for its time, follows.

What subscribers left behind is another matter once there is a group: that has copies of its own.
"""

from mezzenger.broker.effects import Adopt, Effect
from mezzenger.broker.fates import Fates
from mezzenger.broker.intake import Intake
from mezzenger.broker.routing import Routing
from mezzenger.queues import is_group, split_queue


class Adoption:
    """Hands the queues of subscribers, where there are none, to groups.

    Args:
        routing: Knows subscribers and groups.
        fates: Know what is pending.
        effects: What is to be done is appended there.
        intake: Knows the highest number that was given to a message.
    """

    def __init__(self, routing: Routing, fates: Fates, effects: list[Effect], intake: Intake) -> None:
        self._routing = routing
        self._fates = fates
        self._effects = effects
        self._intake = intake
        self._orphans: dict[str, None] = {}
        self._since: dict[str, int] = {}
        """Of groups that were made in this run, which messages are older."""

    def group_added(self, queue: str) -> None:
        """Take note of a new group, which may inherit something."""
        pattern, _ = split_queue(queue)
        self._since[queue] = self._intake.last_number
        for name in self._fates.pending.matching(pattern):
            if len(self._routing.groups_of(name)) == 1:
                self._orphans[name] = None

    def group_dropped(self, queue: str) -> None:
        """Take note that a group is gone."""
        self._since.pop(queue, None)

    def requeued(self, queue: str, former: int) -> None:
        """Take note that what was kept apart is in a queue; it may be older than any group, and alone there."""
        if not self._routing.by_queue or is_group(queue):
            return
        groups = self._routing.groups_of(queue)
        if not all(former <= self._since.get(group.queue, 0) for group in groups):
            # Of this there are copies for the groups; and what is in one queue is not told apart.
            self._orphans.pop(queue, None)
        elif self._fates.pending.frames_of(queue) == 1:
            self._orphans[queue] = None

    def settle(self) -> None:
        """Hand over what can be, and forget what need not be."""
        for name in list(self._orphans):
            heirs = [group for group in self._routing.groups_of(name) if not group.is_leaving]
            if not heirs or self._routing.subscribers(name):
                del self._orphans[name]
            elif self._fates.pending.is_quiet(name):
                del self._orphans[name]
                if self._fates.pending.frames_of(name):
                    self._hand_over(name, heirs[0].queue)

    def _hand_over(self, name: str, heir: str) -> None:
        self._fates.pending.adopt(name, heir)
        self._effects.append(Adopt(name, heir))
        if self._routing.is_served(heir):
            self._fates.load(heir)
