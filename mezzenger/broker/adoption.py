"""What waited for a first subscriber, when that one is a group.

A message for which there is neither subscriber nor group waits in the queue of subscribers. If a group comes first, it
gets all that waits there, and what is on its way to the store. The commit that makes the group hands it over too, so
that no crash comes in between. What waits for its time, or is a dead letter, follows when it is its turn: see
``Routing.heir``.

What subscribers left behind is another matter once there is a group: that has copies of its own.
"""

from mezzenger.broker.effects import AddGroup, Adopt, Effect
from mezzenger.broker.groups import Group
from mezzenger.broker.intake import Intake
from mezzenger.broker.pending import Pending
from mezzenger.broker.routing import Routing
from mezzenger.queues import split_queue


class Adoption:
    """Makes groups, and hands them the queues of subscribers, where there are none.

    Args:
        routing: Knows subscribers and groups.
        pending: Knows what waits.
        effects: What is to be done is appended there.
        intake: Knows the highest number that was given to a message.
    """

    def __init__(self, routing: Routing, pending: Pending, effects: list[Effect], intake: Intake) -> None:
        self._routing = routing
        self._pending = pending
        self._effects = effects
        self._intake = intake

    def add_group(self, queue: str) -> Group:
        """Let there be a group; if it is the first for a name that nobody subscribes to, it inherits what waits."""
        since = self._intake.last_number
        group = self._routing.add_group(queue, since)
        self._effects.append(AddGroup(queue, since))
        pattern, _ = split_queue(queue)
        for name in self._pending.matching(pattern):
            if len(self._routing.groups_of(name)) == 1 and not self._routing.subscribers(name):
                self._pending.adopt(name, queue, since)
                self._effects.append(Adopt(name, queue))
        return group
