"""Groups: one member gets each message, as long as it lives, and the group keeps what nobody has taken."""

import sys
from collections.abc import Callable
from itertools import islice
from types import FrameType
from typing import Any

import pytest

from mezzenger.broker.effects import Adopt
from mezzenger.protocol import wire
from mezzenger.protocol.commands import Completed, Confirm, Declined, Deliver, Failed, GroupState, Subscribed
from tests.broker.broker_driver import A, B, C, Driver, at_once, client_of

D = b"D"


def grouped(*members: bytes, publisher: bytes = C, **options: Any) -> Driver:
    """Return a driver with members of group ``g`` of the name ``a``, and a publisher."""
    join = {key: options.pop(key) for key in ("prefetch", "max_runtime", "order_by") if key in options}
    driver = Driver(**options)
    for peer in members:
        driver.member(peer, **join)
    driver.join(publisher)
    return driver


def is_for(driver: Driver, peer: bytes, value: str) -> bool:
    """Whether a value is a member's if the group keeps order by that."""
    return driver.broker._routing.group("a|g").owner(value).peer.id == peer


def value_of(driver: Driver, peer: bytes) -> str:
    """Return such a value."""
    return next(value for value in map(str, range(100)) if is_for(driver, peer, value))


def stalled_for(peer: bytes, count: int) -> Driver:
    """Return a driver in which so many frames, each of a value of its own, wait for the credit of one member."""
    driver = Driver()
    driver.member(peer, prefetch=1, order_by="k")
    driver.member(C, prefetch=1000, order_by="k")
    driver.join(A)
    values = (value for value in map(str, range(10 * count)) if is_for(driver, peer, value))
    for sequence, value in enumerate(islice(values, count), 1):
        driver.publish(A, sequence, headers={"k": value})
    driver.commit()
    driver.sent(A)
    return driver


def steps_of_acks(driver: Driver) -> int:
    """Return how often anything is called while B acknowledges one after the other what it is given."""
    steps = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event in {"call", "c_call"}

    for _ in range(10):
        (number,) = driver.delivered(B)
        sys.setprofile(count)
        try:
            driver.ack(B, number)
        finally:
            sys.setprofile(None)
    return steps


def has_group(driver: Driver, queue: str = "a|g") -> bool:
    return driver.broker._routing.find_group(queue) is not None


class TestJoining:
    def test_it_is_answered_when_the_store_knows_the_group(self) -> None:
        """The first member waits for the store, the next one does not."""
        driver = Driver()
        driver.join(A)
        driver.join(B)
        driver.holds_changes = True
        driver.join_group(A, request=7)
        driver.join_group(B, request=8)
        assert driver.all_sent() == {}
        driver.commit()
        assert driver.all_sent() == {A: [Subscribed(7)], B: [Subscribed(8)]}
        driver.join_group(A, request=9)
        assert driver.sent(A) == [Subscribed(9)]

    def test_the_store_has_failed(self) -> None:
        """Who waits is told that it is not a member."""
        driver = Driver()
        driver.join(A)
        driver.holds_changes = True
        driver.join_group(A, request=7)
        driver.look()
        driver.fail_all("the disk has failed")
        assert driver.sent(A) == [Declined(7, "storage", "the disk has failed")]

    def test_order_is_kept_by_one_header(self) -> None:
        """Whoever joins with another one is declined, unless it is alone."""
        driver = Driver()
        driver.member(A, order_by="x")
        driver.join(B)
        driver.join_group(B, request=3, order_by="y")
        (answer,) = driver.sent(B)
        assert isinstance(answer, Declined)
        assert (answer.request, answer.reason) == (3, "order_by")
        assert "'x'" in answer.text
        assert "'y'" in answer.text
        driver.leave_group(A)
        driver.join_group(B, order_by="y")
        assert driver.sent(B) == [Subscribed(1)]

    def test_too_many_groups(self) -> None:
        """One more than the limit is declined; those that are there may be joined."""
        driver = Driver(max_groups=1)
        driver.member(A)
        driver.join_group(A, group="h", request=2)
        (answer,) = driver.sent(A)
        assert isinstance(answer, Declined)
        assert answer.reason == "groups"
        assert "max_groups" in answer.text
        driver.join(B)
        driver.join_group(B)
        assert driver.sent(B) == [Subscribed(1)]

    def test_too_many_memberships(self) -> None:
        """A client that has joined as many groups as it may joins no more."""
        driver = Driver(max_names=1)
        driver.member(A)
        driver.join_group(A, group="h", request=2)
        (answer,) = driver.sent(A)
        assert isinstance(answer, Declined)
        assert "max_names" in answer.text

    @pytest.mark.parametrize(("name", "group"), [("", "g"), ("a|b", "g"), ("a", ""), ("a", "g|h"), ("a", "x" * 256)])
    def test_names_that_cannot_be_used(self, name: str, group: str) -> None:
        """They are counted, and nothing is done."""
        driver = Driver()
        driver.join(A)
        driver.join_group(A, name, group)
        driver.drop_group(A, name, group)
        assert driver.all_sent() == {}
        assert driver.malformed == {"name": 2}

    def test_leaving_what_one_is_not_in(self) -> None:
        """Nothing happens."""
        driver = grouped(A)
        driver.leave_group(B)
        driver.join(B)
        driver.leave_group(B)
        driver.leave_group(A, group="h")
        assert driver.list_groups(C)[0].members == 1


