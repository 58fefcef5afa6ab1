"""Messages that come so fast one after the other that they travel together.

A message that comes alone leaves at once. Within a burst messages wait for each other, until a frame is full or its
first message has waited for a millisecond. Those of one name leave as a batch, those of several as a bundle, which is
also for messages with headers. The order of all is kept.
"""

from collections.abc import Sequence
from typing import Final

from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.wire import NO_EXTRA, Extra, write_extra

MAX_PAYLOAD: Final = 16_384
"""Bytes of a payload with what travels beside it; what is larger gains nothing by company."""
ROOM: Final = 40_960
"""Bytes of all that waits but the last message, overheads counted: any server takes them in one frame."""
OVERHEAD: Final = 32
"""Bytes that a message counts beside its name and payload, so that at most some 1,300 travel together."""
GAP: Final = 50e-6
"""Seconds from the end of one call to the next one of the same burst, at most; an answer to an answer takes longer."""
LONGEST: Final = 1e-3
"""Seconds that a message waits at most."""

Item = tuple[float, bytes]


class Gathering:
    """What waits to be sent."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._name: str | None = None
        """That of all that waits; None if nothing waits, or that is a bundle."""
        self._names: list[str] = []
        """Of each item of a bundle; of a batch, that of the first alone."""
        self._extras: list[Extra] = []
        """Likewise."""
        self._codec = -1
        """With which all that waits is written."""
        self._last_one: list[Draft] = []
        """A message that travels alone, and leaves with all that waits, behind it."""
        self._cost = OVERHEAD
        """Bytes that the message counts beside its payload, and those of its name that follow it."""
        self._room = ROOM
        self._last = -GAP
        self.deadline: float | None = None
        """When what waits must leave; None if nothing does."""

    def take(self, name: str, item: Item, codec: int, now: float, extra: Extra = NO_EXTRA) -> float:
        """Take in a message; return the deadline, which is over if all that waits must leave now."""
        is_burst = now - self._last < GAP
        self._last = now
        size = len(item[1])
        # The object itself: who sends many of one name mostly has it in a variable.
        is_next = name is self._name and codec == self._codec and extra is NO_EXTRA and size <= MAX_PAYLOAD
        if not is_next and not self._joins(name, size, codec, extra):
            self._last_one = [Draft(name, [item], 0, codec, extra)]
            self.deadline = now
            return now
        self._items.append(item)
        self._room -= size + self._cost
        deadline = self.deadline
        if not is_burst or self._room <= 0:
            self.deadline = deadline = now
        elif deadline is None:
            self.deadline = deadline = now + LONGEST
        return deadline

    def _joins(self, name: str, size: int, codec: int, extra: Extra) -> bool:
        """Return whether a message may go with what waits; if so, make ready for it."""
        beside = 0 if extra is NO_EXTRA else len(write_extra(extra))
        if size + beside > MAX_PAYLOAD or (self._items and codec != self._codec):
            return False
        self._cost = OVERHEAD + len(name.encode()) + beside
        if not self._items:
            self._names, self._extras, self._codec = [name], [extra], codec
            self._name = name if extra is NO_EXTRA else None
        elif name == self._name and extra is NO_EXTRA:
            self._name = name
        else:
            if self._name is not None:
                more = len(self._items) - 1
                self._names += [self._name] * more
                self._extras += [NO_EXTRA] * more
                self._name = None
            self._names.append(name)
            self._extras.append(extra)
        return True

    def sent(self, now: float) -> None:
        """Take note that the call which had to send has done so; it may have taken longer than a gap."""
        self._last = now

    def take_all(self) -> Sequence[Draft | MixedDraft]:
        """Return, and forget, all that waits, in order."""
        leaving: list[Draft | MixedDraft] = []
        if self._name is None and len(self._items) > 1:
            leaving.append(MixedDraft(self._names, self._items, self._extras, self._codec))
        elif self._items:
            leaving.append(Draft(self._names[0], self._items, 0, self._codec, self._extras[0]))
        leaving += self._last_one
        self._items, self._last_one = [], []
        self._name = self.deadline = None
        self._room = ROOM
        return leaving
