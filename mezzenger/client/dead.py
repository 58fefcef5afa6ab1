"""``mc.dead``: the dead letters that the server keeps."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final

from mezzenger.client.now import iterate_now, run_now
from mezzenger.client.payloads import Payloads, message_id
from mezzenger.dead_letter import DeadLetter
from mezzenger.errors import NoDeadLetter
from mezzenger.message import Message, check_name
from mezzenger.protocol import wire
from mezzenger.protocol.commands import (
    NUMBERS_PER_QUESTION,
    Answer,
    Completed,
    DropDead,
    Letter,
    Letters,
    ListDead,
    Question,
    ResendDead,
    ShowDead,
)
from mezzenger.protocol.events import Delivery
from mezzenger.queues import split_queue

_MAX_NUMBER: Final = 2**64 - 1

Ask = Callable[[Callable[[int], Question]], Awaitable[Answer]]
"""Asks the question that it is given the maker of, and returns the answer."""


class AsyncDeadLetters:
    """The messages that the server does not deliver any more, because no subscriber could handle them.

    Each method asks the server, and raises ``ServerUnreachable``, ``ClientStopped`` or ``UsedAfterFork`` as
    ``send_message`` does, and ``Rejected`` if the server's store has failed.
    """

    def __init__(self, ask: Ask, payloads: Payloads) -> None:
        self._ask = ask
        self._payloads = payloads

    async def list(self, msg_name: str | None = None) -> AsyncIterator[DeadLetter]:
        """Yield all dead letters, or those of one name, the oldest first; they come from the server bit by bit.

        Raises:
            InvalidName: The name cannot be used.
        """
        if msg_name is not None:
            msg_name = check_name(msg_name)
        after = 0
        while letters := await self._letters(partial(ListDead, name=msg_name, after=after)):
            for letter in letters:
                yield _dead_letter(letter)
            after = letters[-1].number

    async def show(self, number: int) -> DeadLetter:
        """Return one dead letter, with its payload bytes.

        Raises:
            NoDeadLetter: There is none with this number.
        """
        return _dead_letter(await self._letter(number))

    async def messages(self, number: int) -> Sequence[Message[object]]:
        """Return the messages of one dead letter, as its subscribers have seen them.

        Raises:
            NoDeadLetter: There is none with this number.
            PayloadNotDecodable: A payload's bytes are not of its codec, or name an unknown class.
            UntrustedPayload: It is pickled, and came from a server that the settings do not trust.
        """
        letter = await self._letter(number)
        contents = wire.read_contents(letter.frame or b"")
        delivery = Delivery(contents, max(letter.attempts, 1), letter.indexes)
        return list(map(self._payloads.reader(delivery), _indexes(letter)))

    async def resend(self, *numbers: int) -> int:
        """Have dead letters delivered after all, as if they were sent anew; return how many there were.

        They are delivered behind what waits already, and their attempts are counted from the beginning.
        """
        return await self._do(ResendDead, numbers)

    async def drop(self, *numbers: int) -> int:
        """Forget dead letters for good; return how many there were."""
        return await self._do(DropDead, numbers)

    async def _letter(self, number: int) -> Letter:
        if _may_be(number):
            for letter in await self._letters(partial(ShowDead, number=number)):
                return letter
        raise NoDeadLetter(f"there is no dead letter with number {number}; list() tells which there are")

    async def _letters(self, question: Callable[[int], Question]) -> Sequence[Letter]:
        answer = await self._ask(question)
        return answer.letters if isinstance(answer, Letters) else []

    async def _do(self, question: type[ResendDead | DropDead], numbers: tuple[int, ...]) -> int:
        done = 0
        possible = [number for number in numbers if _may_be(number)]
        for start in range(0, len(possible), NUMBERS_PER_QUESTION):
            answer = await self._ask(partial(question, numbers=possible[start : start + NUMBERS_PER_QUESTION]))
            done += answer.count if isinstance(answer, Completed) else 0
        return done


class DeadLetters:
    """The messages that the server does not deliver any more, because no subscriber could handle them.

    Each method asks the server, and raises ``ServerUnreachable``, ``ClientStopped`` or ``UsedAfterFork`` as
    ``send_message`` does, and ``Rejected`` if the server's store has failed.
    """

    def __init__(self, ask: Ask, payloads: Payloads) -> None:
        self._letters = AsyncDeadLetters(ask, payloads)

    def list(self, msg_name: str | None = None) -> Iterator[DeadLetter]:
        """Yield all dead letters, or those of one name, the oldest first; they come from the server bit by bit.

        Raises:
            InvalidName: The name cannot be used.
        """
        return iterate_now(self._letters.list(msg_name))

    def show(self, number: int) -> DeadLetter:
        """Return one dead letter, with its payload bytes.

        Raises:
            NoDeadLetter: There is none with this number.
        """
        return run_now(self._letters.show(number))

    def messages(self, number: int) -> Sequence[Message[object]]:
        """Return the messages of one dead letter, as its subscribers have seen them.

        Raises:
            NoDeadLetter: There is none with this number.
            PayloadNotDecodable: A payload's bytes are not of its codec, or name an unknown class.
            UntrustedPayload: It is pickled, and came from a server that the settings do not trust.
        """
        return run_now(self._letters.messages(number))

    def resend(self, *numbers: int) -> int:
        """Have dead letters delivered after all, as if they were sent anew; return how many there were.

        They are delivered behind what waits already, and their attempts are counted from the beginning.
        """
        return run_now(self._letters.resend(*numbers))

    def drop(self, *numbers: int) -> int:
        """Forget dead letters for good; return how many there were."""
        return run_now(self._letters.drop(*numbers))


def _dead_letter(letter: Letter) -> DeadLetter:
    payloads: tuple[bytes, ...] = ()
    if letter.frame is not None:
        items = wire.read_contents(letter.frame).items
        payloads = tuple(bytes(items[index].payload) for index in _indexes(letter))
    pattern, group = (None, None) if letter.group is None else split_queue(letter.group)
    return DeadLetter(
        number=letter.number,
        name=letter.name,
        id=message_id(letter.client, letter.sequence + min(letter.indexes or [0])),
        messages=letter.messages,
        size=letter.size,
        attempts=letter.attempts,
        timestamp=letter.timestamp,
        buried=letter.buried,
        reason=letter.reason,
        error=letter.error,
        group=group,
        pattern=pattern,
        payloads=payloads,
    )


def _may_be(number: int) -> bool:
    """Whether a dead letter may have this number; others cannot even be asked about."""
    return 0 < number <= _MAX_NUMBER


def _indexes(letter: Letter) -> Sequence[int]:
    return range(letter.messages) if letter.indexes is None else letter.indexes
