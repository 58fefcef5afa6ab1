"""The last message of each name whose policy retains it, for subscribers that come later.

All of them are in memory; the store has them too, so that they outlive the server. What comes with ``ack=1`` is written
with the commit that stores it, and is the last one from then on. What comes with ``ack=0`` is the last one at once, and
is written within ``WRITE_SECONDS``, however often it changes until then. Each has a number, and of two messages of a
name the one with the higher number is the last, here as in the store: so it does not matter in which order the two
learn of them.

A frame is kept as it came until somebody needs it: only then it is verified, and its last message is taken out.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mezzenger.broker.due import last_of_names
from mezzenger.broker.effects import Effect, Mark, Reply, Retain, Send, Unretain
from mezzenger.broker.latecomers import Latecomers
from mezzenger.broker.name_index import NameIndex
from mezzenger.broker.peers import Peer
from mezzenger.broker.pending import Pending
from mezzenger.broker.restored import Kept, Waiting
from mezzenger.broker.stats import Counters
from mezzenger.errors import ProtocolError
from mezzenger.policy import Policies
from mezzenger.protocol import wire
from mezzenger.protocol.commands import (
    LastMessage,
    LastMessages,
    ListRetained,
    Retained,
    RetainedQuestion,
    Subscribe,
)
from mezzenger.protocol.last_message import last_message
from mezzenger.queues import is_group

WRITE_SECONDS: Final = 1.0
"""After which a change that came with ``ack=0`` is written; a crash loses no older ones."""
PARCEL_FRAMES: Final = 100
PARCEL_SIZE: Final = 2**20
"""Bytes of the frames that are sent together, but one frame at least."""
LISTED: Final = 100
_SPARE: Final = 1024


@dataclass(frozen=True, slots=True)
class RetainedOptions:
    """What is to be known of the settings."""

    max_names: int
    max_size: int
    """Bytes of all frames that are kept."""
    policies: Policies


@dataclass(slots=True, eq=False)
class _Value:
    """What is kept of one name; one of the two at least."""

    kept: Kept | None = None
    """Verified, and of one message."""
    latest: Kept | None = None
    """What came after that, as it came."""
    is_written: bool = False
    """Whether the store may have something of this name."""

    @property
    def last(self) -> Kept:
        last = self.latest or self.kept
        assert last is not None  # noqa: S101  # there is one, as long as this is in the table
        return last

    @property
    def size(self) -> int:
        return sum(len(one.frame) for one in (self.kept, self.latest) if one is not None)


class LastValues:
    """Keeps the last messages, and gives them to new subscribers.

    Args:
        options: Limits.
        pending: Is told which of them it is to watch, and tells which of these are still pending.
        counters: What is counted here is counted there.
        effects: What is to be done is appended there.
        next_number: Returns a number above all before it.
    """

    def __init__(
        self,
        options: RetainedOptions,
        pending: Pending,
        counters: Counters,
        effects: list[Effect],
        next_number: Callable[[], int],
    ) -> None:
        self._options = options
        self._policies = options.policies
        self._pending = pending
        self._counters = counters
        self._effects = effects
        self._next_number = next_number
        self.is_on = options.policies.retain_any and options.max_names > 0
        """Whether there is a name of which anything is kept; if not, nothing here needs to be called."""
        self.size = 0
        """Bytes of all that is kept."""
        self._values: dict[str, _Value] = {}
        self._names = NameIndex(self._values)
        self._loose: dict[str, None] = {}
        """The names of what is not verified yet."""
        self._changed: dict[str, None] = {}
        """The names of what is to be written."""
        self._write_at: float | None = None
        self._wrote_at = 0.0
        self._writing: set[int] = set()
        """The numbers of what was changed with ``ack=0`` and is being written."""
        self._latecomers = Latecomers()
        self._expiring: list[tuple[float, str]] = []
        self._expires: dict[str, float] = {}
        """For each name in the heap, the moment that counts."""

    def __len__(self) -> int:
        """How many names there are of which something is kept."""
        return len(self._values)

    def restored(self, retained: Iterable[tuple[str, Kept]]) -> None:
        """Take in what the last run left, as far as it is still to be kept."""
        for name, kept in retained:
            if self.is_on and self.is_retaining(name):
                self._keep(name, kept, is_written=True)
            else:
                self._effects.append(Unretain(kept.number, name))

    # What is published.

    def published(self, name: str, frame: bytes, now: float) -> None:
        """Take note of a frame with ``ack=0``; nobody has looked at more than its header."""
        policy = self._policies.of(name)
        if policy.retain is None:
            return
        expires = None if policy.ttl is None else now + policy.ttl
        if self._keep(name, Kept(self._next_number(), frame, expires)):
            self._changed[name] = None
            if self._write_at is None:
                self._write_at = now + WRITE_SECONDS

    def storing(self, number: int, name: str, frame: bytes, expires: float | None, *, is_pending: bool) -> None:
        """Have a frame kept with the changes that are decided now, if it is of a name that retains.

        Args:
            number: Of the frame as it is stored for subscribers, or else for a group.
            name: Of the frame.
            frame: With ``ack=1``, and verified.
            expires: When it is of no use any more, if ever.
            is_pending: Whether it is stored for subscribers.
        """
        if not self.is_on or not self.is_retaining(name):
            return
        if name not in self._values and len(self._values) >= self._options.max_names:
            self._counters.unretained += 1
        else:
            self._latecomers.storing(name)
            self._effects.append(Retain(number, name, frame, expires, is_pending=is_pending))

    def due(self, found: Iterable[tuple[Waiting, int]]) -> None:
        """Have the last frame of each name kept that was delayed until now, like ``storing``.

        Args:
            found: What is due, with its number from now on; of one publish all of it, in whatever queues it is.
        """
        if self.is_on:
            for name, (waiting, number) in last_of_names(found).items():
                self.storing(number, name, waiting.frame, waiting.expires, is_pending=not is_group(waiting.name))

    def committed(self, retain: Retain) -> None:
        """Take note that the store keeps a message."""
        if retain.number in self._writing:
            self._writing.remove(retain.number)
            return
        if not self._latecomers.is_late(retain.name, retain.number):
            kept = Kept(retain.number, retain.frame, retain.expires, retain.is_pending)
            self._keep(retain.name, kept, is_written=True)
        self._latecomers.answered(retain.name)

    def commit_failed(self, retain: Retain) -> None:
        """Take note that the store does not keep a message; what was to be written so is written later."""
        if retain.number in self._writing:
            self._writing.remove(retain.number)
            if retain.name in self._values:
                self._changed[retain.name] = None
                self._write_at = self._wrote_at + WRITE_SECONDS
        else:
            self._latecomers.answered(retain.name)

    def write(self, now: float) -> None:
        """Have the store keep what has changed."""
        changed, self._changed = self._changed, {}
        self._write_at, self._wrote_at = None, now
        for name in changed:
            kept = self._verified(name)
            if kept is not None:
                self._values[name].is_written = True
                self._writing.add(kept.number)
                self._effects.append(Retain(kept.number, name, kept.frame, kept.expires))

    # Who is given it.

    def subscribed(self, peer: Peer, command: Subscribe, now: float) -> None:
        """Give a peer, whose subscriptions have become active, the last messages of their names."""
        if not self.is_on:
            return
        frames = list(self._current([pattern for pattern in command.names if pattern in peer.names], now))
        if frames:
            for parcel in _parcels(frames):
                self._effects.append(Send(peer.id, (wire.encode_command(Retained(command.request)), *parcel)))
            self._effects.append(Mark(command.token))

    def ask(self, peer_id: bytes, question: RetainedQuestion) -> None:
        """Answer a question of a peer; if it changes something, as soon as that is stored."""
        if isinstance(question, ListRetained):
            answer = LastMessages(question.request, list(self._list(question.after)))
            self._effects.append(Send(peer_id, (wire.encode_command(answer),)))
            return
        names = [name for name in dict.fromkeys(question.names) if name in self._values]
        for name in names:
            self._forget(name)
        self._effects.append(Reply(peer_id, question.request, len(names)))

    # Time.

    def tick(self, now: float) -> None:
        """Forget what has expired, and write what has changed, if it is time for that."""
        while self._expiring and self._expiring[0][0] <= now:
            moment, name = heapq.heappop(self._expiring)
            if self._expires.get(name) != moment:
                continue
            del self._expires[name]
            value = self._values.get(name)
            if value is not None and _has_expired(value.last, now):
                self._forget(name)
            elif value is not None:
                self._expect_end(name, value.last)
        if self._write_at is not None and self._write_at <= now and not self._writing:
            self.write(now)

    def next_deadline(self) -> float | None:
        """Return when ``tick`` must be called next."""
        moments = [self._expiring[0][0]] if self._expiring else []
        if self._write_at is not None and not self._writing:
            moments.append(self._write_at)
        return min(moments, default=None)

    # The table.

    def is_retaining(self, name: str) -> bool:
        """Whether the last message of a name is to be kept."""
        return self._policies.of(name).retain is not None

    def _keep(self, name: str, kept: Kept, *, is_written: bool = False) -> bool:
        """Keep a message, unless a later one is there; return False, and count it, if there is no room."""
        value = self._values.get(name)
        if value is None:
            if len(self._values) >= self._options.max_names:
                self._counters.unretained += 1
                if is_written:
                    self._effects.append(Unretain(kept.number, name))
                return False
            value = self._values[name] = _Value()
            self._names.added(name)
        elif kept.number < value.last.number:
            return True
        self._pending.last.pop(name, None)
        if kept.is_pending and self._pending.queue_of(name, kept.number) == name:
            self._pending.last[name] = kept.number
        self.size += len(kept.frame) - (0 if value.latest is None else len(value.latest.frame))
        value.latest = kept
        if is_written:
            value.is_written = True
            self._changed.pop(name, None)
        self._loose[name] = None
        if self.size > self._options.max_size:
            self._verify_all()
        if self.size > self._options.max_size and name in self._values:
            # What was the last one before is not the last any more.
            self._counters.unretained += 1
            self._forget(name)
        if name not in self._values:
            return False
        self._expect_end(name, kept)
        return True

    def _forget(self, name: str) -> None:
        value = self._values.pop(name)
        self.size -= value.size
        self._pending.last.pop(name, None)
        self._loose.pop(name, None)
        self._changed.pop(name, None)
        self._latecomers.ended(name, value.last.number)
        if value.is_written or name in self._latecomers:
            self._effects.append(Unretain(value.last.number, name))

    def _verify_all(self) -> None:
        for name in list(self._loose):
            self._verified(name)

    def _verified(self, name: str) -> Kept | None:
        """Return the last message of a name, as a frame of its own; None if there is none."""
        value = self._values.get(name)
        if value is None or value.latest is None:
            return None if value is None else value.kept
        latest = value.latest
        try:
            frame = last_message(latest.frame)
        except ProtocolError as error:
            self._counters.malformed[error.reason] += 1
            if value.kept is None:
                self._forget(name)
                return None
            # No subscriber has taken the damaged one.
            frame, latest = value.kept.frame, value.kept
        self.size -= value.size
        value.kept, value.latest = latest._replace(frame=frame), None
        self.size += value.size
        del self._loose[name]
        return value.kept

    def _current(self, patterns: Iterable[str], now: float) -> Iterator[bytes]:
        for name in dict.fromkeys(name for pattern in patterns for name in sorted(self._names.matching(pattern))):
            kept = self._verified(name)
            # What is pending is delivered, in its turn: nothing older than the last message must follow it.
            if kept is not None and name not in self._pending.last and not _has_expired(kept, now):
                yield kept.frame

    def _list(self, after: str) -> Iterator[LastMessage]:
        self._verify_all()
        for name in heapq.nsmallest(LISTED, (name for name in self._values if name > after)):
            kept = self._values[name].last
            header = wire.read_header(kept.frame)
            size = len(kept.frame)
            ids = (header.client, header.sequence)
            yield LastMessage(name, *ids, header.timestamp, header.ack, size, kept.expires)

    def _expect_end(self, name: str, kept: Kept) -> None:
        """See to it that a message is forgotten when it expires."""
        if kept.expires is None or kept.expires >= self._expires.get(name, float("inf")):
            return
        self._expires[name] = kept.expires
        heapq.heappush(self._expiring, (kept.expires, name))
        # Moments that count no more stay until they come up; not more of them than there are names.
        if len(self._expiring) > 2 * len(self._expires) + _SPARE:
            self._expiring = [(moment, name) for name, moment in self._expires.items()]
            heapq.heapify(self._expiring)


def _has_expired(kept: Kept, now: float) -> bool:
    return kept.expires is not None and kept.expires <= now


def _parcels(frames: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield the frames, as many at once as travel together."""
    parcel: list[bytes] = []
    size = 0
    for frame in frames:
        if parcel and (len(parcel) == PARCEL_FRAMES or size + len(frame) > PARCEL_SIZE):
            yield parcel
            parcel, size = [], 0
        parcel.append(frame)
        size += len(frame)
    yield parcel
