"""The client's side of the protocol: every rule that a client keeps, whatever it waits with.

A shell (``client/sync.py``) owns the sockets and the clock. It calls a method here for everything that happens, then
performs ``take_actions()`` and passes on ``take_events()``. After each wait it first hands in all that has arrived and
only then calls ``tick``: a client that slept must see the answers before it counts the silence.
"""

from collections.abc import Callable, Sequence

from mezzenger.codecs import Buffer
from mezzenger.errors import MezzengerError, Rejected, ServerUnreachable
from mezzenger.protocol import commands, wire
from mezzenger.protocol.commands import PROTOCOL_VERSION, Command, Failure
from mezzenger.protocol.events import Action, Connect, Delivery, Disconnect, Event, Fate, Ignore, Send
from mezzenger.protocol.freshness import Freshness
from mezzenger.protocol.inbox import Inbox
from mezzenger.protocol.liveness import Liveness
from mezzenger.protocol.outgoing import Draft, MixedDraft, Outgoing
from mezzenger.protocol.questions import Questions
from mezzenger.protocol.requests import Asked, Requests
from mezzenger.protocol.states import TRANSITIONS, Identity, SessionOptions, State
from mezzenger.protocol.subscribing import Subscribing
from mezzenger.protocol.subscriptions import Membership, Subscriptions
from mezzenger.protocol.tickets import SLOW, Tickets
from mezzenger.queues import queue_of


