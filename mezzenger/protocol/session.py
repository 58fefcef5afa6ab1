"""The client's side of the protocol: every rule that a client keeps, whatever it waits with.

A shell (``client/sync.py``) owns the sockets and the clock. It calls a method here for everything that happens, then
performs ``take_actions()`` and passes on ``take_events()``. After each wait it first hands in all that has arrived and
only then calls ``tick``: a client that slept must see the answers before it counts the silence.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mezzenger.errors import (
    AlreadySubscribed,
    ClientStopped,
    MessageTooLarge,
    MezzengerError,
    NotSubscribed,
    ProtocolError,
    Rejected,
    ServerUnreachable,
)
from mezzenger.protocol import wire
from mezzenger.protocol.commands import (
    NAMES_PER_SUBSCRIBE,
    PROTOCOL_VERSION,
    Command,
    Confirm,
    Deliver,
    Failure,
    Goodbye,
    Hello,
    Linked,
    Ping,
    Pong,
    Refuse,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from mezzenger.protocol.events import Action, Arrived, Connect, Delivery, Disconnect, Done, Event, Ignore, Listen, Send
from mezzenger.protocol.inbox import Inbox
from mezzenger.protocol.outgoing import Flush, Outgoing, Parcel


class State(StrEnum):
    """Where a client stands; ``mc.state`` shows it."""

    NEW = "new"
    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    """Waiting before the next attempt to connect."""
    CLOSED = "closed"


TRANSITIONS: Final[Mapping[tuple[State, str], State]] = {
    (State.NEW, "start"): State.CONNECTING,
    (State.CONNECTING, "linked"): State.OPEN,
    (State.CONNECTING, "lost"): State.RECONNECTING,
    (State.OPEN, "lost"): State.RECONNECTING,
    (State.RECONNECTING, "retry"): State.CONNECTING,
    (State.NEW, "close"): State.CLOSED,
    (State.CONNECTING, "close"): State.CLOSED,
    (State.OPEN, "close"): State.CLOSED,
    (State.RECONNECTING, "close"): State.CLOSED,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is; random, chosen once by its shell."""

    client: int
    key: bytes


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session needs to know of the settings; durations in seconds."""

    server: str
    """Address and ports, for error texts."""
    attempt_timeout: float
    heartbeat_interval: float
    heartbeat_timeout: float
    reconnect_min: float
    reconnect_max: float
    window: int


class ClientSession:
    """One client's session with the server, over as many connections as it takes.

    Args:
        identity: Who the client is.
        options: Time limits and sizes.
        random_token: Returns a fresh token at each call: a zero byte and 16 random ones.
        jitter: Returns a random number between 0 and 1 at each call.

    Each ``publish``, ``subscribe``, ``flush`` and ``opened`` has a ticket; a ``Done`` event with that ticket follows,
    at the latest at the deadline given.
    """

    def __init__(
        self,
        identity: Identity,
        options: SessionOptions,
        *,
        random_token: Callable[[], bytes],
        jitter: Callable[[], float],
    ) -> None:
        self._identity = identity
        self._options = options
        self._random_token = random_token
        self._jitter = jitter
        self.state = State.NEW
        self.inbox = Inbox()
        self._outgoing = Outgoing(options.window)
        self._sequence = 1
        self._ticket = 0
        self._max_message_size: int | None = None
        # Tickets not yet done: what waits for a connection, for a subscription, and every ticket's deadline.
        self._opening: set[int] = set()
        self._names: dict[str, int | None] = {}
        self._requests: dict[int, tuple[list[str], bytes]] = {}
        self._waiting: set[int] = set()
        self._deadlines: list[tuple[float, int]] = []
        # The connection: when something was last heard on it, and what is due next.
        self._heard = 0.0
        self._ping_sent: float | None = None
        self._attempts = 0
        self._due = 0.0
        self._reason = "no connection was made yet"
        self._closed_by: MezzengerError | None = None
        self._actions: list[Action] = []
        self._events: list[Event] = []

    # What the application asks for.

    def start(self, now: float) -> None:
        """Begin to connect."""
        self._move("start")
        self._connect(now)

    def opened(self, deadline: float) -> int:
        """Return a ticket that is done when the server was reached."""
        ticket = self._new_ticket(deadline)
        if self.state is State.OPEN:
            self._done(ticket)
        else:
            self._opening.add(ticket)
        return ticket

    def publish(
        self,
        name: str,
        items: Sequence[tuple[float, bytes]],
        *,
        ack: int,
        codec: int,
        headers: Mapping[str, str] | None,
        now: float,
        deadline: float,
    ) -> int | None:
        """Send one message, or several of one name as a batch.

        Returns:
            A ticket, done when the server has confirmed it (``ack=1``) or it was handed to the transport (``ack=0``);
            None if that has happened already.

        Raises:
            MessageTooLarge: It is above the server's limit; nothing was sent.
            ClientStopped: The session is closed.
        """
        self._require_usable()
        frame = wire.encode_data(
            name,
            items,
            ack=ack,
            codec=codec,
            client=self._identity.client,
            sequence=self._sequence,
            headers=headers,
        )
        self._require_size(name, len(frame))
        if not ack and not self._outgoing.held and self._is_alive(now):
            self._sequence += len(items)
            self._actions.append(Send(frame))
            return None
        ticket = self._new_ticket(deadline)
        self._outgoing.held.append(Parcel(ticket, frame, self._sequence, ack))
        self._sequence += len(items)
        self._send_held(now)
        return ticket

    def flush(self, now: float, deadline: float) -> int:
        """Return a ticket that is done when the server has all that was published before."""
        ticket = self._new_ticket(deadline)
        self._outgoing.flushes.append(Flush(ticket, self._sequence))
        self._send_held(now)
        return ticket

    def subscribe(self, name: str, deadline: float) -> int:
        """Ask for the messages of ``name``; the ticket is done when none published from then on is missed.

        Raises:
            AlreadySubscribed: It was asked for before.
            ClientStopped: The session is closed.
        """
        self._require_usable()
        if name in self._names:
            raise AlreadySubscribed(f"this client is subscribed to {name!r} already; unsubscribe first")
        ticket = self._new_ticket(deadline)
        self._names[name] = ticket
        if self.state is State.OPEN:
            self._request([name])
        return ticket

    def unsubscribe(self, name: str) -> None:
        """Ask for no more messages of ``name``.

        Raises:
            NotSubscribed: It was not asked for.
            ClientStopped: The session is closed.
        """
        self._require_usable()
        if name not in self._names:
            raise NotSubscribed(f"this client is not subscribed to {name!r}")
        ticket = self._names.pop(name)
        if ticket is not None:
            self._done(ticket, NotSubscribed(f"{name!r} was unsubscribed before the server had answered"))
        if self.state is State.OPEN:
            self._actions.append(Ignore(_prefix(name)))
            self._send(Unsubscribe(name))

    def handled(self, delivery: Delivery, failures: list[Failure]) -> None:
        """Acknowledge a delivery whose callback has returned, or report which of its messages failed."""
        answer = self.inbox.handled(delivery, failures)
        if answer is not None and self.state is State.OPEN:
            self._send(answer)

    def close(self, error: MezzengerError | None = None) -> None:
        """End the session; whatever is not done fails with ``error``."""
        if self.state is State.CLOSED:
            return
        self._move("close")
        self._closed_by = error
        self._actions.append(Disconnect())
        for ticket in sorted(self._waiting):
            self._done(ticket, error or ClientStopped("the client was stopped before this was done"))

    # What happens outside.

    def receive(self, frames: Sequence[bytes], now: float) -> None:
        """Take a multipart message from the DEALER socket."""
        self._heard = now
        self._ping_sent = None
        try:
            command = wire.decode_server_command(frames[0])
            if isinstance(command, Deliver):
                self._on_deliver(command, frames)
            else:
                self._on_command(command, now)
        except ProtocolError as error:
            self.inbox.count_malformed(error)
        self._send_held(now)

    def broadcast(self, frame: bytes, now: float) -> None:
        """Take a frame from the SUB socket."""
        self._heard = now
        try:
            header = self.inbox.verify(frame)
        except ProtocolError as error:
            self.inbox.count_malformed(error)
            return
        if header.name in self._names:
            self._events.append(Arrived(Delivery(header, frame, 1, None)))

    def lost(self, reason: str, now: float) -> None:
        """Take note that the connection broke, or could not be made."""
        if self.state not in (State.CONNECTING, State.OPEN):
            return
        self._move("lost")
        self._reason = reason
        self._ping_sent = None
        self._requests.clear()
        self.inbox.disconnected()
        for flush in self._outgoing.flushes:
            flush.ping = None
        self._actions = [Disconnect()]
        delay = min(self._options.reconnect_min * 2.0 ** min(self._attempts, 30), self._options.reconnect_max)
        self._attempts += 1
        self._due = now + delay * (0.5 + 0.5 * self._jitter())

    def tick(self, now: float) -> None:
        """Do what is due: heartbeats, reconnecting, and giving up what has passed its deadline."""
        self._expire(now)
        if self.state is State.RECONNECTING and now >= self._due:
            self._move("retry")
            self._connect(now)
        elif self.state is State.CONNECTING and now >= self._due:
            self.lost(f"no answer within {self._options.attempt_timeout:g} s", now)
        elif self.state is State.OPEN:
            self._heartbeat(now)

    def next_deadline(self) -> float | None:
        """When ``tick`` must be called next, if nothing happens before."""
        while self._deadlines and self._deadlines[0][1] not in self._waiting:
            heapq.heappop(self._deadlines)
        moments = [self._deadlines[0][0]] if self._deadlines else []
        if self.state in (State.CONNECTING, State.RECONNECTING):
            moments.append(self._due)
        elif self.state is State.OPEN:
            moments.append(self._heartbeat_due())
        return min(moments, default=None)

    def take_actions(self) -> list[Action]:
        """Return what the shell must do now, in order."""
        acks = self.inbox.take_acks()
        if acks is not None and self.state is State.OPEN:
            self._send(acks)
        actions, self._actions = self._actions, []
        return actions

    def take_events(self) -> list[Event]:
        """Return what the shell must pass on, in order."""
        events, self._events = self._events, []
        return events

    # The connection.

    def _connect(self, now: float) -> None:
        token = self._random_token()
        self._due = now + self._options.attempt_timeout
        self._heard = now
        oldest = self._outgoing.oldest(self._sequence)
        self._actions.append(Connect(token))
        self._send(Hello(PROTOCOL_VERSION, self._identity.client, self._identity.key, token, oldest))

    def _on_command(self, command: Command, now: float) -> None:
        match command:
            case Welcome():
                self._max_message_size = command.max_message_size
            case Linked():
                self._on_linked()
            case Goodbye():
                self._on_goodbye(command, now)
            case Subscribed():
                self._on_subscribed(command)
            case Confirm():
                for sequence in command.sequences:
                    self._settle(sequence, None)
            case Refuse():
                self._settle(command.sequence, Rejected(command.reason, command.text))
            case Pong():
                self._on_pong(command)

    def _on_linked(self) -> None:
        if self.state is not State.CONNECTING:
            return
        self._move("linked")
        self._attempts = 0
        names = list(self._names)
        for start in range(0, len(names), NAMES_PER_SUBSCRIBE):
            self._request(names[start : start + NAMES_PER_SUBSCRIBE])
        for parcel in self._outgoing.unconfirmed.values():
            self._actions.append(Send(parcel.frame))
        for ticket in self._opening:
            self._done(ticket)
        self._opening.clear()

    def _on_goodbye(self, command: Goodbye, now: float) -> None:
        if command.retry:
            self.lost(command.text, now)
        else:
            self.close(Rejected(command.reason, f"{self._options.server} does not serve this client: {command.text}"))

    def _heartbeat_due(self) -> float:
        if self._ping_sent is None:
            return self._heard + self._options.heartbeat_interval
        return self._ping_sent + self._options.heartbeat_timeout

    def _heartbeat(self, now: float) -> None:
        if now < self._heartbeat_due():
            return
        if self._ping_sent is None:
            self._ping(now)
        else:
            self.lost(f"no heartbeat within {self._options.heartbeat_timeout:g} s", now)

    def _ping(self, now: float) -> None:
        self._ping_sent = now
        self._send(Ping(0))

    def _is_alive(self, now: float) -> bool:
        return self.state is State.OPEN and now - self._heard <= self._options.heartbeat_timeout

    # Subscriptions.

    def _request(self, names: list[str]) -> None:
        token = self._random_token()
        self._ticket += 1
        self._requests[self._ticket] = (names, token)
        self._actions += [*(Listen(_prefix(name)) for name in names), Listen(token)]
        self._send(Subscribe(self._ticket, names, token))

    def _on_subscribed(self, command: Subscribed) -> None:
        names, token = self._requests.pop(command.request, ([], b""))
        if token:
            self._actions.append(Ignore(token))
        for name in names:
            ticket = self._names.get(name)
            if ticket is not None:
                self._names[name] = None
                self._done(ticket)

    def _on_deliver(self, command: Deliver, frames: Sequence[bytes]) -> None:
        if len(frames) != 2:  # noqa: PLR2004  # the command and the data frame
            raise ProtocolError("command", "a Deliver command without its data frame")
        header = self.inbox.verify(frames[1])
        if header.name not in self._names:
            return
        delivery = Delivery(header, frames[1], command.attempt, command.indexes)
        if self.inbox.is_new(delivery, command.delivery):
            self._events.append(Arrived(delivery))

    # Publishes.

    def _send_held(self, now: float) -> None:
        if self.state is not State.OPEN:
            return
        if not self._is_alive(now):
            if self._ping_sent is None:
                self._ping(now)
            return
        for parcel in self._outgoing.sendable():
            self._actions.append(Send(parcel.frame))
            if not parcel.ack:
                self._done(parcel.ticket)
        for flush in self._outgoing.ready_flushes():
            self._ticket += 1
            flush.ping = self._ticket
            self._send(Ping(flush.ping))

    def _settle(self, sequence: int, error: MezzengerError | None) -> None:
        parcel = self._outgoing.settle(sequence)
        if parcel is not None:
            self._done(parcel.ticket, error)

    def _on_pong(self, command: Pong) -> None:
        flushes = self._outgoing.flushes
        while flushes and flushes[0].ping is not None and flushes[0].ping <= command.number:
            self._done(flushes.popleft().ticket)

    def _require_usable(self) -> None:
        if self.state is State.CLOSED:
            raise self._closed_by or ClientStopped("the client was stopped; make a new one")

    def _require_size(self, name: str, size: int) -> None:
        limit = self._max_message_size
        if limit is not None and size > limit:
            raise MessageTooLarge(
                f"message {name!r} is {size} bytes on the wire; the server takes at most {limit} "
                "(its setting server.max_message_size); nothing was sent"
            )

    # Small parts.

    def _move(self, what: str) -> None:
        self.state = TRANSITIONS[self.state, what]

    def _send(self, command: Command) -> None:
        self._actions.append(Send(wire.encode_command(command)))

    def _new_ticket(self, deadline: float) -> int:
        self._require_usable()
        self._ticket += 1
        self._waiting.add(self._ticket)
        heapq.heappush(self._deadlines, (deadline, self._ticket))
        return self._ticket

    def _done(self, ticket: int, error: MezzengerError | None = None) -> None:
        if ticket in self._waiting:
            self._waiting.discard(ticket)
            self._events.append(Done(ticket, error))

    def _expire(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            _, ticket = heapq.heappop(self._deadlines)
            if ticket in self._waiting:
                self._give_up(ticket)

    def _give_up(self, ticket: int) -> None:
        self._outgoing.withdraw(ticket)
        self._opening.discard(ticket)
        for name, waiting in list(self._names.items()):
            if waiting == ticket:
                self._names[name] = None
                self.unsubscribe(name)
        cause = "it is slow to confirm" if self.state is State.OPEN else self._reason
        self._done(ticket, ServerUnreachable(f"no answer from the server at {self._options.server}: {cause}"))


def _prefix(name: str) -> bytes:
    return name.encode() + b"|"
