"""Reads stdin: all of it, or line by line as the lines come."""

import os
from collections.abc import Callable, Iterator
from typing import Final

from mezzenger.errors import MezzengerError

_CHUNK: Final = 2**20

MayRead = Callable[[int], bool]
"""Waits until a file descriptor can be read; False if it shall not be."""


def read_all(descriptor: int, may_read: MayRead) -> str:
    """Return the text up to the end.

    Raises:
        MezzengerError: It cannot be read.
    """
    return b"".join(_chunks(descriptor, may_read)).decode(errors="replace")


def read_lines(descriptor: int, may_read: MayRead) -> Iterator[list[str]]:
    """Yield all complete lines that are there already, without their ends, whenever there are any.

    A line ends with a newline, or a carriage return before one. The rest after the last newline is a line of its own,
    unless ``may_read`` cut it short.

    Raises:
        MezzengerError: It cannot be read.
    """
    rest = bytearray()
    for chunk in _chunks(descriptor, may_read):
        end = chunk.rfind(b"\n")
        if end < 0:
            rest += chunk
            continue
        rest += chunk[:end]
        yield _decoded(rest)
        rest = bytearray(chunk[end + 1 :])
    if rest and may_read(descriptor):
        yield _decoded(rest)


def _decoded(text: bytearray) -> list[str]:
    # Not splitlines, to which a form feed ends a line too.
    return [line.removesuffix("\r") for line in text.decode(errors="replace").split("\n")]


def _chunks(descriptor: int, may_read: MayRead) -> Iterator[bytes]:
    try:
        while may_read(descriptor) and (chunk := os.read(descriptor, _CHUNK)):
            yield chunk
    except OSError as error:
        raise MezzengerError(f"cannot read stdin: {error.strerror}") from None
