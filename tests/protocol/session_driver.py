"""Drives a ``ClientSession`` in tests: plays the server, the sockets and the clock."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from mezzenger.errors import MezzengerError
from mezzenger.protocol.commands import (
    TOKEN_BYTES,
    Answer,
    ClientCommand,
    Command,
    Deliver,
    Linked,
    Ping,
    Pong,
    Question,
    ShowDead,
    Welcome,
)
from mezzenger.protocol.events import Action, Delivery, Done, Ended, Event, Send
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import Identity, SessionOptions, State
from mezzenger.protocol.wire import (
    Contents,
    Extra,
    decode_client_command,
    encode_command,
    encode_data,
    is_control,
    read_contents,
)

IDENTITY: Final = Identity(client=77, key=b"k" * 16)
OPTIONS: Final = SessionOptions(
    server="10.0.0.5:7202",
    attempt_timeout=2.0,
    heartbeat_interval=1.0,
    heartbeat_timeout=4.0,
    reconnect_min=0.5,
    reconnect_max=8.0,
    window=3,
)
LIMIT: Final = 65536
SHOW: Final[Callable[[int], Question]] = partial(ShowDead, number=5)
FAR: Final = 1e6
"""A deadline that never comes."""


class Data(NamedTuple):
    """What a test looks at in a data frame that a client sent."""

    name: str
    sequence: int
    payload: bytes = b"x"
    ack: int = 1


def data_frame(
    name: str = "a", *, ack: int = 1, client: int = 5, sequence: int = 1, payloads: Iterable[bytes] = (b"x",)
) -> bytes:
    """Write a data frame of another client."""
    items = [(1.5, payload) for payload in payloads]
    return encode_data(name, items, ack=ack, codec=1, client=client, sequence=sequence)


def read_sent(frame: bytes) -> ClientCommand | Data:
    """Read what the server would get."""
    if is_control(frame):
        return decode_client_command(frame)
    contents = read_contents(frame)
    payload = b"+".join(bytes(item.payload) for item in contents.items)
    return Data(contents.header.name, contents.header.sequence, payload, contents.header.ack)


class Driver:
    """A session, the time it is told, and all that came out of it and no test has looked at yet."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.jitter = 1.0
        self.tokens: list[bytes] = []
        self.session = ClientSession(
            IDENTITY, replace(OPTIONS, **options), random_token=self._token, jitter=lambda: self.jitter
        )
        self._events: list[Event] = []

    def _token(self) -> bytes:
        self.tokens.append(len(self.tokens).to_bytes(TOKEN_BYTES))
        return self.tokens[-1]

    # What the application does.

    def publish(
        self,
        *payloads: bytes,
        name: str = "a",
        ack: int = 1,
        headers: Mapping[str, str] | None = None,
        deadline: float = FAR,
    ) -> int | None:
        items = [(1.5, payload) for payload in payloads or (b"x",)]
        draft = Draft(name, items, ack, 1, Extra(headers=headers or {}))
        return self.session.publish(draft, self.now, deadline)

    def ticket(self, *payloads: bytes, name: str = "a", ack: int = 1, deadline: float = FAR) -> int:
        """Publish what is not done at once."""
        ticket = self.publish(*payloads, name=name, ack=ack, deadline=deadline)
        assert ticket is not None
        return ticket

    def ask(self, make: Callable[[int], Question] = SHOW, deadline: float = FAR) -> int:
        return self.session.ask(make, deadline)

    def flush(self, deadline: float = FAR) -> int:
        return self.session.flush(self.now, deadline)

    # What happens outside.

    def say(self, *commands: Command) -> None:
        """Let the server send commands."""
        for command in commands:
            self.session.receive([encode_command(command)], self.now)

    def deliver(
        self,
        number: int,
        frame: bytes,
        *,
        attempt: int = 1,
        indexes: list[int] | None = None,
        group: str | None = None,
    ) -> None:
        """Let the server deliver a data frame."""
        self.session.receive([encode_command(Deliver(number, attempt, indexes, group)), frame], self.now)

    def pong(self) -> None:
        """Answer every ping that was sent and that no test has looked at."""
        self.say(*(Pong(command.number) for command in self.sent() if isinstance(command, Ping)))

    def lose(self, reason: str = "the cable was cut") -> None:
        """Break the connection."""
        self.session.lost(reason, self.now)

    def wait(self, seconds: float = 0.0) -> None:
        """Let time pass, of which the session is told."""
        self.now += seconds
        self.session.tick(self.now)

    def link(self, limit: int = LIMIT) -> None:
        """Let the server take the client in."""
        self.say(Welcome(1, limit, retains=False), Linked())

    def reconnect(self, limit: int = LIMIT) -> None:
        """Break the connection and make a new one; forget what was sent before it stood."""
        self.lose()
        self.wait(OPTIONS.reconnect_max)
        self.actions()
        self.link(limit)

    # What came out.

    def state(self) -> State:
        """Return where the session stands; what a method returns, mypy does not take for constant."""
        return self.session.state

    def actions(self) -> list[Action]:
        """Return the actions since this was asked last."""
        return self.session.take_actions()

    def sent(self) -> list[ClientCommand | Data]:
        """Return what was sent since the actions were asked for last."""
        return [read_sent(action.frame) for action in self.actions() if isinstance(action, Send)]

    def done(self) -> dict[int, MezzengerError | None]:
        """Return what was done since this was asked last, and how it failed."""
        self._events += self.session.take_events()
        done = [event for event in self._events if isinstance(event, Done)]
        self._events = [event for event in self._events if not isinstance(event, Done)]
        assert len({event.ticket for event in done}) == len(done)
        return {event.ticket: event.error for event in done}

    def returned(self) -> dict[int, bytes]:
        """Return the payloads that requests have brought since this was asked last, and that nothing else was done."""
        results = self.answers()
        payloads = {ticket: one.items[0].payload for ticket, one in results.items() if isinstance(one, Contents)}
        assert len(payloads) == len(results)
        return {ticket: bytes(payload) for ticket, payload in payloads.items()}

    def answers(self) -> dict[int, Answer | Contents | None]:
        """Return what the server answered to what was done since this was asked last, and that nothing failed."""
        self._events += self.session.take_events()
        done = [event for event in self._events if isinstance(event, Done)]
        self._events = [event for event in self._events if not isinstance(event, Done)]
        assert all(event.error is None for event in done)
        return {event.ticket: event.answer for event in done}

    def ended(self) -> list[Ended]:
        """Return what ended since this was asked last."""
        self._events += self.session.take_events()
        ended = [event for event in self._events if isinstance(event, Ended)]
        self._events = [event for event in self._events if not isinstance(event, Ended)]
        return ended

    def arrived(self) -> list[Delivery]:
        """Return what arrived since this was asked last."""
        self._events += self.session.take_events()
        arrived = [event for event in self._events if isinstance(event, Delivery)]
        self._events = [event for event in self._events if not isinstance(event, Delivery)]
        return arrived


def opened(**options: Any) -> Driver:
    """Return a driver whose session is open and has been looked at."""
    driver = Driver(**options)
    driver.session.start(driver.now)
    driver.link()
    driver.actions()
    return driver


def failure(driver: Driver, ticket: int) -> MezzengerError:
    """Return the error that one ticket, and no other, ended with."""
    done = driver.done()
    assert list(done) == [ticket]
    error = done[ticket]
    assert error is not None
    return error
