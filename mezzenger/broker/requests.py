"""Requests: who asks whom, until one response has come back or nobody can give it any more.

A request is never stored and never sent twice: what came of one whose responder is gone nobody knows, and who asked is
told so. Only numbers are kept of it, and these only until it is answered, its time is over, or either peer is gone.
"""

import heapq
from dataclasses import dataclass
from typing import Final

from mezzenger.broker.effects import Effect, Send
from mezzenger.broker.peers import OpenRequest, Peer
from mezzenger.broker.routing import Routing
from mezzenger.broker.stats import Counters
from mezzenger.errors import ProtocolError
from mezzenger.protocol import wire
from mezzenger.protocol.commands import (
    Command,
    Outcome,
    Request,
    Respond,
    Response,
    Serve,
    Unserved,
    Withdraw,
    fit_text,
)

_SPARE: Final = 64
"""Deadlines of answered requests that are kept at most, beside as many as there are open requests."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What requests need to know of the settings."""

    max_requests: int
    """Of one peer, and to one peer, that are not answered."""
    max_message_size: int


class Requests:
    """The requests that are not answered.

    Args:
        options: Limits.
        routing: Who subscribed to what.
        counters: What is counted here is counted there.
        effects: What is to be done is appended there.
    """

    def __init__(self, options: RequestOptions, routing: Routing, counters: Counters, effects: list[Effect]) -> None:
        self._options = options
        self._routing = routing
        self._counters = counters
        self._effects = effects
        self._last_number = 0
        self._open: dict[int, OpenRequest] = {}
        self._deadlines: list[tuple[float, int]] = []
        self.is_draining = False
        """Whether the server stops: it takes no more requests, and those who ask hold them back for the next one."""

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, peer: Peer, command: Request, now: float) -> None:
        """Pass a request on to one subscriber of its name, or tell who asks why not.

        Raises:
            ProtocolError: It is not as the protocol has it.
        """
        if command.request in peer.asking:
            raise ProtocolError("request", f"a second request with the number {command.request}")
        try:
            header = self._read_header(peer, command.frame)
        except ProtocolError as error:
            self._answer(peer, command.request, Unserved(error.reason, fit_text(str(error))))
            raise
        self._counters.requests += 1
        responder = self._choose(peer, header.name, elsewhere=command.elsewhere)
        if isinstance(responder, Unserved):
            self._counters.unserved[responder.reason] += 1
            self._answer(peer, command.request, responder)
        else:
            self._pass_on(command, peer, responder, now)

    def responded(self, peer: Peer, command: Respond) -> None:
        """Pass a response on to who asked; one to what this peer was not given, or is not waited for, is counted."""
        request = peer.serving.get(command.number)
        if request is None:
            self._counters.unwanted += 1
            return
        self._close(request)
        self._counters.responses += 1
        self._answer(request.asker, request.request, command.outcome)

    def lost(self, peer: Peer) -> None:
        """Forget what a peer has asked that is gone, and tell those who wait for it that they wait in vain."""
        for request in list(peer.asking.values()):
            self._give_up(request, "asker_gone", is_told=request.responder is not peer)
        for request in list(peer.serving.values()):
            self._close(request)
            self._counters.unserved["gone"] += 1
            text = "the connection to the responder ended before it had responded"
            self._answer(request.asker, request.request, Unserved("gone", text))

    def tick(self, now: float) -> None:
        """Give up the requests whose time is over; who asked knows by its own clock."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            request = self._open.get(number)
            if request is not None:
                self._give_up(request, "expired", is_told=True)

    def next_deadline(self) -> float | None:
        """When ``tick`` must be called next."""
        while self._deadlines and self._deadlines[0][1] not in self._open:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def _read_header(self, peer: Peer, frame: bytes) -> wire.Header:
        limit = self._options.max_message_size
        if len(frame) > limit:
            raise ProtocolError("size", f"a request of {len(frame)} bytes, where at most {limit} are taken")
        header = wire.read_header(frame)
        if header.ack or header.batch:
            raise ProtocolError("request", "a request has one message, with ack=0")
        if header.client != peer.client:
            raise ProtocolError("client", "a request with the id of another client")
        return header

    def _choose(self, peer: Peer, name: str, *, elsewhere: bool) -> Peer | Unserved:
        """Return the subscriber that has the fewest requests to answer, each in turn; or why there is none."""
        if self.is_draining:
            return Unserved("stopping", "the server is stopping")
        limit = self._options.max_requests
        setting = f"(the server's limit is its setting server.max_requests, {limit})"
        if len(peer.asking) >= limit:
            return Unserved("limit", f"{len(peer.asking)} requests of this client are not answered {setting}")
        responders = self._routing.responders(name)
        others = [other for other in responders if other is not peer] if elsewhere else responders
        if not others:
            but = " but the client that asks, whose callbacks wait for the response" if responders else ""
            return Unserved("no_responders", f"nobody subscribes to {name!r}{but}")
        responder = min(others, key=lambda other: (len(other.serving), other.last_served))
        if len(responder.serving) >= limit:
            return Unserved("limit", f"each responder has {limit} requests or more to answer {setting}")
        return responder

    def _pass_on(self, command: Request, peer: Peer, responder: Peer, now: float) -> None:
        self._last_number += 1
        number = self._last_number
        request = OpenRequest(number, peer, command.request, responder, now + command.timeout)
        self._open[number] = peer.asking[command.request] = responder.serving[number] = request
        responder.last_served = number
        heapq.heappush(self._deadlines, (request.deadline, number))
        self._send(responder, Serve(number, command.timeout, command.frame))

    def _give_up(self, request: OpenRequest, reason: str, *, is_told: bool) -> None:
        """Forget a request, and let its responder know unless that is gone itself."""
        self._close(request)
        self._counters.unserved[reason] += 1
        if is_told:
            self._send(request.responder, Withdraw(request.number))

    def _close(self, request: OpenRequest) -> None:
        del self._open[request.number]
        del request.asker.asking[request.request]
        del request.responder.serving[request.number]
        if len(self._deadlines) > 2 * len(self._open) + _SPARE:
            # Most requests are answered long before their deadlines, which would pile up here.
            self._deadlines = [(deadline, number) for deadline, number in self._deadlines if number in self._open]
            heapq.heapify(self._deadlines)

    def _answer(self, peer: Peer, request: int, outcome: Outcome) -> None:
        self._send(peer, Response(request, outcome))

    def _send(self, peer: Peer, command: Command) -> None:
        self._effects.append(Send(peer.id, (wire.encode_command(command),)))
