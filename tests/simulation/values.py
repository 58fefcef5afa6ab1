"""The account of last messages: which one of each name the server must keep, have in its file, and give to whom.

It is kept from what the broker was given and what was committed, beside the broker. Of two messages of a name the one
is the last that came to the server later; with ``ack=1`` it counts from its commit on.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mezzenger.broker.effects import Change, Effect, Requeue, Retain, Store, Unretain
from mezzenger.broker.retained import WRITE_SECONDS
from mezzenger.protocol import wire
from mezzenger.protocol.commands import ClientCommand, DropRetained, Join, Subscribe, Unsubscribe
from mezzenger.protocol.last_message import last_message
from tests.simulation.clock import Clock
from tests.simulation.frames import contents_of, header_of
from tests.simulation.policies import RULES

LATE: Final = 1.5
"""Seconds in which the store, slow or full as it may be, writes what has changed."""
_ROWS: Final = "SELECT name.name, number, expires, frame FROM retained JOIN name ON retained.name = id"

Id = tuple[int, int]
"""Client and sequence of a message."""


class Published(NamedTuple):
    """A frame as it was published, whatever it became in the queues that it is in."""

    client: int
    sequence: int
    messages: int


@dataclass(frozen=True, slots=True)
class Value:
    """A message that is, or was, the last of its name."""

    order: int
    """Rises with what came to the server."""
    id: Id
    stored: Id | None
    """Client and first sequence of the frame that it came in, if that was stored."""
    expires: float | None
    since: float
    """When it came, by the steady clock."""


class Values:
    """What is kept of each name that retains.

    Args:
        clock: Is told what happens.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._count = 0
        self._memory: dict[str, Value] = {}
        self._disk: dict[str, Value] = {}
        self._storing: dict[int, tuple[str, Value]] = {}
        """What is the last one once it is committed, by the number of the first that is stored of it."""
        self._stored: set[Id] = set()
        """What is, or was, among these: it is the last one once, in however many queues it is."""
        self._numbers: dict[int, Value] = {}
        self._ends: dict[int, int] = {}
        """Up to which order last messages were forgotten, by the number that the broker tells."""
        self._dropped: dict[str, int] = {}
        """Up to which order the last messages of a name were dropped, or have expired."""
        self._volatile: dict[str, list[Value]] = {}
        """What came with ack=0 since what the disk has, or has forgotten."""
        self.orders: dict[Id, int] = {}
        self.lost: set[Id] = set()
        """What a crash has made forgotten, though newer than what was kept."""
        self.lost_marks: set[bytes] = set()
        """The tokens without which nobody can tell what was published before a last message was given, what after."""
        self._asked: dict[tuple[bytes, int], list[str]] = {}
        self._given: dict[tuple[bytes, int], dict[str, Id]] = {}
        self.answered: dict[tuple[bytes, int], dict[str, Id]] = {}
        """What was given, by peer and request, once that was answered."""

    # What comes to the server, and what becomes of it.

    def begin(self) -> None:
        """Take note that the server starts with what is on its disk."""
        for name, values in self._volatile.items():
            kept = self._disk.get(name)
            self.lost.update(value.id for value in values if kept is None or value.order > kept.order)
        self._volatile.clear()
        self._stored.difference_update(value.id for _, value in self._storing.values())
        self._storing.clear()
        self._numbers.clear()
        self._ends.clear()
        self._asked.clear()
        self._given.clear()
        self._memory = dict(self._disk)

    def published(self, header: wire.Header, now: float) -> None:
        """Take note of a frame with ack=0."""
        policy = RULES[header.name]
        if policy.retain is not None:
            expires = None if policy.ttl is None else now + policy.ttl
            value = self._new((header.client, header.sequence + header.messages - 1), expires, stored=None)
            self._memory[header.name] = value
            self._volatile.setdefault(header.name, []).append(value)

    def told(self, peer: bytes, command: ClientCommand) -> None:
        """Take note of what a peer asks for."""
        match command:
            case Subscribe(request=request, names=names):
                self._asked[peer, request] = list(names)
            case Join(request=request):
                self._asked[peer, request] = []
            case Unsubscribe(name=name):
                for (asked_by, _), names in self._asked.items():
                    if asked_by == peer and name in names:
                        names.remove(name)
            case DropRetained(names=names):
                self._dropping(names)

    def storing(self, number: int, name: str, publish: Published, expires: float | None) -> None:
        """Take note of a frame with ack=1 that is to be delivered at once from now on, once that is committed."""
        id_ = publish.client, publish.sequence + publish.messages - 1
        if RULES[name].retain is not None and id_ not in self._stored:
            self._stored.add(id_)
            value = self._new(id_, expires, stored=(publish.client, publish.sequence))
            self._storing[number] = name, value

    def refused(self, number: int) -> None:
        """Take note that the store did not take a frame: should it come again, it counts from then on."""
        _, value = self._storing.pop(number, ("", None))
        if value is not None:
            self._stored.discard(value.id)

    def decided(self, effect: Effect, now: float) -> None:
        """Check what the broker wants written."""
        match effect:
            case Retain():
                self._check_retain(effect)
            case Unretain():
                self._check_unretain(effect, now)

    def committed(self, changes: Sequence[Change]) -> None:
        """Take note of what is in the store from now on."""
        for change in changes:
            match change:
                case Retain():
                    self._written(change)
                case Unretain(name=name):
                    value, end = self._disk.get(name), self._ends[change.number]
                    if value is not None and value.order <= end:
                        del self._disk[name]
                    self._written_up_to(name, end)
        ended = {change.name: self._ends[change.number] for change in changes if isinstance(change, Unretain)}
        for change in changes:
            number = change.number if isinstance(change, Store | Requeue) else 0
            if number in self._storing:
                name, value = self._storing.pop(number)
                if value.order > ended.get(name, 0):
                    self._became_last(name, value)

    # What must hold.

    def given(self, peer: bytes, request: int, frames: Iterable[bytes]) -> None:
        """Take note of what a peer is given."""
        for frame in frames:
            header = header_of(frame)
            assert header.messages == 1
            given = self._given.setdefault((peer, request), {})
            assert header.name not in given, f"{header.name} is given twice"
            given[header.name] = header.client, header.sequence

    def answering(self, peer: bytes, request: int, is_pending: Callable[[int, int, str], bool], now: float) -> None:
        """Check that a peer, which is told that it has subscribed, was given what it must be given.

        Args:
            peer: Who.
            request: Of its Subscribe.
            is_pending: Whether a frame, by client, first sequence and name, is to be acknowledged: it is not given.
            now: The broker's time.
        """
        wanted = {}
        for name in self._asked.pop((peer, request)):
            value = self._memory.get(name)
            if value is None or _has_expired(value, now):
                continue
            if value.stored is None or not is_pending(*value.stored, name):
                wanted[name] = value.id
        given = self._given.pop((peer, request), {})
        assert given == wanted, f"at {now}: {request} of {peer.hex()} is given {given}, where {wanted} are the last"
        self.answered[peer, request] = given
        for name, id_ in given.items():
            self._clock.tell("last message given", name, *id_)

    def check(self, now: float) -> None:
        """Check that what is kept is written soon."""
        for name, values in self._volatile.items():
            wanted = [value for value in values if value.order > self._dropped.get(name, 0)]
            is_late = bool(wanted) and self._clock.now - wanted[0].since > WRITE_SECONDS + LATE
            assert not is_late or _has_expired(wanted[0], now), f"at {now}: not written: {wanted[0]} of {name}"

    def check_table(self, database: sqlite3.Connection) -> None:
        """Check that the file has what was committed."""
        rows = {}
        for name, number, expires, frame in database.execute(_ROWS):
            assert name not in rows, f"{name} has two last messages"
            header = contents_of(frame).header
            assert (header.name, header.messages) == (name, 1)
            rows[name] = (header.client, header.sequence), expires
            assert number > 0
        wanted = {name: (value.id, value.expires) for name, value in self._disk.items()}
        assert rows == wanted, f"the file has {rows}, where {wanted} were written"

    # Small parts.

    def _dropping(self, names: Iterable[str]) -> None:
        for name in names:
            value = self._memory.pop(name, None)
            if value is not None:
                self._dropped[name] = value.order
                self._clock.tell("last message dropped", name)

    def _new(self, id_: Id, expires: float | None, stored: Id | None) -> Value:
        self._count += 1
        self.orders[id_] = self._count
        return Value(self._count, id_, stored, expires, self._clock.now)

    def _check_retain(self, retain: Retain) -> None:
        header = header_of(last_message(retain.frame))
        id_ = header.client, header.sequence
        storing = {value.id: value for _, value in self._storing.values()}
        value = storing.get(id_) or self._memory[retain.name]
        wanted = retain.name, value.id, value.expires
        assert (header.name, id_, retain.expires) == wanted, f"{retain.number} is not the last: {value}"
        self._numbers[retain.number] = value

    def _check_unretain(self, unretain: Unretain, now: float) -> None:
        name = unretain.name
        value = self._memory.get(name)
        if value is not None:
            assert _has_expired(value, now), f"at {now}: forgotten without a reason: {value} of {name}"
            self._dropped[name] = value.order
            self._clock.tell("last message expired", name)
            del self._memory[name]
            self._ends[unretain.number] = value.order
        else:
            assert name in self._dropped, f"{unretain} of what is not kept"
            self._ends[unretain.number] = self._dropped[name]

    def _written(self, retain: Retain) -> None:
        value, before = self._numbers[retain.number], self._disk.get(retain.name)
        if before is None or before.order < value.order:
            self._disk[retain.name] = value
            self._written_up_to(retain.name, value.order)

    def _written_up_to(self, name: str, order: int) -> None:
        self._volatile[name] = [one for one in self._volatile.get(name, ()) if one.order > order]

    def _became_last(self, name: str, value: Value) -> None:
        """Take note that a stored message is committed; what is the last one must be with it in the file."""
        if value.order <= self._dropped.get(name, 0):
            return
        written = self._disk.get(name)
        is_there = written is not None and written.order >= value.order
        assert is_there, f"stored, and {written} is the last message of {name} in the file, not {value}"
        before = self._memory.get(name)
        if before is None or before.order < value.order:
            self._memory[name] = value


def _has_expired(value: Value, now: float) -> bool:
    return value.expires is not None and value.expires <= now
