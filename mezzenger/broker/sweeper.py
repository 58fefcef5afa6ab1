"""What the time brings: messages that expire, and delayed ones that are due.

The store knows when; here is only the first of these moments. When it has come, the store is asked what that concerns.
"""

from typing import Final

from mezzenger.broker.deliveries import Deliveries
from mezzenger.broker.effects import Origin, Requeue, Store, Sweep
from mezzenger.broker.intake import Intake
from mezzenger.broker.restored import Swept, Waiting
from mezzenger.broker.retained import LastValues
from mezzenger.broker.routing import Routing
from mezzenger.queues import is_group

SWEEP_FRAMES: Final = 1024
RETRY_SECONDS: Final = 60.0
"""After which the store is asked again that could not be read."""


class Sweeper:
    """Watches for the first moment at which something expires or is due.

    Args:
        routing: Knows which groups there are.
        deliveries: Is told what has expired.
        intake: Takes in what is due.
        retained: Is told of it, too.
    """

    def __init__(self, routing: Routing, deliveries: Deliveries, intake: Intake, retained: LastValues) -> None:
        self._routing = routing
        self._deliveries = deliveries
        self._intake = intake
        self._retained = retained
        self._effects = deliveries.fates.effects
        self._moment: float | None = None
        self._is_sweeping = False

    def note(self, moment: float | None) -> None:
        """Take note that something will expire or be due, if it will."""
        if moment is not None and (self._moment is None or moment < self._moment):
            self._moment = moment

    def stored(self, store: Store) -> None:
        """Take note of a frame that the store has."""
        self.note(store.expires)
        self.note(store.due)

    def next_deadline(self) -> float | None:
        """Return when ``tick`` must be called next."""
        return None if self._is_sweeping else self._moment

    def tick(self, now: float) -> None:
        """Have the store looked through if the moment has come."""
        if self._is_sweeping or self._moment is None or self._moment > now:
            return
        self._is_sweeping = True
        self._moment = None
        self._deliveries.pending.sweeping()
        self._effects.append(Sweep(now, SWEEP_FRAMES))

    def swept(self, swept: Swept, now: float) -> None:
        """Take out what has expired, and put what is due among what is to be delivered."""
        self._is_sweeping = False
        self.note(swept.next)
        pending = self._deliveries.pending
        settled = pending.swept()
        for waiting in swept.expired:
            # Its queue may have been inherited since the store was read.
            one = waiting._replace(name=pending.queue_of(waiting.name, waiting.number))
            if one.number not in settled and self._is_there(one):
                self._deliveries.expired(one, now)
        due: list[tuple[Waiting, int]] = []
        for one in filter(self._is_there, swept.due):
            requeue = self._intake.requeue(Origin.DELAYED, one.number, one.name, one.messages, one.size)
            due.append((one._replace(name=requeue.queue), requeue.number))
        self._retained.due(due)

    def moved(self, requeue: Requeue) -> None:
        """Take note that the store has put what was due among what is to be delivered."""
        self._deliveries.pending.delayed.add(-1, -requeue.size)
        group = self._routing.find_group(requeue.name)
        if group is not None:
            group.delayed.add(-1, -requeue.size)

    def _is_there(self, waiting: Waiting) -> bool:
        """Whether the queue of what was found has not been dropped meanwhile, with all that is in it."""
        group = self._routing.find_group(waiting.name)
        return not is_group(waiting.name) or (group is not None and not group.is_leaving)

    def not_swept(self, now: float) -> None:
        """Take note that the store could not be read; what has expired, or is due, stays where it is until it can."""
        self._is_sweeping = False
        self._deliveries.pending.swept()
        self.note(now + RETRY_SECONDS)
