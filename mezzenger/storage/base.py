"""What a store must do; the server's loop knows no more of it than this."""

from collections.abc import Sequence
from typing import Protocol

from mezzenger.broker.effects import Change, Find, Load, Sweep
from mezzenger.broker.restored import Dead, Restored, Stored, Swept


class Storage(Protocol):
    """A store of ``ack=1`` frames. One at a time of its methods is under way."""

    survives_restart: bool
    """Whether the next server finds what this one leaves unsettled."""

    async def open(self) -> Restored:
        """Return what the last run left; to be awaited first.

        Raises:
            StorageError: It cannot be read, or is in use.
        """

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make the changes, all or none, in this order; they last once this has returned.

        Raises:
            StorageFull: None of the changes was made, for lack of space; a later commit may succeed.
            StorageError: The disk has failed, and no changes will be made from now on. Nobody knows whether these will
                be there after a restart.
        """

    async def read(self, load: Load) -> Sequence[Stored]:
        """Return the next frames of a name that wait; they count as offered once this has returned.

        Raises:
            StorageError: They cannot be read.
        """

    async def sweep(self, sweep: Sweep) -> Swept:
        """Return what has expired, and what is due.

        Raises:
            StorageError: It cannot be read.
        """

    async def find(self, find: Find) -> Sequence[Dead]:
        """Return the dead letters that a question is about; of a list, its beginning.

        Raises:
            StorageError: They cannot be read.
        """

    async def close(self) -> None:
        """Let go of what the store holds open."""
