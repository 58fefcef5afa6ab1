"""Cuts a stream of payloads into batches that travel as one frame each, and sends them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from mezzenger.client.runner import Waiter
from mezzenger.protocol.wire import FRAME_OVERHEAD

MAX_MESSAGES: Final = 512
MAX_BYTES: Final = 2**20
_ITEM_OVERHEAD: Final = 8
_UNDER_WAY: Final = 64

Item = tuple[float, bytes]


def batches(payloads: Iterable[bytes], clock: Callable[[], float], max_bytes: int) -> Iterator[list[Item]]:
    """Yield the payloads, each with its time of creation, in batches.

    Args:
        payloads: Encoded; taken one by one, as they are needed.
        clock: Tells the time of creation.
        max_bytes: Of payload in one batch; a larger payload has a batch of its own.
    """
    batch: list[Item] = []
    size = 0
    for payload in payloads:
        if batch and (len(batch) == MAX_MESSAGES or size + len(payload) > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append((clock(), payload))
        size += len(payload)
    if batch:
        yield batch


def max_batch_bytes(max_message_size: int | None) -> int:
    """Return how many bytes of payload a batch may have, so that the server takes its frame."""
    limit = max_message_size or MAX_BYTES
    return min(MAX_BYTES, limit - FRAME_OVERHEAD - MAX_MESSAGES * _ITEM_OVERHEAD)


async def send_all(batches: Iterable[list[Item]], publish: Callable[[list[Item]], Waiter | None]) -> int:
    """Publish batches, a few at a time, and wait for all of them; return how many messages that were.

    Raises:
        MezzengerError: One has failed; a note tells how many messages were done before.
    """
    under_way: deque[tuple[Waiter | None, int]] = deque()
    done = 0

    async def finish() -> int:
        waiter, messages = under_way.popleft()
        if waiter is not None:
            await waiter.wait()
        return messages

    try:
        for batch in batches:
            under_way.append((publish(batch), len(batch)))
            if len(under_way) > _UNDER_WAY:
                done += await finish()
        while under_way:
            done += await finish()
    except BaseException as error:
        for waiter, _ in under_way:
            if waiter is not None:
                waiter.abandon()
        error.add_note(f"{done} messages were sent before")
        raise
    return done
