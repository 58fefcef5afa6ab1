"""A delivery, and what each subscription has to do with it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Final

from mezzenger.client.failures import describe
from mezzenger.errors import NotSubscribed
from mezzenger.message import Message
from mezzenger.protocol.commands import Failure
from mezzenger.protocol.events import Delivery

_UNSUBSCRIBED: Final = "unsubscribed while the batch was handled"


class LeftOut(NotSubscribed):
    """Raised by a callback that has not looked at the message, because its subscription has ended."""


class InWork:
    """A delivery for one or more subscriptions; it is handled when all of them are done with it.

    Args:
        delivery: With ``ack=1`` or not.
        messages: How many of it are to be handled.
        shares: How many subscriptions it is for.
        begun: Called once, before its first message is handled.
        handled: Is given it in the end, with what failed.
        ignored: Is given it instead if nobody has handled anything of it.
    """

    __slots__ = (
        "_all",
        "_begun",
        "_failures",
        "_handled",
        "_ignored",
        "_left_out",
        "_messages",
        "_shares",
        "delivery",
        "is_begun",
    )

    def __init__(
        self,
        delivery: Delivery,
        messages: int,
        shares: int,
        begun: Callable[[Delivery], None],
        handled: Callable[[Delivery, list[Failure]], None],
        ignored: Callable[[Delivery], None],
    ) -> None:
        self.delivery = delivery
        self.is_begun = False
        self._messages = messages
        self._all = self._shares = shares
        self._begun = begun
        self._handled = handled
        self._ignored = ignored
        self._failures: dict[int, str] = {}
        self._left_out: dict[int, int] = {}

    def begin(self) -> None:
        """Take note that a subscription begins with it."""
        if not self.is_begun:
            self.is_begun = True
            self._begun(self.delivery)

    def fail(self, index: int, text: str) -> bool:
        """Take note that a message was not handled; return whether that is the first time."""
        is_first = index not in self._failures
        if is_first:
            self._failures[index] = text
        return is_first

    def _is_left_out(self) -> bool:
        """Whether no subscription has handled anything of it."""
        return sum(self._left_out.values()) == self._all * self._messages

    def leave_out(self, index: int) -> None:
        """Take note that a subscription ended before a message was handled; it has failed if that is so of all."""
        self._left_out[index] = self._left_out.get(index, 0) + 1
        if self._left_out[index] == self._all:
            self.fail(index, _UNSUBSCRIBED)

    def share_done(self) -> None:
        """Take note that one of the subscriptions is done with it."""
        self._shares -= 1
        if self._shares:
            return
        if not self.is_begun:
            self._begun(self.delivery)
        if self._is_left_out():
            self._ignored(self.delivery)
        elif self.delivery.contents.header.ack:
            self._handled(self.delivery, [Failure(index, text) for index, text in sorted(self._failures.items())])


class Share:
    """The messages of a delivery for one subscription.

    Args:
        work: The delivery.
        read: Returns the message with an index.
        ahead: The messages, in order, a few at a time, as far as they can be read.
        indexes: Of the messages.
        weight: What each of them counts as received: 0 if another share of the delivery counts it.
    """

    __slots__ = ("_indexes", "left", "messages", "read", "weight", "work")

    def __init__(
        self,
        work: InWork,
        read: Callable[[int], Message[object]],
        ahead: Iterable[Sequence[Message[object]]],
        indexes: Sequence[int],
        weight: int,
    ) -> None:
        self.work = work
        self.read = read
        self._indexes: Iterator[int] = iter(indexes)
        """Of those that nobody has begun with."""
        self.messages = chain.from_iterable(self._with_indexes(ahead))
        """Those that nobody has begun with, each with its index; None stands for one that is to be read."""
        self.left = len(indexes)
        """How many are not done."""
        self.weight = weight

    def _with_indexes(
        self, ahead: Iterable[Sequence[Message[object]]]
    ) -> Iterator[Iterable[tuple[Message[object] | None, int]]]:
        try:
            for few in ahead:
                yield zip(few, self._indexes, strict=False)
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException:  # noqa: BLE001, S110  # which message it is, and why, is known to who reads it alone
            pass
        yield zip(repeat(None), self._indexes, strict=False)

    def one_done(self) -> None:
        """Take note that one message was handled, or failed."""
        self.left -= 1
        if not self.left:
            self.work.share_done()

    def fail(self, index: int, error: BaseException) -> bool:
        """Take note that a message was not handled; return whether that was not known."""
        return self.work.fail(index, describe(error))

    def give_up(self) -> None:
        """Leave what nobody has begun with."""
        for index in self._indexes:
            self.work.leave_out(index)
            self.one_done()