class TestStored:
    def test_one_member_gets_it(self) -> None:
        """Each message goes to the member with the most credit, and is settled by its ack."""
        driver = grouped(A, B)
        numbers = driver.stored(C, 1, 2, 3)
        assert driver.delivered(A) == [numbers[0], numbers[2]]
        assert driver.delivered(B) == [numbers[1]]
        driver.ack(A, numbers[0], numbers[2])
        driver.ack(B, numbers[1])
        driver.look()
        assert driver.settled == [numbers[0], numbers[2], numbers[1]]
        assert driver.broker.stats().acked == 3

    def test_it_says_for_which_group(self) -> None:
        """A client may be a member of several groups, and a subscriber too."""
        driver = grouped(A)
        driver.member(A, "*", "h")
        driver.subscribe(A, "a")
        driver.look()
        driver.sent(A)
        driver.publish(C, 1)
        driver.commit()
        sent = [command for command in driver.sent(A) if isinstance(command, Deliver)]
        assert sorted(str(command.group) for command in sent) == ["*|h", "None", "a|g"]

    def test_confirmed_once(self) -> None:
        """However many groups keep a message, its publisher is told once, when all have it."""
        driver = grouped(A)
        driver.member(A, "*", "h")
        driver.subscribe(B, "a")
        driver.publish(C, 1)
        driver.look()
        assert len(driver.storing) == 2
        assert driver.sent(C) == []
        driver.commit()
        assert driver.sent(C) == [Confirm([1])]
        assert driver.broker.stats().stored == 2

    def test_refused_once(self) -> None:
        """Likewise if the store does not take it."""
        driver = grouped(A)
        driver.member(A, "*", "h")
        driver.publish(C, 1)
        driver.fail("no")
        assert len(driver.sent(C)) == 1
        assert driver.broker.stats().pending == 0

    def test_no_more_than_its_credit(self) -> None:
        """A member has ``prefetch`` messages in hand; the rest waits for whoever has credit first."""
        driver = grouped(A, prefetch=1)
        first, second, third = driver.stored(C, 1, 2, 3)
        assert driver.delivered(A) == [first]
        driver.ack(A, first)
        assert driver.delivered(A) == [second]
        driver.member(B, prefetch=1)
        assert driver.delivered(B) == [third]

    def test_a_batch_is_shared(self) -> None:
        """Members get the messages of a batch one by one, each with the id that it would have had."""
        driver = grouped(A, B, prefetch=1)
        driver.publish(C, 5, payloads=[b"x", b"y"])
        driver.commit()
        (of_a,), (of_b,) = driver.delivered(A), driver.delivered(B)
        contents = [wire.read_contents(driver.frames[number]) for number in (of_a, of_b)]
        assert [(one.header.client, one.header.sequence) for one in contents] == [
            (client_of(C), 5),
            (client_of(C), 6),
        ]
        assert [bytes(one.items[0].payload) for one in contents] == [b"x", b"y"]

    def test_without_members_it_waits(self) -> None:
        """A group that nobody is in collects messages; the next member gets them."""
        driver = grouped(A)
        driver.leave_group(A)
        numbers = driver.stored(C, 1, 2)
        assert driver.broker.stats().pending == 2
        driver.member(B)
        assert driver.delivered(B) == numbers

    def test_each_group_and_the_subscribers(self) -> None:
        """Each group has its own copy, and subscribers have theirs; an ack settles one of them."""
        driver = grouped(A)
        driver.member(B, group="h")
        driver.join(D, "a")
        driver.publish(C, 1)
        driver.commit()
        of_a, of_b, of_d = (driver.delivered(peer) for peer in (A, B, D))
        assert len({*of_a, *of_b, *of_d}) == 3
        driver.ack(A, *of_a)
        driver.ack(D, *of_d)
        driver.look()
        assert driver.broker.stats().pending == 1

    def test_a_stranger_acks(self) -> None:
        """Only who has it in hand settles it."""
        driver = grouped(A, B, prefetch=1)
        first, second = driver.stored(C, 1, 2)
        driver.ack(A, second)
        driver.ack(C, first, second)
        driver.look()
        assert driver.settled == []


class TestFailing:
    def test_it_comes_again_to_whoever_has_credit(self) -> None:
        """After the pause, marked, to one member."""
        driver = grouped(A, B, prefetch=1)
        (number,) = driver.stored(C, 1)
        assert driver.attempts(A) == [(number, 1)]
        driver.nack(A, number, 0)
        driver.wait(0.9)
        assert driver.all_sent() == {}
        driver.wait(0.2)
        assert driver.all_sent() == {B: [Deliver(number, 2, None, "a|g")]}

    def test_after_the_last_attempt_it_is_a_dead_letter(self) -> None:
        """It says of which group, and comes back to that group when it is resent."""
        driver = grouped(A, max_attempts=1)
        driver.member(A, "a", "h")
        driver.publish(C, 1)
        driver.commit()
        deliveries = [command for command in driver.sent(A) if isinstance(command, Deliver)]
        (of_g,) = (one.delivery for one in deliveries if one.group == "a|g")
        driver.nack(A, of_g, 0)
        driver.sent(C)
        driver.list_dead(C)
        (letters,) = driver.sent(C)
        (letter,) = letters.letters  # type: ignore[union-attr]  # asserted by what follows
        assert (letter.name, letter.group, letter.number) == ("a", "a|g", of_g)
        driver.resend(C, of_g)
        (again,) = driver.sent(A)
        assert isinstance(again, Deliver)
        assert (again.group, again.attempt) == ("a|g", 1)

    def test_dead_letters_are_found_by_the_name_of_the_message(self) -> None:
        """Whatever the pattern of the group."""
        driver = Driver(max_attempts=1)
        driver.member(A, "*")
        driver.join(C)
        (number,) = driver.stored(C, 1)
        driver.nack(A, number, 0)
        for name, found in (("a", 1), ("*", 0), (None, 1)):
            driver.list_dead(C, name)
            (letters,) = driver.sent(C)
            assert len(letters.letters) == found  # type: ignore[union-attr]  # an error would be noticed

    def test_a_late_nack_counts_for_nothing_but_what_was_handled(self) -> None:
        """Who left the group may say that it failed; the message is elsewhere by now."""
        driver = grouped(A, B, prefetch=1)
        (number,) = driver.stored(C, 1)
        driver.delivered(A)
        driver.leave_group(A)
        assert driver.attempts(B) == [(number, 2)]
        driver.nack(A, number, 0)
        driver.wait(100.0)
        assert driver.all_sent() == {}
        driver.ack(B, number)
        driver.look()
        assert driver.settled == [number]


