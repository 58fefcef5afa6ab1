"""The clients of the simulation: real sessions, with callbacks that are slow, fail, or never return."""

from collections import Counter, deque
from typing import Final

from mezzenger.errors import NotSubscribed, Rejected, ServerUnreachable
from mezzenger.protocol.commands import TOKEN_BYTES, Failure
from mezzenger.protocol.events import Action, Arrived, Connect, Delivery, Disconnect, Done, Ignore, Listen, Send
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import Identity, SessionOptions, State
from tests.simulation.clock import Clock
from tests.simulation.network import Link
from tests.simulation.server import Server

PATIENCE: Final = 4.0
OPTIONS: Final = SessionOptions("simulation", 1.0, 0.3, 0.9, 0.05, 1.0, window=4)
NUMBERS: Final = 1_000_000


class Client:
    """One process with one session.

    Args:
        clock: Of the simulation.
        server: To connect to.
        number: Tells this client from others.
    """

    def __init__(self, clock: Clock, server: Server, number: int) -> None:
        self._clock = clock
        self._server = server
        self._number = number
        self._link: Link | None = None
        self._unsent: list[bytes] = []
        self._links = 0
        self._tokens = 0
        self._published = 0
        self._timer: float | None = None
        self._callbacks: deque[Delivery] = deque()
        self._is_busy = False
        self._opened = 0.0
        self.is_alive = True
        self.publishes: dict[int, list[int]] = {}
        """By ticket, the numbers of the messages that wait to be confirmed."""
        self.subscribing: dict[int, str] = {}
        self.names: set[str] = set()
        self.confirmed: set[int] = set()
        self.handled: Counter[int] = Counter()
        identity = Identity(2**63 + number, number.to_bytes(16))
        self.session = ClientSession(identity, OPTIONS, random_token=self._token, jitter=clock.random.random)
        self.session.start(clock.now)
        self._after()

    # What a program does.

    def publish(self, name: str, *, ack: int, messages: int) -> None:
        """Send a message or a batch; each payload is a number that no other has."""
        numbers = [self._number * NUMBERS + self._published + offset for offset in range(messages)]
        self._published += messages
        now = self._clock.now
        items = [(1.0, number.to_bytes(8)) for number in numbers]
        ticket = self.session.publish(Draft(name, items, ack, codec=0), now, now + PATIENCE)
        if ticket is not None and ack:
            self.publishes[ticket] = numbers
        self._after()

    def subscribe(self, name: str) -> None:
        """Subscribe, or unsubscribe if that was done before."""
        if name in self.names:
            self.names.remove(name)
            self.session.unsubscribe(name)
        else:
            self.names.add(name)
            self.subscribing[self.session.subscribe(name, self._clock.now + PATIENCE)] = name
        self._after()

    def kill(self) -> None:
        """End the process."""
        self.is_alive = False
        if self._link is not None:
            self._link.cut()

    # What the network brings.

    def _answered(self, frames: list[bytes]) -> None:
        self.session.receive(frames, self._clock.now)
        self._after()

    def _broadcast(self, frames: list[bytes]) -> None:
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
        if self._link is link and self.is_alive:
            self.session.lost("the connection broke", self._clock.now)
            self._after()

    # What follows.

    def _after(self) -> None:
        if self.session.state is not State.OPEN:
            self._opened = self._clock.now
        while self.is_alive and (actions := self.session.take_actions()):
            for action in actions:
                self._do(action)
        for event in self.session.take_events():
            if isinstance(event, Arrived):
                assert event.delivery.contents.header.name in self.names, "delivered to somebody not subscribed"
                self._callbacks.append(event.delivery)
            else:
                self._done(event)
        self._call_next()
        self._set_timer()

    def _do(self, action: Action) -> None:
        match action:
            case Connect():
                self._connect(action.token)
            case Disconnect():
                if self._link is not None:
                    self._link.cut()
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
        else:
            self._unsent.append(frame)

    def _wish(self, wish: bytes) -> None:
        if self._link is not None and self._link.wishes is not None:
            self._link.wishes.send(wish)

    def _done(self, event: Done) -> None:
        if event.error is not None:
            assert isinstance(event.error, ServerUnreachable | Rejected | NotSubscribed)
            assert isinstance(event.error, NotSubscribed) or not self._is_slow(), (
                f"no answer though connected: {event.error}"
            )
            self._clock.tell(f"failed: {type(event.error).__name__}")
        name = self.subscribing.pop(event.ticket, None)
        if name is not None:
            if isinstance(event.error, ServerUnreachable):
                self.names.discard(name)
            return
        numbers = self.publishes.pop(event.ticket, [])
        if event.error is None:
            self.confirmed.update(numbers)

    def _is_slow(self) -> bool:
        """Whether the server should have answered by now what was sent to it when the connection began."""
        return self.session.state is State.OPEN and self._clock.now - self._opened > PATIENCE * 0.7

    def _call_next(self) -> None:
        if self._is_busy or not self._callbacks or not self.is_alive:
            return
        delivery = self._callbacks.popleft()
        seconds = self._clock.random.expovariate(1 / 0.004)
        if self._clock.breaks(0.01, "slow callback"):
            seconds += 1.0
        if self._clock.breaks(0.001, "stuck callback"):
            seconds += 20.0
        self._is_busy = True
        self._clock.after(seconds, lambda: self._return(delivery))

    def _return(self, delivery: Delivery) -> None:
        if not self.is_alive:
            return
        self._is_busy = False
        header, _, items = delivery.contents
        if header.name in self.names:
            indexes = range(header.messages) if delivery.indexes is None else delivery.indexes
            failures = [failure for index in indexes if (failure := self._call(delivery, index)) is not None]
            if header.ack:
                self.session.handled(delivery, failures)
        else:
            self.session.inbox.dropped(delivery)
        assert len(items) == header.messages
        self._after()

    def _call(self, delivery: Delivery, index: int) -> Failure | None:
        if self._clock.breaks(0.03, "callback raises"):
            return Failure(index, "by chance")
        number = int.from_bytes(delivery.contents.items[index].payload)
        assert number not in self.handled or len(delivery.contents.items) > 1, f"{number} is handled twice"
        if delivery.attempt > 1:
            self._clock.tell("redelivery handled")
        self.handled[number] += 1
        return None

    def _set_timer(self) -> None:
        deadline = self.session.next_deadline()
        if self.is_alive and deadline is not None and (self._timer is None or deadline < self._timer):
            self._timer = deadline
            self._clock.after(max(deadline - self._clock.now, 0.0001), self._tick)

    def _tick(self) -> None:
        if self.is_alive:
            self._timer = None
            self.session.tick(self._clock.now)
            self._after()

    def _token(self) -> bytes:
        self._tokens += 1
        return b"\0" + (self._number * NUMBERS + self._tokens).to_bytes(TOKEN_BYTES - 1)
