"""The account of all requests, and a watch on what a broker does with them.

Each is run once at most, by somebody who subscribes to its name and has least to do; who asks gets its own answer, or
an error that is true; and nothing is left of it when it is answered, its time is over, or either of the two is gone.
"""

from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from mezzenger.broker.core import Broker
from mezzenger.errors import (
    ClientStopped,
    MezzengerError,
    NoResponders,
    Rejected,
    RemoteError,
    RequestLost,
    RequestTimeout,
    ServerUnreachable,
)
from mezzenger.protocol.commands import OfRequests, Raised, Request, Respond, Response, Returned, Serve, Unserved
from mezzenger.protocol.wire import Contents
from tests.simulation.clock import Clock
from tests.simulation.frames import header_of

ALIKE: Final = 2**64 - 1
LATE: Final = 0.001
"""Seconds in which the broker takes note that the time of a request is over."""


def answer_to(number: int) -> int:
    """Return what a callback returns for the message with this number, and for no other."""
    return number ^ ALIKE


class Asking:
    """What was asked, was run, and came of it; each request is known by the number that is its payload.

    Args:
        clock: Is told what happens.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked: set[int] = set()
        self._begun: set[int] = set()
        self._raised: set[int] = set()
        self.waiting: set[int] = set()
        """Of clients that are alive."""

    def asked(self, number: int) -> None:
        """Take note of a request."""
        self._asked.add(number)
        self.waiting.add(number)
        self._clock.tell("asked", number)

    def begins(self, number: int, until: float) -> None:
        """Take note that a callback begins, which somebody awaits until then by the responder's clock."""
        assert number in self._asked, f"{number} is run and was never asked"
        assert number not in self._begun, f"{number} is run twice"
        assert self._clock.now < until, f"at {self._clock.now}: {number} is run though nobody awaits it since {until}"
        self._begun.add(number)

    def raised(self, number: int) -> None:
        """Take note that a callback raised."""
        self._raised.add(number)

    def done(self, number: int, error: MezzengerError | None, answer: object) -> None:
        """Check what came of a request."""
        assert number in self.waiting, f"{number} is done twice"
        self.waiting.remove(number)
        if error is None:
            self._clock.tell("answered", number)
            assert isinstance(answer, Contents)
            assert int.from_bytes(answer.items[0].payload) == answer_to(number), f"{number} has another one's answer"
            assert number in self._begun - self._raised, f"{number} is answered and was not run"
            return
        self._clock.tell(f"asked: {type(error).__name__}", number, error)
        match error:
            case RemoteError(type="ValueError"):
                assert number in self._raised, f"{number} did not raise: {error}"
            case RemoteError() | NoResponders() | Rejected() | ServerUnreachable():
                assert number not in self._begun, f"{number} was run: {error}"
            case _:
                assert isinstance(error, RequestTimeout | RequestLost | ClientStopped), error

    def gone(self, numbers: AbstractSet[int]) -> None:
        """Take note that nobody waits for these any more."""
        self.waiting -= numbers


@dataclass(frozen=True, slots=True)
class Open:
    """A request that the broker was given."""

    asker: bytes
    request: int
    responder: bytes
    deadline: float