class TestLiving:
    def test_a_member_keeps_it_as_long_as_it_lives(self) -> None:
        """No timer takes it back."""
        driver = grouped(A, B)
        (number,) = driver.stored(C, 1)
        assert driver.delivered(A) == [number]
        assert driver.next_round is None
        driver.wait(1e6)
        assert driver.all_sent() == {}

    def test_a_member_that_is_gone_gives_it_back(self) -> None:
        """At once, marked, to another one."""
        driver = grouped(A, B, prefetch=1)
        (number,) = driver.stored(C, 1)
        assert driver.delivered(A) == [number]
        driver.sink(A)
        assert driver.attempts(B) == [(number, 2)]

    def test_who_leaves_may_still_acknowledge(self) -> None:
        """What it had goes to another one, and its ack settles it."""
        driver = grouped(A, B, prefetch=1)
        (number,) = driver.stored(C, 1)
        driver.leave_group(A)
        assert driver.attempts(B) == [(number, 2)]
        driver.ack(A, number)
        driver.look()
        assert driver.settled == [number]
        driver.ack(B, number)
        assert driver.delivered(B) == []

    def test_max_runtime(self) -> None:
        """With it, what takes too long goes to another member; the first one has no credit until it answers."""
        driver = grouped(A, B, prefetch=1, max_runtime=10.0)
        first, second = driver.stored(C, 1, 2)
        assert (driver.delivered(A), driver.delivered(B)) == ([first], [second])
        driver.ack(B, second)
        driver.wait(10.0)
        assert driver.attempts(B) == [(first, 2)]
        assert driver.sent(A) == []
        driver.ack(A, first)
        driver.look()
        assert driver.settled == [second, first]
        (third,) = driver.stored(C, 3)
        assert driver.delivered(A) == [third]
        driver.ack(B, first)
        (fourth,) = driver.stored(C, 4)
        assert driver.delivered(B) == [fourth]

    def test_a_nack_after_max_runtime(self) -> None:
        """It changes nothing for the one who has it now."""
        driver = grouped(A, B, prefetch=1, max_runtime=10.0)
        (first,) = driver.stored(C, 1)
        driver.delivered(A)
        driver.wait(10.0)
        driver.delivered(B)
        driver.nack(A, first, 0)
        assert driver.all_sent() == {}
        assert driver.next_round == driver.now + 10.0

    @pytest.mark.parametrize("prefetch", [1, 5])
    @pytest.mark.parametrize("order_by", [None, "k"])
    def test_max_runtime_leaves_out_who_has_it(self, prefetch: int, order_by: str | None) -> None:
        """Even if it would be the next one for it: the one with the most credit, or the one for its value."""
        driver = grouped(A, prefetch=prefetch, max_runtime=10.0, order_by=order_by)
        driver.member(B, prefetch=1, max_runtime=10.0, order_by=order_by)
        driver.publish(C, 1, headers={"k": value_of(driver, A)})
        (number,) = (store.number for store in driver.commit())
        driver.sent(C)
        assert driver.all_sent() == {A: [Deliver(number, 1, None, "a|g")]}
        driver.wait(10.0)
        assert driver.all_sent() == {B: [Deliver(number, 2, None, "a|g")]}

    @pytest.mark.parametrize("order_by", [None, "k"])
    def test_max_runtime_waits_for_credit_of_another(self, order_by: str | None) -> None:
        """Of the first that has some, and neither the one that has it in hand nor anybody else waits with it."""
        driver = grouped(A, B, prefetch=2, max_runtime=10.0, order_by=order_by)
        of_a, of_b = value_of(driver, A), value_of(driver, B)
        driver.leave_group(B)
        driver.member(B, prefetch=1, order_by=order_by)
        for sequence, value in ((1, of_a), (2, of_b)):
            driver.publish(C, sequence, headers={"k": value})
        first, second = (store.number for store in driver.commit())
        driver.sent(C)
        assert driver.all_sent() == {
            A: [Deliver(first, 1, None, "a|g")],
            B: [Deliver(second, 1, None, "a|g")],
        }
        driver.wait(10.0)
        assert driver.all_sent() == {}
        driver.publish(C, 3)
        (third,) = (store.number for store in driver.commit())
        driver.sent(C)
        assert driver.delivered(A) == [third]
        driver.ack(B, second)
        assert driver.attempts(B) == [(first, 2)]

    def test_max_runtime_without_another_member(self) -> None:
        """Who is alone keeps it, and it counts as one attempt; who joins is given it at once."""
        driver = grouped(A, prefetch=3, max_runtime=10.0, max_attempts=2)
        (number,) = driver.stored(C, 1)
        driver.delivered(A)
        for _ in range(5):
            driver.wait(10.0)
        assert driver.all_sent() == {}
        assert driver.next_round is None
        driver.member(B)
        assert driver.attempts(B) == [(number, 2)]
        driver.ack(A, number)
        driver.look()
        assert driver.settled == [number]

    def test_who_was_alone_for_too_long_gives_it_back(self) -> None:
        """What it could not handle comes again after the pause, and what it had when it left at once."""
        driver = grouped(A, prefetch=3, max_runtime=10.0)
        first, second = driver.stored(C, 1, 2)
        driver.delivered(A)
        driver.wait(10.0)
        driver.nack(A, first, 0)
        assert driver.all_sent() == {}
        driver.wait(0.9)
        assert driver.all_sent() == {}
        driver.wait(0.2)
        assert driver.attempts(A) == [(first, 2)]
        driver.leave_group(A)
        driver.member(B, prefetch=3)
        assert driver.attempts(B) == [(first, 3), (second, 2)]

    @pytest.mark.parametrize("answer", [Driver.ack, Driver.nack, Driver.sink])
    def test_what_a_member_is_busy_with_is_not_buried(self, answer: Callable[..., None]) -> None:
        """Whatever the others made of it: what the first one says in the end counts, or that it is gone."""
        driver = grouped(A, B, prefetch=1, max_runtime=10.0, max_attempts=2)
        (number,) = driver.stored(C, 1)
        driver.delivered(A)
        driver.wait(10.0)
        assert driver.attempts(B) == [(number, 2)]
        driver.wait(10.0)
        driver.wait(10.0)
        driver.nack(B, number, 0)
        driver.wait(100.0)
        stats = driver.broker.stats()
        assert (stats.pending, stats.buried) == (1, 0)
        assert driver.all_sent() == {}
        if answer == Driver.nack:
            answer(driver, A, number, 0)
        else:
            answer(driver, A, *([number] if answer == Driver.ack else []))
        driver.look()
        assert driver.broker.stats().buried == (answer != Driver.ack)
        assert driver.broker.stats().pending == 0

    def test_a_server_that_ends(self) -> None:
        """What one member has in hand goes to no other; the next server has it."""
        driver = grouped(A, B, prefetch=1)
        driver.stored(C, 1)
        driver.delivered(A)
        driver.broker.farewell(driver.now)
        assert all(not isinstance(command, Deliver) for sent in driver.all_sent().values() for command in sent)
        driver.restart()
        driver.member(B)
        assert [attempt for _, attempt in driver.attempts(B)] == [2]

    def test_what_has_expired_is_given_to_nobody(self) -> None:
        """Neither what waits for credit, nor what a member has in hand that leaves."""
        driver = grouped(A, prefetch=1, ttl=5.0)
        first, second = driver.stored(C, 1, 2)
        driver.wait(6.0)
        driver.look()
        assert driver.dropped == {"expired": 2}
        driver.ack(A, first)
        (third,) = driver.stored(C, 3)
        assert driver.delivered(A) == [first, third]
        assert second not in driver.delivered(A)
        driver.wait(6.0)
        driver.member(B)
        driver.leave_group(A)
        driver.look()
        assert driver.delivered(B) == []


