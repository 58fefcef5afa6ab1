"""Groups: of each message one member gets it."""

from dataclasses import dataclass, field

from xxhash import xxh3_64_intdigest

from mezzenger.broker.peers import Member
from mezzenger.broker.pending import Kept
from mezzenger.broker.ready import Ready


@dataclass(slots=True, eq=False)
class Group:
    """A group, which is there with members or without."""

    queue: str
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

    def add(self, member: Member) -> None:
        """Take in a member."""
        # It need not catch up with what the others were given before it came.
        member.given = min((other.given for other in self.members.values()), default=0)
        self.members[member.peer.id] = member
        self._resettle()

    def remove(self, member: Member) -> None:
        """Let a member go."""
        del self.members[member.peer.id]
        self.free(member)
        self._resettle()

    def free(self, member: Member) -> None:
        """Have what a member had no credit for given out when it can be."""
        for number in member.stalled:
            self.ready.put(number, self.ready.key(number))
        member.stalled.clear()

    def next_member(self) -> Member | None:
        """Return the member with the most credit, of those the one that was given least; None if none has any."""
        best = max(self.members.values(), key=lambda member: (member.credit, -member.given), default=None)
        return best if best is not None and best.credit > 0 else None

    def least_given(self) -> Member:
        """Return the member that was given least, for what needs no credit."""
        return min(self.members.values(), key=lambda member: member.given)

    def owner(self, key: str) -> Member:
        """Return the member that gets all messages with this key, as long as members neither come nor go.

        When one comes or goes, only the keys of that one change their member (rendezvous hashing).
        """
        raw = key.encode()
        return max(self.members.values(), key=lambda member: _weight(member, raw))

    def _resettle(self) -> None:
        """Think again about what only one member might have."""
        for member in self.members.values():
            self.free(member)


def _weight(member: Member, key: bytes) -> int:
    return xxh3_64_intdigest(member.peer.client.to_bytes(8) + key)
