"""What a client asks the server about what it keeps, until it is answered."""

from collections.abc import Callable, Iterator

from mezzenger.protocol.commands import Answer, Question


class Questions:
    """The questions that are not answered yet; they are asked again on a new connection."""

    def __init__(self) -> None:
        self._last_request = 0
        self._asked: dict[int, tuple[Question, int]] = {}

    def __iter__(self) -> Iterator[Question]:
        return (question for question, _ in self._asked.values())

    def ask(self, make: Callable[[int], Question], ticket: int) -> Question:
        """Return a question, made with a new request number."""
        self._last_request += 1
        question = make(self._last_request)
        self._asked[question.request] = question, ticket
        return question

    def answered(self, answer: Answer) -> int | None:
        """Return the ticket of the question that this answers; None if nobody waits for it any more."""
        _, ticket = self._asked.pop(answer.request, (None, None))
        return ticket

    def withdraw(self, ticket: int) -> None:
        """Forget the question with this ticket, if it is one."""
        self._asked = {request: asked for request, asked in self._asked.items() if asked[1] != ticket}