class TestNotStored:
    def test_one_member_of_each_group(self) -> None:
        """An ``ack=0`` message goes to one member of each group, in turns, and to all subscribers."""
        driver = grouped(A, B)
        for sequence in (1, 2, 3, 4):
            driver.publish(C, sequence, ack=0)
        sent = driver.all_sent()
        assert [len(sent[peer]) for peer in (A, B)] == [2, 2]
        assert sent[A] == [Deliver(0, 1, None, "a|g")] * 2
        assert driver.published == []
        driver.join(D, "a")
        driver.publish(C, 5, ack=0)
        driver.look()
        assert len(driver.published) == 1
        assert driver.broker.stats().published == 5

    def test_without_members_it_is_dropped(self) -> None:
        """And counted."""
        driver = grouped(A)
        driver.leave_group(A)
        driver.publish(C, 1, ack=0)
        assert driver.dropped == {"no_subscriber": 1}

    def test_it_needs_no_credit(self) -> None:
        """Nobody acknowledges it."""
        driver = grouped(A, prefetch=1)
        for sequence in (1, 2):
            driver.publish(C, sequence, ack=0)
        assert len(driver.sent(A)) == 2

    def test_who_comes_later_need_not_catch_up(self) -> None:
        """A new member gets its share from now on, not all until it has as many as the others."""
        driver = grouped(A)
        for sequence in range(1, 11):
            driver.publish(C, sequence, ack=0)
        driver.member(B)
        driver.sent(A)
        for sequence in range(11, 15):
            driver.publish(C, sequence, ack=0)
        sent = driver.all_sent()
        assert [len(sent[peer]) for peer in (A, B)] == [2, 2]

    def test_with_a_header_it_goes_to_the_same_member(self) -> None:
        """With ``order_by``, equal values meet the same member; without the header, whoever had least."""
        driver = grouped(A, B, order_by="k")
        for sequence in range(1, 9):
            driver.publish(C, sequence, ack=0, headers={"k": "x"})
        ((_, sent),) = driver.all_sent().items()
        assert len(sent) == 8
        driver.publish(C, 20, ack=0)
        assert len(driver.all_sent()) == 1


