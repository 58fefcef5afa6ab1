"""The store without a ``persist_file``: what the broker has in its pending table is all there is."""

from collections.abc import Sequence

from mezzenger.broker.effects import Change, Store


class MemoryStorage:
    """Keeps nothing beyond the process."""

    survives_restart = False

    async def load(self) -> Sequence[Store]:
        """Return nothing: there was no last run."""
        return ()

    async def commit(self, changes: Sequence[Change]) -> None:
        """Do nothing: the pending table has the changes."""

    async def close(self) -> None:
        """Do nothing."""
