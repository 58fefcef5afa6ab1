"""A broker or store that breaks a promise is caught by the simulation, and the error tells how to replay that."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import pytest

from mezzenger.broker import core, deliveries, members, subscribers
from mezzenger.broker.adoption import Adoption
from mezzenger.broker.backlog import Backlog
from mezzenger.broker.effects import AddGroup
from mezzenger.broker.entry import Entry
from mezzenger.broker.fates import Fates
from mezzenger.broker.groups import Group
from mezzenger.broker.intake import Intake
from mezzenger.broker.memberships import Memberships
from mezzenger.broker.overflow import Publication
from mezzenger.broker.peers import Member
from mezzenger.broker.publishers import Publisher
from mezzenger.broker.restored import Total
from mezzenger.broker.room import Copy, Room
from mezzenger.broker.sweeper import Sweeper
from mezzenger.policy import Overflow, Policy
from mezzenger.protocol.commands import Confirm
from mezzenger.storage import changes
from tests.simulation.world import simulate

pytestmark = pytest.mark.timeout(600)

SEEDS: Final = 250
"""Within so many histories each of these is caught."""
Break = Callable[[pytest.MonkeyPatch], None]


def confirm_at_once(patch: pytest.MonkeyPatch) -> None:
    store = Intake._store

    def confirm(self: Intake, publication: Publication, copies: Sequence[Copy]) -> None:
        store(self, publication, copies)
        self._answer_client(publication.header.client, Confirm([publication.header.sequence]))

    patch.setattr(Intake, "_store", confirm)


def take_what_is_held_for_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Publisher, "refuse", lambda self, sequence: self.storing.discard(sequence))


def forget_at_restart_what_expires(patch: pytest.MonkeyPatch) -> None:
    take_in = core.Broker.restored
    patch.setattr(core.Broker, "restored", lambda self, restored: take_in(self, restored._replace(next_moment=None)))


def deliver_what_has_expired(patch: pytest.MonkeyPatch) -> None:
    for module in (deliveries, subscribers, members):
        patch.setattr(module, "has_expired", lambda entry, now: False)


def expire_early(patch: pytest.MonkeyPatch) -> None:
    tick = Sweeper.tick
    patch.setattr(Sweeper, "tick", lambda self, now: tick(self, now + 0.1))


def requeue_without_deleting(patch: pytest.MonkeyPatch) -> None:
    keep = {origin: (insert, "SELECT ?") for origin, (insert, _) in changes._REQUEUE.items()}
    patch.setattr(changes, "_REQUEUE", keep)


def resend_all_of_a_batch(patch: pytest.MonkeyPatch) -> None:
    resend_all = {
        origin: (insert.replace("name), indexes", "name), NULL"), delete)
        for origin, (insert, delete) in changes._REQUEUE.items()
    }
    patch.setattr(changes, "_REQUEUE", resend_all)


def bury_twice(patch: pytest.MonkeyPatch) -> None:
    bury = Fates.bury

    def count_again(self: Fates, entry: Entry, *reason: Any) -> None:
        bury(self, entry, *reason)
        self.counters.buried += entry.left

    patch.setattr(Fates, "bury", count_again)


def attempt_once_more(patch: pytest.MonkeyPatch) -> None:
    exhausted = Fates.is_exhausted

    def one_later(self: Fates, entry: Entry) -> bool:
        is_last = entry.attempts > self._options.policies.of(entry.name).max_attempts
        return is_last and exhausted(self, entry)

    patch.setattr(Fates, "is_exhausted", one_later)


def drop_the_newest(patch: pytest.MonkeyPatch) -> None:
    def newest_first(self: Backlog) -> Iterator[Entry]:
        entries = [*self.window.values(), *self.kept.values()]
        return iter(sorted(entries, key=lambda entry: -entry.number))

    patch.setattr(Backlog, "oldest_first", newest_first)


def forget_pauses(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Entry, "is_paused", lambda self, client, now: False)


def wait_for_the_clock(patch: pytest.MonkeyPatch) -> None:
    pause = Policy.pause
    patch.setattr(
        Policy, "pause", lambda self, attempts, random: 1e6 if random == 1.0 else pause(self, attempts, random)
    )


def take_more_than_there_is_room_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Room, "taken", lambda self, name, messages, size: None)
    patch.setattr(Room, "answered", lambda self, name, messages, size: None)


def leave_no_room_in_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Room, "_lacks_of_all", lambda self, copies, messages, leaving: [])


def make_room_in_vain(patch: pytest.MonkeyPatch) -> None:
    lacks = Room.lacks
    cures: frozenset[Overflow] = frozenset({"drop_oldest", "dead_letter"})
    patch.setattr(
        Room, "lacks", lambda self, *what: [lack._replace(cures=lack.cures | cures) for lack in lacks(self, *what)]
    )


def delay_nothing(patch: pytest.MonkeyPatch) -> None:
    moments = Intake._moments
    patch.setattr(Intake, "_moments", lambda self, name, extra, now: (None, moments(self, name, extra, now)[1]))


def inherit_nothing(patch: pytest.MonkeyPatch) -> None:
    def add_group(self: Adoption, queue: str) -> Group:
        self._effects.append(AddGroup(queue, self._intake.last_number))
        return self._routing.add_group(queue, self._intake.last_number)

    patch.setattr(Adoption, "add_group", add_group)


def forget_the_age_of_groups(patch: pytest.MonkeyPatch) -> None:
    take_in = Memberships.restored

    def restored(self: Memberships, totals: Iterable[Total]) -> None:
        take_in(self, [total._replace(since=0) for total in totals])

    patch.setattr(Memberships, "restored", restored)


def give_once_more(patch: pytest.MonkeyPatch) -> None:
    def taker(self: Group, best: Member, _number: int, key: str | None) -> Member:
        return best if key is None else self.owner(key)

    patch.setattr(Group, "taker", taker)


def simulate_many(known: int) -> None:
    """Run the history that is known to show a fault; if it does so no more, as the code has changed, look for another.

    Args:
        known: Its seed.
    """
    for seed in (known, *range(1, SEEDS + 1)):
        simulate(seed)


def must_be_noticed(break_it: Break, error: str, seed: int, patch: pytest.MonkeyPatch) -> None:
    """Break something, and fail unless a history shows it, and says how it can be replayed."""
    break_it(patch)
    with pytest.raises(AssertionError, match=error) as caught:
        simulate_many(seed)
    assert any(note.startswith("replay with: python -m tests.simulation.world") for note in caught.value.__notes__)


@pytest.mark.parametrize(
    ("break_it", "error", "seed"),
    [
        (confirm_at_once, "is confirmed and not stored", 2),
        (take_what_is_held_for_stored, "is confirmed and not stored|is stored twice", 1),
        (forget_at_restart_what_expires, "forgotten|not at rest", 9),
        (deliver_what_has_expired, "delivered after its expiry", 4),
        (expire_early, "confirmed and lost|too early", 2),
        (requeue_without_deleting, "should not be there", 2),
        (resend_all_of_a_batch, "left", 69),
        (bury_twice, "dead now", 1),
        (attempt_once_more, "and nobody had it", 1),
        (drop_the_newest, "makes room, and", 16),
        (forget_pauses, "delivered before its pause is over", 32),
        (wait_for_the_clock, "waits too long", 1),
        (take_more_than_there_is_room_for, "too many", 3),
        (leave_no_room_in_all, "too many in all", 14),
        (make_room_in_vain, "to make room for nothing", 14),
        (delay_nothing, "where it should be due", 2),
        (give_once_more, "given once more to a member", 20),
        (inherit_nothing, "should have inherited", 1),
        (forget_the_age_of_groups, "should inherit it", 7),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_broken_promise_is_noticed(
    break_it: Break, error: str, seed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is caught, in a history that is printed and can be replayed."""
    must_be_noticed(break_it, error, seed, monkeypatch)
    assert "server starts" in capsys.readouterr().out
