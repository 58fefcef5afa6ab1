"""The names of a client: which request counts, and who is told."""

import pytest

from mezzenger.errors import AlreadySubscribed, NotSubscribed
from mezzenger.protocol.commands import NAMES_PER_SUBSCRIBE, Subscribe
from mezzenger.protocol.events import Listen, Send
from mezzenger.protocol.subscriptions import Subscriptions
from mezzenger.protocol.wire import encode_command
from tests.protocol.session_driver import Driver

TOKEN = bytes(17)


def test_a_name_is_there_until_it_is_removed() -> None:
    """A name is taken in once and can be taken in again after it was removed."""
    subscriptions = Subscriptions()
    subscriptions.require_new("a")
    subscriptions.add("a", 1)
    assert "a" in subscriptions
    with pytest.raises(AlreadySubscribed):
        subscriptions.require_new("a")
    assert subscriptions.remove("a") == 1
    assert "a" not in subscriptions
    with pytest.raises(NotSubscribed):
        subscriptions.remove("a")
    subscriptions.require_new("a")


def test_a_ticket_is_told_once() -> None:
    """Those who wait for an answered request are told, and wait no more."""
    subscriptions = Subscriptions()
    subscriptions.add("a", 1)
    subscriptions.add("b", 2)
    assert (subscriptions.waits_with(1), subscriptions.waits_with(2), subscriptions.waits_with(3)) == ("a", "b", None)
    *listens, send = subscriptions.request(["a", "b"], TOKEN)
    assert listens == [Listen(b"a|"), Listen(b"b|"), Listen(TOKEN)]
    assert send == Send(encode_command(Subscribe(1, ["a", "b"], TOKEN)))
    assert subscriptions.take_ended() == []
    assert subscriptions.answered(1, 9.0) == [1, 2]
    assert subscriptions.take_ended() == [TOKEN]
    assert subscriptions.answered(1, 9.0) == []
    assert subscriptions.take_ended() == []
    assert subscriptions.waits_with(1) is None
    assert subscriptions.remove("a") is None


def test_only_the_last_request_for_a_name_counts() -> None:
    """A name that was removed, or asked for again, is not activated by an older answer."""
    subscriptions = Subscriptions()
    for ticket, name in enumerate("abc", 1):
        subscriptions.add(name, ticket)
    subscriptions.request(["a", "b", "c"], TOKEN)
    subscriptions.remove("a")
    subscriptions.remove("b")
    subscriptions.add("b", 4)
    subscriptions.request(["b"], TOKEN)
    assert subscriptions.answered(1, 9.0) == [3]
    assert subscriptions.answered(2, 9.0) == [4]


def test_a_break_ends_all_requests() -> None:
    """After a break no earlier answer counts, and request numbers go on."""
    subscriptions = Subscriptions()
    subscriptions.add("a", 1)
    subscriptions.request(["a"], TOKEN)
    subscriptions.disconnected()
    assert subscriptions.answered(1, 9.0) == []
    assert Send(encode_command(Subscribe(2, ["a"], TOKEN))) in subscriptions.request(["a"], TOKEN)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (0, []),
        (1, [1]),
        (NAMES_PER_SUBSCRIBE, [NAMES_PER_SUBSCRIBE]),
        (NAMES_PER_SUBSCRIBE + 1, [NAMES_PER_SUBSCRIBE, 1]),
    ],
)
def test_names_come_in_parts(count: int, sizes: list[int]) -> None:
    """All names come, in their order, as many at once as one command holds."""
    subscriptions = Subscriptions()
    names = [f"n{number}" for number in range(count)]
    for name in names:
        subscriptions.add(name, 0)
    parts = list(subscriptions.all_names())
    assert [len(part) for part in parts] == sizes
    assert [name for part in parts for name in part] == names
    driver = Driver()
    for name in names:
        driver.session.subscribe(name, 1.0)
    driver.session.start(driver.now)
    driver.actions()
    driver.link()
    assert [command.names for command in driver.sent() if isinstance(command, Subscribe)] == parts
