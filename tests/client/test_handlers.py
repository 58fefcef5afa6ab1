"""Which callbacks a message is for."""

from mezzenger.client.handlers import Handler, Handlers
from mezzenger.message import Message


def handler() -> Handler:
    def callback(_payload: object, _message: Message[object]) -> None:
        return

    return Handler(callback)


def test_each_pattern_that_matches() -> None:
    """A message for subscribers is for the callbacks of its name and of all patterns that match, in that order."""
    handlers = Handlers[Handler]()
    by_queue = {queue: handler() for queue in ("a.*", "a.b", "a.>", "b.>", "a.*|g", "a.b|g")}
    for queue, one in by_queue.items():
        handlers.add(queue, one)
    assert handlers.of("a.b", None)[0] is by_queue["a.b"]
    assert set(handlers.of("a.b", None)) == {by_queue["a.b"], by_queue["a.*"], by_queue["a.>"]}
    assert handlers.of("a.b.c", None) == (by_queue["a.>"],)
    assert handlers.of("c", None) == ()


def test_a_group_has_one() -> None:
    """A message of a group's queue is for the callback of that queue alone."""
    handlers = Handlers[Handler]()
    first, second = handler(), handler()
    handlers.add("a.*|g", first)
    handlers.add("a.b|g", second)
    handlers.add("a.b", handler())
    assert handlers.of("a.b", "a.*|g") == (first,)
    assert handlers.of("a.b", "a.b|g") == (second,)
    assert handlers.of("a.b", "a.b|h") == ()


def test_removing() -> None:
    """What is removed is called no more; what is not there can be removed."""
    handlers = Handlers[Handler]()
    for queue in ("a.*", "a.*|g"):
        handlers.add(queue, handler())
        handlers.remove(queue)
        handlers.remove(queue)
    assert handlers.of("a.b", None) == ()
    assert handlers.of("a.b", "a.*|g") == ()
    assert handlers.responder("a.b") is None


def test_removing_one_that_was_replaced() -> None:
    """Who removes a handler of its own leaves that of another one alone, and is told."""
    handlers = Handlers[Handler]()
    first, second = handler(), handler()
    for queue in ("a.*", "a.*|g"):
        handlers.add(queue, first)
        handlers.add(queue, second)
        assert not handlers.remove(queue, first)
        assert handlers.responder("a.b") is second
        assert handlers.remove(queue, second)
        assert not handlers.remove(queue, second)
        assert not handlers.remove(queue)
        assert handlers.responder("a.b") is None


def test_the_version_tells_of_changes() -> None:
    """Whoever has remembered the callbacks of a name knows whether to look again."""
    handlers = Handlers[Handler]()
    versions = [handlers.version]
    for queue in ("a", "a", "a|g"):
        handlers.add(queue, handler())
        versions.append(handlers.version)
    for queue in ("a", "a|g"):
        handlers.remove(queue)
        versions.append(handlers.version)
    assert len(set(versions)) == len(versions)


def test_who_answers_requests() -> None:
    """Any subscription that matches, be it to a pattern or as a member of a group; that to the name itself first."""
    handlers = Handlers[Handler]()
    member, subscriber = handler(), handler()
    handlers.add("*|g", member)
    assert handlers.responder("a") is member
    handlers.add("a", subscriber)
    assert handlers.responder("a") is subscriber
    assert handlers.responder("a.b") is None
