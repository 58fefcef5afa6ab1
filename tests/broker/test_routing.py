"""Who subscribed to what."""

from mezzenger.broker.peers import Peer
from mezzenger.broker.routing import Routing
from tests.broker.broker_driver import A, B, link_token


def peer_of(peer_id: bytes) -> Peer:
    return Peer(peer_id, 1, link_token(peer_id))


def test_in_order_of_subscribing() -> None:
    """The subscribers of a name are given in the order in which they came, each once."""
    routing = Routing()
    first, second = peer_of(A), peer_of(B)
    routing.add("a", second)
    routing.add("a", first)
    routing.add("a", second)
    routing.add("b", first)
    assert routing.subscribers("a") == (second, first)
    assert routing.subscribers("b") == (first,)
    assert routing.subscribers("c") == ()
    assert first.names == {"a", "b"}


def test_names_with_subscribers() -> None:
    """A name is known as long as somebody subscribes to it."""
    routing = Routing()
    first, second = peer_of(A), peer_of(B)
    for peer in (first, second):
        routing.add("a", peer)
    assert routing.is_served("a")
    routing.remove("a", first)
    assert (routing.is_served("a"), len(routing), first.names) == (True, 1, set())
    routing.remove("a", second)
    assert (routing.is_served("a"), len(routing)) == (False, 0)
    assert routing.subscribers("a") == ()


def test_a_peer_is_forgotten() -> None:
    """A peer that is forgotten subscribes to nothing; others keep their names."""
    routing = Routing()
    first, second = peer_of(A), peer_of(B)
    for name in "abc":
        routing.add(name, first)
    routing.add("b", second)
    routing.forget(first)
    assert first.names == set()
    assert len(routing) == 1
    assert routing.subscribers("b") == (second,)


def test_the_list_may_be_walked_while_it_changes() -> None:
    """What ``subscribers`` returned stays as it is while peers come and go."""
    routing = Routing()
    first, second = peer_of(A), peer_of(B)
    routing.add("a", first)
    routing.add("a", second)
    for peer in routing.subscribers("a"):
        routing.remove("a", peer)
    assert len(routing) == 0
