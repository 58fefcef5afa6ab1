"""What waits for a peer that takes nothing."""

from mezzenger.server.outbox import Outbox


def test_in_order_and_counted() -> None:
    """Messages come out as they went in; the size is that of what is still there."""
    outbox = Outbox()
    assert (len(outbox), outbox.size) == (0, 0)
    outbox.add([b"12", b"345"])
    outbox.add([b"6"])
    assert (len(outbox), outbox.size, outbox.first()) == (2, 6, [b"12", b"345"])
    outbox.sent()
    assert (len(outbox), outbox.size, outbox.first()) == (1, 1, [b"6"])
    outbox.sent()
    assert (len(outbox), outbox.size) == (0, 0)
