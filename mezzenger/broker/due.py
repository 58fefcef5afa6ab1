"""Which of what was delayed until now is the last message of its name."""

from collections.abc import Iterable

from mezzenger.broker.restored import Waiting
from mezzenger.protocol import wire


def last_of_names(found: Iterable[tuple[Waiting, int]]) -> dict[str, tuple[Waiting, int]]:
    """Return, for each name, what is due last, with its number; what is stored for subscribers rather than for groups.

    Args:
        found: What is due, in order, with its number from now on; of one publish all of it, in whatever queues it is.
    """
    last: dict[str, tuple[Waiting, int]] = {}
    headers: dict[str, wire.Header] = {}
    for waiting, number in found:
        header = wire.read_header(waiting.frame)
        # What is stored for subscribers comes before its copies for groups.
        if header.name not in last or not _is_of(header, headers[header.name]):
            last[header.name], headers[header.name] = (waiting, number), header
    return last


def _is_of(header: wire.Header, batch: wire.Header) -> bool:
    """Whether a message is one of a batch, or the batch itself."""
    return batch.client == header.client and 0 <= header.sequence - batch.sequence < batch.messages
