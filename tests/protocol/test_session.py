"""A client's session: connecting, staying connected, coming back, and its end."""

import traceback
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mezzenger.errors import (
    AlreadySubscribed,
    ClientStopped,
    MessageTooLarge,
    MezzengerError,
    NotSubscribed,
    Rejected,
    ServerUnreachable,
)
from mezzenger.protocol.commands import (
    PROTOCOL_VERSION,
    ClientCommand,
    Command,
    Completed,
    Confirm,
    Declined,
    Deliver,
    Failed,
    Failure,
    Goodbye,
    Hello,
    Join,
    Letters,
    Linked,
    Ping,
    Pong,
    Raised,
    Refuse,
    Request,
    Response,
    Retained,
    Returned,
    Serve,
    ShowDead,
    Subscribe,
    Subscribed,
    Unserved,
    Welcome,
)
from mezzenger.protocol.events import Connect, Delivery, Disconnect, Done, Ignore, Listen, Send
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.states import TRANSITIONS, State
from mezzenger.protocol.subscriptions import Membership
from mezzenger.protocol.wire import encode_command
from tests.protocol.session_driver import (
    FAR,
    IDENTITY,
    LIMIT,
    OPTIONS,
    Data,
    Driver,
    data_frame,
    failure,
    opened,
    read_sent,
)


def until_due(driver: Driver) -> float:
    """Return how long the session may be left alone."""
    deadline = driver.session.next_deadline()
    assert deadline is not None
    return deadline - driver.now


# Connecting.


def test_a_new_session_does_nothing() -> None:
    """Before start() nothing is to be done, and nothing is due."""
    driver = Driver()
    driver.wait(100)
    driver.lose()
    assert driver.state() == State.NEW
    assert driver.actions() == []
    assert driver.session.next_deadline() is None


def test_the_handshake() -> None:
    """The client connects with a token and says who it is; Linked opens the session."""
    driver = Driver()
    driver.session.start(driver.now)
    hello = Hello(PROTOCOL_VERSION, IDENTITY.client, IDENTITY.key, driver.tokens[0], 1)
    assert driver.actions() == [Connect(driver.tokens[0]), Send(encode_command(hello))]
    assert driver.state() == State.CONNECTING
    driver.say(Welcome(1, LIMIT, retains=False))
    assert driver.state() == State.CONNECTING
    driver.say(Linked())
    assert driver.state() == State.OPEN
    assert driver.actions() == []


def test_a_flush_waits_for_the_connection() -> None:
    """Who flushes before there is a connection is answered by the server once there is one."""
    driver = Driver()
    ticket = driver.flush()
    driver.session.start(driver.now)
    driver.actions()
    driver.link()
    assert driver.actions() == [Send(encode_command(Ping(1)))]
    assert driver.done() == {}
    driver.say(Pong(1))
    assert driver.done() == {ticket: None}


def test_a_flush_expires_without_a_connection() -> None:
    """Who waits for a server that is not there learns where it should be, and why it was not reached."""
    driver = Driver()
    driver.session.start(driver.now)
    ticket = driver.flush(driver.now + 3)
    driver.lose("connection refused")
    driver.wait(3)
    error = failure(driver, ticket)
    assert isinstance(error, ServerUnreachable)
    assert str(error) == "no answer in time from the server at 10.0.0.5:7202: connection refused"
    driver.wait()
    driver.link()
    assert driver.done() == {}


def test_a_flush_expires_before_the_first_attempt_failed() -> None:
    """The error says that there was no connection yet."""
    driver = Driver()
    ticket = driver.flush(driver.now + 1)
    driver.wait(1)
    assert str(failure(driver, ticket)).endswith("10.0.0.5:7202: no connection was made yet")


