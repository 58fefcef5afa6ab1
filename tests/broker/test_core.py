"""The broker's dialogue with its peers: who is taken in, who is dismissed, what is stored and confirmed."""

from collections.abc import Callable
from typing import NoReturn

import pytest

from mezzenger.message import MAX_HEADER_BYTES
from mezzenger.protocol.commands import (
    Confirm,
    Deliver,
    Goodbye,
    Hello,
    Linked,
    Ping,
    Pong,
    Refuse,
    Subscribe,
    Welcome,
)
from mezzenger.protocol.wire import MAX_TIMESTAMP, encode_command, encode_data
from tests.broker.broker_driver import (
    LIMIT,
    LINK_TIMEOUT,
    A,
    B,
    C,
    Driver,
    client_of,
    joined,
    key_of,
    link_token,
    token_of,
)

WELCOME = Welcome(1, LIMIT, retains=False)


class TestHello:
    """Who is taken in."""

    def test_welcome_at_once(self) -> None:
        """Hello is answered by Welcome before the link token surfaces, and by Linked then."""
        driver = Driver()
        driver.hello(A)
        assert driver.sent(A) == [WELCOME]
        driver.broker.surfaced(link_token(A), driver.now)
        assert driver.sent(A) == [Linked()]
        assert driver.broker.stats().peers == 1

    def test_the_token_may_come_first(self) -> None:
        """A link token that surfaced before Hello links the peer as soon as it says Hello."""
        driver = Driver()
        driver.broker.surfaced(link_token(A), driver.now)
        assert driver.all_sent() == {}
        driver.hello(A)
        assert driver.sent(A) == [WELCOME, Linked()]

    def test_another_version(self) -> None:
        """A client of another protocol version is sent away for good and is not a peer."""
        driver = Driver()
        driver.hello(A, version=2)
        assert driver.goodbye(A) == ("version", False)
        assert driver.broker.stats().peers == 0

    def test_a_wrong_key(self) -> None:
        """Who claims a known client id with another key is sent away for good, and the true one stays."""
        driver = joined(A)
        driver.hello(B, client=65, key=key_of(66))
        assert driver.goodbye(B) == ("key", False)
        assert driver.malformed == {"key": 1}
        driver.say(A, Ping(1))
        assert driver.sent(A) == [Pong(1)]

    def test_a_wrong_key_after_the_client_left(self) -> None:
        """A client id belongs to its key also while its client is away."""
        driver = joined(A)
        driver.sink(A)
        driver.hello(B, client=65, key=key_of(66))
        assert driver.goodbye(B) == ("key", False)

    @pytest.mark.parametrize("is_linked", [True, False])
    def test_a_token_in_use(self, is_linked: bool) -> None:
        """A link token belongs to one peer, from its Hello on; another one that names it is sent away for good."""
        driver = Driver()
        driver.hello(A)
        if is_linked:
            driver.broker.surfaced(link_token(A), driver.now)
        driver.all_sent()
        driver.hello(B, token=link_token(A))
        assert driver.goodbye(B) == ("key", False)
        assert driver.malformed == {"key": 1}
        driver.broker.surfaced(link_token(A), driver.now)
        assert driver.all_sent() == ({} if is_linked else {A: [Linked()]})

    @pytest.mark.parametrize(
        "frames",
        [
            [encode_command(Ping(1))],
            [encode_command(Subscribe(1, ["a"], token_of("sync")))],
            [encode_data("a", [(1.5, b"x")], ack=1, codec=1, client=65, sequence=1)],
            [encode_data("a", [(1.5, b"x")], ack=0, codec=1, client=65, sequence=1)],
            [b"x" + encode_command(Hello(1, 65, key_of(65), link_token(A), 1))[1:]],
            [encode_command(Hello(1, 65, b"short", link_token(A), 1))],
            [encode_command(Hello(1, 65, key_of(65), link_token(A), 1)), b""],
            [b""],
            [b"|"],
            [b"\xff\x00"],
            [],
        ],
    )
    def test_anything_before_hello(self, frames: list[bytes]) -> None:
        """A stranger who says anything but Hello is told to connect anew; it is counted, and does nothing else."""
        driver = Driver()
        driver.give(A, *frames)
        assert driver.goodbye(A) == ("hello", True)
        assert driver.malformed == {"hello": 1}
        assert driver.broker.stats().peers == 0
        driver.look()
        assert (driver.storing, driver.published) == ([], [])

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_second_hello(self, version: int) -> None:
        """A second Hello on one connection is counted and changes nothing."""
        driver = joined(A)
        driver.hello(A, client=7, token=token_of("other"), version=version)
        assert driver.all_sent() == {}
        assert driver.malformed == {"hello": 1}
        driver.publish(A, 1)
        driver.commit()
        assert driver.sent(A) == [Confirm([1]), Deliver(1, 1, None, None)]

    def test_the_same_client_again(self) -> None:
        """A client on a new connection takes over, and what its former connection had in hand is redelivered."""
        driver = joined(A)
        driver.stored(A, 1)
        assert driver.attempts(A) == [(1, 1)]
        driver.join(C, "a", client=65)
        assert driver.attempts(C) == [(1, 2)]
        assert driver.broker.stats().peers == 1
        driver.ack(A, 1)
        assert driver.goodbye(A) == ("hello", True)
        assert driver.settled == []

    def test_confirms_follow_the_client(self) -> None:
        """What was published on a former connection is confirmed on the present one."""
        driver = joined(A)
        driver.publish(A, 1)
        driver.join(B, client=65)
        driver.commit()
        assert driver.all_sent() == {B: [Confirm([1])]}

    def test_a_former_connection_leaves_no_deadline(self) -> None:
        """The link timeout of a connection that was taken over does not end the new one."""
        driver = Driver()
        driver.hello(A)
        driver.wait(1.0)
        driver.join(B, client=65)
        driver.all_sent()
        driver.wait(LINK_TIMEOUT)
        assert driver.all_sent() == {}
        assert driver.broker.stats().peers == 1