class ClientSession:
    """One client's session with the server, over as many connections as it takes.

    Args:
        identity: Who the client is.
        options: Time limits and sizes.
        random_token: Returns a fresh token at each call: a zero byte and 16 random ones.
        jitter: Returns a random number between 0 and 1 at each call.

    Each ``publish``, ``request``, ``subscribe``, ``flush`` and ``ask`` has a ticket; a ``Done`` event with that ticket
    follows, at the latest at the deadline given.
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
        self.state = State.NEW
        self._actions: list[Action] = []
        self._events: list[Event] = []
        self._tickets = Tickets(self._events)
        self._done = self._tickets.done
        self.outgoing = Outgoing(identity.client, options.window, self._done)
        self._subscriptions = Subscriptions()
        self._freshness = Freshness(self._subscriptions)
        self._subscribing = Subscribing(
            self._subscriptions,
            self._freshness,
            self._actions.append,
            self._send,
            self._done,
            self._events.append,
            random_token,
        )
        self.inbox = Inbox(self._subscriptions, self._freshness)
        self._questions = Questions(self._done)
        self.requests = Requests(self._subscriptions, self.inbox.malformed, self._send, self._done)
        self._liveness = Liveness(options, jitter)
        self._is_blocked = False
        self.error: MezzengerError | None = None  # with which it was closed
        self.reason = "no connection was made yet"

    # What the application asks for.

    def start(self, now: float) -> None:
        """Begin to connect, once; raises ClientStopped if the session is closed."""
        self._tickets.require_open()
        self.state = TRANSITIONS[self.state, "start"]
        self._connect(now)

    def publish(self, draft: Draft | MixedDraft, now: float, deadline: float) -> int | None:
        """Send one message, or several as one frame.

        Returns:
            A ticket, done when the server has confirmed it (``ack=1``) or it was handed to the transport (``ack=0``);
            None if that has happened already.

        Raises:
            MessageTooLarge: It is above the server's limit; nothing was sent.
            ClientStopped: The session is closed.
        """
        if not draft.ack and (frame := self.express(draft, now)) is not None:
            self._actions.append(Send(frame))
            return None
        return self.hold(draft, now, deadline)

    def express(self, draft: Draft | MixedDraft, now: float) -> bytes | None:
        """Return what has ``ack=0`` as a frame that must be sent at once, before all else; None if it may not be.

        Raises:
            MessageTooLarge: It is above the server's limit.
        """
        return self.outgoing.express(draft) if self._may_send(now) else None

    def hold(self, draft: Draft | MixedDraft, now: float, deadline: float) -> int:
        """Send it as soon as that can be, behind all that is held; the rest is as in ``publish``."""
        self._tickets.require_open()
        parcel = self.outgoing.hold(draft)
        parcel.ticket = self._tickets.issue(deadline)
        self._send_held(now)
        return parcel.ticket

    def request(self, draft: Draft, now: float, deadline: float, *, elsewhere: bool = False) -> int:
        """Ask one subscriber of a name; the ticket is done when what its callback returned is here.

        Its message overtakes none that is held. ``elsewhere`` means: not this client, for its callbacks wait for this.

        Raises:
            MessageTooLarge: It is above the server's limit; nothing was sent.
            ClientStopped: The session is closed.
        """
        self._tickets.require_open()
        frame, behind = self.outgoing.pack(draft).frame, self.outgoing.last_held_unstored()
        ticket = self._tickets.issue(deadline)
        self.requests.ask(ticket, Asked(draft.name, frame, deadline, deadline - now, elsewhere, behind))
        self._send_held(now)
        return ticket

    def flush(self, now: float, deadline: float) -> int:
        """Return a ticket that is done when the server has all that was published before.

        It fails if ``ack=0`` messages were under way when a connection broke, for nobody knows whether they arrived.

        Raises:
            ClientStopped: The session is closed.
        """
        ticket = self._tickets.issue(deadline)
        self.outgoing.flush(ticket)
        self._send_held(now)
        return ticket

    def subscribe(self, name: str, deadline: float, membership: Membership | None = None) -> int:
        """Ask for the messages of a name or pattern; the ticket is done when none published from then on is missed.

        Args:
            name: Or pattern.
            deadline: When the ticket fails at the latest.
            membership: As what the client is a member of a group; without it, it is a subscriber.

        Raises:
            AlreadySubscribed: It was asked for before.
            ClientStopped: The session is closed.
        """
        self._tickets.require_open()
        self._subscriptions.require_new(queue_of(name, membership and membership.group))
        ticket = self._tickets.issue(deadline)
        self._subscribing.subscribe(name, membership, ticket)
        return ticket

    def unsubscribe(self, name: str, group: str | None = None) -> None:
        """Ask for no more messages of a name or pattern, as a subscriber or as a member of a group.

        Raises:
            NotSubscribed: It was not asked for.
            ClientStopped: The session is closed.
        """
        self._tickets.require_open()
        self._subscribing.unsubscribe(name, group)

    def ask(self, make: Callable[[int], commands.Question], deadline: float) -> int:
        """Ask what ``make`` returns for a request number; the ticket is done when the server has answered.

        Raises:
            ClientStopped: The session is closed.
        """
        ticket = self._tickets.issue(deadline)
        question = self._questions.ask(make, ticket)
        if self.state is State.OPEN:
            self._send(question)
        return ticket

    def abandon(self, ticket: int) -> None:
        """Forget a ticket that nobody waits for any more, and undo what it stands for as far as that can be."""
        if self._tickets.redeem(ticket):
            self._withdraw(ticket)

    def cancel(self, ticket: int) -> Fate:
        """Do the same, unless it is of a stored message that is under way; return what is known of it."""
        fate = self.outgoing.fate(ticket) or self.requests.fate(ticket) or Fate.UNKNOWN
        if fate is not Fate.UNDER_WAY:
            self.abandon(ticket)
        return fate

    def handled(self, delivery: Delivery, failures: list[Failure]) -> None:
        """Acknowledge a delivery whose callback has returned, or report which of its messages failed."""
        answer = self.inbox.handled(delivery, failures)
        if answer is not None and self.state is State.OPEN:
            self._send(answer)

    def close(self, error: MezzengerError | None = None) -> None:
        """End the session; whatever is not done fails with ``error``."""
        if self.state is State.CLOSED:
            return
        self.state = TRANSITIONS[self.state, "close"]
        self.error = error
        self._subscribing.disconnected()
        self.requests.close()
        self._actions.append(Disconnect())
        self._tickets.close(error)

    # What happens outside.

    def receive(self, frames: Sequence[bytes], now: float) -> None:
        """Take a multipart message from the DEALER socket."""
        if self.state not in {State.CONNECTING, State.OPEN}:
            return
        self._liveness.heard(now)
        command = self.inbox.read(frames)
        if command is not None:
            self._on_command(command, frames, now)
        self._send_held(now)

    def broadcast(self, frame: Buffer, now: float) -> None:
        """Take a frame from the SUB socket."""
        if self.state is State.OPEN or self.state is State.CONNECTING:
            self._liveness.heard(now)
            self._events += self.inbox.broadcast(frame)

    def blocked(self) -> None:
        """Take note that the DEALER socket takes no more frames for now; publishes are held back."""
        self._is_blocked = True

    def unblocked(self, now: float) -> None:
        """Take note that the DEALER socket has taken all that was waiting for it."""
        self._is_blocked = False
        self._send_held(now)

    def lost(self, reason: str, now: float) -> None:
        """Take note that the connection broke, or could not be made."""
        if self.state not in {State.CONNECTING, State.OPEN}:
            return
        self.state = TRANSITIONS[self.state, "lost"]
        self.reason = reason
        self._is_blocked = False
        self._subscribing.disconnected()
        self.inbox.disconnected()
        self.outgoing.disconnected()
        self.requests.disconnected(reason)
        self._actions[:] = [Disconnect()]
        self._liveness.lost(now)

    def tick(self, now: float) -> None:
        """Do what is due: heartbeats, reconnecting, and giving up what has passed its deadline."""
        for ticket in self._tickets.expired(now):
            self._give_up(ticket)
        self._send_held(now)
        self._subscribing.tick(now)
        due = self._liveness.due(self.state)
        if due is None or now < due:
            return
        if self.state is State.RECONNECTING:
            self.state = TRANSITIONS[self.state, "retry"]
            self._connect(now)
        elif self.state is State.CONNECTING:
            self.lost(f"no answer within {self._options.attempt_timeout:g} s", now)
        elif self._liveness.is_asking:
            self.lost(f"no heartbeat within {self._options.heartbeat_timeout:g} s", now)
        else:
            self._ping(now)

    def next_deadline(self) -> float | None:
        """When ``tick`` must be called next, if nothing happens before."""
        moments = (self._tickets.next_deadline(), self._liveness.due(self.state), self._freshness.next_deadline())
        return min((moment for moment in moments if moment is not None), default=None)

    def take_actions(self) -> list[Action]:
        """Return what the shell must do now, in order."""
        if self.inbox.has_acks and self.state is State.OPEN and not self._is_blocked:
            for ack in self.inbox.take_acks():
                self._send(ack)
        if self._freshness.ended:
            self._actions += map(Ignore, self._freshness.take_ended())
        actions = self._actions[:]
        self._actions.clear()
        return actions

    def take_events(self) -> list[Event]:
        """Return what the shell must pass on, in order."""
        events = self._events[:]
        self._events.clear()
        return events

    # The connection.

    def _connect(self, now: float) -> None:
        token = self.inbox.address = self._random_token()
        self._liveness.connecting(now)
        self._actions.append(Connect(token))
        me = self._identity
        self._send(commands.Hello(PROTOCOL_VERSION, me.client, me.key, token, self.outgoing.oldest()))

    def _on_command(self, command: commands.ServerCommand, frames: Sequence[bytes], now: float) -> None:
        match command:
            case commands.Welcome():
                self.outgoing.limit(command.max_message_size)
                self._freshness.is_on = command.retains
            case commands.Linked():
                self._on_linked()
            case commands.Goodbye():
                self._on_goodbye(command, now)
            case commands.Subscribed() | commands.Declined():
                self._subscribing.answered(command, now + self._options.attempt_timeout)
            case commands.Confirm():
                for sequence in command.sequences:
                    self.outgoing.settle(sequence)
            case commands.Refuse():
                self.outgoing.settle(command.sequence, Rejected(command.reason, command.text))
            case commands.Deliver() | commands.Retained():
                self._events += self.inbox.arrived(command, frames[1:])
            case commands.Pong():
                self.outgoing.ponged(command.number)
            case _:
                self._on_answer(command, now)

    def _on_answer(self, command: commands.Answer | commands.OfRequests, now: float) -> None:
        match command:
            case commands.Serve() | commands.Withdraw() | commands.Response():
                delivery = self.requests.receive(command, now)
                if delivery is not None:
                    self._events.append(delivery)
            case _:
                self._questions.answered(command)

    def _on_linked(self) -> None:
        if self.state is not State.CONNECTING:
            return
        self.state = TRANSITIONS[self.state, "linked"]
        self._liveness.linked()
        self._subscribing.connected()
        self._actions += [Send(parcel.frame) for parcel in self.outgoing.unconfirmed.values()]
        for question in self._questions:
            self._send(question)

    def _on_goodbye(self, command: commands.Goodbye, now: float) -> None:
        if command.retry:
            self.lost(command.text, now)
        else:
            self.close(Rejected(command.reason, f"{self._options.server} does not serve this client: {command.text}"))

    def _ping(self, now: float) -> int:
        number = self.outgoing.next_ping()
        self._liveness.asked(now)
        self._send(commands.Ping(number))
        return number

    def _may_send(self, now: float) -> bool:
        return self.state is State.OPEN and not self._is_blocked and self._liveness.is_alive(now)

    # Publishes.

    def _send_held(self, now: float) -> None:
        if self.state is not State.OPEN or self._is_blocked:
            return
        if not self._liveness.is_alive(now):
            if not self._liveness.is_asking:
                self._ping(now)
            return
        for parcel in self.outgoing.sendable():
            self._actions.append(Send(parcel.frame))
            if not parcel.ack:
                self._done(parcel.ticket)
        self.requests.send_held(now, self.outgoing.next_held())
        for flush in self.outgoing.ready_flushes():
            flush.ping = self._ping(now)

    # Tickets.

    def _give_up(self, ticket: int) -> None:
        timeout = self.requests.withdraw(ticket)
        if timeout is not None:
            self._done(ticket, timeout)
            return
        may_be_stored = self._withdraw(ticket)
        cause = SLOW[may_be_stored] if self.state is State.OPEN else self.reason
        suffix = "; the message may have been stored all the same" if may_be_stored else ""
        text = f"no answer in time from the server at {self._options.server}: {cause}{suffix}"
        self._done(ticket, ServerUnreachable(text))

    def _withdraw(self, ticket: int) -> bool:
        self.requests.withdraw(ticket)
        self._questions.withdraw(ticket)
        self._subscribing.withdraw(ticket)
        return self.outgoing.withdraw(ticket)

    def _send(self, command: Command) -> None:
        self._actions.append(Send(wire.encode_command(command)))