class TestOrder:
    def test_one_at_a_time_and_in_order(self) -> None:
        """The next message with the same value comes when the one before is acknowledged, also if it had failed."""
        driver = grouped(A, B, prefetch=5, order_by="k")
        numbers = []
        for sequence in (1, 2, 3):
            driver.publish(C, sequence, headers={"k": "x"})
            numbers += [store.number for store in driver.commit()]
        driver.sent(C)
        ((peer, (first,)),) = driver.all_sent().items()
        assert isinstance(first, Deliver)
        assert first.delivery == numbers[0]
        driver.nack(peer, numbers[0], 0)
        assert driver.all_sent() == {}
        driver.wait(1.1)
        assert driver.delivered(peer) == [numbers[0]]
        driver.ack(peer, numbers[0])
        assert driver.delivered(peer) == [numbers[1]]
        driver.ack(peer, numbers[1])
        assert driver.delivered(peer) == [numbers[2]]

    def test_other_values_do_not_wait(self) -> None:
        """Neither do messages without the header."""
        driver = grouped(A, prefetch=5, order_by="k")
        for sequence, headers in ((1, {"k": "x"}), (2, {"k": "x"}), (3, {"k": "y"}), (4, {}), (5, {"z": "x"})):
            driver.publish(C, sequence, headers=headers)
        stores = driver.commit()
        driver.sent(C)
        assert driver.delivered(A) == [stores[index].number for index in (0, 2, 3, 4)]

    def test_a_busy_member_is_waited_for(self) -> None:
        """What only one member may have waits for its credit, and goes to another if it leaves."""
        driver = grouped(A, B, prefetch=1, order_by="k")
        owners: dict[bytes, str] = {}
        group = driver.broker._routing.group("a|g")
        for value in map(str, range(20)):
            owners.setdefault(group.owner(value).peer.id, value)
        value = owners[A]
        other = next(text for text in map(str, range(20)) if group.owner(text).peer.id == A and text != value)
        for sequence, text in ((1, value), (2, other)):
            driver.publish(C, sequence, headers={"k": text})
        first, second = (store.number for store in driver.commit())
        driver.sent(C)
        assert driver.all_sent() == {A: [Deliver(first, 1, None, "a|g")]}
        driver.ack(A, first)
        assert driver.delivered(A) == [second]
        driver.publish(C, 3, headers={"k": value})
        (third,) = (store.number for store in driver.commit())
        driver.sent(C)
        assert driver.all_sent() == {}
        driver.sink(A)
        assert driver.attempts(B) == [(second, 2)]
        driver.ack(B, second)
        assert driver.attempts(B) == [(third, 1)]

    def test_what_expires_takes_no_room(self) -> None:
        """However much of it there was while the only member that may have it is busy."""
        driver = stalled_for(B, 1)
        member = driver.broker._routing.group("a|g").members[B]
        values = (value for value in map(str, range(1000)) if is_for(driver, B, value))
        for sequence, value in enumerate(islice(values, 300), 2):
            driver.publish(A, sequence, headers={"k": value}, ttl=1.0)
            driver.commit()
            driver.wait(1.1)
            driver.look()
        assert driver.dropped == {"expired": 300}
        assert len(member.stalled) < 100

    def test_many_wait_for_one_member(self) -> None:
        """What follows from an ack of a member does not grow with what waits for its credit."""
        assert steps_of_acks(stalled_for(B, 2000)) < 1.2 * steps_of_acks(stalled_for(B, 500))

    def test_what_waits_for_one_member_goes_to_others(self) -> None:
        """When that one leaves, all of it."""
        driver = stalled_for(B, 100)
        driver.delivered(B)
        waiting = {number for number in driver.broker._deliveries.pending._entries if number not in driver.settled}
        driver.leave_group(B)
        assert set(driver.delivered(C)) == waiting

    @pytest.mark.parametrize("is_noticed", [True, False])
    def test_what_expires_while_it_waits_for_one_member(self, *, is_noticed: bool) -> None:
        """The next one that is of use is given out instead, whether it was noticed already what has expired or not."""
        driver = grouped(A, B, prefetch=1, order_by="k")
        values = [value for value in map(str, range(50)) if is_for(driver, A, value)]
        for sequence, value in enumerate(values[:4], 1):
            driver.publish(C, sequence, headers={"k": value}, ttl=5.0 if 1 < sequence < 4 else None)
        first, _, _, last = (store.number for store in driver.commit())
        driver.sent(C)
        assert driver.delivered(A) == [first]
        driver.now += 6.0
        if is_noticed:
            driver.wait(0.0)
            driver.look()
            assert driver.dropped == {"expired": 2}
        driver.ack(A, first)
        assert driver.delivered(A) == [last]

    def test_a_pause_outlasts_a_restart(self) -> None:
        """What failed last before a crash still comes before what was behind it."""
        driver = grouped(A, prefetch=5, order_by="k")
        for sequence in (1, 2):
            driver.publish(C, sequence, headers={"k": "x"})
        first, second = (store.number for store in driver.commit())
        driver.nack(A, first, 0)
        driver.look()
        driver.restart()
        driver.member(A, prefetch=5, order_by="k")
        assert driver.delivered(A) == []
        driver.wait(1.1)
        assert driver.delivered(A) == [first]
        driver.ack(A, first)
        assert driver.delivered(A) == [second]

    def test_what_expires_lets_the_next_one_pass(self) -> None:
        """A message that is of no use any more holds up nobody."""
        driver = grouped(A, prefetch=5, order_by="k")
        driver.publish(C, 1, headers={"k": "x"})
        driver.commit()
        (first,) = driver.delivered(A)
        driver.nack(A, first, 0)
        frame = wire.encode_data(
            "a",
            [(1.5, b"x")],
            ack=1,
            codec=1,
            client=client_of(C),
            sequence=2,
            extra=wire.Extra(headers={"k": "x"}, ttl=0.5),
        )
        driver.give(C, frame)
        driver.publish(C, 3, headers={"k": "x"})
        stores = driver.commit()
        driver.sent(C)
        driver.wait(0.6)
        driver.wait(0.6)
        assert driver.delivered(A) == [first]
        driver.ack(A, first)
        assert driver.delivered(A) == [stores[-1].number]
        assert driver.dropped == {"expired": 1}


class TestPatterns:
    def test_a_group_of_a_pattern(self) -> None:
        """It gets the messages of all names that match, in one order."""
        driver = Driver()
        driver.member(A, "a.*", prefetch=9)
        driver.join(C)
        first, second = driver.stored(C, 1, name="a.x"), driver.stored(C, 2, name="a.y")
        driver.stored(C, 3, name="b.x")
        assert driver.delivered(A) == first + second
        assert driver.broker.stats().pending == 3

    def test_policies_are_those_of_the_message(self) -> None:
        """Not of the group's pattern."""
        driver = Driver()
        driver.member(A, "*")
        driver.join(C)
        driver.stored(C, 1)
        (entry,) = driver.broker._deliveries.pending._entries.values()
        assert (entry.queue, entry.name) == ("*|g", "a")


def test_a_pattern_that_is_left_takes_what_waits_for_credit_along() -> None:
    """Also what others have acknowledged by then, so that nothing of its queue is pending any more."""
    driver = Driver(credit=1)
    driver.join(A, "a")
    driver.join(B, "*")
    driver.join(C)
    (first,) = driver.stored(C, 1)
    driver.publish(C, 2)
    driver.commit()
    driver.ack(A, first)
    (second,) = driver.delivered(A)[-1:]
    driver.ack(A, second)
    driver.look()
    assert driver.broker.stats().pending == 0
    assert driver.delivered(B) == [first]
    driver.unsubscribe(B, "*")
    driver.ack(B, first)
    driver.look()
    assert driver.delivered(B) == []