def test_the_hello_names_the_oldest_sequence() -> None:
    """The server may forget all sequences below the first that may be sent again."""
    driver = opened()
    driver.ticket(b"1", b"2", ack=1)
    confirmed = driver.ticket(ack=1)
    driver.session.abandon(confirmed)
    driver.lose()
    driver.wait(OPTIONS.reconnect_max)
    assert [command.oldest for command in driver.sent() if isinstance(command, Hello)] == [1]
    driver.session.abandon(confirmed - 1)
    driver.lose()
    driver.ticket(ack=0)
    driver.wait(OPTIONS.reconnect_max)
    assert [command.oldest for command in driver.sent() if isinstance(command, Hello)] == [4]


def test_a_second_linked_changes_nothing() -> None:
    """A session that is open ignores Linked: it subscribes and sends nothing twice."""
    driver = opened()
    driver.session.subscribe("a", FAR)
    driver.ticket()
    driver.actions()
    driver.say(Linked())
    assert driver.actions() == []
    assert driver.state() == State.OPEN


# Attempts and pauses.


def test_an_attempt_fails_without_an_answer() -> None:
    """After attempt_timeout without Linked, whatever else was heard, the attempt is given up."""
    driver = Driver()
    driver.session.start(driver.now)
    assert until_due(driver) == OPTIONS.attempt_timeout
    driver.wait(OPTIONS.attempt_timeout - 0.125)
    driver.say(Welcome(1, LIMIT, retains=False))
    assert driver.state() == State.CONNECTING
    driver.actions()
    ticket = driver.flush(driver.now + 0.25)
    driver.wait(0.125)
    assert driver.state() == State.RECONNECTING
    assert driver.actions() == [Disconnect()]
    driver.wait(0.125)
    assert str(failure(driver, ticket)).endswith("no answer within 2 s")


def test_pauses_double_up_to_a_limit() -> None:
    """Each failed attempt doubles the pause until reconnect_max; every attempt has a new token."""
    driver = Driver()
    driver.session.start(driver.now)
    pauses = []
    for _ in range(7):
        driver.wait(until_due(driver))
        assert driver.state() == State.RECONNECTING
        pauses.append(until_due(driver))
        driver.actions()
        driver.wait(pauses[-1])
        assert driver.state() == State.CONNECTING
        assert driver.actions()[0] == Connect(driver.tokens[-1])
    assert pauses == [0.5, 1, 2, 4, 8, 8, 8]
    assert len(set(driver.tokens)) == 8


@pytest.mark.parametrize(("jitter", "pause"), [(0.0, 0.25), (0.5, 0.375), (1.0, 0.5)])
def test_half_of_a_pause_is_chance(jitter: float, pause: float) -> None:
    """Clients that lost their server together come back one after the other."""
    driver = opened()
    driver.jitter = jitter
    driver.lose()
    assert until_due(driver) == pause


def test_success_makes_pauses_short_again() -> None:
    """After Linked, and not before, the pause begins at reconnect_min again."""
    driver = opened()
    for pause in (0.5, 1, 2):
        driver.lose()
        assert until_due(driver) == pause
        driver.wait(pause)
        driver.say(Welcome(1, LIMIT, retains=False))
    driver.link()
    driver.lose()
    assert until_due(driver) == 0.5


def test_a_lost_connection_is_lost_once() -> None:
    """What is reported of a connection that is gone, or arrives from it, changes nothing."""
    driver = opened()
    driver.session.subscribe("a", FAR)
    driver.lose()
    assert driver.actions() == [Disconnect()]
    driver.lose()
    driver.say(Linked(), Goodbye("version", "too old", retry=False))
    driver.session.broadcast(data_frame(ack=0), driver.now)
    assert driver.state() == State.RECONNECTING
    assert driver.actions() == []
    assert driver.arrived() == []
    assert until_due(driver) == 0.5


def test_what_was_to_be_done_is_forgotten_with_the_connection() -> None:
    """Nothing of a connection that broke is sent on the next one."""
    driver = opened()
    driver.session.subscribe("a", FAR)
    driver.publish(ack=0)
    driver.lose()
    assert driver.actions() == [Disconnect()]


