"""What a callback raised, in words that a command can carry."""

import os
import traceback
from collections import deque
from pathlib import Path
from typing import Final

from mezzenger.protocol.commands import MAX_ERROR_CHARACTERS, Raised, fit_text

_HERE: Final = f"{Path(__file__).parent.parent}{os.sep}"
_MAX_TYPE: Final = 255
"""Characters of a type's name."""


def describe(error: BaseException) -> str:
    """Return an error's type and text, and the last lines of its traceback."""
    text = fit_text(f"{type(error).__name__}: {_text_of(error)}")
    return "\n".join([text, *_last_lines(error, MAX_ERROR_CHARACTERS - len(text))])


def raised(error: BaseException, *, with_traceback: bool = True) -> Raised:
    """Return an error as it travels to who asked; without its traceback if that says nothing of a callback."""
    lines = _last_lines(error, MAX_ERROR_CHARACTERS) if with_traceback else ()
    name = fit_text(type(error).__name__, _MAX_TYPE)
    return Raised(name, fit_text(_text_of(error)), fit_text("\n".join(lines)))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # its __str__ is the application's, too
        return "its text cannot be told"


def _last_lines(error: BaseException, room: int) -> deque[str]:
    """Return the last lines of a traceback that are no longer together."""
    frames = traceback.extract_tb(error.__traceback__)
    # Without the first ones, which are the way to the callback.
    while frames and frames[0].filename.startswith(_HERE):
        frames.pop(0)
    lines: deque[str] = deque()
    for line in reversed("".join(frames.format()).splitlines()):
        room -= len(line) + 1
        if room < 0:
            break
        lines.appendleft(line)
    return lines