class TestFirstSubscriber:
    def test_a_group_gets_what_waited(self) -> None:
        """What nobody had subscribed to waits for the first subscriber, be it a group."""
        driver = Driver()
        driver.join(C)
        numbers = driver.stored(C, 1, 2)
        driver.member(A, prefetch=9)
        assert driver.delivered(A) == numbers
        driver.ack(A, *numbers)
        driver.look()
        assert driver.broker.stats().pending == 0
        assert driver.settled == numbers

    def test_only_the_first_group(self) -> None:
        """The next one gets what is published from then on."""
        driver = Driver()
        driver.join(C)
        driver.stored(C, 1)
        driver.member(A)
        driver.delivered(A)
        driver.member(B, group="h")
        assert driver.delivered(B) == []

    def test_subscribers_keep_what_is_theirs(self) -> None:
        """A group that comes while there is a subscriber gets nothing of that one's."""
        driver = Driver()
        driver.join(C)
        driver.join(B, "a")
        driver.stored(C, 1)
        driver.delivered(B)
        driver.member(A)
        assert driver.delivered(A) == []

    def test_what_is_being_stored_follows(self) -> None:
        """It was published before there was a group, and is stored after."""
        driver = Driver()
        driver.join(C)
        driver.join(A)
        driver.publish(C, 1)
        driver.look()
        driver.join_group(A)
        driver.look()
        (store,) = driver.commit()
        sent = driver.sent(A)
        assert [command.delivery for command in sent if isinstance(command, Deliver)] == [store.number]

    def test_what_is_older_comes_in_between(self) -> None:
        """A group that has newer messages in memory already is given the older ones too, each once."""
        driver = Driver()
        driver.join(C)
        driver.join(A)
        driver.publish(C, 1)
        driver.look()
        driver.join_group(A, prefetch=1)
        driver.publish(C, 2)
        first, second = (store.number for store in driver.commit())
        driver.look()
        handled = []
        for _ in range(4):
            for command in driver.sent(A):
                if isinstance(command, Deliver):
                    handled.append(command.delivery)
                    driver.ack(A, command.delivery)
        assert sorted(handled) == [first, second]
        assert driver.broker.stats().pending == 0

    def test_what_is_due_later_follows(self) -> None:
        """A delayed message that nobody had subscribed to goes to the group that is there when it is due."""
        driver = Driver()
        driver.join(C)
        driver.publish(C, 1, delay=5.0)
        driver.commit()
        driver.member(A)
        driver.wait(5.0)
        assert len(driver.delivered(A)) == 1

    def test_all_that_is_due_later_follows(self) -> None:
        """Likewise several of them."""
        driver = Driver()
        driver.join(C)
        driver.stored(C, 1, 2, 3, delay=5.0)
        driver.member(A, prefetch=5)
        driver.wait(5.0)
        assert len(driver.delivered(A)) == 3

    def test_what_is_being_stored_for_later_follows(self) -> None:
        """Likewise what was on its way to the store when the group was made."""
        driver = Driver()
        driver.join(C)
        driver.publish(C, 1, delay=5.0)
        driver.member(A)
        driver.commit()
        driver.sent(A)
        driver.wait(5.0)
        assert len(driver.delivered(A)) == 1

    def test_what_it_has_a_copy_of_is_not_inherited(self) -> None:
        """Be it due together with something that the group does inherit."""
        driver = Driver()
        driver.join(C)
        driver.stored(C, 1, delay=5.0)
        driver.member(A)
        driver.join(B, "a")
        driver.publish(C, 2, delay=5.0)
        driver.commit()
        driver.unsubscribe(B)
        driver.wait(5.0)
        driver.look()
        numbers = driver.delivered(A)
        assert len(numbers) == 2
        driver.ack(A, *numbers)
        driver.look()
        assert driver.delivered(A) == []
        driver.subscribe(B, "a")
        driver.look()
        assert len(driver.delivered(B)) == 1

    def test_it_outlasts_a_restart(self) -> None:
        """After it, the group has it still."""
        driver = Driver()
        driver.join(C)
        driver.stored(C, 1)
        driver.member(A)
        driver.look()
        driver.restart()
        driver.join(B, "a")
        assert driver.delivered(B) == []
        driver.member(A)
        assert [attempt for _, attempt in driver.attempts(A)] == [2]

    def test_what_subscribers_left_behind_is_theirs(self) -> None:
        """A group that had a copy of its own does not get theirs as well, nor does a group that comes later."""
        driver = grouped(A)
        driver.join(B, "a")
        driver.publish(C, 1)
        driver.commit()
        driver.holds_changes = True
        driver.publish(C, 2)
        driver.look()
        driver.unsubscribe(B)
        driver.holds_changes = False
        driver.commit()
        driver.member(D, "*", "h")
        driver.look()
        assert not [change for change in driver.changes if isinstance(change, Adopt)]
        assert len({*driver.delivered(A)}) == 2
        assert driver.delivered(D) == []
        driver.subscribe(B, "a")
        driver.look()
        assert len(driver.delivered(B)) == 3

    def test_a_delayed_one_that_subscribers_left_behind_is_theirs(self) -> None:
        """When it is due it waits for the next of them: the group has a copy of its own."""
        driver = grouped(A)
        driver.join(B, "a")
        driver.publish(C, 1, delay=5.0)
        driver.commit()
        driver.unsubscribe(B)
        driver.wait(6.0)
        driver.look()
        assert len(driver.delivered(A)) == 1
        assert not [change for change in driver.changes if isinstance(change, Adopt)]
        driver.subscribe(B, "a")
        driver.look()
        assert len(driver.delivered(B)) == 1

    def test_what_may_be_acknowledged_late_is_inherited_too(self) -> None:
        """By who had it in hand before there was a group."""
        driver = Driver()
        driver.join(B, "a")
        driver.join(C)
        (number,) = driver.stored(C, 1)
        driver.unsubscribe(B)
        driver.member(A)
        assert driver.delivered(A) == [number]
        driver.ack(B, number)
        driver.look()
        assert driver.settled == [number]

    def test_nothing_is_inherited_if_the_store_takes_nothing(self) -> None:
        """What was on its way there is refused, and the group is given nothing."""
        driver = Driver()
        driver.join(A)
        driver.join(C)
        driver.publish(C, 1)
        driver.look()
        driver.join_group(A)
        driver.look()
        driver.fail()
        driver.look()
        assert driver.sent(A) == [Subscribed(1)]
        assert driver.broker.stats().pending == 0
        assert driver.list_groups(A) == [GroupState("a", "g", 1, 0, 0, 0, 0)]
        (number,) = driver.stored(C, 2)
        assert driver.delivered(A) == [number]

    @pytest.mark.parametrize("is_dead", [False, True])
    def test_what_is_kept_apart_follows_after_a_restart(self, *, is_dead: bool) -> None:
        """A delayed message, or a dead letter that is resent, that is older than the group."""
        driver = Driver(max_attempts=1)
        driver.join(C)
        if is_dead:
            driver.join(B, "a")
            (letter,) = driver.stored(C, 1)
            driver.nack(B, letter, 0)
            driver.sink(B)
        else:
            driver.stored(C, 1, delay=60.0)
        driver.member(A)
        driver.stored(C, 2, name="of.another")
        driver.restart()
        driver.join(C)
        driver.member(D, "*", "younger")
        driver.member(A)
        if is_dead:
            driver.resend(C, letter)
        driver.wait(61.0)
        assert len(driver.delivered(A)) == 1
        assert driver.delivered(D) == []

    def test_what_a_group_has_a_copy_of_is_not_inherited_after_a_restart(self) -> None:
        """Numbers that were given before it, and never stored, are not given again, so its age is known."""
        driver = Driver()
        driver.join(C)
        driver.publish(C, 1)
        driver.fail()
        driver.sent(C)
        driver.member(A)
        driver.restart()
        driver.join(C)
        driver.join(B, "a")
        driver.publish(C, 2, delay=5.0)
        driver.commit()
        driver.unsubscribe(B)
        driver.member(A)
        driver.wait(5.0)
        assert len(driver.delivered(A)) == 1
        driver.subscribe(B, "a")
        assert len([one for one in driver.sent(B) if isinstance(one, Deliver)]) == 1

    @pytest.mark.parametrize("is_pattern", [False, True])
    def test_no_crash_comes_in_between(self, *, is_pattern: bool) -> None:
        """The commit that makes a group hands over what it inherits, also what is stored with it."""
        driver = Driver()
        driver.join(C)
        driver.join(A)
        driver.stored(C, 1)
        driver.holds_changes = True
        driver.publish(C, 2)
        driver.join_group(A, "*" if is_pattern else "a")
        driver.look()
        at_once(driver.storage.commit(driver._queue))
        driver.holds_changes = False
        driver.restart()
        driver.member(A, "*" if is_pattern else "a")
        assert len(driver.delivered(A)) == 2

    def test_what_expires_while_it_is_handed_over(self) -> None:
        """The store finds it in the queue in which it was; it is gone from that of the group."""
        driver = Driver()
        driver.join(C)
        driver.stored(C, 1, ttl=5.0)
        driver.holds_changes = driver.holds_loads = True
        driver.member(A)
        driver.wait(6.0)
        driver.look()
        assert driver.broker.stats().pending == 0
        driver.holds_changes = driver.holds_loads = False
        driver.look()
        assert driver.dropped == {"expired": 1}
        assert driver.list_groups(C) == [GroupState("a", "g", 1, 0, 0, 0, 0)]
        assert driver.storage.rows() == {}

    def test_what_is_due_is_not_inherited_by_a_group_that_is_being_dropped(self) -> None:
        """It waits for the next one that comes."""
        driver = Driver()
        driver.join(C)
        driver.stored(C, 1, delay=5.0)
        driver.member(A)
        driver.leave_group(A)
        driver.holds_changes = True
        driver.drop_group(C)
        driver.wait(6.0)
        driver.look()
        driver.holds_changes = False
        driver.look()
        assert not has_group(driver)
        driver.member(B)
        assert len(driver.delivered(B)) == 1

    def test_a_group_without_members_inherits(self) -> None:
        """Its next member is given it."""
        driver = Driver()
        driver.join(A)
        driver.join(C)
        driver.publish(C, 1)
        driver.look()
        driver.join_group(A)
        driver.leave_group(A)
        driver.look()
        driver.commit()
        assert [change.heir for change in driver.changes if isinstance(change, Adopt)] == ["a|g"]
        driver.member(B)
        assert len(driver.delivered(B)) == 1


