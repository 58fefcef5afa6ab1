"""What a store must do; the server's loop knows no more of it than this."""

from collections.abc import Sequence
from typing import Protocol

from mezzenger.broker.effects import Change, Store


class Storage(Protocol):
    """A store of ``ack=1`` frames. One at a time of its methods is under way."""

    survives_restart: bool
    """Whether the next server finds what this one leaves unsettled."""

    async def load(self) -> Sequence[Store]:
        """Return what the last run stored and did not settle, in order of their numbers; to be awaited first.

        Raises:
            StorageError: It cannot be read, or is in use.
        """

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make the changes, all or none, in this order; they last once this has returned.

        Raises:
            StorageError: None of the changes was made, and none will be from now on.
        """

    async def close(self) -> None:
        """Let go of what the store holds open."""
