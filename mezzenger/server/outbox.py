"""What waits to be sent to one peer whose queue in ZeroMQ is full."""

from collections import deque


class Outbox:
    """Messages in order, and how many bytes they are."""

    def __init__(self) -> None:
        self._messages: deque[list[bytes]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, frames: list[bytes]) -> None:
        """Put a message behind the others."""
        self._messages.append(frames)
        self.size += sum(map(len, frames))

    def first(self) -> list[bytes]:
        """Return the message that is to be sent next."""
        return self._messages[0]

    def sent(self) -> None:
        """Take that message out."""
        self.size -= sum(map(len, self._messages.popleft()))