def test_goodbye_and_try_again() -> None:
    """A server that stops sends its clients away for now: they come back, and say why if they cannot."""
    driver = opened()
    ticket = driver.session.subscribe("a", driver.now + 0.25)
    driver.actions()
    driver.say(Goodbye("stopping", "the server is stopping", retry=True))
    assert driver.state() == State.RECONNECTING
    assert driver.actions() == [Disconnect()]
    driver.wait(0.25)
    assert str(failure(driver, ticket)).endswith("10.0.0.5:7202: the server is stopping")
    driver.wait(0.25)
    assert driver.state() == State.CONNECTING


@pytest.mark.parametrize("linked", [True, False])
def test_goodbye_for_good(*, linked: bool) -> None:
    """A server that will not serve this client ends the session; whoever asks gets its reason."""
    driver = opened() if linked else Driver()
    if not linked:
        driver.session.start(driver.now)
    ticket = driver.ticket()
    driver.actions()
    driver.say(Goodbye("version", "this client is too old", retry=False))
    assert driver.state() == State.CLOSED
    assert driver.actions() == [Disconnect()]
    with pytest.raises(Rejected) as caught:
        driver.publish()
    for error in (failure(driver, ticket), caught.value):
        assert isinstance(error, Rejected)
        assert error.reason == "version"
        assert str(error) == "10.0.0.5:7202 does not serve this client: this client is too old (version)"


# Heartbeats.


def test_a_silent_server_is_asked() -> None:
    """After heartbeat_interval of silence, and not before, a ping is sent; each has a number of its own."""
    driver = opened()
    assert until_due(driver) == OPTIONS.heartbeat_interval
    driver.wait(0.5)
    assert driver.actions() == []
    driver.wait(0.5)
    assert driver.sent() == [Ping(1)]
    driver.wait(1)
    assert driver.actions() == []
    driver.say(Pong(1))
    driver.wait(1)
    assert driver.sent() == [Ping(2)]


def test_a_server_that_does_not_answer_is_lost() -> None:
    """heartbeat_timeout after a ping without a word the connection is given up."""
    driver = opened()
    ticket = driver.session.subscribe("a", driver.now + 5.125)
    driver.wait(1)
    assert until_due(driver) == OPTIONS.heartbeat_timeout
    driver.wait(3.875)
    assert driver.state() == State.OPEN
    driver.actions()
    driver.wait(0.125)
    assert driver.state() == State.RECONNECTING
    assert driver.actions() == [Disconnect()]
    driver.wait(0.125)
    assert str(failure(driver, ticket)).endswith("no heartbeat within 4 s")


@pytest.mark.parametrize(
    "speak",
    [
        lambda driver: driver.say(Pong(1)),
        lambda driver: driver.say(Welcome(1, LIMIT, retains=False)),
        lambda driver: driver.session.receive([b"rubbish"], driver.now),
        lambda driver: driver.session.broadcast(data_frame(ack=0), driver.now),
        lambda driver: driver.session.broadcast(b"rubbish", driver.now),
    ],
    ids=["pong", "command", "malformed", "broadcast", "malformed-broadcast"],
)
def test_anything_heard_counts(speak: Callable[[Driver], None]) -> None:
    """A server that says anything lives: it is asked only after another interval."""
    driver = opened()
    driver.wait(1)
    driver.wait(3.875)
    speak(driver)
    assert until_due(driver) == OPTIONS.heartbeat_interval
    driver.wait(0.125)
    assert driver.state() == State.OPEN


def test_a_client_that_slept_asks_first() -> None:
    """A client that was not run for long does not take its own silence for the server's."""
    driver = opened()
    driver.wait(100)
    assert driver.state() == State.OPEN
    assert driver.sent() == [Ping(1)]


