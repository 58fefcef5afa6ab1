"""The log of a command, on stderr."""

import copy
import logging
import sys

from mezzenger.errors import MezzengerError


class NotPrinted(MezzengerError):
    """A callback declines a message, so that it is not acknowledged; there is nothing to log about it."""


def log_to_stderr(level: int, layout: str) -> None:
    """Write what Mezzenger logs from ``level`` on, and other libraries' warnings, to stderr."""
    handler = _StderrHandler()
    handler.setFormatter(_Formatter(layout))
    handler.addFilter(_is_worth_a_line)
    logging.getLogger().addHandler(handler)
    logging.getLogger("mezzenger").setLevel(level)


class _StderrHandler(logging.Handler):
    """Looks stderr up for each line: a progress display puts itself in its place for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if sys.stderr is not None:
            try:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except OSError:
                self.handleError(record)


class _Formatter(logging.Formatter):
    """Writes errors of Mezzenger in one line; for any other exception there is a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        error = _error_of(record)
        if not isinstance(error, MezzengerError):
            return super().format(record)
        plain = copy.copy(record)
        plain.exc_info = plain.exc_text = None
        return f"{super().format(plain)}: {error}"


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return not isinstance(_error_of(record), NotPrinted)