class TestDurable:
    def test_a_group_outlasts_a_restart(self) -> None:
        """It is there with no member, and collects what is published before one comes."""
        driver = grouped(A)
        driver.restart()
        driver.join(C)
        driver.stored(C, 1)
        driver.member(A)
        assert len(driver.delivered(A)) == 1

    def test_delayed_messages_are_counted_after_a_restart(self) -> None:
        """What the group has that is not due yet."""
        driver = grouped(A)
        driver.publish(C, 1, delay=5.0)
        driver.commit()
        driver.restart()
        driver.join(C)
        assert driver.list_groups(C) == [GroupState("a", "g", 0, 0, 0, 0, 1)]
        driver.member(A)
        driver.wait(5.0)
        assert len(driver.delivered(A)) == 1
        assert driver.list_groups(C)[0].delayed == 0

    def test_groups_of_the_settings(self) -> None:
        """They are there from the start, and are made once."""
        driver = Driver(groups=("a|g", "b.*|h"))
        driver.broker.restored(at_once(driver.storage.open()))
        driver.look()
        assert {"a|g", "b.*|h"} == driver.storage.groups.keys()
        driver.restart()
        driver.join(C)
        assert [(one.name, one.group) for one in driver.list_groups(C)] == [("a", "g"), ("b.*", "h")]