def test_a_new_connection_is_not_asked_at_once() -> None:
    """A ping that was under way when a connection broke does not count on the next one."""
    driver = opened()
    driver.wait(1)
    driver.reconnect()
    assert driver.sent() == []
    assert until_due(driver) == OPTIONS.heartbeat_interval


# The end.

USES: dict[str, Callable[[Driver], object]] = {
    "publish": Driver.publish,
    "publish-too-large": lambda driver: driver.publish(bytes(LIMIT)),
    "flush": Driver.flush,
    "subscribe-again": lambda driver: driver.session.subscribe("a", FAR),
    "subscribe": lambda driver: driver.session.subscribe("b", FAR),
    "unsubscribe": lambda driver: driver.session.unsubscribe("a"),
    "unsubscribe-unknown": lambda driver: driver.session.unsubscribe("b"),
    "ask": lambda driver: driver.session.ask(partial(ShowDead, number=1), FAR),
    "start": lambda driver: driver.session.start(driver.now),
}


def busy(*, error: MezzengerError | None = None) -> tuple[Driver, list[int]]:
    """Return a session that was closed when much was not done."""
    driver = opened(window=1)
    driver.session.subscribe("a", FAR)
    driver.deliver(1, data_frame())
    tickets = [1, driver.ticket(), driver.ticket(), driver.ticket(ack=0), driver.flush()]
    driver.actions()
    driver.session.close(error)
    assert driver.state() == State.CLOSED
    assert driver.actions() == [Disconnect()]
    return driver, tickets


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_closed_session_is_of_no_use(use: Callable[[Driver], object]) -> None:
    """Whatever an application asks of a stopped client raises ClientStopped, and has no effect."""
    driver, _ = busy()
    driver.done()
    with pytest.raises(ClientStopped, match=r"^the client was stopped; make a new one$"):
        use(driver)
    assert driver.actions() == []
    assert driver.done() == {}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_session_closed_by_an_error_raises_it(use: Callable[[Driver], object]) -> None:
    """Whoever uses a client that failed learns why, however often, without its traceback growing."""
    reason = Rejected("version", "too old")
    driver, tickets = busy(error=reason)
    assert driver.done() == dict.fromkeys(tickets, reason)
    depths = set()
    for _ in range(3):
        with pytest.raises(Rejected) as caught:
            use(driver)
        assert caught.value is reason
        depths.add(len(traceback.extract_tb(reason.__traceback__)))
    assert len(depths) == 1


def test_closing_fails_all_that_waits() -> None:
    """Every ticket that is not done fails with ClientStopped, oldest first."""
    driver, tickets = busy()
    done = driver.done()
    assert list(done) == tickets
    assert all(isinstance(error, ClientStopped) for error in done.values())


@pytest.mark.parametrize(
    "happening",
    [
        lambda driver: driver.say(Linked(), Goodbye("x", "y", retry=True)),
        lambda driver: driver.deliver(2, data_frame(sequence=2)),
        lambda driver: driver.session.receive([b"rubbish"], driver.now),
        lambda driver: driver.session.broadcast(data_frame(ack=0, sequence=3), driver.now),
        lambda driver: driver.lose(),
        lambda driver: driver.wait(1000),
        lambda driver: driver.session.handled(driver.arrived()[0], []),
        lambda driver: driver.session.handled(driver.arrived()[0], [Failure(0, "x")]),
        lambda driver: driver.session.blocked(),
        lambda driver: driver.session.unblocked(driver.now),
        lambda driver: driver.session.abandon(1),
        lambda driver: driver.session.close(),
        lambda driver: driver.session.close(Rejected("x", "y")),
    ],
    ids=[
        *("receive", "deliver", "malformed", "broadcast", "lost", "tick"),
        *("handled", "failed", "blocked", "unblocked", "abandon", "close", "close-error"),
    ],
)
def test_a_closed_session_ignores_what_happens(happening: Callable[[Driver], None]) -> None:
    """Nothing that happens after the end has any effect, and nothing is due."""
    driver, _ = busy()
    driver.done()
    happening(driver)
    assert driver.state() == State.CLOSED
    assert driver.actions() == []
    assert driver.done() == {}
    assert len(driver.arrived()) <= 1  # what arrived before the end
    assert driver.session.next_deadline() is None
    assert driver.session.inbox.malformed == {}
    with pytest.raises(ClientStopped):
        driver.publish()


