"""``mc.groups``: the groups that the server keeps."""

from collections.abc import AsyncIterator, Iterator
from functools import partial

import msgspec

from mezzenger.client.dead import Ask
from mezzenger.client.now import iterate_now, run_now
from mezzenger.group_status import GroupStatus
from mezzenger.patterns import check_pattern
from mezzenger.protocol.commands import Completed, DropGroup, ListGroups
from mezzenger.protocol.commands import Groups as Listed
from mezzenger.queues import check_group, queue_of


class AsyncGroups:
    """The groups of all clients. A group is there from its first subscription until it is dropped.

    Each method asks the server, and raises ``ServerUnreachable``, ``ClientStopped`` or ``UsedAfterFork`` as
    ``send_message`` does.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list(self) -> AsyncIterator[GroupStatus]:
        """Yield all groups, in order of their names; they come from the server bit by bit."""
        after = ""
        while True:
            answer = await self._ask(partial(ListGroups, after=after))
            states = answer.groups if isinstance(answer, Listed) else []
            if not states:
                return
            for state in states:
                yield GroupStatus(**msgspec.structs.asdict(state))
            after = queue_of(states[-1].name, states[-1].group)

    async def drop(self, name: str, group: str) -> int:
        """Forget a group that has no members, and all that waits for it.

        Args:
            name: Or the pattern, as it was subscribed to.
            group: The group's name.

        Returns:
            How many messages waited for it, and are dropped.

        Raises:
            InvalidName: A name cannot be used.
            Rejected: There is no such group, or it has members.
        """
        question = partial(DropGroup, name=check_pattern(name), group=check_group(group))
        answer = await self._ask(question)
        return answer.count if isinstance(answer, Completed) else 0


class Groups:
    """The groups of all clients. A group is there from its first subscription until it is dropped.

    Each method asks the server, and raises ``ServerUnreachable``, ``ClientStopped`` or ``UsedAfterFork`` as
    ``send_message`` does.
    """

    def __init__(self, ask: Ask) -> None:
        self._groups = AsyncGroups(ask)

    def list(self) -> Iterator[GroupStatus]:
        """Yield all groups, in order of their names; they come from the server bit by bit."""
        return iterate_now(self._groups.list())

    def drop(self, name: str, group: str) -> int:
        """Forget a group that has no members, and all that waits for it.

        Args:
            name: Or the pattern, as it was subscribed to.
            group: The group's name.

        Returns:
            How many messages waited for it, and are dropped.

        Raises:
            InvalidName: A name cannot be used.
            Rejected: There is no such group, or it has members.
        """
        return run_now(self._groups.drop(name, group))