class TestLink:
    """While its link token is subscribed, a client lives."""

    def test_a_token_that_never_surfaces(self) -> None:
        """A peer whose link token does not surface in time is told so, and forgotten at that moment."""
        driver = Driver()
        driver.hello(A)
        driver.subscribe(A, "a")
        assert driver.sent(A) == [WELCOME]
        assert driver.broker.next_deadline() == driver.now + LINK_TIMEOUT
        driver.wait(LINK_TIMEOUT - 0.01)
        assert driver.all_sent() == {}
        driver.wait(0.01)
        (goodbye,) = driver.sent(A)
        assert goodbye == Goodbye("link", "the SUB socket's link token did not come through pub_port within 5 s", True)
        stats = driver.broker.stats()
        assert (stats.peers, stats.names, driver.broker.next_deadline()) == (0, 0, None)
        driver.broker.surfaced(link_token(A), driver.now)
        driver.broker.surfaced(token_of("sync"), driver.now)
        assert driver.all_sent() == {}

    def test_in_time(self) -> None:
        """A peer that was linked in time stays."""
        driver = joined(A)
        driver.wait(LINK_TIMEOUT)
        assert driver.all_sent() == {}
        assert driver.broker.stats().peers == 1
        assert driver.broker.next_deadline() is None

    def test_a_second_life_of_a_connection(self) -> None:
        """A peer that was dismissed and says Hello again has its own time, and is left as clean as any."""
        driver = Driver()
        driver.hello(A)
        driver.broker.unreachable(A, driver.now)
        driver.wait(1.0)
        driver.hello(A, token=token_of("second"))
        driver.broker.surfaced(token_of("second"), driver.now)
        assert driver.sent(A) == [WELCOME, WELCOME, Linked()]
        driver.wait(LINK_TIMEOUT)
        assert driver.all_sent() == {}
        assert driver.broker.stats().peers == 1
        driver.broker.sunk(token_of("second"), driver.now)
        assert driver.broker.stats().peers == 0

    @pytest.mark.parametrize(
        "leave",
        [
            lambda driver: driver.sink(A),
            lambda driver: driver.broker.unreachable(A, driver.now),
            lambda driver: driver.subscribe(A, *map(str, range(200)), token=token_of("many")),
        ],
        ids=["sunk", "unreachable", "dismissed"],
    )
    def test_gone(self, leave: Callable[[Driver], None]) -> None:
        """A peer that is gone is no subscriber any more; what it had in hand goes to others at once, as attempt 2."""
        driver = joined(A, B, max_names=100)
        driver.stored(A, 1)
        assert driver.attempts(A) == driver.attempts(B) == [(1, 1)]
        driver.nack(B, 1, 0)
        assert driver.all_sent() == {}
        leave(driver)
        assert driver.attempts(B) == [(1, 2)]
        stats = driver.broker.stats()
        assert (stats.peers, stats.names, stats.in_flight, stats.pending) == (1, 1, 1, 1)

    def test_too_many_clients(self) -> None:
        """Beyond max_peers a client is sent away and may come back; one that takes over its own place is not."""
        driver = joined(A, B, max_peers=2)
        driver.hello(C)
        assert driver.goodbye(C) == ("peers", True)
        assert driver.broker.stats().peers == 2
        driver.hello(C, client=client_of(A), key=key_of(client_of(A)), token=token_of("again"))
        assert driver.broker.stats().peers == 2
        driver.broker.unreachable(B, driver.now)
        driver.hello(b"D")
        assert driver.broker.stats().peers == 2

    def test_gone_twice(self) -> None:
        """A peer that could not be reached may be reported once more by its link token, whoever is there by then."""
        driver = joined(A)
        driver.broker.unreachable(A, driver.now)
        driver.sink(A)
        driver.broker.unreachable(A, driver.now)
        driver.hello(A)
        driver.broker.surfaced(link_token(A), driver.now)
        assert driver.sent(A) == [WELCOME, Linked()]
        assert driver.broker.stats().peers == 1

    def test_nobody_in_particular(self) -> None:
        """A token or a peer that nobody knows may go."""
        driver = joined(A)
        driver.broker.sunk(token_of("unknown"), driver.now)
        driver.broker.unreachable(B, driver.now)
        assert driver.all_sent() == {}
        assert driver.broker.stats().peers == 1


