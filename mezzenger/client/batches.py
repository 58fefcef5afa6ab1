"""Cuts a stream of payloads into batches that travel as one frame each."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

MAX_MESSAGES: Final = 256
MAX_BYTES: Final = 2**20

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
