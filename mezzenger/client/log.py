"""What a client tells its log; no message and no connection must depend on whether that can be written."""

import logging
from contextlib import suppress
from typing import Final

_LOGGER: Final = logging.getLogger("mezzenger.client")


def log(level: int, text: str, *values: object, error: BaseException | None = None) -> None:
    """Tell the log something, with the traceback of an error if one is given. What its handlers raise is dropped."""
    with suppress(Exception):
        _LOGGER.log(level, text, *values, exc_info=error, stacklevel=2)


def log_unhandled(name: str, error: BaseException) -> None:
    """Tell the log that a callback could not handle a message, and why."""
    log(logging.ERROR, "message %r was not handled", name, error=error)
