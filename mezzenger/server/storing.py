"""Has the store do what the broker decides: commit all that has gathered, then read what is wanted."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from mezzenger.broker.core import Broker
from mezzenger.broker.effects import Change, Find, Load, Query, Settle, Store, Sweep, in_need_of_room
from mezzenger.errors import StorageError, StorageFull
from mezzenger.storage.base import Storage

_FULL_SECONDS: Final = 0.5
"""Before the store is tried again that had no space left."""
_COMPANY_SECONDS: Final = 0.01
"""What is settled waits so long at most for what has to be stored, so that one sync serves both. Nobody waits for it;
if the server is killed meanwhile, the message is delivered once more."""

logger = logging.getLogger("mezzenger.server")


class Storing:
    """What is to be stored and read, in the order that the broker's promises need.

    Who has it looks after ``has_work``: if it is true, ``work`` is to be awaited, one call at a time.

    Args:
        broker: Is told what came of it.
        storage: Does it.
        now: Tells the broker's time.
        perform: Does what the broker asks for; called whenever it may want something.
        later: Has something done after so many seconds.
    """

    def __init__(
        self,
        broker: Broker,
        storage: Storage,
        *,
        now: Callable[[], float],
        perform: Callable[[], None],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._broker = broker
        self._storage = storage
        self._now = now
        self._perform = perform
        self._later = later
        self._changes: list[Change] = []
        self._queries: list[Query] = []
        self._is_working = False
        self._is_full = False
        self._is_urgent = False
        """Whether there is more than what is settled."""
        self._is_timed = False

    def add(self, effect: Change | Query) -> None:
        """Take in what the broker has decided, or wants to know."""
        if isinstance(effect, Load | Sweep | Find):
            self._queries.append(effect)
            self._is_urgent = True
            return
        self._changes.append(effect)
        if not isinstance(effect, Settle) or not self._storage.survives_restart:
            self._is_urgent = True
        elif not self._is_timed:
            self._is_timed = True
            self._later(_COMPANY_SECONDS, self._wait_no_longer)

    @property
    def has_work(self) -> bool:
        """Whether there is something to be done now that can be."""
        return self._is_urgent and not self._is_full

    @property
    def is_busy(self) -> bool:
        """Whether something is not done yet."""
        return bool(self._changes or self._queries) or self._is_working

    async def work(self) -> None:
        """Commit all that has gathered, then read what is wanted."""
        queries, self._queries = self._queries, []
        self._is_working, self._is_urgent = True, False
        if await self.commit():
            for query in queries:
                await self._answer(query)
        else:
            # What is settled by a change that must wait would be read as if it were not.
            self._queries[:0] = queries
        self._is_working = False

    async def commit(self) -> bool:
        """Commit all that has gathered; return whether nothing of it must be committed later."""
        changes, self._changes = self._changes, []
        if not changes:
            return True
        try:
            await self._storage.commit(changes)
        except StorageFull as error:
            refused, later = in_need_of_room(changes)
            self._refuse(refused, str(error))
            # The rest must not be forgotten: what was settled would be delivered again after a restart.
            self._changes[:0] = later
            self._is_full = True
            self._later(_FULL_SECONDS, self._try_again)
            return False
        except StorageError as error:
            self._refuse(changes, str(error))
        except Exception:
            logger.exception("the store has failed")
            self._refuse(changes, "the server's store has failed; its log says why")
        else:
            self._broker.committed(changes, self._now())
            self._perform()
        return True

    def _refuse(self, changes: Sequence[Change], text: str) -> None:
        frames = sum(isinstance(change, Store) for change in changes)
        if frames:
            logger.error("%d frames are refused: %s", frames, text)
        self._broker.commit_failed(changes, "storage", text)
        self._perform()

    def _try_again(self) -> None:
        self._is_full, self._is_urgent = False, True
        self._perform()

    def _wait_no_longer(self) -> None:
        self._is_timed = False
        if self._changes:
            self._is_urgent = True
            self._perform()

    async def _answer(self, query: Query) -> None:
        """Read what the broker asks for, and hand it in."""
        try:
            match query:
                case Load():
                    self._broker.loaded(query, await self._storage.read(query), self._now())
                case Sweep():
                    self._broker.swept(await self._storage.sweep(query), self._now())
                case Find():
                    self._broker.found(query, await self._storage.find(query))
        except StorageFull as error:
            logger.warning("the store cannot be read yet: %s", error)
            self._later(_FULL_SECONDS, lambda: self._ask_again(query))
        except StorageError as error:
            if isinstance(query, Find):
                self._broker.not_found(query, "storage", str(error))
            else:
                logger.critical("messages cannot be delivered: %s", error)
            if isinstance(query, Sweep):
                self._broker.not_swept(self._now())
        self._perform()

    def _ask_again(self, query: Query) -> None:
        self.add(query)
        self._perform()
