"""Requests at a client: what it has asked and was not answered, and what it is to answer.

A request is sent once. If the connection breaks before it is answered it fails, for it may have been carried out; one
that has not been sent yet waits for the next connection. What a client was given to answer ends with the connection on
which it came: who asked was told so.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mezzenger.errors import (
    MezzengerError,
    NoResponders,
    NotSubscribed,
    ProtocolError,
    Rejected,
    RemoteError,
    RequestLost,
    RequestTimeout,
)
from mezzenger.protocol import wire
from mezzenger.protocol.commands import (
    Command,
    OfRequests,
    Outcome,
    Raised,
    Request,
    Respond,
    Returned,
    Serve,
    Unserved,
    Withdraw,
    fit_text,
)
from mezzenger.protocol.events import Delivery, Fate, Served
from mezzenger.protocol.subscriptions import Subscriptions


@dataclass(slots=True)
class Asked:
    """A request that is not answered."""

    name: str
    frame: bytes
    deadline: float
    timeout: float
    """How long an answer might take, from the beginning."""
    elsewhere: bool
    """Whether another client must answer."""
    behind: int = 0
    """The sequence of the frame that must leave before."""


class Requests:
    """Both sides of all requests of a client.

    What it has asked is known by its ticket, which is also its number on the wire.

    Args:
        subscriptions: Of the client.
        malformed: What cannot be read is counted there, by reason.
        send: Sends a command.
        done: Is given the ticket of each request that has an end, with its error or the data frame that was returned.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        malformed: Counter[str],
        send: Callable[[Command], None],
        done: Callable[[int, MezzengerError | None, wire.Contents | None], None],
    ) -> None:
        self._subscriptions = subscriptions
        self._malformed = malformed
        self._send = send
        self._done = done
        self._held: dict[int, Asked] = {}
        self._sent: dict[int, Asked] = {}
        self._serving: dict[int, Served] = {}
        self._is_postponed = False
        """Whether the server that is connected stops, and takes no more requests."""
        self.expired = 0
        """Requests that were not begun because nobody waited for their answer any more."""

    # Asking.

    def ask(self, ticket: int, asked: Asked) -> None:
        """Take in a request that is to be sent."""
        self._held[ticket] = asked

    def send_held(self, now: float, next_frame: int) -> None:
        """Send what was held back; it can be sent now, unless it is behind a frame with this sequence, or later."""
        if not self._held or self._is_postponed:
            return
        for ticket, asked in list(self._held.items()):
            if asked.deadline > now and asked.behind < next_frame:
                self._sent[ticket] = self._held.pop(ticket)
                self._send(Request(ticket, asked.deadline - now, asked.elsewhere, asked.frame))

    def withdraw(self, ticket: int) -> RequestTimeout | None:
        """Forget a request that nobody waits for any more; return its error if it was sent."""
        self._held.pop(ticket, None)
        asked = self._sent.pop(ticket, None)
        if asked is None:
            return None
        text = f"no response to the request {asked.name!r} within {asked.timeout:g} s"
        return RequestTimeout(f"{text}; it may have been carried out, or may still be")

    def fate(self, ticket: int) -> Fate | None:
        """Return what is known of the request with this ticket; None if there is none that is not answered."""
        if ticket in self._sent:
            return Fate.UNKNOWN
        return Fate.UNSENT if ticket in self._held else None

    def disconnected(self, reason: str) -> None:
        """Take note that nothing more will be heard on this connection."""
        self._serving.clear()
        self._is_postponed = False
        sent, self._sent = self._sent, {}
        for ticket, asked in sent.items():
            text = f"the connection broke before there was a response to the request {asked.name!r} ({reason})"
            self._done(ticket, RequestLost(f"{text}; it may have been carried out"), None)

    def close(self) -> None:
        """Forget everything."""
        self._serving.clear()
        self._held.clear()
        self._sent.clear()

    # What the server says.

    def receive(self, command: OfRequests, now: float) -> Delivery | None:
        """Take what the server says about requests; return what a callback is to answer, if it is that."""
        match command:
            case Serve():
                return self._serve(command, now)
            case Withdraw():
                self._serving.pop(command.number, None)
            case _:
                asked = self._sent.pop(command.request, None)
                if asked is not None:
                    self._answered(command.request, asked, command.outcome)
        return None

    def _answered(self, ticket: int, asked: Asked, outcome: Outcome) -> None:
        match outcome:
            case Returned():
                try:
                    self._done(ticket, None, self._read(outcome.frame))
                except ProtocolError as error:
                    self._done(ticket, error, None)
            case Raised():
                self._done(ticket, RemoteError(asked.name, outcome.kind, outcome.text, outcome.traceback), None)
            case Unserved(reason="stopping"):
                # Nobody has carried it out: the next server may have it.
                self._held[ticket] = asked
                self._is_postponed = True
            case _:
                self._done(ticket, _unserved(asked.name, outcome), None)

    def _serve(self, command: Serve, now: float) -> Delivery | None:
        try:
            contents = self._read(command.frame)
            name = contents.header.name
            if not self._subscriptions.serves(name):
                raise NotSubscribed(f"the responder has unsubscribed from {name!r}; nothing was run")
        except MezzengerError as error:
            self._send(Respond(command.number, Raised(type(error).__name__, fit_text(str(error)), "")))
            return None
        served = self._serving[command.number] = Served(command.number, now + command.timeout)
        return Delivery(contents, 1, None, served=served)

    def _read(self, frame: bytes) -> wire.Contents:
        try:
            return _read_single(frame)
        except ProtocolError as error:
            self._malformed[error.reason] += 1
            raise

    # Answering.

    def begins(self, served: Served, now: float) -> bool:
        """Whether the callback is to run; if not, nobody waits for it any more, and it is forgotten and counted."""
        if self._serving.get(served.number) is served and now < served.deadline:
            return True
        self.expired += 1
        self._forget(served)
        return False

    def respond(self, served: Served, outcome: Returned | Raised) -> None:
        """Send what came of a request, unless nobody waits for it any more."""
        if self._forget(served):
            self._send(Respond(served.number, outcome))

    def _forget(self, served: Served) -> bool:
        # On another connection the number may be another request's.
        is_waited_for = self._serving.get(served.number) is served
        if is_waited_for:
            del self._serving[served.number]
        return is_waited_for


def _read_single(frame: bytes) -> wire.Contents:
    contents = wire.read_contents(frame)
    if contents.header.batch:
        raise ProtocolError("request", "a request or a response with more than one message")
    return contents


def _unserved(name: str, outcome: Unserved) -> MezzengerError:
    match outcome.reason:
        case "no_responders":
            return NoResponders(f"no response to the request {name!r}: {outcome.text}; nothing was run")
        case "gone":
            return RequestLost(f"no response to the request {name!r}: {outcome.text}; it may have been carried out")
        case _:
            return Rejected(outcome.reason, f"the request {name!r} was not carried out: {outcome.text}")
