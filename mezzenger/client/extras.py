"""What travels beside a payload, checked before anything is sent."""

from collections.abc import Mapping
from typing import TypedDict

from mezzenger.errors import InvalidMessage
from mezzenger.message import check_ack, check_headers, plain
from mezzenger.protocol.commands import MAX_SECONDS
from mezzenger.protocol.wire import NO_EXTRA, Extra


class RequestOptions(TypedDict, total=False):
    """What may be said of a request beside the payload, for type checkers."""

    headers: Mapping[str, str] | None


class SendOptions(RequestOptions, total=False):
    """What may be said of a message beside the payload, for type checkers."""

    ttl: float | None
    delay: float | None


def extra_of(ack: int, headers: Mapping[str, str] | None, ttl: float | None, delay: float | None) -> Extra:
    """Return the extra fields of a message.

    Raises:
        InvalidMessage: ``ack``, the headers, ``ttl`` or ``delay`` cannot be used.
    """
    check_ack(ack)
    if headers is not None:
        check_headers(headers)
    if ttl is not None and not (_is_number(ttl) and 0 < ttl <= MAX_SECONDS):
        raise InvalidMessage(f"ttl must be more than 0 and at most {MAX_SECONDS:g} seconds, not {ttl!r}")
    if delay is not None and not (_is_number(delay) and 0 <= delay <= MAX_SECONDS):
        raise InvalidMessage(f"delay must be at least 0 and at most {MAX_SECONDS:g} seconds, not {delay!r}")
    if not ack and (ttl is not None or delay):
        raise InvalidMessage("ttl and delay are for messages that the server stores: send it with ack=1")
    if not headers and ttl is None and delay is None:
        return NO_EXTRA
    # A number or text of another library may be a float or str, and yet nothing that can be written.
    seconds = [None if value is None else float(value) for value in (ttl, delay)]
    written = {plain(key): plain(value) for key, value in (headers or {}).items()}
    return Extra(written, ttl=seconds[0], delay=seconds[1])


def check_timeout(timeout: float | None) -> float | None:
    """Return a timeout, in seconds, if something may take so long; None if none is given.

    Raises:
        InvalidMessage: It is no number, or not more than 0.
    """
    if timeout is None:
        return None
    if not (_is_number(timeout) and 0 < timeout <= MAX_SECONDS):
        raise InvalidMessage(f"timeout must be more than 0 and at most {MAX_SECONDS:g} seconds, not {timeout!r}")
    return float(timeout)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
