"""The clients of the simulation: real sessions, with callbacks that are slow, fail, or never return."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from mezzenger.errors import ClientStopped, NotSubscribed, Rejected, ServerUnreachable
from mezzenger.protocol import wire
from mezzenger.protocol.bundle import is_addressed
from mezzenger.protocol.commands import TOKEN_BYTES, Answer, Failure, Question, Raised, Returned, Serve
from mezzenger.protocol.events import (
    Action,
    Bundled,
    Connect,
    Delivery,
    Disconnect,
    Done,
    Ended,
    Event,
    Ignore,
    Listen,
    Send,
    Served,
)
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import TRANSITIONS, Identity, SessionOptions, State
from tests.simulation.clock import Alarm, Clock
from tests.simulation.ledger import Ledger
from tests.simulation.network import Link
from tests.simulation.order import Order
from tests.simulation.policies import GROUPS, RULES, is_poison, matches
from tests.simulation.requests import Asking, answer_to
from tests.simulation.server import Server

PATIENCE: Final = 4.0
IMPATIENCE: Final = 0.4
"""Of some who publish where a publish may have to wait for room."""
OPTIONS: Final = SessionOptions("simulation", 1.0, 0.3, 0.9, 0.05, 1.0, window=4)
NUMBERS: Final = 1_000_000
EVENTS: Final = {(former, to): event for (former, event), to in TRANSITIONS.items()}


class Client:
    """One process with one session.

    Args:
        clock: Of the simulation.
        server: To connect to.
        ledger: Is told what is confirmed and what is handled.
        asking: Likewise for requests.
        number: Tells this client from others.
    """

    def __init__(self, clock: Clock, server: Server, ledger: Ledger, asking: Asking, number: int) -> None:
        self._clock = clock
        self._server = server
        self._ledger = ledger
        self._asking = asking
        self._number = number
        self._link: Link | None = None
        self._unsent: list[bytes] = []
        self._links = 0
        self._tokens = 0
        self._published = 0
        self._alarm = Alarm(clock, self._on_alarm)
        self._callbacks: deque[Delivery] = deque()
        self._is_busy = False
        self._opened = 0.0
        self._wakes = 0.0
        self._blocked = 0.0
        """Until then, publishes of this client may have to wait for room."""
        self._timeouts: list[float] = []
        """How long somebody waits for the answer to what is just being received."""
        self._until: dict[Served, float] = {}
        self._questions: dict[int, Callable[[Answer], None]] = {}
        self._state = State.NEW
        self.is_alive = True
        self.is_stuck = False
        """Whether a callback runs that never returns."""
        self.publishes: dict[int, tuple[int, str]] = {}
        """By ticket, the sequence and name of what waits to be confirmed."""
        self.requests: dict[int, int] = {}
        """By ticket, the number of what is asked and not answered."""
        self.subscribing: dict[int, str] = {}
        """By ticket, the name, pattern or queue that is being subscribed to or joined."""
        self.names: set[str] = set()
        """And patterns."""
        self.groups: set[str] = set()
        """By queue."""
        self._handled: Counter[tuple[str, int]] = Counter()
        """By queue, and what the message is."""
        self._order = Order(ledger, clock)
        identity = Identity(2**63 + number, number.to_bytes(16))
        self.session = ClientSession(identity, OPTIONS, random_token=self._token, jitter=clock.random.random)
        if self._clock.breaks(0.05, "closed before it starts"):
            self.session.close()
            self._after()
            self.session = ClientSession(identity, OPTIONS, random_token=self._token, jitter=clock.random.random)
            self._state = State.NEW
        self.session.start(clock.now)
        self._after()

    # What a program does.

    @property
    def is_stopped(self) -> bool:
        """Whether it does nothing at present, and reads nothing."""
        return self._clock.now < self._wakes

    def publish(self, name: str, *, ack: int, messages: int, extra: wire.Extra) -> None:
        """Send a message or a batch; each payload is a number that no other has."""
        numbers = [self._number * NUMBERS + self._published + offset for offset in range(messages)]
        self._published += messages
        now = self._clock.now
        items = [(1.0, number.to_bytes(8)) for number in numbers]
        may_wait = RULES[name].overflow == "block" and ack
        if may_wait:
            self._blocked = now + 2 * PATIENCE
        sequence = self.session.outgoing._sequence
        patience = IMPATIENCE if may_wait and self._clock.random.random() < 0.5 else PATIENCE
        ticket = self.session.publish(Draft(name, items, ack, codec=0, extra=extra), now, now + patience)
        if ticket is not None and ack:
            self.publishes[ticket] = sequence, name
            if may_wait and self._clock.breaks(0.05, "a publish is abandoned"):
                self._clock.soon(IMPATIENCE, lambda: self._abandon(ticket))
        self._after()

    def publish_bundle(self, names: Sequence[str], extras: Sequence[wire.Extra]) -> None:
        """Send messages with ``ack=0`` as a bundle; each payload is a number that no other has."""
        first = self._number * NUMBERS + self._published
        self._published += len(names)
        now = self._clock.now
        items = [(1.0, (first + offset).to_bytes(8)) for offset in range(len(names))]
        self.session.publish(MixedDraft(names, items, extras, codec=0), now, now + PATIENCE)
        self._after()

    def request(self, name: str, patience: float) -> None:
        """Ask one subscriber of a name; the payload is a number that no other message has."""
        number = self._number * NUMBERS + self._published
        self._published += 1
        now = self._clock.now
        draft = Draft(name, [(1.0, number.to_bytes(8))], 0, codec=0)
        # A callback that asks blocks the others of its client.
        elsewhere = self._is_busy and self._clock.random.random() < 0.5
        self._asking.asked(number)
        self.requests[self.session.request(draft, now, now + patience, elsewhere=elsewhere)] = number
        self._after()

    def subscribe(self, name: str) -> None:
        """Subscribe, or unsubscribe if that was done before."""
        if name in self.names:
            self.names.remove(name)
            self.session.unsubscribe(name)
        else:
            self.names.add(name)
            self._order.subscribed(name)
            self.subscribing[self.session.subscribe(name, self._clock.now + PATIENCE)] = name
        self._after()

    def join(self, queue: str) -> None:
        """Join a group, or leave it if that was done before."""
        pattern, membership = GROUPS[queue]
        if queue in self.groups:
            self.groups.remove(queue)
            self.session.unsubscribe(pattern, membership.group)
        else:
            self.groups.add(queue)
            self.subscribing[self.session.subscribe(pattern, self._clock.now + PATIENCE, membership)] = queue
        self._after()

    def ask(self, make: Callable[[int], Question], then: Callable[[Answer], None]) -> None:
        """Ask the server something."""
        ticket = self.session.ask(make, self._clock.now + PATIENCE)
        self._questions[ticket] = then
        self._after()

    def stop(self, seconds: float) -> None:
        """Do nothing for some time, as a process does that was sent SIGSTOP."""
        self._wakes = self._clock.now + seconds
        if self._link is not None:
            self._link.stop(seconds)
        self._clock.after(seconds, self._wake)

    def kill(self) -> None:
        """End the process."""
        self.is_alive = False
        self._asking.gone(set(self.requests.values()))
        if self._link is not None:
            self._link.leave()

    def close(self) -> None:
        """Stop the client, as a program does before it ends."""
        self.session.close()
        self._after()
        self.is_alive = False

    def _abandon(self, ticket: int) -> None:
        if self.is_alive and not self.is_stopped and self.publishes.pop(ticket, None) is not None:
            self.session.abandon(ticket)
            self._after()

    # What the network brings.

    def _answered(self, frames: list[bytes]) -> None:
        command = wire.decode_server_command(frames[0])
        self._timeouts = [command.timeout] if isinstance(command, Serve) else []
        self.session.receive(frames, self._clock.now)
        self._after()

    def _broadcast(self, frames: list[bytes]) -> None:
        if is_addressed(frames[0]) and len(frames[0]) > TOKEN_BYTES:
            self._clock.tell("a bundle arrives", self._number)
        self.session.broadcast(frames[0], self._clock.now)
        self._after()

    def _connect(self, token: bytes) -> None:
        self._links += 1
        peer = (self._number * NUMBERS + self._links).to_bytes(5)
        link = Link(
            self._clock, peer, answered=self._answered, broadcast=self._broadcast, broken=lambda: self._broken(link)
        )
        self._link, self._unsent = link, []
        self._clock.soon(0.01, lambda: self._reach(link, token))

    def _reach(self, link: Link, token: bytes) -> None:
        if self._link is not link or not self.is_alive:
            return
        if self._server.accept(link):
            self._wish(b"\1" + token)
            for frame in self._unsent:
                self._send(frame)
        else:
            self._broken(link)

    def _broken(self, link: Link) -> None:
        if self.is_stopped:
            self._clock.after(self._wakes - self._clock.now, lambda: self._broken(link))
        elif self._link is link and self.is_alive:
            self.session.lost("the connection broke", self._clock.now)
            self._after()

    # What follows.

    def _after(self) -> None:
        if self.session.state is not State.OPEN:
            self._opened = self._clock.now
            requests = self.session.requests
            awaited = len(requests._sent) + len(requests._serving)
            assert awaited == 0, f"{awaited} answers are awaited that cannot come any more"
        while self.is_alive and (actions := self.session.take_actions()):
            for action in actions:
                self._do(action)
        if self.session.state is not self._state:
            event = EVENTS[self._state, self.session.state]
            self._clock.tell(f"client: {self._state} --{event}--> {self.session.state}", self._number)
            self._state = self.session.state
        for told in self.session.take_events():
            self._take(told)
        self._call_next()
        self._alarm.set(self.session.next_deadline())

    def _take(self, told: Event) -> None:
        match told:
            case Delivery():
                self._arrived(told)
            case Bundled():
                for delivery in filter(self._wants, told.deliveries()):
                    self._arrived(delivery)
            case Ended():
                self._declined(told.queue, told.error)
            case Done():
                self._done(told)

    def _do(self, action: Action) -> None:
        match action:
            case Connect():
                self._connect(action.token)
            case Disconnect():
                if self._link is not None:
                    self._link.leave()
                self._link = None
            case Send():
                self._send(action.frame)
            case Listen():
                self._wish(b"\1" + action.prefix)
            case Ignore():
                self._wish(b"\0" + action.prefix)

    def _send(self, frame: bytes) -> None:
        if self._link is not None and self._link.commands is not None:
            self._link.commands.send(frame)
            is_data = not (wire.is_control(frame) or is_addressed(frame))
            if is_data and wire.read_header(frame).ack and self._clock.breaks(0.02, "frame twice"):
                self._link.commands.send(frame)
        else:
            self._unsent.append(frame)

    def _wish(self, wish: bytes) -> None:
        if self._link is not None and self._link.wishes is not None:
            self._link.wishes.send(wish)

    def _done(self, event: Done) -> None:
        error = event.error
        if event.ticket in self.requests:
            self._asking.done(self.requests.pop(event.ticket), error, event.answer)
            return
        if error is not None:
            assert isinstance(error, ServerUnreachable | Rejected | NotSubscribed | ClientStopped), error
            is_late = isinstance(error, ServerUnreachable) and self._is_slow()
            assert not is_late, f"no answer though connected: {error}"
            self._clock.tell(f"failed: {type(error).__name__}", error)
        then = self._questions.pop(event.ticket, None)
        if then is not None and isinstance(event.answer, Answer):
            then(event.answer)
        queue = self.subscribing.pop(event.ticket, None)
        if queue is not None:
            self._subscribed_or_not(queue, error)
        if event.ticket in self.publishes:
            self._published_or_not(event.ticket, error)

    def _published_or_not(self, ticket: int, error: Exception | None) -> None:
        sequence, name = self.publishes.pop(ticket)
        if error is None:
            self._clock.counted["confirmed"] += 1
            self._ledger.confirm(2**63 + self._number, sequence)
        elif isinstance(error, ServerUnreachable) and self.session.state is State.OPEN:
            self._clock.tell("a publisher gives up", name)

    def _arrived(self, delivery: Delivery) -> None:
        assert self._wants(delivery), "a callback is called that is not there"
        if delivery.group is None:
            marks = self._ledger.values.lost_marks.intersection(self.session._freshness._requests)
            self._order.arrived(delivery, has_lost_mark=bool(marks))
        self._callbacks.append(delivery)
        if delivery.served is not None:
            self._until[delivery.served] = self._clock.now + self._timeouts.pop()

    def _subscribed_or_not(self, queue: str, error: Exception | None) -> None:
        if isinstance(error, ServerUnreachable):
            self.names.discard(queue)
            self.groups.discard(queue)
        elif isinstance(error, Rejected):
            self._declined(queue, error)
        elif error is None and queue in GROUPS:
            self._clock.tell("joined", queue)
        elif error is None and self._link is not None:
            request = self.session._subscriptions._by_queue[queue].request
            self._order.answered(queue, self._ledger.values.answered[self._link.peer, request])

    def _declined(self, queue: str, error: Exception) -> None:
        assert isinstance(error, Rejected), error
        assert error.reason in {"group", "storage"}, error
        self._clock.tell(f"declined: {error.reason}", queue)
        self.groups.remove(queue)

    def _wants(self, delivery: Delivery) -> bool:
        if delivery.group is not None:
            return delivery.group in self.groups
        # A member of a group answers requests too.
        patterns = [*self.names, *(GROUPS[queue][0] for queue in self.groups if delivery.served is not None)]
        return any(matches(pattern, delivery.contents.header.name) for pattern in patterns)

    def _is_slow(self) -> bool:
        """Whether the server should have answered by now what was sent to it when the connection began."""
        since = max(self._opened, self._blocked, self._wakes)
        return self.session.state is State.OPEN and self._clock.now - since > PATIENCE * 0.7

    def _call_next(self) -> None:
        if self._is_busy or not self._callbacks or not self.is_alive:
            return
        delivery = self._callbacks.popleft()
        if delivery.served is not None and not self._begins(delivery, delivery.served):
            self._call_next()
            return
        seconds = self._clock.random.expovariate(1 / 0.004)
        if self._clock.breaks(0.01, "slow callback"):
            seconds += 1.0
        if self._clock.breaks(0.001, "stuck callback"):
            seconds += 20.0
        self._is_busy = True
        if self._clock.breaks(0.0005, "callback never returns"):
            self.is_stuck = True
        else:
            self._clock.after(seconds, lambda: self._return(delivery))

    def _return(self, delivery: Delivery) -> None:
        if self.is_stopped:
            self._clock.after(self._wakes - self._clock.now, lambda: self._return(delivery))
            return
        if not self.is_alive:
            return
        self._is_busy = False
        header = delivery.contents.header
        if delivery.served is not None:
            self._respond(delivery, delivery.served)
        elif self._wants(delivery):
            indexes = range(header.messages) if delivery.indexes is None else delivery.indexes
            failures = [failure for index in indexes if (failure := self._call(delivery, index)) is not None]
            if header.ack:
                self.session.handled(delivery, failures)
        else:
            self.session.inbox.dropped(delivery)
        assert len(delivery.contents.items) == header.messages
        self._after()

    def _call(self, delivery: Delivery, index: int) -> Failure | None:
        header = delivery.contents.header
        number = int.from_bytes(delivery.contents.items[index].payload)
        if is_poison(header.name, number) or self._clock.breaks(0.05, "callback raises"):
            self._order.failed(delivery)
            return Failure(index, "by chance")
        queue = delivery.group or header.name
        may_be = (queue, number) not in self._handled or self._order.may_be_handled(delivery, number)
        assert may_be or header.messages > 1, f"{number} of {queue!r} is handled twice"
        if delivery.attempt > 1:
            self._clock.tell("redelivery handled", number)
        self._handled[queue, number] += 1
        if delivery.group is None:
            self._order.handled(delivery, number)
        self._ledger.handled.add((header.client, header.sequence, queue, index))
        return None

    def _begins(self, delivery: Delivery, served: Served) -> bool:
        """Whether a request is to be run; what has no callback any more is answered here."""
        if not self.session.requests.begins(served, self._clock.now):
            self._clock.tell("not begun", served.number)
            return False
        if not self._wants(delivery):
            gone = Raised("NotSubscribed", "it was unsubscribed before it began", "")
            self.session.requests.respond(served, gone)
            self._after()
            return False
        self._asking.begins(int.from_bytes(delivery.contents.items[0].payload), self._until[served])
        return True

    def _respond(self, delivery: Delivery, served: Served) -> None:
        header = delivery.contents.header
        number = int.from_bytes(delivery.contents.items[0].payload)
        if self._clock.breaks(0.05, "callback raises"):
            self._asking.raised(number)
            self.session.requests.respond(served, Raised("ValueError", "by chance", ""))
            return
        answer = answer_to(number).to_bytes(8)
        frame = wire.encode_data(header.name, [(1.0, answer)], ack=0, codec=0, client=2**63 + self._number, sequence=0)
        self.session.requests.respond(served, Returned(frame))

    def _on_alarm(self) -> None:
        deadline = self.session.next_deadline()
        if deadline is not None and deadline > self._clock.now:
            self._alarm.set(deadline)
        else:
            self._tick()

    def _tick(self) -> None:
        # A process that was stopped first reads what has arrived meanwhile.
        if self.is_alive and not self.is_stopped:
            self.session.tick(self._clock.now)
            self._after()

    def _wake(self) -> None:
        if not self.is_stopped:
            self._tick()

    def _token(self) -> bytes:
        self._tokens += 1
        return b"\0" + (self._number * NUMBERS + self._tokens).to_bytes(TOKEN_BYTES - 1)
