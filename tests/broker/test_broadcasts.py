"""Bundles: each subscriber gets what is for it, in one frame, and nobody else gets that."""

from collections.abc import Mapping

from mezzenger.protocol.bundle import contents_of, encode_bundle, is_addressed, read_bundle
from mezzenger.protocol.commands import TOKEN_BYTES, Deliver
from mezzenger.protocol.wire import NO_EXTRA, Extra, read_contents
from tests.broker.broker_driver import A, B, C, Driver, joined, link_token

P = b"P"
"""Who publishes."""


def bundle(*names: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Write messages whose payloads tell their places."""
    extra = Extra(headers=headers) if headers else NO_EXTRA
    items = [(1.5, b"%d" % place) for place in range(len(names))]
    return encode_bundle(names, items, [extra] * len(names), codec=0, client=1, sequence=10)


def publishing(**subscriptions: list[str]) -> Driver:
    """Return a driver with a publisher, and a subscriber for each name of one."""
    driver = joined(P, names=())
    for peer, names in subscriptions.items():
        driver.join(peer.encode(), *names)
    return driver


def given(driver: Driver) -> dict[bytes, list[tuple[str, int]]]:
    """Return what was published to each subscriber, by its token, or by name: name and sequence of each message."""
    driver.look()
    shown: dict[bytes, list[tuple[str, int]]] = {}
    for frame in driver.published:
        address = frame[:TOKEN_BYTES] if is_addressed(frame) else b""
        all_contents = contents_of(read_bundle(frame)) if address else [read_contents(frame)]
        headers = [one.header for one in all_contents]
        assert [bytes(one.items[0].payload) for one in all_contents] == [b"%d" % (one.sequence - 10) for one in headers]
        shown.setdefault(address, []).extend((header.name, header.sequence) for header in headers)
    driver.published.clear()
    return shown


def test_all_of_it() -> None:
    """Who has subscribed to all names gets the bytes that came, under its own address; they are counted."""
    driver = publishing(A=["a", "b"])
    frame = bundle("a", "b", "a")
    driver.give(P, frame)
    driver.look()
    assert driver.published == [link_token(A) + frame[TOKEN_BYTES:]]
    assert driver.broker.stats().published == 3
    assert driver.dropped == {}


def test_a_bundle_is_only_passed_on() -> None:
    """The loop need not look for anything else after it."""
    driver = publishing(A=["a", "b"])
    assert driver.broker.receive(P, [bundle("a", "b")], driver.now)
    assert driver.broker.receive(P, [memoryview(bundle("a", "b"))], driver.now)
    assert given(driver) == {link_token(A): [("a", 10), ("b", 11)] * 2}


def test_to_each_its_own() -> None:
    """Each subscriber gets what its names and patterns match, once, in order; what nobody gets is counted."""
    driver = publishing(A=["a", "b"], B=["b", "x.*"], C=["other"])
    driver.give(P, bundle("a", "b", "x.1", "nobody", "b"))
    assert given(driver) == {
        link_token(A): [("a", 10), ("b", 11), ("b", 14)],
        link_token(B): [("b", 11), ("x.1", 12), ("b", 14)],
    }
    assert driver.broker.stats().published == 4
    assert driver.dropped == {"no_subscriber": 1}


def test_to_nobody() -> None:
    """All of it may be for nobody."""
    driver = publishing(A=["other"])
    driver.give(P, bundle("a", "b"))
    assert given(driver) == {}
    assert driver.dropped == {"no_subscriber": 2}


def test_more_subscribers_than_messages() -> None:
    """Then it is cheaper to send each message once, under its name: ZeroMQ brings it to all of them."""
    driver = publishing(A=["a", "b"], B=["a"], C=["b"])
    driver.give(P, bundle("a", "b", "c"))
    assert given(driver).keys() == {link_token(A), link_token(B), link_token(C)}
    driver.give(P, bundle("a", "b"))
    assert given(driver) == {b"": [("a", 10), ("b", 11)]}
    assert driver.broker.stats().published == 4
    assert driver.dropped == {"no_subscriber": 1}


def test_headers_come_along() -> None:
    """What is beside a payload stays with it, in a part and alone."""
    for subscriptions in ({"A": ["a"]}, {"A": ["a"], "B": ["b"], "C": ["a"]}):
        driver = publishing(**subscriptions)
        driver.give(P, bundle("a", "b", headers={"k": "v"}))
        driver.look()
        frame = driver.published[0]
        contents = contents_of(read_bundle(frame))[0] if is_addressed(frame) else read_contents(frame)
        assert contents.extra.headers == {"k": "v"}


def test_a_group_gets_its_messages() -> None:
    """One member of each group gets them, one by one, and the subscribers as ever."""
    driver = publishing(A=["a", "b"])
    driver.member(B, "a")
    driver.give(P, bundle("a", "b"))
    assert given(driver) == {b"": [("a", 10), ("b", 11)]}
    assert [type(command) for command in driver.sent(B)] == [Deliver]
    assert driver.broker.stats().published == 2
    assert not driver.broker.receive(P, [bundle("a", "b")], driver.now)
    driver.look()
    driver.published.clear()
    assert driver.broker.receive(P, [bundle("b", "c")], driver.now)
    assert given(driver) == {link_token(A): [("b", 10)]}


def test_the_last_message_is_kept() -> None:
    """Of a name that retains, a new subscriber gets the last message of a bundle."""
    driver = joined(P, names=(), retain="last")
    driver.join(A, "a", "b")
    driver.give(P, bundle("a", "b", "a"))
    assert given(driver) == {b"": [("a", 10), ("b", 11), ("a", 12)]}
    driver.join(B, "a", "b")
    driver.look()
    kept = [read_contents(frame).header for frame in driver.retained[B]]
    assert sorted((header.name, header.sequence) for header in kept) == [("a", 12), ("b", 11)]


def test_malformed() -> None:
    """Nobody gets anything of a bundle that is damaged, and its sender must connect again."""
    driver = publishing(A=["a"])
    driver.give(P, bundle("a", "b")[:-1] + b"?")
    assert given(driver) == {}
    assert driver.goodbye(P) == ("digest", True)
    assert driver.malformed == {"digest": 1}


def test_a_stranger_is_not_sent_what_it_did_not_ask_for() -> None:
    """The address that a publisher writes is of no account."""
    driver = publishing(A=["a"], B=["b"], C=[])
    driver.give(P, link_token(C) + bundle("a", "b")[TOKEN_BYTES:])
    assert given(driver) == {link_token(A): [("a", 10)], link_token(B): [("b", 11)]}


def test_a_name_is_no_address() -> None:
    """Who calls a name its token would have others sent what is its own: it is not let in, nor answered."""
    driver = publishing(A=["a"])
    name = b"a|".ljust(TOKEN_BYTES, b"x")
    driver.hello(B, token=name)
    assert driver.goodbye(B) == ("key", False)
    driver.subscribe(A, "b", token=name)
    driver.broker.surfaced(name, driver.now)
    assert driver.sent(A) == []
    assert driver.malformed == {"key": 1, "token": 1}