@pytest.mark.parametrize("state", State)
def test_a_session_can_be_closed_in_every_state(state: State) -> None:
    """Wherever a client stands, close() ends it; from there nothing leads back."""
    driver = Driver()
    ticket = driver.ticket()
    if state is not State.NEW:
        driver.session.start(driver.now)
    if state in {State.OPEN, State.CLOSED}:
        driver.link()
    if state is State.RECONNECTING:
        driver.lose()
    if state is State.CLOSED:
        driver.session.close()
    assert driver.state() == state
    driver.session.close()
    assert driver.state() == State.CLOSED
    assert list(driver.done()) == [ticket]
    assert driver.actions()[-1] == Disconnect()
    assert [before for before, _ in TRANSITIONS if before is State.CLOSED] == []


def test_what_was_sent_before_the_end_is_sent() -> None:
    """close() takes back nothing: what was published before it goes out before the connection is closed."""
    driver = opened()
    assert driver.publish(ack=0) is None
    driver.session.close()
    send, disconnect = driver.actions()
    assert isinstance(send, Send)
    assert disconnect == Disconnect()


def test_a_session_comes_back_with_all_it_had() -> None:
    """On a new connection the client asks for its names, then sends again what is not confirmed, then what it held."""
    driver = opened()
    driver.session.subscribe("n", FAR)
    driver.ticket(b"sent")
    driver.lose()
    driver.ticket(b"held", ack=0)
    driver.wait(OPTIONS.reconnect_max)
    driver.actions()
    driver.link()
    assert driver.sent() == [
        Subscribe(2, ["n"], driver.tokens[-1]),
        Data("a", 1, b"sent"),
        Data("a", 2, b"held", ack=0),
    ]


# Any history at all.

NAMES = st.sampled_from(["a", "b", "c"])
PATTERNS = st.sampled_from(["a", "b", "*"])
GROUPS = st.sampled_from([None, "a|g", "b|g"])
SEQUENCES = st.integers(1, 12)
DATA = st.builds(
    data_frame, NAMES, sequence=SEQUENCES, payloads=st.lists(st.binary(max_size=3), min_size=1, max_size=3)
)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Welcome, st.just(1), st.sampled_from([100, LIMIT, LIMIT, LIMIT])),
    st.builds(Linked),
    st.builds(Linked),
    st.builds(Goodbye, st.just("x"), st.just("y"), st.integers(0, 9).map(bool)),
    st.builds(Subscribed, st.integers(1, 6)),
    st.builds(Confirm, st.lists(SEQUENCES, max_size=4)),
    st.builds(Refuse, SEQUENCES, st.just("x"), st.just("y")),
    st.builds(Declined, st.integers(1, 6), st.just("x"), st.just("y")),
    st.builds(Deliver, SEQUENCES, st.integers(1, 3), st.none() | st.lists(st.integers(0, 3), max_size=3), GROUPS),
    st.builds(Pong, st.integers(0, 8)),
    st.builds(Ping, st.integers(0, 8)),
    st.builds(Letters, st.integers(0, 6), st.just([])),
    st.builds(Completed, st.integers(0, 6), st.integers(0, 3)),
    st.builds(Failed, st.integers(0, 6), st.just("x"), st.just("y")),
    st.builds(Response, st.integers(0, 12), st.just(Unserved("stopping", "y")) | st.just(Raised("x", "y", "z"))),
    st.builds(Serve, st.integers(0, 3), st.sampled_from([0.0, 60.0]), DATA | st.just(b"x")),
)
BYTES = st.binary(max_size=40) | st.binary(max_size=40).map(b"|".__add__) | DATA | COMMANDS.map(encode_command)
TIMES = st.sampled_from([0.0, 0.001, 0.25, 0.5, 1.0, 4.0, 60.0])
PATIENCE = st.sampled_from([60.0, 60.0, 9.0, 3.0, 0.5, 0.0])
FAILURES = st.lists(st.builds(Failure, st.integers(0, 3), st.text(st.characters(), max_size=3)), max_size=2)


