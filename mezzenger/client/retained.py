"""``mc.retained``: the last messages that the server keeps for subscribers to come."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial

from mezzenger.client.dead import Ask
from mezzenger.client.now import iterate_now, run_now
from mezzenger.client.payloads import message_id
from mezzenger.message import check_name
from mezzenger.protocol.commands import (
    NAMES_PER_SUBSCRIBE,
    Completed,
    DropRetained,
    LastMessage,
    LastMessages,
    ListRetained,
)
from mezzenger.retained_message import RetainedMessage


class AsyncRetainedMessages:
    """The last messages of the names that retain one, as ``channels:`` in the server's configuration have it.

    Each method asks the server, and raises ``ServerUnreachable``, ``ClientStopped`` or ``UsedAfterFork`` as
    ``send_message`` does. To see the messages themselves, subscribe to their names.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list(self) -> AsyncIterator[RetainedMessage]:
        """Yield what is known of each message that is kept, in order of the names; it comes bit by bit."""
        after = ""
        while messages := await self._some(partial(ListRetained, after=after)):
            for message in messages:
                yield _retained_message(message)
            after = messages[-1].name

    async def drop(self, *names: str) -> int:
        """Forget the last messages of these names; return how many there were.

        The next message of a name is kept again, and those who have subscribed are told nothing.

        Raises:
            InvalidName: One of the names cannot be used; nothing was dropped then.
            Rejected: The server's store has failed.
        """
        checked = [check_name(name) for name in names]
        done = 0
        for start in range(0, len(checked), NAMES_PER_SUBSCRIBE):
            answer = await self._ask(partial(DropRetained, names=checked[start : start + NAMES_PER_SUBSCRIBE]))
            done += answer.count if isinstance(answer, Completed) else 0
        return done

    async def _some(self, question: Callable[[int], ListRetained]) -> Sequence[LastMessage]:
        answer = await self._ask(question)
        return answer.messages if isinstance(answer, LastMessages) else []


class RetainedMessages:
    """The last messages of the names that retain one, as ``channels:`` in the server's configuration have it.

    Each method asks the server, and raises ``ServerUnreachable``, ``ClientStopped`` or ``UsedAfterFork`` as
    ``send_message`` does. To see the messages themselves, subscribe to their names.
    """

    def __init__(self, ask: Ask) -> None:
        self._messages = AsyncRetainedMessages(ask)

    def list(self) -> Iterator[RetainedMessage]:
        """Yield what is known of each message that is kept, in order of the names; it comes bit by bit."""
        return iterate_now(self._messages.list())

    def drop(self, *names: str) -> int:
        """Forget the last messages of these names; return how many there were.

        The next message of a name is kept again, and those who have subscribed are told nothing.

        Raises:
            InvalidName: One of the names cannot be used; nothing was dropped then.
            Rejected: The server's store has failed.
        """
        return run_now(self._messages.drop(*names))


def _retained_message(message: LastMessage) -> RetainedMessage:
    return RetainedMessage(
        name=message.name,
        id=message_id(message.client, message.sequence),
        ack=1 if message.ack else 0,
        timestamp=message.timestamp,
        size=message.size,
        expires=message.expires,
    )
