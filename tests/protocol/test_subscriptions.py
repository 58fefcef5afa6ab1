"""The subscriptions of a client: which request counts, and who is told."""

import pytest

from mezzenger.errors import AlreadySubscribed, NotSubscribed
from mezzenger.protocol.commands import NAMES_PER_SUBSCRIBE, Join, Subscribe
from mezzenger.protocol.subscriptions import Membership, Subscriptions, prefix_of
from tests.protocol.session_driver import Driver

TOKEN = bytes(17)
MEMBERSHIP = Membership("g", 64)


def token() -> bytes:
    return TOKEN


def requested(subscriptions: Subscriptions, *queues: str) -> Subscribe | Join:
    """Return the one command that asks for these."""
    (command,) = subscriptions.request(queues, token)
    return command


def test_a_name_is_there_until_it_is_removed() -> None:
    """A name is taken in once and can be taken in again after it was removed."""
    subscriptions = Subscriptions()
    subscriptions.require_new("a")
    assert subscriptions.add("a", None, 1) == "a"
    assert "a" in subscriptions
    with pytest.raises(AlreadySubscribed, match="subscribed to 'a' already"):
        subscriptions.require_new("a")
    assert subscriptions.remove("a") == 1
    assert "a" not in subscriptions
    with pytest.raises(NotSubscribed, match="not subscribed to 'a'"):
        subscriptions.remove("a")
    subscriptions.require_new("a")


def test_a_group_is_another_matter() -> None:
    """A client may be a subscriber of a name and a member of groups of it; each is known by itself."""
    subscriptions = Subscriptions()
    subscriptions.require_new("a|g")
    assert subscriptions.add("a", MEMBERSHIP, 1) == "a|g"
    assert "a|g" in subscriptions
    assert "a" not in subscriptions
    assert "a|h" not in subscriptions
    with pytest.raises(AlreadySubscribed, match="a member of group 'g' of 'a' already"):
        subscriptions.require_new("a|g")
    subscriptions.require_new("a")
    assert subscriptions.remove("a|g") == 1
    with pytest.raises(NotSubscribed, match="not a member of group 'g' of 'a'"):
        subscriptions.remove("a|g")


def test_patterns() -> None:
    """A message is wanted if its name matches some pattern, until that is removed."""
    subscriptions = Subscriptions()
    subscriptions.add("a.*", None, 1)
    subscriptions.require_new("a.b")
    assert "a.b" in subscriptions
    assert "b.b" not in subscriptions
    assert None not in subscriptions
    subscriptions.remove("a.*")
    assert "a.b" not in subscriptions


def test_a_ticket_is_told_once() -> None:
    """Those who wait for an answered request are told, and wait no more."""
    subscriptions = Subscriptions()
    subscriptions.add("a", None, 1)
    subscriptions.add("b", None, 2)
    assert (subscriptions.waits_with(1), subscriptions.waits_with(2), subscriptions.waits_with(3)) == ("a", "b", None)
    request = requested(subscriptions, "a", "b")
    assert request == Subscribe(1, ["a", "b"], TOKEN)
    assert subscriptions.answered(1) == request
    assert subscriptions.answered(1) is None
    assert list(subscriptions.waiting(request)) == [1, 2]
    assert list(subscriptions.waiting(request)) == []
    assert subscriptions.waits_with(1) is None
    assert subscriptions.remove("a") is None


def test_only_the_last_request_for_a_name_counts() -> None:
    """A name that was removed, or asked for again, is not activated by an older answer."""
    subscriptions = Subscriptions()
    for ticket, name in enumerate("abc", 1):
        subscriptions.add(name, None, ticket)
    older = requested(subscriptions, "a", "b", "c")
    subscriptions.remove("a")
    subscriptions.remove("b")
    subscriptions.add("b", None, 4)
    newer = requested(subscriptions, "b")
    assert list(subscriptions.waiting(older)) == [3]
    assert list(subscriptions.waiting(newer)) == [4]


def test_a_break_ends_all_requests() -> None:
    """After a break no earlier answer counts, and request numbers go on."""
    subscriptions = Subscriptions()
    subscriptions.add("a", None, 1)
    requested(subscriptions, "a")
    subscriptions.disconnected()
    assert subscriptions.answered(1) is None
    assert requested(subscriptions, "a").request == 2


def test_groups_are_asked_for_one_by_one() -> None:
    """For one of them may be declined and another not."""
    subscriptions = Subscriptions()
    subscriptions.add("a", None, 1)
    subscriptions.add("a.*", Membership("g", 1, 2.5, "customer"), 2)
    subscriptions.add("b", MEMBERSHIP, 3)
    assert subscriptions.queues() == ["a", "a.*|g", "b|g"]
    commands = list(subscriptions.request(subscriptions.queues(), token))
    assert commands == [
        Subscribe(1, ["a"], TOKEN),
        Join(2, "a.*", "g", 1, 2.5, "customer"),
        Join(3, "b", "g", 64, None, None),
    ]
    assert [list(subscriptions.waiting(command)) for command in commands] == [[1], [2], [3]]


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
    names = [f"n{number}" for number in range(count)]
    driver = Driver()
    for name in names:
        driver.session.subscribe(name, 1.0)
    driver.session.start(driver.now)
    driver.actions()
    driver.link()
    parts = [command.names for command in driver.sent() if isinstance(command, Subscribe)]
    assert [len(part) for part in parts] == sizes
    assert [name for part in parts for name in part] == names


@pytest.mark.parametrize(
    ("pattern", "prefix"), [("a", b"a|"), ("a.b", b"a.b|"), ("a.*", b"a."), ("*.b", b""), (">", b"")]
)
def test_what_a_socket_subscribes_to(pattern: str, prefix: bytes) -> None:
    """The name and its end; of a pattern, what all names begin with that match."""
    assert prefix_of(pattern) == prefix
