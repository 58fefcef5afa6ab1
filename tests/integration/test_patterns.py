"""Wildcards in subscriptions, with a real server."""

from typing import Final

import pytest

from mezzenger import Channel, InvalidName, Message, MezzengerServer
from tests.integration.conftest import Connect, both_clients
from tests.integration.processes import slow_road, wait_for

pytestmark = both_clients

NAMES: Final = ("orders", "orders.tea", "orders.tea.paid", "invoices.tea", "orders2.tea")
MATCHED: Final = {
    "orders.*": {"orders.tea"},
    "orders.>": {"orders.tea", "orders.tea.paid"},
    "*.tea": {"orders.tea", "invoices.tea", "orders2.tea"},
    "orders.*.paid": {"orders.tea.paid"},
    "*": {"orders"},
    ">": set(NAMES),
    "orders": {"orders"},
}


class Names:
    """A callback that keeps the names of what it is given."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, _payload: object, message: Message[object]) -> None:
        """Keep a name."""
        self.names.append(message.name)


@pytest.mark.parametrize("ack", [0, 1])
@pytest.mark.parametrize("group", [None, "packers"])
@pytest.mark.parametrize("pattern", MATCHED)
def test_what_is_matched(
    *, server: MezzengerServer, connect: Connect, pattern: str, ack: int, group: str | None
) -> None:
    """Subscribers and members get what their pattern matches, once, and nothing else, with ``ack`` and without."""
    sender, receiver, taken = connect(), connect(), Names()
    receiver.subscribe(pattern, taken, group=group)
    rounds = 3  # What should not come of the first ones would be there when the last one is.
    for _ in range(rounds):
        for name in NAMES:
            sender.send_message(name, "x", ack=ack)
    expected = sorted([*MATCHED[pattern]] * rounds)
    wait_for(lambda: len(taken.names) >= len(expected))
    assert sorted(taken.names) == expected
    assert receiver.stats.malformed == {}
    if ack:
        wait_for(lambda: server.stats().acked == len(expected))
        assert server.stats().pending == rounds * len(NAMES) - len(expected)


def test_patterns_that_overlap(server: MezzengerServer, connect: Connect) -> None:
    """A client whose patterns overlap calls each callback once for a message, and acknowledges when all are done."""
    client = connect()
    callbacks = {pattern: Names() for pattern in ("orders.*", "orders.>", ">", "orders.tea", "*.milk")}
    for pattern, callback in callbacks.items():
        client.subscribe(pattern, callback)
    called = [callback for pattern, callback in callbacks.items() if pattern != "*.milk"]
    connect().send_message("orders.tea", "x", ack=0)
    wait_for(lambda: all(len(one.names) == 1 for one in called))
    connect().send_message("orders.tea", "x", ack=1)
    wait_for(lambda: all(len(one.names) == 2 for one in called))
    wait_for(lambda: server.stats().pending == 0)
    assert server.stats().acked == 1
    assert callbacks["*.milk"].names == []
    # The two begin alike: what is left of them must still be heard.
    client.unsubscribe("orders.*")
    client.unsubscribe(">")
    connect().send_message("orders.tea", "x")
    wait_for(lambda: len(callbacks["orders.>"].names) == 3)
    assert len(callbacks["orders.*"].names) == len(callbacks[">"].names) == 2


def test_subscribe_then_publish(connect: Connect) -> None:
    """When ``subscribe`` returns, the pattern is active: 500 times nothing is missed, as subscriber and as member."""
    sender, receiver, taken = connect(), connect(), Names()
    for number in range(500):
        group = "g" if number % 2 else None
        receiver.subscribe(f"n{number}.*", taken, group=group)
        sender.send_message(f"n{number}.x", "x")
    wait_for(lambda: len(taken.names) == 500)


def test_over_a_slow_road(server: MezzengerServer, connect: Connect) -> None:
    """Also if the subscription takes longer to the server than the command does."""
    with slow_road(server.pub_port, 0.2) as port:
        receiver, taken = connect(sub_port=port), Names()
        sender = connect()
        for number in range(3):
            receiver.subscribe(f"n{number}.>", taken)
            sender.send_message(f"n{number}.x.y", "x")
        wait_for(lambda: len(taken.names) == 3)


def test_what_waited_is_delivered(connect: Connect) -> None:
    """Messages that waited for a subscriber are delivered to the first pattern that matches."""
    sender = connect()
    for name in NAMES:
        sender.send_message(name, "x", ack=1)
    taken = Names()
    connect().subscribe("orders.>", taken)
    wait_for(lambda: sorted(taken.names) == ["orders.tea", "orders.tea.paid"])
    rest = Names()
    connect().subscribe(">", rest, group="rest")
    wait_for(lambda: sorted(rest.names) == ["invoices.tea", "orders", "orders2.tea"])


def test_a_name_and_a_pattern_are_two_groups(connect: Connect) -> None:
    """A group is known by its name and by what it is for: each of the two gets the message."""
    client = connect()
    exact, wild = Names(), Names()
    client.subscribe("orders.tea", exact, group="packers")
    client.subscribe("orders.*", wild, group="packers")
    client.send_message("orders.tea", "x", ack=1)
    wait_for(lambda: exact.names == wild.names == ["orders.tea"])
    assert [(group.name, group.group) for group in client.groups.list()] == [
        ("orders.*", "packers"),
        ("orders.tea", "packers"),
    ]


@pytest.mark.parametrize("name", ["*", ">", "orders.*", "orders.>", "*.tea"])
def test_nobody_publishes_to_a_pattern(server: MezzengerServer, connect: Connect, name: str) -> None:
    """Publishing and asking need one name; what has wildcards is refused before anything is sent."""
    client = connect()
    for target in (name, Channel(name, str)):
        for ack in (0, 1):
            with pytest.raises(InvalidName, match="wildcard"):
                client.send_message(target, "x", ack=ack)
        with pytest.raises(InvalidName, match="wildcard"):
            client.send_messages(target, ["x"])
        with pytest.raises(InvalidName, match="wildcard"):
            client.request(target, "x")
    client.flush()
    assert server.stats().published == server.stats().stored == 0


def test_a_channel_with_wildcards(connect: Connect) -> None:
    """A channel may be subscribed to by a pattern, alone and as a member."""
    counts = list[tuple[str, int]]()
    client = connect()
    channel = Channel("stock.*", int)
    client.subscribe(channel, lambda payload, message: counts.append((message.name, payload)), group="counters")
    connect().send_message(Channel("stock.tea", int), 7, ack=1)
    wait_for(lambda: counts == [("stock.tea", 7)])
    client.unsubscribe(channel, group="counters")
    assert [group.members for group in client.groups.list()] == [0]
