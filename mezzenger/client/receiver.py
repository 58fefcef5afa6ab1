"""What an engine needs of what runs its callbacks: a ``Dispatcher``, or in an asyncio loop ``Lanes``."""

from typing import Protocol

from mezzenger.client.handlers import Handler


class Receiver(Protocol):
    """Takes deliveries to their callbacks, and counts."""

    @property
    def received(self) -> int:
        """Messages that were given to callbacks."""

    @property
    def failed(self) -> int:
        """Those that could not be handled."""

    @property
    def dropped(self) -> int:
        """Those with ``ack=0`` for which there was no room."""

    def add(self, queue: str, handler: Handler, /) -> None:
        """Take in the handler of a subscription."""

    def remove(self, queue: str, handler: Handler | None = None, /) -> bool:
        """Take out the handler of a subscription, if there is one, and no other than the one given, if one is.

        Returns:
            Whether it was there.
        """

    def is_kept_from_answering(self, name: str, /) -> bool:
        """Whether who is asking keeps this client from answering a request of that name while it waits."""
