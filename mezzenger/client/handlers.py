"""What is called for the messages of a name."""

from collections.abc import Callable
from typing import Any, NamedTuple

from mezzenger.channel import Channel
from mezzenger.message import Message

Callback = Callable[[Any, Message[Any]], object]
"""What a callback looks like when its payload's type is of no interest."""


class Handler(NamedTuple):
    """What is done with the messages of a name."""

    callback: Callback
    channel: Channel[Any] | None = None
    """Whose type their payloads must be of, if there is one."""