class TestMayBeLost:
    """``ack=0``: handed on to whoever is there."""

    def test_handed_on(self) -> None:
        """A frame for a name that somebody registered is published as it came, once, and not answered."""
        driver = joined(A, B)
        frame = driver.publish(A, 1, ack=0, payloads=[b"1", b"2"])
        driver.look()
        assert driver.published == [frame]
        assert driver.all_sent() == {}
        assert driver.broker.stats().published == 2

    @pytest.mark.parametrize("name", ["b", "a.b", "A"])
    def test_nobody_there(self, name: str) -> None:
        """A frame for a name that nobody registered is dropped and counted."""
        driver = joined(A)
        driver.publish(A, 1, name, ack=0, payloads=[b"1", b"2"])
        driver.look()
        assert driver.published == []
        assert driver.dropped == {"no_subscriber": 2}
        assert driver.broker.stats().published == 0

    def test_nobody_there_any_more(self) -> None:
        """After the last subscriber left, a name counts as not registered."""
        driver = joined(A)
        driver.unsubscribe(A)
        driver.publish(A, 1, ack=0)
        driver.look()
        assert driver.published == []

    @pytest.mark.parametrize(
        ("reason", "frame"),
        [
            ("name", b""),
            ("name", b"a"),
            ("version", bytes(LIMIT)),
            ("truncated", b"a|"),
            ("version", b"a|" + bytes(60)),
            ("size", bytes(LIMIT + 1)),
        ],
        ids=["empty", "no name", "large bundle", "truncated", "version", "too large"],
    )
    def test_malformed(self, reason: str, frame: bytes) -> None:
        """A data frame that cannot be read, or is too large, is counted and ends the connection; it does nothing."""
        driver = joined(A)
        driver.give(A, frame)
        assert driver.goodbye(A) == (reason, True)
        assert (driver.storing, driver.published) == ([], [])
        assert driver.malformed == {reason: 1}
        assert driver.broker.stats().peers == 0

    def test_what_is_unread_does_not_look_stored(self) -> None:
        """What follows a frame that cannot be read is not stored; so all of it is stored when it comes again."""
        driver = joined(A, names=())
        driver.give(A, b"a|")
        driver.publish(A, 2)
        unread, unasked = driver.sent(A)
        assert isinstance(unread, Goodbye)
        assert isinstance(unasked, Goodbye)
        assert (unread.reason, unread.retry, unasked.reason, unasked.retry) == ("truncated", True, "hello", True)
        assert driver.storing == []
        driver.join(B, client=65)
        driver.publish(B, 1, client=65)
        driver.publish(B, 2, client=65)
        driver.commit()
        assert driver.sent(B) == [Confirm([1, 2])]

    def test_what_we_fail_on_does_not_look_stored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor is what follows it, if the broker has failed: a fault is told to the loop, and costs its peer only."""
        driver = joined(A, B, names=())

        def fail(*_: object) -> NoReturn:
            raise RuntimeError("nobody has foreseen this")

        with monkeypatch.context() as patched:
            patched.setattr(driver.broker._intake, "publish", fail)
            with pytest.raises(RuntimeError, match="foreseen"):
                driver.publish(A, 1)
        assert driver.goodbye(A) == ("failed", True)
        driver.publish(A, 2)
        driver.publish(B, 1)
        driver.commit()
        assert driver.goodbye(A) == ("hello", True)
        assert driver.sent(B) == [Confirm([1])]

    def test_we_fail_on_a_stranger(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who is not known cannot be dismissed."""
        driver = Driver()

        def fail(*_: object) -> NoReturn:
            raise RuntimeError("nobody has foreseen this")

        monkeypatch.setattr(driver.broker._connections, "hello", fail)
        with pytest.raises(RuntimeError, match="foreseen"):
            driver.hello(A)
        assert driver.all_sent() == {}

    @pytest.mark.parametrize("frame", [b"|", b"|\xc1", encode_command(Pong(1))])
    def test_a_malformed_command(self, frame: bytes) -> None:
        """A command that cannot be read is counted and does nothing."""
        driver = joined(A)
        driver.give(A, frame)
        assert driver.all_sent() == {}
        assert driver.malformed == {"command": 1}
        assert driver.broker.stats().peers == 1

    def test_parts_that_nobody_could_read(self) -> None:
        """A batch whose messages could not be frames of their own is refused before a group is to get them."""
        driver = Driver()
        driver.member(B, order_by="k")
        driver.join(A)
        items = [(MAX_TIMESTAMP, b"x"), (MAX_TIMESTAMP + 1, b"y")]
        driver.give(A, encode_data("a", items, ack=1, codec=1, client=client_of(A), sequence=1))
        assert driver.goodbye(A) == ("timestamp", True)
        driver.join(A)
        driver.publish(A, 1, payloads=[b"x", b"y"], headers={"k": "v" * MAX_HEADER_BYTES})
        (answer,) = driver.sent(A)
        assert isinstance(answer, Refuse)
        assert (answer.sequence, answer.reason) == (1, "extra")
        assert driver.malformed == {"timestamp": 1, "extra": 1}
        assert (driver.commit(), driver.sent(B)) == ([], [])

    @pytest.mark.parametrize("frames", [[], [b"|", b"|"]])
    def test_not_one_frame(self, frames: list[bytes]) -> None:
        """A peer's multipart message of any other number of frames than one is counted."""
        driver = joined(A)
        driver.give(A, *frames)
        assert driver.malformed == {"frames": 1}

    def test_what_the_loop_counts(self) -> None:
        """The loop may count what it could not hand in."""
        driver = Driver()
        driver.broker.malformed("subscription")
        assert driver.malformed == {"subscription": 1}


def test_ping() -> None:
    """Ping is answered by its number."""
    driver = joined(A)
    driver.say(A, Ping(1), Ping(2))
    assert driver.sent(A) == [Pong(1), Pong(2)]


def test_farewell() -> None:
    """When the server stops, every client is told to come back later; none is sent anything else any more."""
    driver = joined(A, B)
    driver.stored(A, 1)
    driver.nack(B, 1, 0)
    driver.all_sent()
    driver.broker.farewell(driver.now)
    assert driver.goodbye(A) == driver.goodbye(B) == ("stopping", True)
    stats = driver.broker.stats()
    assert (stats.peers, stats.names, stats.in_flight, stats.pending) == (0, 0, 0, 1)


def test_a_broker_without_peers_has_no_deadline() -> None:
    """Nothing is due where nothing has happened."""
    driver = Driver()
    assert driver.broker.next_deadline() is None
    driver.wait(1.0)
    assert driver.broker.take_effects() == []
