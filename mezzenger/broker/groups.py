"""Groups: of each message one member gets it."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from xxhash import xxh3_64_intdigest

from mezzenger.broker.peers import Member
from mezzenger.broker.pending import Kept
from mezzenger.broker.ready import SPARE, Ready


@dataclass(slots=True, eq=False)
class Group:
    """A group, which is there with members or without."""

    queue: str
    since: int = 0
    """The highest number that was given before it was made: it has copies of what came after, and of nothing else."""
    order_by: str | None = None
    """The header whose equal values keep messages in order; as its members have it."""
    members: dict[bytes, Member] = field(default_factory=dict)
    """By the peer's routing id."""
    ready: Ready = field(default_factory=Ready)
    delayed: Kept = field(default_factory=Kept)
    """What is in the store and not due yet."""
    asked: list[tuple[bytes, int]] | None = None
    """Peers and their requests that wait until the store knows the group; None if it does."""
    is_leaving: bool = False
    """Whether it is being dropped."""
    away: set[int] = field(default_factory=set)
    """Numbers of what is to be given out once its frame was read."""
    others: set[int] = field(default_factory=set)
    """Numbers of what some have had for too long, and who else is there has no credit for."""

    def add(self, member: Member) -> None:
        """Take in a member."""
        # It need not catch up with what the others were given before it came.
        member.given = min((other.given for other in self.members.values()), default=0)
        self.members[member.peer.id] = member
        self._resettle()

    def remove(self, member: Member) -> None:
        """Let a member go."""
        del self.members[member.peer.id]
        self._free_stalled(member, len(member.stalled))
        self._resettle()

    def stall(self, member: Member | None, number: int) -> None:
        """Let a frame wait until a member has credit: the one that alone may have it, or any that does not have it."""
        if member is None:
            self.others.add(number)
        else:
            heapq.heappush(member.stalled, number)
            self.ready.wait(number)
            if len(member.stalled) > 2 * self.ready.with_keys + SPARE:
                member.stalled = self.ready.left(member.stalled)

    def free(self, member: Member) -> None:
        """Have given out what waited for a member's credit, the oldest first, as much as it has credit for."""
        self._free_stalled(member, member.credit)
        if self.others:
            self._free_others(heapq.nsmallest(member.credit, self.others - member.in_hand))

    def refill(self) -> bool:
        """Free more, where a member has credit left since what was freed was of no use any more; return if there is."""
        # Credit that is left may be for what is being read.
        if not self.away and (self.others or self.order_by is not None):
            for member in self.members.values():
                if member.credit > 0 and (member.stalled or not self.others <= member.in_hand):
                    self.free(member)
        return bool(self.ready)

    def done(self, number: int) -> None:
        """Give a frame to nobody any more."""
        self.others.discard(number)
        self.away.discard(number)
        self.ready.done(number)

    def came_back(self, number: int) -> None:
        """Take note that a frame that was away is in memory again."""
        if number in self.away:
            self.away.remove(number)
            self.ready.put(number, self.ready.key(number))
        else:
            self.ready.wait(number)

    def clear(self) -> None:
        """Forget what is to be given out."""
        self.others.clear()
        self.away.clear()
        self.ready.clear()

    def taker(self, best: Member, number: int, key: str | None) -> Member | None:
        """Return the member that is to be given a frame: the best one, or that of the key; None if all have it in hand.

        Who has it in hand has had it for too long, and is not given it once more.
        """
        member = best if key is None else self.owner(key)
        if number not in member.in_hand:
            return member
        rest = [other for other in self.members.values() if number not in other.in_hand]
        if not rest:
            return None
        return max(rest, key=_claim) if key is None else _owner(rest, key)

    def next_member(self) -> Member | None:
        """Return the member with the most credit, of those the one that was given least; None if none has any."""
        best = max(self.members.values(), key=_claim, default=None)
        return best if best is not None and best.credit > 0 else None

    def least_given(self) -> Member:
        """Return the member that was given least, for what needs no credit."""
        return min(self.members.values(), key=lambda member: member.given)

    def owner(self, key: str) -> Member:
        """Return the member that gets all messages with this key, as long as members neither come nor go.

        When one comes or goes, only the keys of that one change their member (rendezvous hashing).
        """
        return _owner(self.members.values(), key)

    def _resettle(self) -> None:
        """Think again about what only some members might have."""
        for member in self.members.values():
            self._free_stalled(member, len(member.stalled))
        self._free_others(list(self.others))

    def _free_stalled(self, member: Member, frames: int) -> None:
        while frames > 0 and member.stalled:
            number = heapq.heappop(member.stalled)
            key = self.ready.key(number)
            if key is not None:
                self.ready.put(number, key)
                frames -= 1

    def _free_others(self, numbers: Sequence[int]) -> None:
        self.others.difference_update(numbers)
        for number in numbers:
            self.ready.put(number, self.ready.key(number))


def _claim(member: Member) -> tuple[int, int]:
    """Return what decides who is given a frame without a key: the greatest is."""
    return member.credit, -member.given


def _owner(members: Iterable[Member], key: str) -> Member:
    raw = key.encode()
    return max(members, key=lambda member: _weight(member, raw))


def _weight(member: Member, key: bytes) -> int:
    return xxh3_64_intdigest(member.peer.client.to_bytes(8) + key)
