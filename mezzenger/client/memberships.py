"""As what a client joins a group."""

import math
from typing import Final, TypedDict

from mezzenger.errors import InvalidMembership
from mezzenger.message import plain
from mezzenger.protocol.commands import MAX_PREFETCH
from mezzenger.protocol.subscriptions import Membership
from mezzenger.queues import check_group

DEFAULT_PREFETCH: Final = 64


class SubscribeOptions(TypedDict, total=False):
    """What may be said of a subscription beside its name and callback, for type checkers."""

    group: str | None
    prefetch: int
    max_runtime: float | None
    order_by: str | None


class AsyncSubscribeOptions(SubscribeOptions, total=False):
    """The same in an asyncio client."""

    concurrency: int


def membership(group: str | None, prefetch: int, max_runtime: float | None, order_by: str | None) -> Membership | None:
    """Return as what a client joins a group; None if it is to be a subscriber.

    Raises:
        InvalidName: The group cannot be called that.
        InvalidMembership: One of the others cannot be, or there is no group.
    """
    if group is None:
        if (prefetch, max_runtime, order_by) != (DEFAULT_PREFETCH, None, None):
            raise InvalidMembership("prefetch, max_runtime and order_by are for members of a group; give group=, too")
        return None
    group = check_group(group)
    if not isinstance(prefetch, int) or isinstance(prefetch, bool) or not 1 <= prefetch <= MAX_PREFETCH:
        raise InvalidMembership(f"prefetch must be a number from 1 to {MAX_PREFETCH}, not {prefetch!r}")
    if max_runtime is not None and not _is_time(max_runtime):
        raise InvalidMembership(f"max_runtime must be a number of seconds above 0, or None, not {max_runtime!r}")
    if order_by is not None and (not isinstance(order_by, str) or not order_by):
        raise InvalidMembership(f"order_by must be the name of a header, or None, not {order_by!r}")
    # What is of a subclass may be nothing that can be written.
    return Membership(group, int(prefetch), max_runtime and float(max_runtime), order_by and plain(order_by))


def check_concurrency(concurrency: int) -> int:
    """Return how many calls may run at once, if it can be so many.

    Raises:
        InvalidMembership: It cannot.
    """
    if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
        raise InvalidMembership(f"concurrency must be a number from 1, not {concurrency!r}")
    return concurrency


def _is_time(seconds: object) -> bool:
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < math.inf
