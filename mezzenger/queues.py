"""Queues: for whom a stored message is kept.

The plain subscribers of a name share one queue, which is called as the name is. Each group has a queue of its own,
called ``PATTERN|GROUP``; neither holds ``|`` itself, so a queue's name tells what it is.
"""

from typing import Final

from mezzenger.message import check_characters

MARK: Final = "|"


def check_group(group: str) -> str:
    """Return ``group``, as a plain ``str``, if a group may be called that.

    Raises:
        InvalidName: It is not a ``str``, is empty, is over 255 bytes of UTF-8, or holds ``|`` or a control character.
    """
    return check_characters(group, "group's name")


def queue_of(pattern: str, group: str | None) -> str:
    """Return the queue of a group, or, without one, of the plain subscribers."""
    return pattern if group is None else f"{pattern}{MARK}{group}"


def split_queue(queue: str) -> tuple[str, str | None]:
    """Return the pattern and the group of a queue; the group is None for plain subscribers."""
    pattern, mark, group = queue.partition(MARK)
    return pattern, group if mark else None


def is_group(queue: str) -> bool:
    """Return whether a queue is a group's."""
    return MARK in queue
