"""Stdout whose failures are errors of Mezzenger, so that they end a command as all others do."""

import io
import os
import sys

from mezzenger.cli.exits import CannotPrint


def guard_stdout() -> None:
    """Have whatever cannot be written to stdout raise ``CannotPrint``, once; what comes after that goes nowhere."""
    before = sys.stdout
    if not isinstance(before, io.TextIOWrapper):
        return
    # Below all buffers, so that it does not matter who prints, and whether at once or at the end.
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Stdout(before.fileno(), "wb", closefd=False)),
        encoding=before.encoding,
        errors=before.errors,
        newline="\n",
        # PYTHONUNBUFFERED asks for write_through, which would leave the text in the buffer below.
        line_buffering=before.line_buffering or before.write_through,
    )


class _Stdout(io.FileIO):
    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # None would be for files that do not block
        try:
            return super().write(data)
        except OSError as error:
            # Else Python would try once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise CannotPrint(error) from None
