"""How a command ends: the exit codes, and one line on stderr for each thing that went wrong."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

import typer

from mezzenger.errors import (
    BindError,
    ConfigurationError,
    InvalidChannel,
    InvalidMembership,
    InvalidMessage,
    InvalidName,
    MezzengerError,
    ServerUnreachable,
    StorageError,
)


class ExitCode(IntEnum):
    """What the exit codes mean; typer ends with 2 as well when it cannot read the command line."""

    FINE = 0
    FAILED = 1
    BAD_ARGUMENT = 2
    CANNOT_BIND = 3
    STORAGE = 4
    UNREACHABLE = 5
    SIGNAL = 128
    """To be added to the number of the signal that ended the command before it had done its work."""


class BadInput(MezzengerError):
    """Arguments or input that the command cannot use."""


class CannotPrint(MezzengerError):
    """Stdout does not take what is written to it.

    Attributes:
        is_unread: It is a pipe that nobody reads any more.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror}")
        self.is_unread = isinstance(error, BrokenPipeError)


class Incomplete(MezzengerError):
    """Says what was done before the error that is its cause."""


_CODES: Final = {
    ConfigurationError: ExitCode.BAD_ARGUMENT,
    InvalidName: ExitCode.BAD_ARGUMENT,
    InvalidChannel: ExitCode.BAD_ARGUMENT,
    InvalidMembership: ExitCode.BAD_ARGUMENT,
    InvalidMessage: ExitCode.BAD_ARGUMENT,
    BadInput: ExitCode.BAD_ARGUMENT,
    BindError: ExitCode.CANNOT_BIND,
    StorageError: ExitCode.STORAGE,
    ServerUnreachable: ExitCode.UNREACHABLE,
}


@contextmanager
def reported(command: str) -> Iterator[None]:
    """Turn an error of Mezzenger into a line on stderr and an exit code."""
    try:
        yield
    except MezzengerError as error:
        raise typer.Exit(failed(command, error)) from None


def failed(command: str, error: MezzengerError) -> int:
    """Tell on stderr what went wrong; return the exit code."""
    if isinstance(error, CannotPrint) and error.is_unread:
        # What the signal would have done, which Python ignores; who closed the pipe needs no telling.
        return ExitCode.SIGNAL + signal.SIGPIPE
    lines = error.problems if isinstance(error, ConfigurationError) else [str(error)]
    for line in lines:
        complain(command, f"error: {line}")
    return _code_of(error)


def complain(command: str, text: str) -> None:
    """Write one line to stderr, if there is a stderr."""
    if sys.stderr is not None:
        print(f"{command}: {' '.join(text.splitlines())}", file=sys.stderr)


def is_terminal(stream: object) -> bool:
    """Whether somebody is watching this stream; it is None if it was closed before the program began."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())


def _code_of(error: BaseException | None) -> ExitCode:
    if isinstance(error, Incomplete):
        error = error.__cause__
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), ExitCode.FAILED)
