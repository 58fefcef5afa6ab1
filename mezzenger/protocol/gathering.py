"""Messages that come so fast one after the other that they travel together.

A message that comes alone leaves at once. Within a burst messages wait for each other, until the first of them has
waited for a millisecond. Then all leave, in order, in as few frames as they fit into: those of one name as a batch,
those of several as a bundle, which is also for messages with headers.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.wire import FRAME_OVERHEAD, MAX_BATCH, NO_EXTRA, Extra, write_extra

MAX_PAYLOAD: Final = 16_384
"""Bytes of a payload with what travels beside it; what is larger gains little by company, and does not wait for it."""
MAX_FRAME: Final = 256 * 2**10
"""Bytes of a frame, if the server takes so many: larger ones cost no less for a message."""
MIN_FRAME: Final = 64 * 2**10
"""Bytes of a frame that any server takes."""
OVERHEAD: Final = 16
"""Bytes that a message takes beside its name and payload, at most."""
GAP: Final = 50e-6
"""Seconds from the end of one call to the next one of the same burst, at most; an answer to an answer takes longer."""
LONGEST: Final = 1e-3
"""Seconds that a message waits at most."""

_NOTHING_WAITS: Final = -math.inf

Item = tuple[float, bytes]


class Outlet:
    """What messages have in common that are sent alike: a name, the number of a codec, and extra fields."""

    __slots__ = ("beside", "codec", "extra", "name", "size")

    def __init__(self, name: str, codec: int, extra: Extra = NO_EXTRA) -> None:
        self.name = name
        self.codec = codec
        self.extra = extra
        self.beside = 0 if extra is NO_EXTRA else len(write_extra(extra))
        """Bytes of the extra fields."""
        self.size = OVERHEAD + len(name.encode()) + self.beside
        """Bytes that each message takes beside its payload, at most."""


Waiting = tuple[Outlet, Item]


class Gathering:
    """What waits to be sent.

    Any thread may ``put``, at any time; only one at a time may use the other methods. Nothing that was put is lost if
    whoever did so looks at ``deadline`` afterwards, and sees to it that all leave if that is over: who takes all that
    waits sets ``deadline`` back before.
    """

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self.put = self._waiting.append
        """Takes in a message of at most ``MAX_PAYLOAD`` bytes, with what travels beside it."""
        self.deadline = _NOTHING_WAITS
        """When all that waits must leave; long over if nothing is known to wait."""
        self._last = -math.inf

    def __len__(self) -> int:
        return len(self._waiting)

    def is_burst(self, now: float) -> bool:
        """Whether what was put now may wait, because it is one of a burst; if it is the first, the deadline is set."""
        if self.deadline == _NOTHING_WAITS and now - self._last < GAP:
            self.deadline = now + LONGEST
        return now < self.deadline

    def sent(self, now: float) -> None:
        """Take note that the call which had to send has done so; it may have taken longer than a gap."""
        self._last = now

    def take_back(self, created: float) -> None:
        """Forget what was put with that very object as its time, if it still waits; whoever put it may not."""
        for put in self._waiting:
            if put[1][0] is created:
                self._waiting.remove(put)
                return

    def take_all(self, limit: int) -> Sequence[Draft | MixedDraft]:
        """Return, and forget, all that waits, in order, in frames of at most ``limit`` bytes."""
        self.deadline = _NOTHING_WAITS
        waiting = self._waiting
        count = len(waiting)
        taken = waiting[:count]
        # The list itself stays, for others add to it meanwhile.
        del waiting[:count]
        if not taken:
            return ()
        self._last = taken[-1][1][0]
        if count == 1:
            return (draft_of_one(*taken[0]),)
        room = min(limit, MAX_FRAME) - FRAME_OVERHEAD
        outlets, items = zip(*taken, strict=True)
        outlet = outlets[0]
        if outlets.count(outlet) == count <= MAX_BATCH:
            size = count * outlet.size + sum([len(payload) for _, payload in items])
            if size <= room:
                return (Draft(outlet.name, items, 0, outlet.codec, outlet.extra),)
        return [_draft(part) for part in _cut(taken, room)]


def draft_of_one(outlet: Outlet, item: Item) -> Draft:
    """Return what travels as a frame with one message."""
    return Draft(outlet.name, (item,), 0, outlet.codec, outlet.extra)


def _cut(waiting: Sequence[Waiting], room: int) -> Iterator[Sequence[Waiting]]:
    """Yield what fits into a frame, of one codec, over and over."""
    start, left, codec = 0, room, waiting[0][0].codec
    for index, (outlet, (_, payload)) in enumerate(waiting):
        size = outlet.size + len(payload)
        if size > left or outlet.codec != codec or index - start == MAX_BATCH:
            yield waiting[start:index]
            start, left, codec = index, room, outlet.codec
        left -= size
    yield waiting[start:]


def _draft(waiting: Sequence[Waiting]) -> Draft | MixedDraft:
    """Return what travels as one frame."""
    if len(waiting) == 1:
        return draft_of_one(*waiting[0])
    outlets, items = zip(*waiting, strict=True)
    names = [outlet.name for outlet in outlets]
    extras = [outlet.extra for outlet in outlets]
    if names.count(names[0]) == extras.count(NO_EXTRA) == len(names):
        return Draft(names[0], items, 0, outlets[0].codec, extras[0])
    return MixedDraft(names, items, extras, outlets[0].codec)