class TestLooking:
    def test_a_list(self) -> None:
        """Each group with what there is to know of it; the rest on asking again."""
        driver = grouped(A, B, prefetch=1)
        driver.stored(C, 1, 2, 3)
        driver.member(A, "*", "h")
        size = len(driver.frames[1])
        assert driver.list_groups(C) == [
            GroupState("*", "h", 1, 0, 0, 0, 0),
            GroupState("a", "g", 2, 3, 3 * size, 2, 0),
        ]
        assert [one.group for one in driver.list_groups(C, after="*|h")] == ["g"]

    def test_dropping(self) -> None:
        """A group without members is forgotten, with all that waits for it; it says how much that was."""
        driver = grouped(A)
        driver.leave_group(A)
        driver.stored(C, 1, 2)
        driver.publish(C, 3, delay=5.0)
        driver.commit()
        driver.sent(C)
        driver.drop_group(C, request=4)
        assert driver.sent(C) == [Completed(4, 3)]
        stats = driver.broker.stats()
        assert (stats.pending, stats.pending_size, stats.delayed, stats.delayed_size) == (0, 0, 0, 0)
        assert driver.dropped == {"group": 3}
        assert not has_group(driver)
        driver.wait(10.0)
        driver.restart()
        assert not has_group(driver)
        assert driver.broker.stats().pending == 0

    def test_dropping_what_has_members(self) -> None:
        """They must be stopped first."""
        driver = grouped(A)
        driver.drop_group(C)
        (answer,) = driver.sent(C)
        assert isinstance(answer, Failed)
        assert "1 members" in answer.text
        assert has_group(driver)

    def test_dropping_what_is_not_there(self) -> None:
        """It is said that there is none."""
        driver = grouped(A)
        driver.drop_group(C, group="h")
        (answer,) = driver.sent(C)
        assert isinstance(answer, Failed)
        assert "'h'" in answer.text

    def test_while_it_is_being_dropped(self) -> None:
        """Nobody joins it, nothing is stored for it, and nobody drops it again."""
        driver = grouped(A)
        driver.leave_group(A)
        driver.look()
        driver.holds_changes = True
        driver.drop_group(C, request=4)
        driver.drop_group(C, request=5)
        driver.join_group(A, request=6)
        driver.publish(C, 1)
        driver.look()
        assert [store.name for store in driver.storing] == ["a"]
        assert [type(command) for command in driver.sent(C)] == [Failed]
        (declined,) = driver.sent(A)
        assert isinstance(declined, Declined)
        driver.holds_changes = False
        driver.commit()
        driver.join_group(A, request=7)
        assert Subscribed(7) in driver.sent(A)

    def test_what_is_published_while_it_is_being_dropped_stays(self) -> None:
        """It waits for a subscriber, and is not handed to a group that will not be there."""
        driver = grouped(A)
        driver.leave_group(A)
        driver.look()
        driver.holds_changes = True
        driver.publish(C, 1)
        driver.look()
        driver.commit()
        driver.drop_group(C)
        driver.publish(C, 2)
        driver.look()
        driver.holds_changes = False
        driver.commit()
        assert not [change for change in driver.changes if isinstance(change, Adopt)]
        driver.restart()
        driver.join(A, "a")
        driver.look()
        assert len(driver.delivered(A)) == 1

    def test_an_ack_that_comes_while_it_is_being_dropped(self) -> None:
        """It comes too late: the message is dropped with the group, and counted once."""
        driver = grouped(A)
        (number,) = driver.stored(C, 1)
        driver.leave_group(A)
        driver.look()
        driver.holds_changes = True
        driver.drop_group(C)
        driver.ack(A, number)
        driver.look()
        driver.holds_changes = False
        driver.look()
        assert (driver.settled, driver.dropped) == ([], {"group": 1})
        assert driver.broker.stats().acked == 0

    def test_a_dead_letter_is_not_resent_to_what_is_being_dropped(self) -> None:
        """It stays a dead letter, and can be resent when the group is gone: then it brings it back."""
        driver = grouped(A, max_attempts=1)
        (number,) = driver.stored(C, 1)
        driver.nack(A, number, 0)
        driver.leave_group(A)
        driver.look()
        driver.holds_changes = True
        driver.drop_group(C, request=4)
        driver.resend(C, number, request=5)
        driver.look()
        driver.holds_changes = False
        driver.look()
        assert driver.sent(C)[-2:] == [Completed(4, 0), Completed(5, 0)]
        assert driver.broker.stats().dead == 1
        driver.resend(C, number, request=6)
        driver.look()
        assert driver.sent(C) == [Completed(6, 1)]
        assert has_group(driver)

    def test_a_store_that_fails_drops_nothing(self) -> None:
        """The group is there as before."""
        driver = grouped(A)
        driver.leave_group(A)
        driver.look()
        driver.holds_changes = True
        driver.drop_group(C, request=4)
        driver.look()
        driver.fail_all("the disk has failed")
        assert driver.sent(C) == [Failed(4, "storage", "the disk has failed")]
        driver.holds_changes = False
        driver.member(A)
        assert driver.list_groups(C)[0].members == 1

    def test_a_dead_letter_brings_its_group_back(self) -> None:
        """What is resent must not be stored for nobody."""
        driver = grouped(A, max_attempts=1)
        (number,) = driver.stored(C, 1)
        driver.nack(A, number, 0)
        driver.leave_group(A)
        driver.drop_group(C)
        driver.look()
        assert not has_group(driver)
        assert driver.delivered(A) == [number]
        driver.resend(C, number)
        driver.look()
        assert has_group(driver)
        driver.member(A)
        assert len(driver.delivered(A)) == 1
