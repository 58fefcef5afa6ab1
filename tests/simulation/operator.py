"""The operator of the simulation: looks at dead letters, resends some, drops others; drops groups."""

from collections.abc import Callable, Sequence
from typing import Final

from mezzenger.protocol.commands import (
    Answer,
    Completed,
    DropDead,
    DropGroup,
    DropRetained,
    Failed,
    Groups,
    GroupState,
    Letter,
    Letters,
    ListDead,
    ListGroups,
    Question,
    ResendDead,
    ShowDead,
)
from mezzenger.queues import queue_of
from tests.simulation.client import Client
from tests.simulation.clock import Clock
from tests.simulation.ledger import Ledger
from tests.simulation.policies import RETAINING

PAGE: Final = 100


class Operator:
    """Somebody with a client.

    Args:
        clock: Of the simulation.
        ledger: Is told what was asked for.
        client: Asks; the operator may get another one.
    """

    def __init__(self, clock: Clock, ledger: Ledger, client: Client) -> None:
        self._clock = clock
        self._ledger = ledger
        self.client = client
        self._listed: list[int] = []
        self.shown: set[int] = set()

    def act(self) -> None:
        """Ask something, by chance."""
        choice = self._clock.random.random()
        if choice < 0.1:
            self._ask(lambda request: ListGroups(request, ""), self._on_groups)
        elif choice < 0.2:
            self._drop_last(self._clock.random.choice(RETAINING))
        elif choice < 0.4 or not self._listed:
            self.list_all()
        elif choice < 0.6:
            self.show(self._clock.random.choice(self._listed))
        else:
            count = min(len(self._listed), self._clock.random.choice((1, 1, 3)))
            numbers = self._clock.random.sample(self._listed, count)
            self._order("resend" if choice < 0.85 else "drop", numbers)

    def _drop_last(self, name: str) -> None:
        self._ask(lambda request: DropRetained(request, [name]), self._on_done)

    def list_all(self) -> None:
        """Ask for all dead letters, page by page."""
        self._listed = []
        self._list(0)

    def show(self, number: int) -> None:
        """Ask for one."""
        self._ask(lambda request: ShowDead(request, number), self._on_shown)

    def drop(self, numbers: list[int]) -> None:
        """Have dead letters forgotten."""
        self._order("drop", numbers)

    def _list(self, after: int) -> None:
        self._ask(lambda request: ListDead(request, None, after), self._on_listed)

    def _on_listed(self, answer: Answer) -> None:
        letters = self._letters(answer)
        assert all(letter.frame is None for letter in letters)
        self._listed += [letter.number for letter in letters if letter.number not in self._listed]
        if len(letters) == PAGE:
            self._list(letters[-1].number)

    def _on_shown(self, answer: Answer) -> None:
        for letter in self._letters(answer):
            self._clock.tell("dead letter shown", letter.number)
            self.shown.add(letter.number)

    def _letters(self, answer: Answer) -> Sequence[Letter]:
        """Return what was answered; it is compared with what the account has of it, if it is still there."""
        assert isinstance(answer, Letters | Failed)
        letters = answer.letters if isinstance(answer, Letters) else []
        for letter in letters:
            life = self._ledger.kept.get(letter.number)
            if life is not None and life.place == "dead":
                assert letter.frame in {None, life.frame}
                assert (letter.client, letter.sequence) == (life.client, life.sequence)
                is_right = (letter.name, letter.group, letter.size) == (life.name, life.group, len(life.frame))
                assert is_right, f"{letter}: {life}"
                indexes = set(range(life.messages) if letter.indexes is None else letter.indexes)
                assert (indexes, letter.messages) == (life.left, len(life.left)), f"{letter}: {life}"
        return letters

    def _on_groups(self, answer: Answer) -> None:
        """Drop a group that has no members."""
        assert isinstance(answer, Groups | Failed)
        states = answer.groups if isinstance(answer, Groups) else []
        empty = [state for state in states if not state.members]
        if empty:
            self._drop_group(self._clock.random.choice(empty))

    def _drop_group(self, state: GroupState) -> None:
        self._ledger.asked_groups.add(queue_of(state.name, state.group))
        self._ask(lambda request: DropGroup(request, state.name, state.group), self._on_done)

    def _order(self, what: str, numbers: list[int]) -> None:
        self._ledger.asked[what].update(numbers)
        kind = ResendDead if what == "resend" else DropDead
        self._ask(lambda request: kind(request, numbers), self._on_done)

    def _on_done(self, answer: Answer) -> None:
        assert isinstance(answer, Completed | Failed)
        if isinstance(answer, Completed):
            self._clock.tell("order done", answer.count)

    def _ask(self, make: Callable[[int], Question], then: Callable[[Answer], None]) -> None:
        if self.client.is_alive and not self.client.is_stopped:
            self.client.ask(make, then)
