"""Subscribe and Unsubscribe: from Subscribed on, a peer misses nothing."""

import pytest

from mezzenger.protocol.commands import Declined, Linked, Subscribed, Unsubscribe
from tests.broker.broker_driver import A, B, C, Driver, joined, link_token, token_of


class TestSubscribe:
    """From Subscribed on, a peer misses nothing."""

    def test_the_command_first(self) -> None:
        """Subscribe is answered when its sync token surfaces, not before."""
        driver = joined(A, names=())
        driver.subscribe(A, "a", request=7)
        assert driver.all_sent() == {}
        driver.broker.surfaced(token_of("sync"), driver.now)
        assert driver.sent(A) == [Subscribed(7)]

    def test_the_token_first(self) -> None:
        """Where the sync token surfaced first, Subscribe is answered at once."""
        driver = joined(A, names=())
        driver.broker.surfaced(token_of("sync"), driver.now)
        assert driver.all_sent() == {}
        driver.subscribe(A, "a", request=7)
        assert driver.sent(A) == [Subscribed(7)]

    def test_each_request_has_its_own_token(self) -> None:
        """Several requests are each answered for their own token, in whichever order these surface."""
        driver = joined(A, names=())
        driver.subscribe(A, "a", request=1, token=token_of("1"))
        driver.subscribe(A, "b", request=2, token=token_of("2"))
        driver.broker.surfaced(token_of("2"), driver.now)
        driver.broker.surfaced(token_of("1"), driver.now)
        assert driver.sent(A) == [Subscribed(2), Subscribed(1)]

    def test_a_token_that_is_waited_for(self) -> None:
        """A sync token that another request waits for is counted; it takes nothing from that one."""
        driver = joined(A, B, names=())
        driver.hello(C)
        driver.subscribe(A, "a", request=1)
        driver.subscribe(B, "a", request=2)
        driver.subscribe(B, "a", request=3, token=link_token(C))
        driver.all_sent()
        driver.broker.unreachable(B, driver.now)
        driver.broker.surfaced(token_of("sync"), driver.now)
        driver.broker.surfaced(link_token(C), driver.now)
        assert driver.all_sent() == {A: [Subscribed(1)], C: [Linked()]}
        assert driver.malformed == {"token": 2}

    def test_nobody_waits_for_a_peer_that_is_gone(self) -> None:
        """The sync token of a peer that is gone answers nobody."""
        driver = joined(A, names=())
        driver.subscribe(A, "a")
        driver.sink(A)
        driver.broker.surfaced(token_of("sync"), driver.now)
        assert driver.all_sent() == {}

    @pytest.mark.parametrize("name", ["", "a|b", "x" * 256, "a\x00"])
    def test_a_bad_name(self, name: str) -> None:
        """A name that cannot be used is counted; nothing of that request is done or answered."""
        driver = joined(A, names=())
        driver.subscribe(A, "good", name)
        driver.broker.surfaced(token_of("sync"), driver.now)
        assert driver.all_sent() == {}
        assert driver.malformed == {"name": 1}
        assert driver.broker.stats().names == 0

    def test_twice(self) -> None:
        """A name that is subscribed already is subscribed once, and still answered; nothing is delivered for it."""
        driver = joined(A)
        driver.stored(A, 1)
        assert driver.delivered(A) == [1]
        driver.subscribe(A, "a", "a", request=2)
        driver.broker.surfaced(token_of("sync"), driver.now)
        assert driver.sent(A) == [Subscribed(2)]
        driver.stored(A, 2)
        assert driver.delivered(A) == [2]
        driver.unsubscribe(A)
        assert driver.broker.stats().names == 0

    def test_too_many_names(self) -> None:
        """A peer that subscribes to more names than it may is sent away for good; the limit itself is allowed."""
        driver = joined(A, names=["1", "2", "3"], max_names=3)
        assert driver.broker.stats().names == 3
        driver.subscribe(A, "4")
        assert driver.goodbye(A) == ("names", False)
        assert driver.malformed == {"names": 1}
        assert (driver.broker.stats().peers, driver.broker.stats().names) == (0, 0)

    def test_again_at_the_limit(self) -> None:
        """Names that a peer has already do not count again, nor does a name that it says twice."""
        driver = joined(A, names=["1", "2"], max_names=3)
        driver.subscribe(A, "1", "3", "3", token=token_of("more"))
        driver.subscribe(A, "1", "2", "3", request=2, token=token_of("all"))
        driver.broker.surfaced(token_of("more"), driver.now)
        driver.broker.surfaced(token_of("all"), driver.now)
        assert driver.sent(A) == [Subscribed(1), Subscribed(2)]
        driver.subscribe(A, "1", "4")
        assert driver.goodbye(A) == ("names", False)

    def test_a_group_again_at_the_limit(self) -> None:
        """Nor do the groups that it is in."""
        driver = Driver(max_names=1)
        driver.member(A, "a", "g")
        driver.join_group(A, "a", "g", request=2)
        driver.join_group(A, "a", "h", request=3)
        again, other = driver.sent(A)
        assert again == Subscribed(2)
        assert isinstance(other, Declined)
        assert (other.request, other.reason) == (3, "names")

    def test_too_many_requests(self) -> None:
        """Requests whose tokens never surface are limited too; those that were answered do not count."""
        driver = joined(A, names=(), max_names=3)
        for request in range(10):
            driver.subscribe(A, request=request)
            driver.broker.surfaced(token_of("sync"), driver.now)
        assert driver.sent(A) == [Subscribed(request) for request in range(10)]
        for n in range(3):
            driver.subscribe(A, token=token_of(str(n)))
        assert driver.all_sent() == {}
        driver.subscribe(A, token=token_of("last"))
        assert driver.goodbye(A) == ("names", False)

    def test_unsubscribe_from_nothing(self) -> None:
        """Unsubscribe for a name that the peer has not is harmless."""
        driver = joined(A)
        driver.say(A, Unsubscribe("b"), Unsubscribe("|"))
        assert driver.all_sent() == {}
        assert driver.malformed == {}
        assert driver.broker.stats().names == 1
