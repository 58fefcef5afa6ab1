"""What clients ask about dead letters: to see them, to have them delivered after all, to have them forgotten."""

from collections.abc import Callable, Sequence

from mezzenger.broker.effects import Discard, Find, Origin, Reply, Requeue
from mezzenger.broker.fates import Fates
from mezzenger.broker.intake import Intake
from mezzenger.broker.memberships import Memberships
from mezzenger.broker.restored import Dead
from mezzenger.protocol import wire
from mezzenger.protocol.commands import (
    Command,
    DeadQuestion,
    Failed,
    Letter,
    Letters,
    ListDead,
    ResendDead,
    ShowDead,
)
from mezzenger.queues import is_group


class DeadLetters:
    """Answers questions about dead letters, which are in the store alone.

    Args:
        fates: Count them.
        intake: Takes in what is to be delivered after all.
        memberships: Bring back a group for which something is to be delivered after all.
        answer: Sends a command to a peer.
    """

    def __init__(
        self,
        fates: Fates,
        intake: Intake,
        memberships: Memberships,
        answer: Callable[[bytes, Command], None],
    ) -> None:
        self._pending = fates.pending
        self._intake = intake
        self._memberships = memberships
        self._counters = fates.counters
        self._effects = fates.effects
        self._answer = answer
        self._leaving: dict[int, int] = {}
        """How many messages are in those that are being resent or dropped, by number."""

    def ask(self, peer_id: bytes, question: DeadQuestion) -> None:
        """Take a question of a peer."""
        self._effects.append(Find(peer_id, question))

    def found(self, find: Find, rows: Sequence[Dead]) -> None:
        """Take note of what was read for a question: answer it, or do what it asks for."""
        question = find.question
        if isinstance(question, ListDead | ShowDead):
            letters = [_letter(row, with_frame=isinstance(question, ShowDead)) for row in rows]
            self._answer(find.peer, Letters(question.request, letters))
            return
        # Each once, whoever else asks for it at the same time; none for a group that is just being dropped.
        is_resent = isinstance(question, ResendDead)
        leaving = {
            row.number: row
            for row in rows
            if row.number not in self._leaving and not (is_resent and self._memberships.is_leaving(row.name))
        }
        for row in leaving.values():
            self._leaving[row.number] = row.left
            if is_resent:
                if is_group(row.name):
                    self._memberships.ensure(row.name)
                self._intake.requeue(Origin.DEAD, row.number, row.name, row.messages, row.size)
            else:
                self._effects.append(Discard(row.number, row.name, row.size))
        self._effects.append(Reply(find.peer, question.request, len(leaving)))

    def not_found(self, find: Find, reason: str, text: str) -> None:
        """Take note that the store cannot be read."""
        self._answer(find.peer, Failed(find.question.request, reason, text))

    def left(self, change: Requeue | Discard) -> None:
        """Take note that a dead letter is none any more."""
        messages = self.stayed(change)
        self._pending.dead.add(-1, -change.size)
        if isinstance(change, Requeue):
            self._counters.resent += messages
        else:
            self._counters.discarded += messages

    def stayed(self, change: Requeue | Discard) -> int:
        """Take note that a dead letter may be resent or dropped again; return how many messages are in it."""
        return self._leaving.pop(change.former if isinstance(change, Requeue) else change.number, 0)


def _letter(row: Dead, *, with_frame: bool) -> Letter:
    header = wire.read_header(row.frame)
    return Letter(
        number=row.number,
        name=header.name,
        group=row.name if is_group(row.name) else None,
        client=header.client,
        sequence=header.sequence,
        timestamp=header.timestamp,
        messages=row.left,
        size=row.size,
        attempts=row.attempts,
        buried=row.buried,
        reason=row.reason,
        error=row.error,
        indexes=None if row.indexes is None else list(row.indexes),
        frame=row.frame if with_frame else None,
    )
