"""What a disk without space has room for, and what it has not."""

from mezzenger.broker.effects import Change, Origin, Requeue, Retain, Settle, Store, in_need_of_room


def test_what_is_refused_and_what_is_made_later() -> None:
    """Publishes are refused, with the last messages that come with them; what is due takes its own along."""
    store, its_last = Store(1, 9, 1, "a", 1, b"x"), Retain(1, "a", b"x")
    due, due_last = Requeue(Origin.DELAYED, 2, 3, "a", 1, 1), Retain(3, "a", b"y")
    for_groups, their_last = Requeue(Origin.DELAYED, 5, 6, "b|g", 1, 1), Retain(6, "b", b"z")
    settle = Settle(4, "a", 1, 1)
    changes: list[Change] = [store, its_last, due, for_groups, due_last, their_last, settle]
    later = [due, for_groups, due_last, their_last, settle]
    assert in_need_of_room(changes) == ([store, its_last], later)
