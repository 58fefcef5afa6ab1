"""What a client asks the server about what it keeps, until it is answered."""

from collections.abc import Callable, Iterator

from mezzenger.errors import MezzengerError, Rejected
from mezzenger.protocol.commands import Answer, Failed, Question


class Questions:
    """The questions that are not answered yet; they are asked again on a new connection.

    Args:
        done: Is given the ticket of each question that is answered, with its error or its answer.
    """

    def __init__(self, done: Callable[[int, MezzengerError | None, Answer | None], None]) -> None:
        self._done = done
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

    def answered(self, answer: Answer) -> None:
        """Take note of an answer; nobody may be waiting for it any more."""
        _, ticket = self._asked.pop(answer.request, (None, None))
        if ticket is None:
            return
        if isinstance(answer, Failed):
            self._done(ticket, Rejected(answer.reason, answer.text), None)
        else:
            self._done(ticket, None, answer)

    def withdraw(self, ticket: int) -> None:
        """Forget the question with this ticket, if it is one."""
        self._asked = {request: asked for request, asked in self._asked.items() if asked[1] != ticket}