class AnyHistory(RuleBasedStateMachine):
    """Does anything in any order, and checks after each step what must hold always."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.session = self.driver.session
        self.state = State.NEW
        self.deadlines: dict[int, float] = {}
        self.deliveries: list[Delivery] = []
        self.connected = False
        self.prefixes: set[bytes] = set()
        self.last_sequence = 0
        self.sent_once: set[int] = set()
        self.requested: set[int] = set()
        self.unanswered: list[Command] = []
        self.subscribing: list[Subscribe] = []

    def asked(self, ask: Callable[[], int | None], deadline: float = FAR) -> None:
        """Take note of a ticket; nothing but our own errors may come instead."""
        was_closed = self.session.state is State.CLOSED
        try:
            ticket = ask()
        except (ClientStopped, Rejected):
            assert was_closed
        except (MessageTooLarge, AlreadySubscribed, NotSubscribed):
            assert not was_closed
        else:
            assert not was_closed
            if ticket is not None:
                self.deadlines[ticket] = deadline

    @precondition(lambda self: self.session.state in {State.NEW, State.CLOSED})
    @rule()
    def start(self) -> None:
        self.asked(lambda: self.session.start(self.driver.now))

    @initialize(is_open=st.sampled_from([True, True, True, True, False]))
    def begin(self, is_open: bool) -> None:
        if is_open:
            self.session.start(self.driver.now)
            self.link(LIMIT)

    @precondition(lambda self: self.session.state in {State.CONNECTING, State.RECONNECTING})
    @rule(limit=st.sampled_from([100, LIMIT, LIMIT, LIMIT]))
    def link(self, limit: int) -> None:
        """Let the server take the client in."""
        while self.session.state is State.RECONNECTING:
            self.tick_when_due()
        self.check_state()
        self.check_actions()
        self.driver.link(limit)

    @rule(count=st.integers(1, 5))
    def answer(self, count: int) -> None:
        """Let the server do as it should, and repeat itself."""
        answers, self.unanswered = self.unanswered[:count], self.unanswered[count:]
        self.driver.say(*answers, *answers)

    @rule(name=NAMES, group=GROUPS, number=SEQUENCES, sequence=SEQUENCES, failures=FAILURES)
    def deliver_and_handle(
        self, name: str, group: str | None, number: int, sequence: int, failures: list[Failure]
    ) -> None:
        """Deliver what is subscribed, if anything is, and answer it."""
        self.driver.deliver(number, data_frame(name, sequence=sequence), group=group)
        self.check_events()
        self.handled(failures)

    @rule(
        name=NAMES,
        payloads=st.lists(st.sampled_from([b"x", b"x", bytes(100)]), min_size=1, max_size=3),
        ack=st.sampled_from([0, 1]),
        wait=PATIENCE,
    )
    def publish(self, name: str, payloads: list[bytes], ack: int, wait: float) -> None:
        deadline = self.driver.now + wait
        self.asked(lambda: self.driver.publish(*payloads, name=name, ack=ack, deadline=deadline), deadline)

    @rule(acks=st.lists(st.sampled_from([0, 1]), min_size=3, max_size=8), answers=st.integers(0, 9))
    def publish_many(self, acks: list[int], answers: int) -> None:
        """Fill the window, and go on when some of it is confirmed."""
        for ack in acks:
            self.publish("a", [b"x"], ack, 60.0)
        self.check_actions()
        self.answer(answers)
        self.publish("a", [b"x"], 0, 60.0)

    @rule(wait=PATIENCE)
    def flush(self, wait: float) -> None:
        self.asked(lambda: self.driver.flush(self.driver.now + wait), self.driver.now + wait)

    @rule(wait=PATIENCE)
    def ask(self, wait: float) -> None:
        question = partial(ShowDead, number=1)
        self.asked(lambda: self.session.ask(question, self.driver.now + wait), self.driver.now + wait)

    @rule(name=NAMES, wait=PATIENCE)
    def request(self, name: str, wait: float) -> None:
        deadline = self.driver.now + wait
        draft = Draft(name, [(1.5, b"x")], 0, 1)
        self.asked(lambda: self.session.request(draft, self.driver.now, deadline), deadline)

    @rule(name=PATTERNS, wait=PATIENCE, membership=st.sampled_from([None, Membership("g", 64)]))
    def subscribe(self, name: str, wait: float, membership: Membership | None) -> None:
        deadline = self.driver.now + wait
        self.asked(lambda: self.session.subscribe(name, deadline, membership), deadline)

    @rule(name=PATTERNS, group=st.sampled_from([None, "g"]))
    def unsubscribe(self, name: str, group: str | None) -> None:
        self.asked(lambda: self.session.unsubscribe(name, group))

    @rule(ticket=st.integers(0, 20))
    def abandon(self, ticket: int) -> None:
        self.session.abandon(ticket)
        self.deadlines.pop(ticket, None)

    @rule(failures=FAILURES)
    def handled(self, failures: list[Failure]) -> None:
        if not self.deliveries:
            return
        delivery = self.deliveries.pop(0)
        if delivery.served is None:
            self.session.handled(delivery, failures)
        elif self.session.requests.begins(delivery.served, self.driver.now):
            self.session.requests.respond(delivery.served, Raised("x", "y", "z"))

    @rule(command=COMMANDS)
    def hear(self, command: Command) -> None:
        if isinstance(command, Response) and isinstance(command.outcome, Unserved):
            self.requested.discard(command.request)  # nobody has carried it out: it is sent again
        self.driver.say(command)

    @rule(number=SEQUENCES, frame=DATA)
    def deliver(self, number: int, frame: bytes) -> None:
        self.driver.deliver(number, frame)

    @precondition(lambda self: self.subscribing)
    @rule(ack=st.sampled_from([0, 1]), sequence=SEQUENCES, is_answered=st.booleans())
    def kept(self, ack: int, sequence: int, is_answered: bool) -> None:
        """Let the server have kept the last message of a name that was asked for."""
        asked = self.subscribing.pop()
        frame = data_frame(asked.names[0].replace("*", "c"), ack=ack, sequence=sequence)
        self.session.receive([encode_command(Retained(asked.request)), frame], self.driver.now)
        if is_answered:
            self.driver.say(Subscribed(asked.request))

    @precondition(lambda self: len(self.driver.tokens) > 1)
    @rule(data=st.data())
    def mark(self, data: st.DataObject) -> None:
        """Let the SUB socket bring a token, which may be one of a former connection."""
        self.session.broadcast(data.draw(st.sampled_from(self.driver.tokens)), self.driver.now)

    @rule(frames=st.lists(BYTES, min_size=1, max_size=3))
    def receive(self, frames: list[bytes]) -> None:
        self.session.receive(frames, self.driver.now)

    @rule(frame=BYTES)
    def broadcast(self, frame: bytes) -> None:
        self.session.broadcast(frame, self.driver.now)

    @rule()
    def blocked(self) -> None:
        self.session.blocked()

    @rule()
    def unblocked(self) -> None:
        self.session.unblocked(self.driver.now)

    @rule()
    def lose(self) -> None:
        self.driver.lose()

    @rule(time=TIMES)
    def sleep(self, time: float) -> None:
        """Let time pass, of which the session is not told."""
        self.driver.now += time

    @rule(time=TIMES)
    def tick(self, time: float) -> None:
        self.driver.wait(time)
        self.check_tick()

    @rule()
    def tick_when_due(self) -> None:
        deadline = self.session.next_deadline()
        if deadline is not None:
            self.driver.wait(max(0.0, deadline - self.driver.now))
            self.check_tick()

    @rule(chance=st.integers(0, 9), error=st.none() | st.just(Rejected("x", "y")))
    def close(self, chance: int, error: MezzengerError | None) -> None:
        if not chance:
            self.session.close(error)
            self.check_events()
            assert self.deadlines == {}
            assert self.session.next_deadline() is None

    def check_tick(self) -> None:
        """Nothing is overdue after tick: no ticket, and no reason to call it again at the same time."""
        self.check_events()
        assert all(deadline > self.driver.now for deadline in self.deadlines.values())
        deadline = self.session.next_deadline()
        assert (deadline is None) is (self.session.state in {State.NEW, State.CLOSED} and not self.deadlines)
        assert deadline is None or deadline > self.driver.now

    @invariant()
    def check_events(self) -> None:
        """A ticket is done once, and none that was not issued."""
        for event in self.session.take_events():
            if isinstance(event, Done):
                assert self.deadlines.pop(event.ticket, None) is not None
            elif isinstance(event, Delivery):
                self.deliveries.append(event)

    @invariant()
    def check_state(self) -> None:
        """The states follow one another as the table says; one step may take at most two of them."""
        steps: dict[State, set[State]] = {state: set() for state in State}
        for (before, _), after in TRANSITIONS.items():
            steps[before].add(after)
        allowed = {self.state} | steps[self.state]
        allowed |= {after for before in allowed for after in steps[before]}
        assert self.session.state in allowed
        self.state = self.session.state

    @invariant()
    def check_actions(self) -> None:
        """Only a connection is used, in order; what has ack=0, and requests, are sent once; the window is kept."""
        for action in self.session.take_actions():
            match action:
                case Connect():
                    assert not self.connected
                    self.connected, self.prefixes, self.last_sequence = True, {action.token}, 0
                    self.unanswered, self.subscribing = [], []
                case Disconnect():
                    self.connected = False
                case Send():
                    assert self.connected
                    self.check_send(read_sent(action.frame))
                case Listen():
                    assert self.connected
                    assert action.prefix not in self.prefixes
                    self.prefixes.add(action.prefix)
                case Ignore():
                    assert self.connected
                    self.prefixes.remove(action.prefix)
        assert len(self.session.outgoing.unconfirmed) <= OPTIONS.window

    def check_send(self, sent: ClientCommand | Data) -> None:
        """Each frame comes after those that were published before."""
        if isinstance(sent, Data):
            assert self.session.state is State.OPEN
            assert sent.sequence > self.last_sequence
            self.last_sequence = sent.sequence
            assert sent.ack or sent.sequence not in self.sent_once
            self.sent_once.add(sent.sequence)
            if sent.ack:
                self.unanswered.append(Confirm([sent.sequence]))
        elif isinstance(sent, Request):
            assert sent.request not in self.requested
            self.requested.add(sent.request)
            self.unanswered.append(Response(sent.request, Returned(data_frame(ack=0))))
        elif isinstance(sent, Ping):
            self.unanswered.append(Pong(sent.number))
        elif isinstance(sent, ShowDead):
            self.unanswered.append(Letters(sent.request, []))
        elif isinstance(sent, Subscribe | Join):
            self.unanswered.append(Subscribed(sent.request))
            if isinstance(sent, Subscribe):
                self.subscribing.append(sent)


AnyHistory.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestAnyHistory = AnyHistory.TestCase
