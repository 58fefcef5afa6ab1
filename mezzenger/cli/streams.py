"""Stdout whose failures are errors of Mezzenger, so that they end a command as others do; stderr that never fails."""

import io
import os
import sys
from typing import TextIO

from mezzenger.cli.exits import CannotPrint


def guard_streams() -> None:
    """Have whatever cannot be written to stdout raise ``CannotPrint``, once; what comes after that goes nowhere.

    Text for stderr that cannot be written is left out: the exit code is what is left to tell.
    """
    sys.stdout = _guarded(sys.stdout, _Stdout)
    sys.stderr = _guarded(sys.stderr, _Stderr)


def _guarded(stream: TextIO, kind: type[io.FileIO]) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    # Below all buffers, so that it does not matter who prints, and whether at once or at the end.
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        # PYTHONUNBUFFERED asks for write_through, which would leave the text in the buffer below.
        line_buffering=stream.line_buffering or stream.write_through,
    )


class _Stdout(io.FileIO):
    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # None would be for files that do not block
        try:
            return super().write(data)
        except OSError as error:
            # Else Python would try once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise CannotPrint(error) from None


class _Stderr(io.FileIO):
    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # likewise
        try:
            return super().write(data)
        except OSError:
            # There may be space again for the next line of a log.
            return len(data)
