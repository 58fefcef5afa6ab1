"""Watches the groups of one run of a broker: who is a member, and what each has in hand.

Both are taken from what the broker has been given and what it sends, not from what it made of that.
"""

from collections.abc import Iterable
from typing import Final

from mezzenger.protocol.commands import Ack, Command, Declined, Deliver, Join, Leave, Nack
from mezzenger.queues import queue_of, split_queue
from tests.simulation.clock import Clock
from tests.simulation.ledger import Ledger, Life
from tests.simulation.policies import ORDERED, RULES, matches

SLACK: Final = 0.2
"""Seconds within which what is due is done."""


class GroupWatch:
    """Sees who joins and leaves, and who is given what.

    Args:
        clock: Is told what happens.
        ledger: The account of what is stored.
    """

    def __init__(self, clock: Clock, ledger: Ledger) -> None:
        self._clock = clock
        self._ledger = ledger
        self.members: dict[tuple[bytes, str], Join] = {}
        """By peer and queue, as what it joined."""
        self._hands: dict[int, dict[bytes, float]] = {}
        """Who has what in hand, since when, by number."""
        self._lives: dict[int, tuple[Life, int]] = {}
        """Of what is in somebody's hands, and which attempt that is."""
        self._joining: tuple[bytes, Join] | None = None

    def given(self, peer: bytes, command: Command) -> None:
        """Take note of a command that the broker is about to be given."""
        match command:
            case Join():
                self._joining = peer, command
                self.members.setdefault((peer, queue_of(command.name, command.group)), command)
            case Leave():
                queue = queue_of(command.name, command.group)
                if self.members.pop((peer, queue), None) is not None:
                    self._clock.tell("left", queue)
                    self._take_back(peer, queue)
            case Ack(deliveries=numbers):
                for number in numbers:
                    self._put_down(peer, number)
            case Nack(delivery=number):
                self._put_down(peer, number)

    def answered(self, peer: bytes, command: Command) -> bool:
        """Take note of what the broker says to a peer: who is declined at once is no member; return whether one is."""
        if isinstance(command, Declined) and self._joining is not None:
            asker, join = self._joining
            if (asker, join.request) == (peer, command.request):
                self.members.pop((peer, queue_of(join.name, join.group)), None)
                return True
        return False

    def settled(self) -> None:
        """Take note that the broker has said all that follows from what it was given."""
        self._joining = None

    def seen(self, peers: Iterable[bytes]) -> None:
        """Take note of who is still there after a call."""
        there = set(peers)
        for peer, queue in [key for key in self.members if key[0] not in there]:
            del self.members[peer, queue]
            if self._take_back(peer, queue):
                self._clock.tell("gone with something in hand", queue)

    def members_of(self, queue: str) -> list[bytes]:
        """Return the members of a group."""
        return [peer for peer, other in self.members if other == queue]

    def is_member_for(self, peer: bytes, name: str) -> bool:
        """Whether a peer is a member of some group for a name."""
        return any(other == peer and matches(split_queue(queue)[0], name) for other, queue in self.members)

    def is_overdue(self, peer: bytes, number: int, queue: str, now: float) -> bool:
        """Whether a member has had something for longer than it may."""
        longest = self.members[peer, queue].max_runtime
        return longest is not None and now - self._hands[number][peer] >= longest - 0.001

    def holds(self, peer: bytes, number: int) -> bool:
        """Whether somebody has something in hand as a member."""
        return peer in self._hands.get(number, {})

    def delivered(self, peer: bytes, deliver: Deliver, life: Life, now: float) -> None:
        """Check that a member is given what it may have."""
        number, queue = deliver.delivery, life.queue
        assert self._ledger.place_of(life) == "pending", f"given to a member though settled: {life}"
        assert (peer, queue) in self.members, f"given to somebody who is no member: {life}"
        hands = self._hands.setdefault(number, {})
        assert peer not in hands, f"at {now}: given once more to a member that has it in hand: {life}"
        for other in hands:
            assert self.is_overdue(other, number, queue, now), f"at {now}: in two hands: {life}"
            self._clock.tell("taken from who is too slow", queue, number)
        hands[peer] = now
        self._lives[number] = life, deliver.attempt
        credit = self._credit(peer, queue)
        assert credit >= 0, f"{-credit} more in hand than may be: {life}"
        if queue in ORDERED and life.key is not None:
            self._check_order(life)

    def is_attempt_of(self, peer: bytes, number: int, queue: str, now: float) -> bool:
        """Whether what a member says of what it has in hand is what comes of the attempt."""
        others = self._hands[number].keys() - {peer}
        return all(self.is_overdue(other, number, queue, now) for other in others)

    def check(self, now: float) -> None:
        """Check that what a member has had for too long is given to another one that may have it."""
        for number, hands in self._hands.items():
            life, attempt = self._lives[number]
            if all(self.is_overdue(peer, number, life.queue, now - SLACK) for peer in hands):
                self._check_moved(number, attempt, life, now)

    def _check_moved(self, number: int, attempt: int, life: Life, now: float) -> None:
        is_due = self._ledger.place_of(life) == "pending" and (life.expires is None or life.expires > now)
        is_paused = life.pause is not None and life.pause[1] > now - SLACK
        if not is_due or is_paused or attempt >= RULES[life.name].max_attempts:
            return
        others = [peer for peer in self.members_of(life.queue) if peer not in self._hands[number]]
        free = [peer for peer in others if self._credit(peer, life.queue) > 0]
        # Where order is kept it is for one of them alone, which may be any.
        is_stuck = free and (free == others or life.queue not in ORDERED or life.key is None)
        assert not is_stuck, f"at {now}: not given to another member: {life}"
        if not others:
            self._clock.tell("kept by who is too slow", life.queue, number)

    def _credit(self, peer: bytes, queue: str) -> int:
        in_hand = sum(peer in who for one, who in self._hands.items() if self._queue_of(one) == queue)
        return self.members[peer, queue].prefetch - in_hand

    def _check_order(self, life: Life) -> None:
        lane = [one for one in self._ledger.pending_in(life.queue) if one.key == life.key and one is not life]
        early = [one for one in lane if one.number < life.number and not one.is_adopted]
        assert not early, f"given out before {early}: {life}"
        others = [one for one in lane if self._hands.get(one.number)]
        assert not others, f"given out while {others} is in hand: {life}"
        if lane:
            self._clock.tell("the next of a lane waits", life.queue, life.number)

    def _take_back(self, peer: bytes, queue: str) -> list[int]:
        taken = [number for number, who in self._hands.items() if peer in who and self._queue_of(number) == queue]
        for number in taken:
            self._put_down(peer, number)
        return taken

    def _put_down(self, peer: bytes, number: int) -> None:
        hands = self._hands.get(number)
        if hands is not None:
            hands.pop(peer, None)
            if not hands:
                del self._hands[number], self._lives[number]

    def _queue_of(self, number: int) -> str | None:
        return self._ledger.queue_of_number.get(number)
