"""Cuts a stream of payloads into batches that travel as one frame each, and sends them."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
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


async def send_all(
    batches: Iterable[list[Item]], publish: Callable[[list[Item]], Waiter | None], turn: Callable[[], Awaitable[None]]
) -> int:
    """Publish batches, a few at a time, and wait for all of them; return how many messages that were.

    Args:
        batches: What is to be sent.
        publish: Sends a batch; returns whom to wait for, or None if it has left, and all before it.
        turn: Lets others go on; awaited after each batch for which nobody is to be waited.

    Raises:
        MezzengerError: One has failed; a note tells how many messages were done before.
    """
    under_way: deque[tuple[Waiter, int]] = deque()
    done = 0

    async def finish(most: int) -> None:
        """Wait until no more than so many batches are under way."""
        nonlocal done
        while len(under_way) > most:
            waiter, messages = under_way.popleft()
            await waiter.wait()
            done += messages

    try:
        for batch in batches:
            waiter = publish(batch)
            if waiter is None:
                await finish(0)
                done += len(batch)
                await turn()
            else:
                under_way.append((waiter, len(batch)))
                await finish(_UNDER_WAY)
        await finish(0)
    except BaseException as error:
        for waiter, _ in under_way:
            waiter.abandon()
        error.add_note(f"{done} messages were sent before")
        raise
    return done