class RequestWatch:
    """Sees what a broker is told of requests, and what it says.

    Args:
        clock: Is told what happens.
        broker: What is watched.
        answers: Whether a request for a name may be passed on to a peer.
        limit: Requests of one peer, or to one.
    """

    def __init__(self, clock: Clock, broker: Broker, answers: Callable[[bytes, str], bool], limit: int) -> None:
        self._clock = clock
        self._broker = broker
        self._answers = answers
        self._limit = limit
        self._given: tuple[bytes, Request] | None = None
        """A request of which the broker has said nothing yet."""
        self._responded: tuple[Open, Returned | Raised] | None = None
        self._open: dict[int, Open] = {}
        self._counted: Counter[str] = Counter()

    def given(self, peer: bytes, command: Request | Respond) -> None:
        """Take note of what the broker is about to be given."""
        if isinstance(command, Request):
            self._given = peer, command
            self._counted["requests"] += 1
            return
        one = self._open.get(command.number)
        if one is None or one.responder != peer:
            self._counted["unwanted"] += 1
            self._clock.tell("unwanted response", command.number)
        else:
            self._responded = self._open.pop(command.number), command.outcome

    def said(self, peer: bytes, command: OfRequests, now: float) -> None:
        """Check what the broker says."""
        match command:
            case Serve():
                self._passed_on(peer, command, now)
            case Response(outcome=Unserved() as unserved):
                self._refused(peer, command.request, unserved)
            case Response():
                self._answered(peer, command)
            case _:
                one = self._open.pop(command.number)
                assert one.responder == peer, f"{command} to somebody else: {one}"
                is_asker_gone = one.asker not in self._broker._peers
                assert is_asker_gone or one.deadline <= now, f"at {now}: withdrawn though it is awaited: {one}"
                self._clock.tell("withdrawn", command.number, "the asker is gone" if is_asker_gone else "its time")
                self._counted["unserved"] += 1

    def look(self) -> None:
        """Take note that the broker has said all that follows from what it was given."""
        assert self._given is None, f"nothing was said to {self._given}"
        assert self._responded is None, f"nothing was said to {self._responded}"
        for number, one in list(self._open.items()):
            # Who asks itself, and is gone, is told nothing.
            if one.asker == one.responder and one.asker not in self._broker._peers:
                del self._open[number]
                self._counted["unserved"] += 1

    def check(self, now: float) -> None:
        """Check what must hold whenever the broker has nothing to do."""
        self.look()
        assert self._broker._requests._open.keys() == self._open.keys()
        peers = self._broker._peers
        asking, serving = (Counter(getattr(one, who) for one in self._open.values()) for who in ("asker", "responder"))
        for peer in peers.values():
            assert (len(peer.asking), len(peer.serving)) == (asking[peer.id], serving[peer.id]), f"{peer}"
        for one in self._open.values():
            assert one.asker in peers, f"kept though its asker is gone: {one}"
            assert one.responder in peers, f"kept though its responder is gone: {one}"
            assert one.deadline > now - LATE, f"at {now}: kept though its time is over: {one}"
        stats = self._broker.stats()
        counted = (self._counted["requests"], self._counted["responses"], self._counted["unserved"])
        assert (stats.requests, stats.responses, sum(stats.unserved.values())) == counted, f"{counted}: {stats}"
        assert stats.requests == stats.responses + sum(stats.unserved.values()) + stats.open_requests, f"{stats}"
        assert stats.unwanted == self._counted["unwanted"], f"{self._counted}: {stats}"

    def _passed_on(self, responder: bytes, serve: Serve, now: float) -> None:
        assert self._given is not None, f"{serve} was not asked for"
        (asker, request), self._given = self._given, None
        assert serve.frame == request.frame
        assert serve.timeout <= request.timeout
        name = header_of(serve.frame).name
        assert self._answers(responder, name), f"asked of somebody not subscribed: {serve}"
        assert not (request.elsewhere and responder == asker), f"asked of who cannot answer: {serve}"
        loads = Counter(one.responder for one in self._open.values())
        others = [peer for peer in self._broker._peers if self._answers(peer, name)]
        least = min(loads[peer] for peer in others if not (request.elsewhere and peer == asker))
        assert loads[responder] == least, f"{serve} to who has {loads[responder]} to answer, not {least}"
        assert loads[responder] < self._limit, f"{serve} to who has {loads[responder]} to answer"
        assert sum(one.asker == asker for one in self._open.values()) < self._limit, f"one more of {asker.hex()}"
        self._open[serve.number] = Open(asker, request.request, responder, now + request.timeout)

    def _refused(self, peer: bytes, request: int, unserved: Unserved) -> None:
        self._clock.tell(f"unserved: {unserved.reason}", request)
        self._counted["unserved"] += 1
        if self._given is not None:
            asker, asked = self._given
            wrong = f"Response {unserved} to {request} of {peer.hex()}, not {asked.request} of {asker.hex()}"
            assert (asker, asked.request) == (peer, request), wrong
            self._given = None
            return
        found = [number for number, one in self._open.items() if (one.asker, one.request) == (peer, request)]
        assert len(found) == 1, f"{unserved} to what was not asked, or answered"
        gone = self._open.pop(found[0]).responder
        assert unserved.reason == "gone"
        assert gone not in self._broker._peers, f"{unserved}, and it is there"

    def _answered(self, peer: bytes, response: Response) -> None:
        assert self._responded is not None, f"{response} that nobody gave"
        (one, outcome), self._responded = self._responded, None
        assert (one.asker, one.request, outcome) == (peer, response.request, response.outcome), f"{response}: {one}"
        self._counted["responses"] += 1
